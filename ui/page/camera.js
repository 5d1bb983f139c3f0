// Where things are on a map: the Earth in Mercator's projection, or a plane; and what of it is seen. Pure.

const RADIANS = Math.PI / 180;
const NORTH = 85.05;

/** The Earth: x and y from 0 to 1, y downwards. */
export const earth = {
  x: (longitude) => longitude / 360 + 0.5,
  y: (latitude) => {
    const bounded = Math.max(-NORTH, Math.min(NORTH, latitude));
    return 0.5 - Math.log(Math.tan(Math.PI / 4 + (bounded * RADIANS) / 2)) / (2 * Math.PI);
  },
  longitude: (x) => (x - 0.5) * 360,
  latitude: (y) => (2 * Math.atan(Math.exp((0.5 - y) * 2 * Math.PI)) - Math.PI / 2) / RADIANS,
};

/** A plane: x as it is, y upwards. */
export const plane = { x: (x) => x, y: (y) => -y, longitude: (x) => x, latitude: (y) => -y };

/** Where something is on the shortest way over the Earth; `at` goes from 0 to 1. Gives x and y. */
export function between(x, y, toX, toY, at) {
  const unit = (longitude, latitude) => [Math.cos(latitude) * Math.cos(longitude), Math.cos(latitude) * Math.sin(longitude), Math.sin(latitude)];
  const from = [earth.longitude(x) * RADIANS, earth.latitude(y) * RADIANS];
  const a = unit(...from);
  const b = unit(earth.longitude(toX) * RADIANS, earth.latitude(toY) * RADIANS);
  const angle = Math.acos(Math.max(-1, Math.min(1, a[0] * b[0] + a[1] * b[1] + a[2] * b[2])));
  if (angle < 1e-5) return [x + (toX - x) * at, y + (toY - y) * at];
  const [s, t] = [Math.sin((1 - at) * angle) / Math.sin(angle), Math.sin(at * angle) / Math.sin(angle)];
  const p = a.map((part, index) => s * part + t * b[index]);
  const turn = Math.atan2(p[1], p[0]) - from[0];
  const longitude = from[0] + Math.atan2(Math.sin(turn), Math.cos(turn));
  return [earth.x(longitude / RADIANS), earth.y(Math.asin(Math.max(-1, Math.min(1, p[2]))) / RADIANS)];
}

/** What is seen: the middle, and how many pixels a unit has. */
export class Camera {
  constructor(kind) {
    this.earth = kind === earth;
    [this.x, this.y, this.scale] = this.earth ? [0.5, 0.4, 800] : [0, 0, 1];
    [this.width, this.height] = [1, 1];
    [this.least, this.most] = this.earth ? [200, 4e7] : [1e-9, 1e9];
    this.touched = false;
  }

  size(width, height) {
    [this.width, this.height] = [width, height];
    if (this.earth) this.least = Math.min(width, height) * 0.7;
  }

  /** Shows all that is between these. */
  fit([left, top, right, bottom]) {
    if (!(right >= left && bottom >= top)) return;
    const least = this.earth ? 0.0008 : 1e-6;
    const [wide, high] = [Math.max(right - left, least), Math.max(bottom - top, least)];
    const room = Math.max(24, Math.min(this.width, this.height) * 0.08);
    this.scale = Math.min((this.width - 2 * room) / wide, (this.height - 2 * room) / high);
    [this.x, this.y] = [(left + right) / 2, (top + bottom) / 2];
    this.hold();
  }

  hold() {
    this.scale = Math.max(this.least, Math.min(this.most, this.scale));
    if (!this.earth) return;
    const high = Math.min(0.5, this.height / 2 / this.scale);
    this.y = Math.max(high, Math.min(1 - high, this.y));
    this.x = Math.max(0, Math.min(1, this.x));
  }

  pan(right, down) {
    this.x -= right / this.scale;
    this.y -= down / this.scale;
    this.touched = true;
    this.hold();
  }

  /** Zooms so many times, around a pixel. */
  zoom(times, px = this.width / 2, py = this.height / 2) {
    const [x, y] = [this.worldX(px), this.worldY(py)];
    this.scale = Math.max(this.least, Math.min(this.most, this.scale * times));
    this.x = x - (px - this.width / 2) / this.scale;
    this.y = y - (py - this.height / 2) / this.scale;
    this.touched = true;
    this.hold();
  }

  worldX(px) { return this.x + (px - this.width / 2) / this.scale; }
  worldY(py) { return this.y + (py - this.height / 2) / this.scale; }
  pixelX(x) { return (x - this.x) * this.scale + this.width / 2; }
  pixelY(y) { return (y - this.y) * this.scale + this.height / 2; }
}
