// What fills the page: all views, one view, one agent.

import { clock, isTime, number, span, spark } from './charts.js';
import { guess, needed } from './columns.js';
import { MapPanel } from './map.js';
import { ChartPanel, History, Plot } from './series.js';
import { Table, at, differences, fields, glow, naming, said, shown } from './rows.js';

/** The most records of a map and of charts: of large views, of which few are watched at a time, and of others. */
const MOST_POINTS = 200000;
const FEWER_POINTS = 10000;
/** What of a view's description is on the page of all views. */
const MOST_SMALL = 2;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** The address of a view, or of an agent in it. */
export const address = (view, key) =>
  `#/${encodeURIComponent(view)}${key === undefined ? '' : `/${encodeURIComponent(JSON.stringify(key))}`}`;

/** The map and the charts of a view, filled from its columns. */
class Panels {
  constructor(columns, look, sample, { view, small = false, moved }) {
    this.columns = columns;
    const open = (key) => { location.hash = address(view, key); };
    const charts = look.charts.filter((chart) => chart.kind !== 'sparks');
    this.map = look.map ? new MapPanel(columns, look.map, sample, { open, small, moved }) : null;
    this.charts = (small ? charts.slice(0, MOST_SMALL) : charts).map((chart) => new ChartPanel(columns, chart, sample, { open, small }));
    this.element = element('div', { className: 'panels' });
    if (this.map) this.element.append(this.map.element);
    if (this.charts.length) this.element.append(element('div', { className: 'charts' }, ...this.charts.map((chart) => chart.element)));
  }

  /** Goes on with other rows: of another part of the map. */
  of(columns) {
    for (const panel of [this, this.map, ...this.charts]) if (panel) panel.columns = columns;
  }

  update(delta, frame) {
    if (delta) this.map?.update(delta);
    for (const chart of this.charts) chart.update(delta, frame);
  }
}

/** All views, some rows of each. They are of one time. */
export class Overview {
  constructor(live, views, looks) {
    this.title = '';
    const some = views.slice(0, 16);
    const described = some.filter((view) => looks.get(view)?.described);
    this.large = new Set(described.filter((view) => looks.get(view).size > FEWER_POINTS));
    this.ask = (anew) => live.watch([
      ...some.map((view) => ({ view, limit: 200 })),
      ...described.map((view) => ({ view, fields: asked(looks.get(view)), limit: this.large.has(view) ? MOST_POINTS : FEWER_POINTS })),
    ], { anew });
    const parts = this.ask(true);
    this.element = element('div', { className: 'cards' });
    this.cards = some.map((view, index) => {
      const rows = parts[index];
      const open = (row) => { location.hash = address(view, row.key); };
      const at = described.indexOf(view);
      const panels = at < 0 ? null : new Panels(parts[some.length + at], looks.get(view), rows, { view, small: true });
      const table = new Table(rows, { open, most: panels ? 6 : 12, compact: true, sparks: sparks(looks.get(view)) });
      const size = element('span', { className: 'size' });
      const line = element('canvas', { className: 'spark', ariaHidden: 'true' });
      const title = element('h2', {}, element('a', { href: address(view), textContent: view }), size, line);
      this.element.append(element('section', { className: 'card' }, title, ...(panels ? [panels.element] : []), table.element));
      return { view, table, size, line, panels, part: some.length + at, moved: [0] };
    });
    if (!views.length) {
      const what = 'This program keeps no views. In Rust: ';
      const code = element('code', { textContent: 'flow.view("planes", &planes);' });
      this.element.append(element('p', { className: 'note' }, what, code));
    }
  }

  update(frame, deltas, sizes) {
    this.cards.forEach((card, index) => {
      if (deltas) {
        const delta = deltas[index];
        card.table.update(delta);
        card.moved[card.moved.length - 1] += delta.changed.length + delta.gone.length;
      }
      card.panels?.update(deltas?.[card.part], frame);
      const size = sizes[card.view];
      card.size.textContent = size === undefined ? '' : number(size);
      if (!frame.figures) return;
      spark(card.line, card.moved);
      card.moved = [...card.moved.slice(-59), 0];
    });
    const grown = this.cards.filter(({ view, panels }) => panels?.columns.more && !this.large.has(view));
    if (!grown.length) return;
    for (const { view } of grown) this.large.add(view);
    const parts = this.ask(false);
    for (const card of grown) card.panels.of(parts[card.part]);
  }

