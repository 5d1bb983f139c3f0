// A table of rows that move: columns from what is in the values, changes that glow, an order that follows.

import { clock, date, isTime, number, spark } from './charts.js';

const MOST_COLUMNS = 14;
const still = matchMedia('(prefers-reduced-motion: reduce)');

/** The fields of a value, those of objects in it with dots, as [name, value]. */
export function fields(value) {
  if (value === null || value === undefined) return [];
  if (typeof value !== 'object') return [['value', value]];
  const found = [];
  const walk = (prefix, of, depth) => {
    for (const [name, inner] of Object.entries(of)) {
      const path = prefix ? `${prefix}.${name}` : name;
      if (inner && typeof inner === 'object' && !Array.isArray(inner) && depth < 2) walk(path, inner, depth + 1);
      else found.push([path, inner]);
    }
  };
  walk('', value, 0);
  return found;
}

/** A field of a record, however deep: as filters and descriptions name it. */
export const at = (value, path) => path.split('.').reduce((of, name) => of?.[name], value);

/** A value in few letters. */
export function shown(value) {
  if (value === null || value === undefined) return '';
  if (isTime(value)) return date(value);
  if (typeof value === 'number') return number(value);
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value === 'string') return value;
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}

/** A key as people say it. */
export const said = (key) => (typeof key === 'string' ? key : JSON.stringify(key));

/**
 * What a row is called, and what is shown of it. A record without a value is all key. Where that is a variant of a type,
 * such as {"Plane":["N12345",{..}]}, it is called by its kind and key.
 */
export function naming({ key, value }) {
  if (value !== null || key === null || typeof key !== 'object') return [said(key), value];
  const entries = Object.entries(key);
  if (Array.isArray(key) || entries.length !== 1) return [null, key];
  const [[kind, inner]] = entries;
  const pair = Array.isArray(inner) && inner.length === 2;
  return pair ? [`${kind} ${said(inner[0])}`, inner[1]] : [kind, inner];
}

const content = (row) => naming(row)[1];

const order = new Intl.Collator('en', { numeric: true });

function compare(a, b) {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  if (a === undefined || a === null) return b === undefined || b === null ? 0 : 1;
  if (b === undefined || b === null) return -1;
  return order.compare(said(a), said(b));
}

// So many things glow at most at a time: each is painted anew in every frame.
const MOST_GLOWS = 120;
let glows = 0;

/** Lets an element glow for a moment. */
export function glow(element, kind) {
  if (glows >= MOST_GLOWS || still.matches || document.hidden) return;
  glows += 1;
  const color = `var(--glow-${kind})`;
  const frames = [{ backgroundColor: color }, { backgroundColor: 'transparent' }];
  const animation = element.animate(frames, { duration: 1000, easing: 'ease-out' });
  animation.finished.catch(() => {}).finally(() => { glows -= 1; });
}

// Which lines can be seen: others need not glow.
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) target.seen = isIntersecting;
});

export class Table {
  /** `rows` are those of the connection; `open(row)` is called for one that is chosen. */
  constructor(rows, { open, most = Infinity, compact = false, sort = null, sparks = [] }) {
    this.rows = rows;
    this.open = open;
    this.most = most;
    this.compact = compact;
    this.sparks = sparks; // fields with a small line in each row
    this.pasts = new Map(); // row's number and field -> values
    this.sort = sort ?? { path: null, down: false };
    this.columns = [];
    this.lines = new Map(); // row's number -> {line, cells, values}
    this.greatest = new Map();
    this.chosen = null;
    this.stale = true;
    this.element = document.createElement('div');
    this.element.className = 'table';
    this.table = document.createElement('table');
    this.head = this.table.createTHead().insertRow();
    this.body = this.table.createTBody();
    this.note = document.createElement('p');
    this.note.className = 'note';
    this.element.append(this.table, this.note);
    this.body.addEventListener('click', (event) => {
      const line = event.target.closest('tr');
      if (line?.record) this.open(line.record);
    });
    this.draw();
  }

