// The connection: says what is watched, takes frames, and comes back by itself.

import { Columns } from './columns.js';

/** The rows of one part, as they are at the time of the last frame. */
class Rows {
  constructor() {
    this.rows = new Map(); // row's number -> {row, key, value, count}
    this.more = false;
    this.error = null;
    this.ready = false;
  }

  /** Takes a part of a frame; says what changed: [{row, before}]. */
  take(part) {
    const delta = { snapshot: false, changed: [], gone: [] };
    if (!part) return delta;
    if (part.error) {
      this.error = part.error;
      this.rows.clear();
      this.ready = true;
      delta.snapshot = true;
      return delta;
    }
    this.error = null;
    this.more = part.more;
    const before = new Map();
    if (part.snapshot) {
      // Numbers are new in a snapshot: what stayed is known by its key.
      for (const row of this.rows.values()) before.set(JSON.stringify(row.key), row);
      this.rows = new Map();
      delta.snapshot = true;
    }
    for (const number of part.gone ?? []) {
      const row = this.rows.get(number);
      if (row) delta.gone.push(row);
      this.rows.delete(number);
    }
    for (const [number, key, value, count = 1] of part.rows) {
      const row = { row: number, key, value, count };
      const was = part.snapshot ? before.get(JSON.stringify(key)) : this.rows.get(number);
      this.rows.set(number, row);
      const differs = !was || JSON.stringify(was.value) !== JSON.stringify(value) || was.count !== count;
      if (differs && (!part.snapshot || (this.ready && was))) delta.changed.push({ row, before: was ?? null });
    }
    this.ready = true;
    return delta;
  }
}

export class Live {
  /** Calls `told(frame, deltas)` with each frame, `state(text)` when the connection comes and goes. */
  constructor(told, state) {
    this.told = told;
    this.state = state;
    this.wanted = [];
    this.parts = [];
    this.number = 0;
    this.pause = 250;
    this.heard = 0;
    this.connect();
    // A connection that says nothing for so long is dead: there is a frame a second.
    setInterval(() => {
      if (this.socket?.readyState === WebSocket.OPEN && Date.now() - this.heard > 8000) this.socket.close();
    }, 1000);
  }

  connect() {
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const socket = new WebSocket(`${scheme}://${location.host}/api/live`);
    this.socket = socket;
    socket.onopen = () => {
      this.heard = Date.now();
      this.say();
    };
    socket.onmessage = (message) => {
      this.heard = Date.now();
      this.pause = 250;
      const frame = JSON.parse(message.data);
      const ours = frame.watch === this.number;
      const deltas = ours ? this.parts.map((rows, index) => rows.take(frame.parts[index])) : null;
      this.told(frame, deltas);
    };
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      this.state(event.reason || 'no connection');
      setTimeout(() => this.connect(), this.pause);
      this.pause = Math.min(this.pause * 1.6, 5000);
    };
  }

  /**
   * Watches these views from now on: [{view, filter, key, limit, fields}]; gives their rows, or columns, in the same order.
   * What was watched already keeps its rows until there are new ones, unless all is to be `anew`.
   */
  watch(wanted, { anew = true } = {}) {
    const [was, parts] = [this.wanted.map((part) => JSON.stringify(part)), this.parts];
    this.wanted = wanted;
    this.number += 1;
    this.parts = wanted.map((part) => {
      const at = anew ? -1 : was.indexOf(JSON.stringify(part));
      return at >= 0 ? parts[at] : part.fields ? new Columns(part.fields) : new Rows();
    });
    this.say();
    return this.parts;
  }

  say() {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.socket.send(JSON.stringify({ watch: this.number, views: this.wanted }));
  }
}
