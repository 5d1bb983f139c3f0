// What fills the page: all views, one view, one agent.

import { clock, isTime, number, span, spark } from './charts.js';
import { Table, differences, fields, glow, naming, said, shown } from './rows.js';

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** The address of a view, or of an agent in it. */
export const address = (view, key) =>
  `#/${encodeURIComponent(view)}${key === undefined ? '' : `/${encodeURIComponent(JSON.stringify(key))}`}`;

/** All views, some rows of each. They are of one time. */
export class Overview {
  constructor(live, views) {
    this.title = '';
    const parts = live.watch(views.slice(0, 16).map((view) => ({ view, limit: 200 })));
    this.element = element('div', { className: 'cards' });
    this.cards = parts.map((rows, index) => {
      const view = views[index];
      const open = (row) => { location.hash = address(view, row.key); };
      const table = new Table(rows, { open, most: 12, compact: true });
      const size = element('span', { className: 'size' });
      const line = element('canvas', { className: 'spark', ariaHidden: 'true' });
      const title = element('h2', {}, element('a', { href: address(view), textContent: view }), size, line);
      this.element.append(element('section', { className: 'card' }, title, table.element));
      return { view, table, size, line, moved: [0] };
    });
    if (!views.length) {
      const what = 'This program keeps no views. In Rust: ';
      const code = element('code', { textContent: 'flow.view("planes", &planes);' });
      this.element.append(element('p', { className: 'note' }, what, code));
    }
  }

  update(frame, deltas, sizes) {
    deltas?.forEach((delta, index) => {
      const card = this.cards[index];
      card.table.update(delta);
      card.moved[card.moved.length - 1] += delta.changed.length + delta.gone.length;
    });
    for (const card of this.cards) {
      const size = sizes[card.view];
      card.size.textContent = size === undefined ? '' : number(size);
      if (!frame.figures) continue;
      spark(card.line, card.moved);
      card.moved = [...card.moved.slice(-59), 0];
    }
  }

  get table() { return this.cards[0]?.table; }
}

/** One view: a filter, and as many rows as there is room for. */
export class ViewScreen {
  constructor(live, view, filter, remember) {
    this.live = live;
    this.view = view;
    this.title = view;
    this.remember = remember;
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

  show() {
    const filter = this.filter.value.trim();
    this.remember(filter);
    const [rows] = this.live.watch([{ view: this.view, filter, limit: 1000 }]);
    const open = (row) => { location.hash = address(this.view, row.key); };
    const sort = this.table?.sort;
    this.table?.element.remove();
    this.table = new Table(rows, { open, sort });
    this.element.append(this.table.element);
    const query = new URLSearchParams({ format: 'csv', limit: 10000, ...(filter && { filter }) });
    this.csv.href = `/api/views/${encodeURIComponent(this.view)}?${query}`;
    this.csv.download = `${this.view}.csv`;
  }

  update(frame, deltas, sizes) {
    if (deltas) this.table.update(deltas[0]);
    const size = sizes[this.view];
    const found = this.table.rows;
    const some = this.filter.value.trim() && found.ready && !found.more;
    this.size.textContent = size === undefined ? '' : some ? `${number(found.rows.size)} of ${number(size)}` : number(size);
  }
}

const REMEMBERED = 200;

/** One agent: what each view says of its key, what has changed, and who else speaks of it. */
export class AgentScreen {
  constructor(live, view, key, views) {
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
    this.changes = element('ol', { className: 'changes' });
    this.quiet = element('p', { className: 'note', textContent: 'Nothing has changed since this page was opened.' });
    const recent = element('section', { className: 'card' }, element('h2', { textContent: 'Changes' }), this.quiet, this.changes);
    this.links = element('div', { className: 'cards' }, ...this.linked.map(({ section }) => section));
    this.element = element('div', { className: 'agent' }, element('div', { className: 'bar' }, title), this.state, recent, this.links);
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
    if (frame.figures) this.lines();
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