  get table() { return this.cards[0]?.table; }
}

/** The fields that are asked for. A chart of how many there are needs none, and columns one. */
const asked = (look) => (needed(look).length ? needed(look) : ['key']);

/** The fields that have a small line in each row of the table. */
const sparks = (look) => (look?.charts ?? []).filter((chart) => chart.kind === 'sparks').map((chart) => chart.field);

/** One view: a map and charts, if it has any, a filter, and as many rows as there is room for. */
export class ViewScreen {
  constructor(live, view, filter, remember, looks) {
    this.live = live;
    this.view = view;
    this.title = view;
    this.remember = remember;
    const look = looks.get(view);
    this.look = look?.described ? look : null;
    this.sparks = sparks(look);
    this.most = look?.size > FEWER_POINTS ? MOST_POINTS : FEWER_POINTS;
    this.filter = element('input', {
      type: 'search', value: filter, placeholder: 'filter: words, or field>15', maxLength: 500,
      ariaLabel: 'Filter', autocomplete: 'off', spellcheck: false,
    });
    this.size = element('span', { className: 'size' });
    this.csv = element('a', { textContent: 'CSV' });
    const title = element('h1', {}, view, this.size);
    this.element = element('div', { className: 'view' }, element('div', { className: 'bar' }, title, this.filter, this.csv));
    let waiting;
    this.filter.oninput = () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => this.show(), 150);
    };
    this.show();
  }

  /** Asks for what is to be seen; `within`: conditions for what the map shows, if that is less than everything. */
  show(within = '') {
    const filter = this.filter.value.trim();
    this.remember(filter);
    const wanted = [{ view: this.view, filter, limit: 1000 }];
    const whole = [filter, within].filter(Boolean).join(' ');
    if (this.look && (this.look.map || this.look.charts.length)) wanted.push({ view: this.view, filter: whole, fields: asked(this.look), limit: this.most });
    const [rows, columns] = this.live.watch(wanted, { anew: false });
    if (this.table?.rows !== rows) {
      const open = (row) => { location.hash = address(this.view, row.key); };
      const sort = this.table?.sort;
      this.table?.element.remove();
      this.table = new Table(rows, { open, sort, sparks: this.sparks });
      this.element.append(this.table.element);
    }
    if (columns && this.panels?.filter === filter) this.panels.of(columns);
    else if (columns) {
      const { camera } = this.panels?.map ?? {};
      this.panels?.element.remove();
      this.panels = new Panels(columns, this.look, rows, { view: this.view, moved: () => this.steered() });
      this.panels.filter = filter;
      if (camera && this.panels.map) this.panels.map.camera = camera;
      this.table.element.before(this.panels.element);
    }
    this.within = within;
    if (this.panels?.map) this.panels.map.bounded = Boolean(within);
    const query = new URLSearchParams({ format: 'csv', limit: 10000, ...(filter && { filter }) });
    this.csv.href = `/api/views/${encodeURIComponent(this.view)}?${query}`;
    this.csv.download = `${this.view}.csv`;
  }

  /** The map shows something else: where it cannot have everything, it asks for what is there. */
  steered() {
    const { map, columns } = this.panels ?? {};
    if (!map || !(columns.more || this.within)) return;
    clearTimeout(this.steering);
    this.steering = setTimeout(() => this.show(map.camera.touched ? map.bounds() : ''), 300);
  }

  update(frame, deltas, sizes) {
    const found = this.table.rows;
    const size = sizes[this.view];
    if (deltas) {
      this.table.update(deltas[0]);
      const { columns } = this.panels ?? {};
      const refused = columns?.error?.startsWith('too many') && this.most > FEWER_POINTS;
      if (!this.look && found.ready && found.rows.size) {
        this.look = guess(found.rows, size ?? found.rows.size);
        if (needed(this.look).length) this.show();
      } else if (refused || (columns?.more && this.most < MOST_POINTS && !this.refused)) {
        this.refused ||= refused;
        this.most = refused ? FEWER_POINTS : MOST_POINTS;
        this.show(this.within);
      }
    }
    this.panels?.update(deltas?.[1], frame);
    const some = this.filter.value.trim() && found.ready && !found.more;
    this.size.textContent = size === undefined ? '' : some ? `${number(found.rows.size)} of ${number(size)}` : number(size);
  }
}

