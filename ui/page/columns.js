// Some fields of many rows, as columns; and which of them are drawn where the program says nothing.

import { isTime } from './charts.js';
import { fields, naming } from './rows.js';

/** The rows of a part that is asked for by fields. A row has a slot, and keeps it while it is there. */
export class Columns {
  constructor(names) {
    this.names = names;
    this.slots = new Map(); // row's number -> slot
    this.keys = [];
    this.numbers = []; // of a slot: its row's number; null where it is free
    this.counts = [];
    this.columns = names.map(() => []);
    this.free = [];
    this.size = 0; // slots, the free ones too
    this.more = false;
    this.error = null;
    this.ready = false;
  }

  get rows() { return this.slots; }

  column(name) { return this.columns[this.names.indexOf(name)]; }

  /** Takes a part of a frame; gives the slots that have changed, and those that are free now. */
  take(part) {
    const delta = { snapshot: false, changed: [], gone: [] };
    if (!part) return delta;
    if (part.error || part.snapshot) {
      const [names, ready] = [this.names, this.ready || !part.error];
      Object.assign(this, new Columns(names), { ready, error: part.error ?? null });
      delta.snapshot = true;
      if (part.error) return delta;
    }
    this.more = part.more;
    for (const number of part.gone ?? []) {
      const slot = this.slots.get(number);
      if (slot === undefined) continue;
      this.slots.delete(number);
      this.numbers[slot] = null;
      for (const column of this.columns) column[slot] = null;
      this.free.push(slot);
      delta.gone.push(slot);
    }
    part.rows.forEach((number, index) => {
      let slot = this.slots.get(number);
      if (slot === undefined) {
        slot = this.free.pop() ?? this.size;
        this.size = Math.max(this.size, slot + 1);
        this.slots.set(number, slot);
        this.numbers[slot] = number;
      }
      this.keys[slot] = part.keys[index];
      this.counts[slot] = part.counts ? part.counts[index] : 1;
      for (let at = 0; at < this.columns.length; at += 1) this.columns[at][slot] = part.columns[at][index];
      delta.changed.push(slot);
    });
    return delta;
  }

  /** Calls `each(slot)` for every row. */
  each(each) {
    for (let slot = 0; slot < this.size; slot += 1) if (this.numbers[slot] !== null) each(slot);
  }
}

/** The fields that a map and charts need. */
export function needed({ map, charts }) {
  const names = new Set();
  const add = (...wanted) => { for (const name of wanted.flat()) if (name) names.add(name); };
  if (map) add(map.x, map.y, map.to, map.moving, map.colour, map.size, map.label, map.links);
  for (const chart of charts) add(chart.field, chart.actual, chart.by);
  return [...names];
}

const LATITUDE = /^(lat|latitude)$/i;
const LONGITUDE = /^(lon|lng|long|longitude)$/i;

/** What is shown of a view of which the program has said nothing: guessed from some of its rows. */
export function guess(rows, size) {
  const look = { map: null, charts: [], guessed: true };
  const numbers = new Map(); // field -> how many different values, at most 3
  for (const row of [...rows.values()].slice(0, 50)) {
    // The key may be all there is: then its fields have the same names.
    if (row.value === null && naming(row)[0] !== null && typeof row.key === 'object') return look;
    for (const [name, value] of fields(row.value ?? row.key)) {
      if (typeof value !== 'number' || isTime(value)) continue;
      const different = numbers.get(name) ?? new Set();
      if (different.size < 3) different.add(value);
      numbers.set(name, different);
    }
  }
  const names = [...numbers.keys()];
  const last = (name) => name.split('.').at(-1);
  const latitude = names.find((name) => LATITUDE.test(last(name)));
  const prefix = latitude?.slice(0, latitude.length - last(latitude).length);
  const longitude = names.find((name) => name.startsWith(prefix ?? '\n') && LONGITUDE.test(name.slice(prefix.length)));
  const others = names.filter((name) => !LATITUDE.test(last(name)) && !LONGITUDE.test(last(name)));
  if (latitude && longitude) look.map = { x: longitude, y: latitude, earth: true, colour: others[0] };
  for (const field of others.slice(0, 3)) look.charts.push({ kind: size > 12 ? 'histogram' : 'lines', field });
  return look;
}

/** Why a field cannot be drawn: no record has it. `null` if one has, or if there are no records. */
export function missing(columns, names, sample) {
  if (!columns.ready || columns.slots.size === 0) return null;
  for (const name of names.filter(Boolean)) {
    const column = columns.column(name);
    let found = false;
    for (let slot = 0; slot < columns.size && !found; slot += 1) {
      found = columns.numbers[slot] !== null && column[slot] !== null && column[slot] !== undefined;
    }
    if (found) continue;
    const there = [...new Set([...sample.values()].slice(0, 20).flatMap((row) => fields(row.value ?? row.key).map(([of]) => of)))];
    return `no record has a field “${name}”${there.length ? `: there are ${there.slice(0, 20).join(', ')}` : ''}`;
  }
  return null;
}
