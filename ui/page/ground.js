// What is under the points: land, borders and states, from outlines that come with the page.

import { earth } from './camera.js';
import { ofPage } from './palette.js';

let outlines = null;

/** The outlines as paths, in the units of the Earth's map. */
function load() {
  outlines ??= fetch('/vendor/outlines.json').then((answer) => answer.json()).then(({ parts, land, borders, states }) => {
    const path = (lines, closed) => {
      const drawn = new Path2D();
      for (const line of lines) {
        let [x, y] = [0, 0];
        for (let at = 0; at < line.length; at += 2) {
          x += line[at];
          y += line[at + 1];
          const place = [earth.x(x / parts), earth.y(y / parts)];
          // What goes over the date line goes on at the other side.
          if (at && Math.abs(line[at]) < 180 * parts) drawn.lineTo(...place);
          else drawn.moveTo(...place);
        }
        if (closed) drawn.closePath();
      }
      return drawn;
    };
    return { land: path(land, true), borders: path(borders), states: path(states) };
  });
  return outlines;
}

export class Ground {
  /** `drawn` is called when there is something to draw. */
  constructor(canvas, drawn) {
    this.canvas = canvas;
    this.paths = null;
    load().then((paths) => {
      this.paths = paths;
      drawn();
    }, () => { /* a map without outlines is one still */ });
  }

  draw(camera) {
    const { canvas } = this;
    const pen = canvas.getContext('2d', { alpha: false });
    const pixels = canvas.width / camera.width;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.fillStyle = ofPage('--sea');
    pen.fillRect(0, 0, canvas.width, canvas.height);
    if (!this.paths) return;
    const scale = camera.scale * pixels;
    pen.setTransform(scale, 0, 0, scale, canvas.width / 2 - camera.x * scale, canvas.height / 2 - camera.y * scale);
    pen.lineJoin = 'round';
    pen.fillStyle = ofPage('--land');
    pen.fill(this.paths.land, 'evenodd');
    pen.lineWidth = pixels / scale;
    pen.strokeStyle = ofPage('--coast');
    pen.stroke(this.paths.land);
    pen.stroke(this.paths.borders);
    if (camera.scale < 1200) return;
    pen.lineWidth = (0.7 * pixels) / scale;
    pen.strokeStyle = ofPage('--border');
    pen.stroke(this.paths.states);
  }
}