const REMEMBERED = 200;
/** Charts of an agent. */
const MOST_PLOTS = 12;

/** One agent: what each view says of its key, what has changed, and who else speaks of it. */
export class AgentScreen {
  constructor(live, view, key, views, looks) {
    this.looks = looks;
    this.view = view;
    this.key = key;
    this.title = naming({ key, value: null })[0] ?? said(key);
    const text = JSON.stringify(key);
    const others = views.filter((other) => other !== view).slice(0, 7);
    const asked = [view, ...others].map((of) => ({ view: of, key: text, limit: 100 }));
    // Links: records of other keys in which this one is a word. A number is a word of everything.
    const word = typeof key === 'string' && key.length > 1 && !key.includes('"') ? `"${key}" key!="${key}"` : null;
    const linked = word ? [view, ...others].map((of) => ({ view: of, filter: word, limit: 50 })) : [];
    const parts = live.watch([...asked, ...linked]);
    this.own = asked.map(({ view: of }, index) => ({ of, rows: parts[index] }));
    this.linked = linked.map(({ view: of }, index) => {
      const open = (row) => { location.hash = address(of, row.key); };
      const table = new Table(parts[asked.length + index], { open, most: 50 });
      const title = element('h2', {}, `in ${of}`);
      return { of, table, section: element('section', { className: 'card', hidden: true }, title, table.element) };
    });
    this.histories = new Map(); // view and field -> [values]
    this.values = new Map(); // view and field -> {cell, line}
    const title = element('h1', {}, this.title, element('a', { className: 'size', href: address(view), textContent: view }));
    this.state = element('div', { className: 'cards' });
    this.plots = new Map(); // view and chart -> {history, plot, lines}
    this.past = element('div', { className: 'charts' });
    const past = element('section', { className: 'card', hidden: true }, element('h2', { textContent: 'Since this page was opened' }), this.past);
    this.changes = element('ol', { className: 'changes' });
    this.quiet = element('p', { className: 'note', textContent: 'Nothing has changed since this page was opened.' });
    const recent = element('section', { className: 'card' }, element('h2', { textContent: 'Changes' }), this.quiet, this.changes);
    this.links = element('div', { className: 'cards' }, ...this.linked.map(({ section }) => section));
    this.element = element('div', { className: 'agent' }, element('div', { className: 'bar' }, title), this.state, past, recent, this.links);
    this.note = element('p', { className: 'note', textContent: 'loading …' });
    this.state.append(this.note);
  }

  update(frame, deltas) {
    if (deltas) {
      this.own.forEach(({ of }, index) => this.take(of, deltas[index], frame));
      this.linked.forEach(({ table, section }, index) => {
        table.update(deltas[this.own.length + index]);
        section.hidden = table.rows.rows.size === 0;
      });
      const moved = this.own.some((_, index) => deltas[index].snapshot || deltas[index].changed.length || deltas[index].gone.length);
      if (moved) this.draw();
    }
    if (frame.figures) {
      this.lines();
      this.remember(frame);
    }
  }

  /** What its numbers were, in time: a chart for each, and one for what was predicted and what happened. */
  remember(frame) {
    for (const { of, rows } of this.own) {
      if (rows.rows.size !== 1) continue;
      const [row] = rows.rows.values();
      const numbers = fields(naming(row)[1]).filter(([, value]) => typeof value === 'number' && !isTime(value));
      const values = new Map(numbers);
      for (const { kind, field, actual, title, unit } of this.looks.get(of)?.charts ?? []) {
        if (kind !== 'against') continue;
        const [predicted, is] = [field, actual].map((name) => at(naming(row)[1], name) ?? null);
        if (typeof predicted !== 'number' && typeof is !== 'number') continue;
        this.follow(of, title ?? `${field} against ${actual}`, [[field, predicted], [actual, is]], unit, frame);
        values.delete(field);
        values.delete(actual);
      }
      for (const [name, value] of values) this.follow(of, name, [[name, value]], '', frame);
    }
  }

