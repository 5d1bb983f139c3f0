// Numbers as text and as lines.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const broken = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });

/** A number with groups of thousands. */
export const number = (value) => (Number.isInteger(value) ? whole : broken).format(value);

/** A number in few letters. */
export function short(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return `${broken.format(value / 1e9)} G`;
  if (size >= 1e6) return `${broken.format(value / 1e6)} M`;
  if (size >= 1e5) return `${whole.format(value / 1e3)} k`;
  return size >= 100 ? whole.format(value) : broken.format(Math.round(value * 10) / 10);
}

/** A span of milliseconds in words. */
export function span(milliseconds) {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** Milliseconds since 1970, where a number can only be that: 2001 to 2096. */
export const isTime = (value) => Number.isInteger(value) && value > 978e9 && value < 4e12;

const two = (value) => String(value).padStart(2, '0');

/** A time of the job as a time of day, with milliseconds. */
export function clock(time) {
  const at = new Date(time);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, '0')}`;
}

const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** A time in the data: UTC, as programs mean it. */
export function date(time) {
  const at = new Date(time);
  const day = `${at.getUTCDate()} ${months[at.getUTCMonth()]} ${at.getUTCFullYear()}`;
  return `${day} ${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}`;
}

/** A line of the last values, as wide as its element. `points` are numbers, oldest first; `step`: each holds until the next. */
export function spark(canvas, points, { step = false, most = 120 } = {}) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width || !height) return;
  const scale = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext('2d');
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  if (points.length < 2) return;
  const style = getComputedStyle(canvas);
  let least = Math.min(...points);
  let greatest = Math.max(...points);
  if (least >= 0 && least < greatest * 0.6) least = 0;
  if (greatest === least) {
    greatest += 1;
    least -= least === 0 ? 0 : 1;
  }
  const x = (index) => width - 2 - ((points.length - 1 - index) / Math.max(Math.min(most, points.length * 3) - 1, 1)) * (width - 4);
  const y = (value) => height - 2 - ((value - least) / (greatest - least)) * (height - 5);
  pen.beginPath();
  points.forEach((value, index) => {
    if (index === 0) pen.moveTo(x(0), y(value));
    else {
      if (step) pen.lineTo(x(index), y(points[index - 1]));
      pen.lineTo(x(index), y(value));
    }
  });
  pen.strokeStyle = style.color;
  pen.lineWidth = 1.5;
  pen.lineJoin = 'round';
  pen.stroke();
  pen.lineTo(x(points.length - 1), height);
  pen.lineTo(x(0), height);
  pen.closePath();
  pen.globalAlpha = 0.13;
  pen.fillStyle = style.color;
  pen.fill();
  pen.globalAlpha = 1;
  pen.beginPath();
  pen.arc(x(points.length - 1), y(points.at(-1)), 2.2, 0, 7);
  pen.fill();
}