  /** Takes what changed; `ordered` is called for at most twice a second. */
  update(delta) {
    if (delta.snapshot || delta.gone.length) this.stale = true;
    const seen = [];
    if (this.sparks.length) this.remember(delta);
    for (const { row, before } of delta.changed) {
      const known = this.lines.get(row.row);
      if (!known || delta.snapshot) {
        this.stale = true;
        if (!delta.snapshot || before) seen.push({ row, before });
        continue;
      }
      this.fill(known, row, true);
      if (this.sort.path !== null) this.stale = true;
    }
    for (const row of delta.gone) this.lines.get(row.row)?.line.classList.add('gone');
    const now = performance.now();
    if (delta.snapshot || (this.stale && now - (this.drawn ?? 0) > 500)) this.draw(seen);
    else if (seen.length) (this.fresh ??= []).push(...seen);
  }

  /** What the fields with lines were. */
  remember(delta) {
    const rows = delta.snapshot ? this.rows.rows.values() : delta.changed.map(({ row }) => row);
    if (delta.snapshot) this.pasts.clear();
    for (const row of delta.gone) this.pasts.delete(row.row);
    for (const row of rows) {
      const past = this.pasts.get(row.row) ?? this.sparks.map(() => []);
      this.pasts.set(row.row, past);
      this.sparks.forEach((name, index) => {
        const value = this.value(row, name);
        if (typeof value === 'number') past[index].push(value);
        if (past[index].length > 60) past[index].shift();
      });
    }
    this.stale = true;
  }

  /** Puts columns and lines in their order. */
  draw(seen = []) {
    const fresh = [...(this.fresh ?? []), ...seen];
    this.fresh = [];
    this.drawn = performance.now();
    this.stale = false;
    const rows = [...this.rows.rows.values()];
    this.arrange(rows);
    const { path, down } = this.sort;
    const by = path === null ? (row) => naming(row)[0] ?? row.key : (row) => this.value(row, path);
    const keyed = rows.map((row) => [by(row), row]);
    keyed.sort(([a, x], [b, y]) => (down ? compare(b, a) : compare(a, b)) || compare(x.key, y.key));
    const wanted = keyed.slice(0, this.most).map(([, row]) => row);
    const kept = new Set(wanted.map((row) => row.row));
    for (const [number, { line }] of this.lines) {
      if (!kept.has(number)) {
        watcher.unobserve(line);
        line.remove();
        this.lines.delete(number);
      }
    }
    let at = this.body.firstChild;
    for (const row of wanted) {
      let known = this.lines.get(row.row);
      if (known) this.fill(known, row, false);
      else known = this.add(row);
      if (known.line === at) at = at.nextSibling;
      else this.body.insertBefore(known.line, at);
    }
    for (const { row, before } of fresh.slice(0, 300)) {
      const known = this.lines.get(row.row);
      if (known && known.line.seen !== false) glow(known.line, before ? 'same' : 'new');
    }
    for (const [number, { line, lines }] of this.lines) {
      if (line.seen !== false) lines?.forEach((canvas, index) => spark(canvas, this.pasts.get(number)?.[index] ?? []));
    }
    const { error, more, ready } = this.rows;
    const hidden = rows.length - wanted.length;
    this.note.textContent = error ?? (!ready ? 'loading …' : rows.length === 0 ? 'no records' :
      more && !this.compact ? `the first ${number(rows.length)} records; a filter finds others` :
        hidden > 0 && !this.compact ? `${number(hidden)} more` : '');
    this.note.classList.toggle('error', Boolean(error));
    this.table.hidden = rows.length === 0;
  }