  follow(of, title, lines, unit, frame) {
    const id = `${of}\n${title}`;
    let known = this.plots.get(id);
    if (!known) {
      if (this.plots.size >= MOST_PLOTS) return;
      const plot = new Plot({ unit, height: 130 });
      const figure = element('figure', { className: 'chart', hidden: true }, element('figcaption', {}, title.replaceAll('_', ' '), element('span', { className: 'size', textContent: of })), plot.element);
      this.past.append(figure);
      known = { history: new History(), plot, figure, first: JSON.stringify(lines) };
      this.plots.set(id, known);
    }
    known.history.add(frame.now / 1000, lines);
    // What stays as it is needs no chart.
    if (known.figure.hidden && lines.length === 1 && JSON.stringify(lines) === known.first) return;
    known.figure.hidden = false;
    this.past.parentElement.hidden = false;
    known.plot.draw(lines.map(([name]) => name.replaceAll('_', ' ')), [known.history.times, ...lines.map(([name]) => known.history.lines.get(name))]);
  }

  take(of, delta, frame) {
    for (const { row, before } of delta.changed) this.tell(of, before?.value, row.value, frame);
    for (const row of delta.gone) this.tell(of, row.value, null, frame);
  }

  tell(of, before, after, frame) {
    const differ = differences(before, after).slice(0, 8);
    if (!differ.length) return;
    this.quiet.hidden = true;
    const items = differ.map(([name, was, is]) => element('span', { className: 'change' },
      element('i', { textContent: name === 'value' ? '' : name }),
      ...(was === undefined ? [] : [element('s', { textContent: shown(was) }), ' → ']),
      element('b', { textContent: is === undefined ? 'gone' : shown(is) })));
    const time = element('time', { textContent: frame.time ? clock(frame.time) : 'the end' });
    const line = element('li', {}, time, element('em', { textContent: of }), ...items);
    this.changes.prepend(line);
    glow(line, 'same');
    while (this.changes.children.length > REMEMBERED) this.changes.lastChild.remove();
  }

  draw() {
    this.note.hidden = true;
    let found = false;
    const sections = [];
    for (const { of, rows } of this.own) {
      if (rows.error) {
        this.note.hidden = false;
        this.note.textContent = rows.error;
      }
      const records = [...rows.rows.values()];
      if (!records.length) continue;
      found = true;
      const section = element('section', { className: 'card' }, element('h2', {}, element('a', { href: address(of), textContent: of })));
      if (records.length === 1) section.append(this.facts(of, records[0]));
      else section.append(element('p', { className: 'note', textContent: `${records.length} records` }),
        ...records.slice(0, 20).map((row) => this.facts(`${of} ${row.row}`, row)));
      sections.push(section);
    }
    if (!found && this.own.every(({ rows }) => rows.ready) && this.note.hidden) {
      this.note.hidden = false;
      this.note.textContent = 'There is no record of this key now. It may come (again).';
    }
    this.state.replaceChildren(...sections, this.note);
    this.lines();
  }

  facts(of, row) {
    const list = element('dl', { className: 'facts' });
    for (const [name, value] of fields(naming(row)[1])) {
      const id = `${of}\n${name}`;
      const cell = element('dd', {}, shown(value));
      const known = this.values.get(id);
      if (known && known.text !== shown(value)) glow(cell, 'same');
      const entry = { text: shown(value), line: known?.line };
      if (typeof value === 'number' && !isTime(value)) {
        const history = this.histories.get(id) ?? [];
        if (history.at(-1) !== value || history.length < 2) history.push(value);
        this.histories.set(id, history.slice(-120));
        entry.line ??= element('canvas', { className: 'spark', ariaHidden: 'true' });
        cell.append(entry.line);
      } else if (isTime(value)) {
        cell.title = `${value}: ${span(Math.abs(Date.now() - value))} ${value > Date.now() ? 'from now' : 'ago'}`;
      }
      this.values.set(id, entry);
      list.append(element('dt', { textContent: name.replaceAll('_', ' ') }), cell);
    }
    return list;
  }

  lines() {
    for (const [id, { line }] of this.values) {
      if (line?.isConnected) spark(line, this.histories.get(id) ?? [], { step: true });
    }
  }
}
