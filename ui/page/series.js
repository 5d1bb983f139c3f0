// Charts of a view: what its records come to in time, how they are spread, which are the greatest.

import uPlot from '/vendor/uplot.js';
import { clock, number, short } from './charts.js';
import { missing } from './columns.js';
import { KINDS, ofPage } from './palette.js';
import { said, shown } from './rows.js';

/** Points of a time series; past them every second one is left out, and half as many are taken. */
const MOST_POINTS = 600;
/** Lines of a chart, and lines that are remembered. */
const LINES = 12;
const REMEMBERED = 36;
const BARS = 20;
/** Of so many rows, each frame is drawn. */
const FEW = 1000;

const numeric = (value) => typeof value === 'number' && Number.isFinite(value);
const words = (name) => name.replaceAll('_', ' ');

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** What stands above a chart where the program says nothing. */
export function titleOf(chart) {
  if (chart.title) return chart.title;
  const field = words(chart.field ?? 'value');
  const by = chart.by ? ` by ${words(chart.by)}` : '';
  switch (chart.kind) {
    case 'count': return `records${by}`;
    case 'sum': return `${field}, sum${by}`;
    case 'mean': return `${field}, mean${by}`;
    case 'histogram': return `${field}: how many records`;
    case 'against': return `${field} against ${words(chart.actual)}`;
    default: return field;
  }
}

/** A chart with lines in time, or with steps. */
export class Plot {
  constructor({ time = true, unit = '', height = 150, bars = false } = {}) {
    Object.assign(this, { time, unit, height, bars });
    this.element = element('div', { className: 'plot' });
    this.names = null;
    this.watcher = new ResizeObserver(() => this.resize());
    this.watcher.observe(this.element);
  }

  resize() {
    const width = this.element.clientWidth;
    if (this.plot && width && width !== this.plot.width) this.plot.setSize({ width, height: this.height });
    else if (!this.plot && this.last) this.draw(...this.last);
  }

  /** `data` is as uPlot has it: places, and then the values of each line. */
  draw(names, data) {
    const width = this.element.clientWidth;
    this.last = [names, data];
    if (!width) return;
    if (this.plot && this.names === names.join('\n')) return this.plot.setData(data);
    this.plot?.destroy();
    this.names = names.join('\n');
    const axis = (more) => ({
      stroke: () => ofPage('--muted'), font: '11px system-ui, sans-serif', ticks: { show: false },
      grid: { stroke: () => ofPage('--line'), width: 1 }, ...more,
    });
    const value = (_, is) => (is === null || is === undefined ? '–' : `${number(is)}${this.unit ? ` ${this.unit}` : ''}`);
    this.plot = new uPlot({
      width, height: this.height,
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
      legend: { show: names.length > 1 || this.bars },
      scales: { x: { time: this.time }, y: { range: (_, least, most) => this.range(least, most) } },
      axes: [axis({ size: 26, space: 80, ...(this.time ? { values: (_, ticks) => ticks.map((tick) => clock(tick * 1000).slice(0, 8)) } : {}) }), axis({ size: 46, space: 30, values: (_, ticks) => ticks.map((tick) => short(tick)) })],
      series: [
        this.time ? { value: (_, is) => (is === null ? '–' : clock(is * 1000).slice(0, 8)) } : { label: 'from', value },
        ...names.map((label, index) => ({
          label, value, stroke: KINDS[index % KINDS.length], width: 1.6, points: { show: false }, spanGaps: true,
          ...(this.bars ? { paths: uPlot.paths.bars({ size: [0.92, 60], align: 1 }), fill: `${KINDS[index]}99` } : names.length === 1 ? { fill: `${KINDS[index]}22` } : {}),
        })),
      ],
    }, data, this.element);
  }

  /** From nothing where nothing is not far away. */
  range(least, most) {
    if (least === null || most === null) return [0, 1];
    if (least === most) return least === 0 ? [0, 1] : [Math.min(0, least * 1.2), Math.max(0, most * 1.2)];
    const room = (most - least) * 0.08;
    const low = least >= 0 && (this.bars || least < most * 0.6) ? 0 : least - room;
    return [low, most <= 0 && most > least * 0.6 ? 0 : most + room];
  }
}

