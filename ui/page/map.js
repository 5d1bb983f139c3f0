// A map of a view: a point a record, lines where it says so. What changes glows, what moves goes on in between.

import { between, Camera, earth, plane } from './camera.js';
import { isTime, number } from './charts.js';
import { missing } from './columns.js';
import { Ground } from './ground.js';
import { KINDS, ofPage, OTHER, RAMP, texture } from './palette.js';
import { PARTS, Points } from './points.js';
import { said, shown } from './rows.js';

const still = matchMedia('(prefers-reduced-motion: reduce)');
/** A point that has moved goes to its new place in so many seconds at most. */
const SLOWEST = 1.2;
/** A picture that takes so long is one of a machine that is slow at it. */
const SLOW = 0.045;
/** The most records that have lines to where they go, and the most lines of links. */
const MOST_LINES = 5000;
const MOST_LINKS = 60000;
const seconds = () => performance.now() / 1000;
const numeric = (value) => typeof value === 'number' && Number.isFinite(value);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export class MapPanel {
  /** `open(key)` is called for a record that is chosen; `small`: on the page of all views, where the wheel moves the page. */
  constructor(columns, map, sample, { open, small = false, moved = () => {} }) {
    Object.assign(this, { columns, map, sample, open, small, moved });
    this.kind = map.earth ? earth : plane;
    this.camera = new Camera(this.kind);
    this.origin = null;
    this.kinds = new Map(); // value -> colour's number
    this.range = null; // of colours
    this.largest = 0;
    this.clock = null; // of what moves
    this.newest = 0;
    this.glowing = 0; // until when something moves or glows
    this.frames = 0;
    this.takes = 0; // seconds, a picture
    this.ground = null;
    this.build();
  }

  build() {
    const canvas = () => element('canvas', { ariaHidden: 'true' });
    [this.under, this.over] = [canvas(), canvas()];
    this.tip = element('div', { className: 'tip', hidden: true });
    this.legend = element('div', { className: 'legend', hidden: true });
    this.note = element('p', { className: 'note', hidden: true });
    const button = (text, label, act) => {
      const made = element('button', { type: 'button', textContent: text, title: label, ariaLabel: label });
      made.onclick = act;
      return made;
    };
    this.buttons = element('div', { className: 'zoom' },
      button('+', 'Nearer (+)', () => this.steer(() => this.camera.zoom(1.6))),
      button('−', 'Further (-)', () => this.steer(() => this.camera.zoom(1 / 1.6))),
      button('⌂', 'Everything (0)', () => this.home()));
    this.element = element('div', { className: this.small ? 'map small' : 'map', tabIndex: 0, role: 'application' },
      this.under, this.over, this.legend, this.buttons, this.tip, this.note);
    this.element.ariaLabel = 'Map: + and - zoom, arrows move, 0 shows everything';
    try {
      this.points = new Points(this.over);
    } catch (error) {
      this.say(error.message);
      this.buttons.hidden = true;
      return;
    }
    if (this.map.earth) this.ground = new Ground(this.under, () => this.steer(() => {}));
    this.listen();
    this.watcher = new ResizeObserver(() => this.resize());
    this.watcher.observe(this.element);
    this.over.addEventListener('webglcontextlost', (event) => event.preventDefault());
    this.over.addEventListener('webglcontextrestored', () => {
      this.points = new Points(this.over);
      this.load();
    });
  }

  say(text) {
    this.note.hidden = !text;
    if (this.note.textContent !== text) this.note.textContent = text ?? '';
  }

  // --- What is drawn ---------------------------------------------------------------------------

  /** Takes what has changed in the columns. */
  update(delta) {
    if (!this.points || !this.columns.ready) return;
    const { columns, map } = this;
    if (delta.snapshot) this.load();
    else if (delta.changed.length || delta.gone.length) {
      const now = seconds();
      this.widen(delta.changed);
      for (const slot of delta.gone) this.remove(slot);
      for (const slot of delta.changed) this.place(slot, now, true);
      this.grow(delta.changed);
      this.glowing = Math.max(this.glowing, now + SLOWEST);
      this.linked = false;
      this.wake();
    }
    const what = columns.error ?? (columns.size ? missing(columns, [map.x, map.y, ...(map.to ?? []), ...(map.moving ?? []), map.colour, map.size, map.label, map.links], this.sample.rows) : null);
    this.say(what ?? (columns.more && !this.bounded ? `the first ${number(columns.slots.size)} records: nearer, there are all` : ''));
  }

  /** Begins anew with what is in the columns. */
  load() {
    const { columns, points } = this;
    points.points.count = 0;
    points.links.count = 0;
    [this.range, this.largest, this.origin, this.newest] = [null, 0, null, 0];
    this.settled = new Float64Array(0);
    const all = [];
    columns.each((slot) => all.push(slot));
    this.numeric = this.map.colour && all.some((slot) => numeric(columns.column(this.map.colour)[slot]));
    this.widen(all);
    points.paint(texture(this.numeric));
    // Slots that are free draw nothing.
    for (let slot = 0; slot < columns.size; slot += 1) if (columns.numbers[slot] === null) this.remove(slot);
    for (const slot of all) this.place(slot, seconds(), false);
    this.linked = false;
    if (!this.camera.touched) this.fit();
    this.explain();
    this.wake();
  }

  world(slot, x, y) {
    const [a, b] = [this.columns.column(x)[slot], this.columns.column(y)[slot]];
    return numeric(a) && numeric(b) ? [this.kind.x(a), this.kind.y(b)] : null;
  }

  /** Everything that there is, as left, top, right, bottom. */
  extent() {
    const box = [Infinity, Infinity, -Infinity, -Infinity];
    const add = (at) => {
      if (!at) return;
      box[0] = Math.min(box[0], at[0]); box[1] = Math.min(box[1], at[1]);
      box[2] = Math.max(box[2], at[0]); box[3] = Math.max(box[3], at[1]);
    };
    this.columns.each((slot) => {
      add(this.world(slot, this.map.x, this.map.y));
      if (this.map.to) add(this.world(slot, ...this.map.to));
    });
    return box;
  }

  /** Takes in what colours, sizes and times there are. */
  widen(slots) {
    const { columns, map } = this;
    const [colour, size, departed] = [map.colour, map.size, map.moving?.[0]].map((name) => (name ? columns.column(name) : null));
    let wider = false;
    for (const slot of slots) {
      if (departed && numeric(departed[slot])) this.newest = Math.max(this.newest, departed[slot]);
      if (size && numeric(size[slot]) && size[slot] > this.largest) {
        wider ||= this.largest > 0;
        this.largest = size[slot] * (this.largest ? 1.3 : 1);
      }
      const value = colour?.[slot];
      if (this.numeric !== false && numeric(value)) {
        const [least, most] = this.range ?? [value, value];
        if (value < least || value > most || !this.range) {
          wider ||= Boolean(this.range);
          this.range = [Math.min(least, value), Math.max(most, value)];
        }
      } else if (!this.numeric && value !== null && value !== undefined && !this.kinds.has(said(value))) {
        if (this.kinds.size < KINDS.length) this.kinds.set(said(value), this.kinds.size);
        wider = true;
      }
    }
    // Others have other colours and sizes now: all of them are told anew, not too often.
    if (wider) this.wide = true;
  }

  colourOf(value) {
    if (!this.map.colour) return 0.5 / 256;
    if (value === null || value === undefined) return 255.5 / 256;
    if (!this.numeric) return ((this.kinds.get(said(value)) ?? 255) + 0.5) / 256;
    const [least, most] = this.range ?? [0, 1];
    return (0.5 + 254 * (most > least ? Math.max(0, Math.min(1, (value - least) / (most - least))) : 0.5)) / 256;
  }

  radius(slot) {
    const size = this.map.size ? this.columns.column(this.map.size)[slot] : null;
    if (this.map.size) return numeric(size) && this.largest > 0 ? 2.5 + 13 * Math.sqrt(Math.max(size, 0) / this.largest) : 2.5;
    const many = this.columns.slots.size;
    return many > 50000 ? 1.3 : many > 5000 ? 2 : many > 500 ? 3 : 4.5;
  }

  remove(slot) {
    const things = this.points.points;
    const at = things.at(slot);
    things.numbers.fill(0, at, at + PARTS);
    things.numbers[at + 7] = -1;
  }

  place(slot, now, changed) {
    const { columns, map } = this;
    const things = this.points.points;
    const from = this.world(slot, map.x, map.y);
    if (!from) return this.remove(slot);
    // The shortest way over the Earth is reckoned from whole coordinates.
    this.origin ??= map.to && map.earth ? [0, 0] : from;
    const at = things.at(slot);
    const { numbers } = things;
    const [x, y] = [from[0] - this.origin[0], from[1] - this.origin[1]];
    const there = numbers[at + 7] > 0 && numbers[at + 8] !== 0;
    if (map.to) {
      const to = this.world(slot, ...map.to) ?? from;
      numbers.set([x, y, to[0] - this.origin[0], to[1] - this.origin[1]], at);
      if (map.moving) {
        const [departed, arrives] = map.moving.map((name) => columns.column(name)[slot]);
        this.base ??= this.newest || departed;
        numbers[at + 4] = (departed - this.base) / 1000;
        numbers[at + 5] = (arrives - departed) / 1000;
      }
    } else if (changed && there && !still.matches) {
      // From where it is seen to be at this moment.
      const gone = Math.min(Math.max((now - numbers[at + 4]) / Math.max(numbers[at + 5], 0.001), 0), 1);
      const [wasX, wasY] = [numbers[at] + (numbers[at + 2] - numbers[at]) * gone, numbers[at + 1] + (numbers[at + 3] - numbers[at + 1]) * gone];
      const moves = numbers[at + 2] !== Math.fround(x) || numbers[at + 3] !== Math.fround(y);
      if (moves) {
        const takes = Math.min(Math.max(now - numbers[at + 4], 0.05), SLOWEST);
        numbers.set([wasX, wasY, x, y, now, takes], at);
      }
    } else {
      numbers.set([x, y, x, y, now, 0], at);
    }
    numbers[at + 6] = this.colourOf(map.colour ? columns.column(map.colour)[slot] : 0);
    numbers[at + 7] = this.radius(slot);
    numbers[at + 8] = changed && !still.matches ? now : now - 10;
  }

  /** Lines between records whose keys are in one another. */
  link() {
    this.linked = true;
    const { columns, map, points: { points, links } } = this;
    if (!map.links) return;
    const slots = new Map();
    columns.each((slot) => slots.set(JSON.stringify(columns.keys[slot]), slot));
    links.count = 0;
    const column = columns.column(map.links);
    let count = 0;
    columns.each((slot) => {
      const keys = column[slot];
      for (const key of Array.isArray(keys) ? keys : keys === null ? [] : [keys]) {
        const other = slots.get(JSON.stringify(key));
        if (other === undefined || count >= MOST_LINKS) continue;
        const at = links.at(count);
        const [a, b] = [slot * PARTS, other * PARTS];
        const { numbers } = points;
        links.numbers.set([numbers[a + 2], numbers[a + 3], numbers[b + 2], numbers[b + 3], 0, 0, numbers[a + 6], 1, 0], at);
        count += 1;
      }
    });
  }

  explain() {
    const { map, legend } = this;
    const swatch = (colour, text) => {
      const dot = element('i');
      dot.style.background = colour;
      return element('span', {}, dot, text);
    };
    legend.hidden = !map.colour || (!this.range && !this.kinds.size);
    if (legend.hidden) return;
    const name = element('b', { textContent: map.colour.replaceAll('_', ' ') });
    if (this.numeric) {
      const bar = element('i', { className: 'ramp' });
      bar.style.background = `linear-gradient(90deg, ${RAMP.join(',')})`;
      const text = (value) => (isTime(value) ? shown(value) : number(value));
      legend.replaceChildren(name, element('span', {}, text(this.range[0])), bar, element('span', {}, text(this.range[1])));
    } else {
      const kinds = [...this.kinds].sort(([, a], [, b]) => a - b).map(([value, at]) => swatch(KINDS[at], value));
      if (this.kinds.size === KINDS.length) kinds.push(swatch(OTHER, 'others'));
      legend.replaceChildren(name, ...kinds);
    }
  }

  // --- Pictures --------------------------------------------------------------------------------

  resize() {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!width || !height) return;
    const pixels = Math.min(window.devicePixelRatio || 1, 2);
    for (const canvas of [this.under, this.over]) {
      canvas.width = Math.round(width * pixels);
      canvas.height = Math.round(height * pixels);
    }
    this.camera.size(width, height);
    if (!this.camera.touched && this.columns.ready) this.fit();
    this.steer(() => {});
  }

  fit() {
    this.camera.fit(this.extent());
    this.elsewhere = true;
  }

  /** What comes outside of what is seen is shown too, until somebody has moved the map. */
  grow(slots) {
    if (this.camera.touched) return;
    const { camera, map } = this;
    const seen = (at) => !at || (Math.abs(camera.pixelX(at[0]) - camera.width / 2) < camera.width / 2 && Math.abs(camera.pixelY(at[1]) - camera.height / 2) < camera.height / 2);
    if (!slots.every((slot) => seen(this.world(slot, map.x, map.y)) && (!map.to || seen(this.world(slot, ...map.to))))) this.fit();
  }

  home() {
    this.steer(() => {
      this.fit();
      this.camera.touched = false;
    });
  }

  /** After the camera has changed. */
  steer(change) {
    change();
    this.elsewhere = true;
    this.tip.hidden = true;
    this.wake(true);
    this.moved(this);
  }

  /**
   * Draws when there is time for it. Where pictures take long, as without a graphics processor, the page has half of the time;
   * for who wants less motion, there are two a second. What somebody does is seen `soon`.
   */
  wake(soon = false) {
    if (this.waiting && !(soon && this.resting)) return;
    clearTimeout(this.resting);
    const draw = () => {
      this.resting = null;
      this.waiting = requestAnimationFrame(() => this.picture());
    };
    const rest = still.matches ? 0.5 : this.takes < SLOW ? 0 : Math.min(this.takes, 0.5);
    if (soon || !rest) return draw();
    this.resting = setTimeout(draw, rest * 1000);
    this.waiting = this.resting;
  }

  picture() {
    this.waiting = null;
    if (!this.element.isConnected || !this.points) return;
    const now = seconds();
    // Pictures that follow one another at once are as far apart as they take.
    if (this.again && !still.matches) this.takes += (Math.min(Math.max(now - this.asked, 0), 1) - this.takes) * 0.2;
    const theme = ofPage('--land');
    if (this.elsewhere || theme !== this.theme) {
      [this.elsewhere, this.theme] = [false, theme];
      if (this.ground) this.ground.draw(this.camera);
    }
    if (this.wide && now - (this.widened ?? 0) > 1) {
      [this.wide, this.widened] = [false, now];
      const { numbers } = this.points.points;
      this.columns.each((slot) => {
        const at = this.points.points.at(slot);
        if (numbers[at + 7] < 0) return;
        numbers[at + 6] = this.colourOf(this.map.colour ? this.columns.column(this.map.colour)[slot] : 0);
        numbers[at + 7] = this.radius(slot);
      });
      this.explain();
    }
    if (!this.linked) this.link();
    const moves = Boolean(this.map.moving);
    if (moves) this.tick(now);
    this.points.draw({
      camera: this.camera, origin: this.origin ?? [0, 0], clock: now, moves: moves || !this.map.to,
      now: moves ? (this.clock - this.base) / 1000 : now, lines: Boolean(this.map.to) && this.columns.slots.size <= MOST_LINES,
      round: Boolean(this.map.to && this.map.earth), bright: [1, 1, 1],
    });
    this.frames += 1;
    this.again = now < this.glowing || (moves && Math.abs(this.clock - this.newest) > 100) || this.wide;
    this.asked = now + (this.takes < SLOW ? 0 : Math.min(this.takes, 0.5));
    if (this.again) this.wake();
  }

  /** The clock of the data goes on towards the newest time in it. */
  tick(now) {
    const passed = Math.min(now - (this.ticked ?? now), 0.25);
    this.ticked = now;
    if (this.clock === null || Math.abs(this.newest - this.clock) > 86400000 || still.matches) this.clock = this.newest;
    else this.clock += (this.newest - this.clock) * (1 - Math.exp(-passed * 5));
  }

  // --- Who looks -------------------------------------------------------------------------------

  /** Where a row is at this moment: x and y of the map. */
  where(slot) {
    const { numbers } = this.points.points;
    const at = slot * PARTS;
    if (!(numbers[at + 7] > 0)) return null;
    const from = [numbers[at] + this.origin[0], numbers[at + 1] + this.origin[1]];
    if (this.map.to && !this.map.moving) return from;
    const now = this.map.moving ? (this.clock - this.base) / 1000 : seconds();
    const gone = Math.min(Math.max((now - numbers[at + 4]) / Math.max(numbers[at + 5], 0.001), 0), 1);
    const to = [numbers[at + 2] + this.origin[0], numbers[at + 3] + this.origin[1]];
    if (this.map.moving && this.map.earth) return between(...from, ...to, gone);
    return [from[0] + (to[0] - from[0]) * gone, from[1] + (to[1] - from[1]) * gone];
  }

  /** The row nearest to a pixel, if one is near. */
  nearest(px, py) {
    if (!this.origin) return null;
    let found = null;
    let least = 14 * 14;
    this.columns.each((slot) => {
      const place = this.where(slot);
      if (!place) return;
      const away = (this.camera.pixelX(place[0]) - px) ** 2 + (this.camera.pixelY(place[1]) - py) ** 2;
      if (away < least) [found, least] = [slot, away];
    });
    return found;
  }

  hover(px, py) {
    const slot = this.nearest(px, py);
    this.tip.hidden = slot === null;
    this.over.classList.toggle('on', slot !== null);
    if (slot === null) return;
    const { columns, map } = this;
    const lines = [element('b', { textContent: said(columns.keys[slot]) })];
    for (const name of [map.label, map.colour, map.size]) {
      if (!name || lines.some((line) => line.name === name)) continue;
      const line = element('span', { textContent: `${name === map.label ? '' : `${name.replaceAll('_', ' ')} `}${shown(columns.column(name)[slot])}` });
      line.name = name;
      lines.push(line);
    }
    this.tip.replaceChildren(...lines);
    const right = px > this.camera.width - 180;
    this.tip.style.left = right ? '' : `${px + 14}px`;
    this.tip.style.right = right ? `${this.camera.width - px + 14}px` : '';
    this.tip.style.top = `${Math.min(py + 10, this.camera.height - 60)}px`;
  }

  listen() {
    const fingers = new Map();
    let dragged = 0;
    const on = (name, act, options) => this.over.addEventListener(name, act, options);
    const at = (event) => [event.offsetX, event.offsetY];
    const spread = () => {
      const [a, b] = [...fingers.values()];
      return { wide: Math.hypot(a[0] - b[0], a[1] - b[1]), x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2 };
    };
    on('pointerdown', (event) => {
      this.over.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, at(event));
      dragged = 0;
    });
    on('pointermove', (event) => {
      const was = fingers.get(event.pointerId);
      if (!was) {
        this.pointer = at(event);
        this.looking ||= requestAnimationFrame(() => {
          this.looking = null;
          if (this.pointer) this.hover(...this.pointer);
        });
        return;
      }
      const before = fingers.size === 2 ? spread() : null;
      fingers.set(event.pointerId, at(event));
      const [right, down] = [event.offsetX - was[0], event.offsetY - was[1]];
      dragged += Math.abs(right) + Math.abs(down);
      if (before) {
        const after = spread();
        this.steer(() => {
          this.camera.pan(after.x - before.x, after.y - before.y);
          this.camera.zoom(after.wide / Math.max(before.wide, 1), after.x, after.y);
        });
      } else if (fingers.size === 1) this.steer(() => this.camera.pan(right, down));
    });
    const up = (event) => fingers.delete(event.pointerId);
    on('pointerup', up);
    on('pointercancel', up);
    on('pointerleave', () => {
      this.pointer = null;
      this.tip.hidden = true;
    });
    on('click', (event) => {
      if (dragged > 6) return;
      const slot = this.nearest(...at(event));
      if (slot !== null) this.open(this.columns.keys[slot]);
    });
    on('dblclick', (event) => this.steer(() => this.camera.zoom(2, ...at(event))));
    on('wheel', (event) => {
      // A small map lets the page be moved; with the control key, as with two fingers on a touchpad, it zooms.
      if (this.small && !event.ctrlKey) return;
      event.preventDefault();
      const turn = event.deltaY * (event.deltaMode === 1 ? 20 : 1) * (event.ctrlKey ? 4 : 1);
      this.steer(() => this.camera.zoom(Math.exp(-Math.max(-600, Math.min(600, turn)) / 500), ...at(event)));
    }, { passive: false });
    const step = 60;
    const keys = {
      '+': () => this.camera.zoom(1.6), '=': () => this.camera.zoom(1.6), '-': () => this.camera.zoom(1 / 1.6),
      ArrowLeft: () => this.camera.pan(step, 0), ArrowRight: () => this.camera.pan(-step, 0),
      ArrowUp: () => this.camera.pan(0, step), ArrowDown: () => this.camera.pan(0, -step),
    };
    this.element.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === '0') this.home();
      else if (keys[event.key]) this.steer(keys[event.key]);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  /** Conditions for what is seen, and as much again around it. */
  bounds() {
    const { camera, map } = this;
    const [wide, high] = [camera.width / camera.scale, camera.height / camera.scale];
    const x = [camera.x - wide, camera.x + wide].map((value) => this.kind.longitude(value));
    const y = [camera.y + high, camera.y - high].map((value) => this.kind.latitude(value));
    const round = (value) => Number(value.toPrecision(7));
    return [`${map.x}>=${round(x[0])}`, `${map.x}<=${round(x[1])}`, `${map.y}>=${round(y[0])}`, `${map.y}<=${round(y[1])}`].join(' ');
  }
}