  arrange(rows) {
    const columns = new Map();
    this.greatest.clear();
    let several = false;
    let pairs = false;
    for (const row of rows) {
      several ||= row.count !== 1;
      pairs ||= naming(row)[0] !== null;
      for (const [name, value] of fields(content(row))) {
        if (!columns.has(name) && columns.size >= MOST_COLUMNS) continue;
        const numeric = typeof value === 'number' && !isTime(value);
        columns.set(name, (columns.get(name) ?? true) && (numeric || value === null));
        if (numeric) this.greatest.set(name, Math.max(this.greatest.get(name) ?? 0, Math.abs(value)));
      }
    }
    if (several) columns.set('count', true);
    const names = [...columns.keys()].slice(0, this.compact ? 5 : MOST_COLUMNS);
    const layout = JSON.stringify([pairs, names.map((name) => [name, columns.get(name)])]);
    if (layout === this.layout) return;
    this.layout = layout;
    this.columns = names.map((name) => ({ name, numeric: columns.get(name) }));
    this.pairs = pairs || names.length === 0;
    this.body.replaceChildren();
    this.lines.clear();
    this.head.replaceChildren();
    const heading = (label, path, numeric) => {
      const cell = document.createElement('th');
      cell.scope = 'col';
      const button = document.createElement('button');
      button.textContent = label.replaceAll('_', ' ');
      button.title = `Sort by ${label}`;
      button.onclick = () => {
        const same = this.sort.path === path;
        this.sort = { path, down: same ? !this.sort.down : numeric };
        this.layout = null;
        this.draw();
      };
      const sorted = this.sort.path === path;
      if (sorted) cell.ariaSort = this.sort.down ? 'descending' : 'ascending';
      cell.classList.toggle('number', numeric);
      cell.append(button);
      this.head.append(cell);
    };
    if (this.pairs) heading('key', null, false);
    for (const { name, numeric } of this.columns) heading(name, name, numeric);
    for (const name of this.sparks) {
      const cell = document.createElement('th');
      cell.className = 'line';
      cell.textContent = name.replaceAll('_', ' ');
      cell.title = `${name}, since this page was opened`;
      this.head.append(cell);
    }
  }

  value(row, path) {
    if (path === 'count') return row.count;
    const of = content(row);
    if (of === null || typeof of !== 'object') return of;
    return at(of, path);
  }

  add(row) {
    const line = document.createElement('tr');
    line.tabIndex = -1;
    const known = { line, cells: [], values: [] };
    if (this.pairs) {
      const cell = document.createElement('th');
      cell.scope = 'row';
      cell.textContent = naming(row)[0] ?? '';
      line.append(cell);
    }
    for (const { numeric } of this.columns) {
      const cell = line.insertCell();
      if (numeric) cell.className = 'number';
      known.cells.push(cell);
    }
    known.lines = this.sparks.map(() => {
      const cell = line.insertCell();
      cell.className = 'line';
      const canvas = document.createElement('canvas');
      canvas.className = 'spark';
      cell.append(canvas);
      return canvas;
    });
    watcher.observe(line);
    this.lines.set(row.row, known);
    this.fill(known, row, false);
    if (this.chosen === row.row) line.classList.add('chosen');
    return known;
  }

  fill(known, row, shines) {
    known.line.record = row;
    known.line.classList.remove('gone');
    this.columns.forEach(({ name, numeric }, index) => {
      const value = this.value(row, name);
      const was = known.values[index];
      const text = shown(value);
      const cell = known.cells[index];
      if (numeric && typeof value === 'number') {
        const greatest = this.greatest.get(name) || 1;
        const share = Math.min(Math.abs(value) / greatest, 1);
        if (known.line.isConnected || share) cell.style.setProperty('--share', `${(share * 100).toFixed(1)}%`);
      }
      if (cell.textContent === text) return;
      cell.textContent = text;
      known.values[index] = value;
      if (shines && known.line.seen) {
        const numbers = typeof value === 'number' && typeof was === 'number';
        glow(cell, numbers ? (value > was ? 'up' : 'down') : 'same');
      }
    });
  }

  /** Chooses the row so many lines further; gives it. */
  step(lines) {
    const all = [...this.body.rows];
    if (!all.length) return;
    const at = all.findIndex((line) => line.record.row === this.chosen);
    const to = at < 0 ? (lines > 0 ? 0 : all.length - 1) : Math.max(0, Math.min(all.length - 1, at + lines));
    all[at]?.classList.remove('chosen');
    all[to].classList.add('chosen');
    all[to].scrollIntoView({ block: 'nearest' });
    this.chosen = all[to].record.row;
  }

  enter() {
    const known = this.lines.get(this.chosen);
    if (known) this.open(known.line.record);
  }
}

/** What differs between two values: [name, before, after]. */
export function differences(before, after) {
  const was = new Map(fields(before));
  const is = new Map(fields(after));
  const differ = [];
  for (const [name, value] of is) {
    const old = was.get(name);
    if (JSON.stringify(old) !== JSON.stringify(value)) differ.push([name, old, value]);
  }
  for (const [name, old] of was) if (!is.has(name)) differ.push([name, old, undefined]);
  return differ;
}

export { clock };