/** Time series of several things, by name. */
export class History {
  constructor() {
    this.times = [];
    this.lines = new Map(); // name -> values, one for each time
    this.every = 1;
    this.skipped = 0;
  }

  /** Adds what the things are at a time, in seconds. */
  add(time, values) {
    this.skipped += 1;
    if (this.skipped < this.every) return;
    this.skipped = 0;
    this.times.push(time);
    for (const [name, value] of values) {
      if (!this.lines.has(name)) this.lines.set(name, new Array(this.times.length - 1).fill(null));
      this.lines.get(name).push(value);
    }
    for (const line of this.lines.values()) if (line.length < this.times.length) line.push(null);
    if (this.lines.size > REMEMBERED) {
      // Those that have been nothing for longest go first.
      const last = (line) => line.findLastIndex((value) => value !== null);
      const oldest = [...this.lines].sort(([, a], [, b]) => last(a) - last(b)).slice(0, this.lines.size - REMEMBERED);
      for (const [name] of oldest) this.lines.delete(name);
    }
    if (this.times.length <= MOST_POINTS) return;
    const half = (values) => values.filter((_, index) => index % 2 === 1);
    this.times = half(this.times);
    for (const [name, line] of this.lines) this.lines.set(name, half(line));
    this.every *= 2;
  }
}

/** Edges that people would choose, for so many steps about. */
export function edges(least, most, steps = 24) {
  if (least === most) return { from: least, wide: least === 0 ? 1 : Math.abs(least) / 10 };
  const raw = (most - least) / steps;
  const power = 10 ** Math.floor(Math.log10(raw));
  let wide = [1, 2, 2.5, 5, 10].map((times) => times * power).find((step) => step >= raw);
  if (Number.isInteger(least) && Number.isInteger(most)) wide = Math.max(1, Math.round(wide));
  return { from: Math.floor(least / wide) * wide, wide };
}

/** A chart of a view. */
export class ChartPanel {
  constructor(columns, chart, sample, { open, small = false }) {
    Object.assign(this, { columns, chart, sample, open, small });
    this.history = new History();
    this.now = element('b', { className: 'now' });
    this.note = element('p', { className: 'note', hidden: true });
    const unit = chart.unit && !chart.title?.includes(chart.unit) ? element('span', { className: 'size', textContent: chart.unit }) : '';
    this.element = element('figure', { className: 'chart' }, element('figcaption', {}, titleOf(chart), unit, this.now), this.note);
    this.changed = true;
    this.drawn = 0;
  }

  plot(options) {
    if (!this.of) {
      this.of = new Plot({ unit: this.chart.unit, height: this.small ? 120 : 150, ...options });
      this.element.append(this.of.element);
    }
    return this.of;
  }

  /** After a frame: draws at most four times a second. */
  update(delta, frame) {
    if (delta && (delta.snapshot || delta.changed.length || delta.gone.length)) this.changed = true;
    if (delta?.snapshot && this.columns.error) this.say(this.columns.error);
    if (!this.columns.ready || this.columns.error) return;
    const now = performance.now();
    const { kind } = this.chart;
    // Figures of this moment are of the same time as the tables beside them, where that is cheap.
    const at = (kind === 'bars' || kind === 'histogram') && this.columns.slots.size <= FEW;
    // A line goes on where nothing changes, too.
    if (at ? !this.changed : now - this.drawn < (this.changed ? 250 : 1000)) return;
    this.drawn = now;
    const what = missing(this.columns, [this.chart.field, this.chart.actual, this.chart.by], this.sample.rows);
    this.say(what ?? (this.columns.more ? `of ${number(this.columns.slots.size)} records: there are more than a chart takes in` : ''));
    if (what) return;
    if (kind === 'histogram') { if (this.changed) this.histogram(); }
    else if (kind === 'bars') { if (this.changed) this.bars(this.greatest()); }
    else this.series(frame);
    this.changed = false;
  }

  say(text) {
    this.note.hidden = !text;
    if (this.note.textContent !== text) this.note.textContent = text;
  }

  // --- In time ---------------------------------------------------------------------------------

  /** What it is at this moment: [name, value] of each line. */
  values() {
    const { columns, chart } = this;
    const [field, actual, by] = [chart.field, chart.actual, chart.by].map((name) => (name ? columns.column(name) : null));
    const groups = new Map();
    columns.each((slot) => {
      let value = 1;
      if (chart.kind === 'against') {
        if (!numeric(field[slot]) || !numeric(actual[slot])) return;
        value = Math.abs(field[slot] - actual[slot]);
      } else if (field) {
        if (!numeric(field[slot])) return;
        value = field[slot];
      }
      const name = chart.kind === 'lines' ? said(columns.keys[slot]) : by ? said(by[slot]) : '';
      const group = groups.get(name) ?? [0, 0];
      group[0] += value * columns.counts[slot];
      group[1] += columns.counts[slot];
      groups.set(name, group);
    });
    const mean = chart.kind === 'mean' || chart.kind === 'against';
    const values = [...groups].map(([name, [sum, count]]) => [name, mean ? sum / count : sum]);
    if (!values.length && !by && !mean && chart.kind !== 'lines') values.push(['', 0]);
    return values.sort(([, a], [, b]) => Math.abs(b) - Math.abs(a)).slice(0, LINES);
  }

  series(frame) {
    const values = this.values();
    this.history.add(frame.now / 1000, values);
    const shownNow = values.map(([name]) => name).sort(new Intl.Collator('en', { numeric: true }).compare);
    const [label] = this.chart.kind === 'against' ? ['mean distance'] : [words(this.chart.field ?? 'records')];
    this.now.textContent = values.length === 1 && values[0][0] === '' ? number(Number(values[0][1].toPrecision(6))) : '';
    const { times, lines } = this.history;
    const names = shownNow.map((name) => name || label);
    this.plot({}).draw(names, [times, ...shownNow.map((name) => lines.get(name) ?? times.map(() => null))]);
  }

  // --- At this moment --------------------------------------------------------------------------

  histogram() {
    const { columns, chart } = this;
    const column = columns.column(chart.field);
    const found = [];
    const kinds = new Map();
    let [least, most, all] = [Infinity, -Infinity, 0];
    columns.each((slot) => {
      const value = column[slot];
      if (value === null || value === undefined) return;
      all += columns.counts[slot];
      if (numeric(value)) {
        found.push(slot);
        least = Math.min(least, value);
        most = Math.max(most, value);
      } else kinds.set(said(value), (kinds.get(said(value)) ?? 0) + columns.counts[slot]);
    });
    this.now.textContent = number(all);
    if (!found.length) return this.bars([...kinds].sort(([, a], [, b]) => b - a).slice(0, BARS).map(([name, value]) => ({ name, value })));
    const { from, wide } = edges(least, most);
    const counts = new Array(Math.floor((most - from) / wide + 1e-9) + 1).fill(0);
    for (const slot of found) counts[Math.min(counts.length - 1, Math.floor((column[slot] - from) / wide + 1e-9))] += columns.counts[slot];
    const places = counts.map((_, index) => Number((from + index * wide).toPrecision(12)));
    const some = counts.map((count) => count || null);
    // The last step ends, too.
    places.push(places.at(-1) + wide);
    some.push(null);
    this.plot({ time: false, bars: true }).draw(['records'], [places, some]);
  }

  greatest() {
    const { columns, chart } = this;
    const column = columns.column(chart.field);
    const all = [];
    columns.each((slot) => { if (numeric(column[slot])) all.push(slot); });
    all.sort((a, b) => Math.abs(column[b]) - Math.abs(column[a]));
    return all.slice(0, this.small ? 8 : BARS).map((slot) => ({ name: said(columns.keys[slot]), key: columns.keys[slot], value: column[slot] }));
  }

  bars(rows) {
    if (!this.list) {
      this.list = element('ol', { className: 'bars' });
      this.element.append(this.list);
    }
    const most = Math.max(...rows.map(({ value }) => Math.abs(value)), 1e-12);
    while (this.list.children.length > rows.length) this.list.lastChild.remove();
    rows.forEach(({ name, key, value }, index) => {
      let line = this.list.children[index];
      if (!line) {
        line = element('li', {}, element('span'), element('i'), element('b'));
        this.list.append(line);
      }
      const [label, bar, size] = line.children;
      label.textContent = name;
      bar.style.setProperty('--share', `${((Math.abs(value) / most) * 100).toFixed(1)}%`);
      size.textContent = shown(value);
      line.onclick = key === undefined ? null : () => this.open(key);
      line.classList.toggle('opens', key !== undefined);
    });
  }
}
