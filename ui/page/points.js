// Draws points that move, and lines between them, with WebGL 2: one call for all points, whatever their number.
//
// What moves is told once, where from and where to and when; the graphics processor finds where it is in each picture. So a
// picture costs the processor nothing, and a point that changes some bytes.

/** Numbers of a point: from (x, y), to (x, y), begins, takes, colour, size, changed. Times are seconds, colours 0 to 1. */
export const PARTS = 9;

const PLACE = `
uniform vec2 u_middle; uniform vec2 u_scale; uniform float u_now; uniform bool u_round;
const float PI = 3.14159265358979;
vec3 unit(vec2 p) {
  float longitude = (p.x - 0.5) * 2.0 * PI;
  float latitude = 2.0 * atan(exp((0.5 - p.y) * 2.0 * PI)) - PI / 2.0;
  return vec3(cos(latitude) * cos(longitude), cos(latitude) * sin(longitude), sin(latitude));
}
// Between two places: straight, or the shortest way over the Earth.
vec2 between(vec2 from, vec2 to, float at) {
  if (!u_round || at <= 0.0) return mix(from, to, at);
  vec3 a = unit(from); vec3 b = unit(to);
  float angle = acos(clamp(dot(a, b), -1.0, 1.0));
  if (angle < 0.001) return mix(from, to, at);
  vec3 p = (sin((1.0 - at) * angle) * a + sin(at * angle) * b) / sin(angle);
  float begun = (from.x - 0.5) * 2.0 * PI;
  float turn = atan(p.y, p.x) - begun;
  float longitude = begun + atan(sin(turn), cos(turn));
  float latitude = asin(clamp(p.z, -1.0, 1.0));
  return vec2(longitude / (2.0 * PI) + 0.5, 0.5 - log(tan(PI / 4.0 + latitude / 2.0)) / (2.0 * PI));
}
vec4 screen(vec2 p) { return vec4((p - u_middle) * u_scale, 0.0, 1.0); }
`;

const HEAD = '#version 300 es\nprecision highp float;\n';
const INPUTS = `
layout(location = 0) in vec4 a_way; layout(location = 1) in vec2 a_time; layout(location = 2) in vec3 a_look;
`;

const POINT = `${HEAD}${INPUTS}${PLACE}
uniform bool u_moves; uniform float u_clock; uniform float u_pixels; uniform sampler2D u_colours;
out vec4 v_colour; out float v_glow; out float v_radius;
void main() {
  float at = u_moves ? clamp((u_now - a_time.x) / max(a_time.y, 0.001), 0.0, 1.0) : 0.0;
  gl_Position = screen(between(a_way.xy, a_way.zw, at));
  v_glow = clamp(1.0 - (u_clock - a_look.z), 0.0, 1.0);
  float radius = a_look.y * (1.0 + 0.45 * v_glow);
  v_radius = radius * u_pixels;
  gl_PointSize = a_look.y < 0.0 ? 0.0 : (2.0 * radius + 1.0) * u_pixels;
  if (a_look.y < 0.0) gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
  v_colour = texture(u_colours, vec2(a_look.x, 0.5));
}`;

const DISC = `${HEAD}
in vec4 v_colour; in float v_glow; in float v_radius; out vec4 colour; uniform vec3 u_bright;
void main() {
  float size = 2.0 * v_radius + 1.0;
  float away = length(gl_PointCoord - 0.5) * size;
  float within = clamp(v_radius + 0.5 - away, 0.0, 1.0);
  if (within <= 0.0) discard;
  float alpha = within * mix(0.82, 1.0, v_glow);
  colour = vec4(mix(v_colour.rgb, u_bright, 0.4 * v_glow) * alpha, alpha);
}`;

const LINE = `${HEAD}${INPUTS}${PLACE}
uniform bool u_moves; uniform float u_steps; uniform vec2 u_width; uniform sampler2D u_colours; uniform float u_alpha;
out vec4 v_colour; out float v_side;
void main() {
  float at = float(gl_VertexID >> 1) / u_steps;
  float side = float(gl_VertexID & 1) * 2.0 - 1.0;
  vec2 here = screen(between(a_way.xy, a_way.zw, at)).xy;
  vec2 before = screen(between(a_way.xy, a_way.zw, max(at - 0.02, 0.0))).xy;
  vec2 after = screen(between(a_way.xy, a_way.zw, min(at + 0.02, 1.0))).xy;
  vec2 along = (after - before) / u_width;
  vec2 across = length(along) > 0.0 ? normalize(vec2(-along.y, along.x)) : vec2(0.0);
  gl_Position = vec4(here + across * side * u_width, 0.0, 1.0);
  float done = u_moves ? clamp((u_now - a_time.x) / max(a_time.y, 0.001), 0.0, 1.0) : 1.0;
  float alpha = u_alpha * (at <= done ? 1.0 : 0.3);
  if (a_look.y < 0.0) gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
  v_colour = vec4(texture(u_colours, vec2(a_look.x, 0.5)).rgb, alpha);
  v_side = side;
}`;

const STROKE = `${HEAD}
in vec4 v_colour; in float v_side; out vec4 colour;
void main() {
  float alpha = v_colour.a * clamp(1.6 * (1.0 - abs(v_side)), 0.0, 1.0);
  colour = vec4(v_colour.rgb * alpha, alpha);
}`;

function program(gl, vertex, fragment) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS) && !gl.isContextLost()) throw new Error(`the map's program: ${gl.getProgramInfoLog(made)}`);
  const places = new Map();
  return { made, at: (name) => (places.has(name) ? places : places.set(name, gl.getUniformLocation(made, name))).get(name) };
}

/** Points, or lines, on the graphics processor. */
class Things {
  constructor(gl) {
    this.gl = gl;
    this.numbers = new Float32Array(PARTS * 64);
    this.count = 0;
    this.buffer = gl.createBuffer();
    this.room = 0; // in the buffer
    [this.least, this.most] = [Infinity, -1]; // what is not there yet
    this.input = [0, 1].map((divisor) => {
      const input = gl.createVertexArray();
      gl.bindVertexArray(input);
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
      [[4, 0], [2, 4], [3, 6]].forEach(([parts, from], place) => {
        gl.enableVertexAttribArray(place);
        gl.vertexAttribPointer(place, parts, gl.FLOAT, false, PARTS * 4, from * 4);
        gl.vertexAttribDivisor(place, divisor);
      });
      return input;
    });
  }

  /** Where the numbers of a thing are. */
  at(index) {
    if ((index + 1) * PARTS > this.numbers.length) {
      const larger = new Float32Array(Math.max(this.numbers.length * 2, (index + 1) * PARTS));
      larger.set(this.numbers);
      this.numbers = larger;
    }
    this.count = Math.max(this.count, index + 1);
    this.least = Math.min(this.least, index);
    this.most = Math.max(this.most, index);
    return index * PARTS;
  }

  send() {
    if (this.most < 0) return;
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    if (this.room < this.numbers.length) {
      gl.bufferData(gl.ARRAY_BUFFER, this.numbers, gl.DYNAMIC_DRAW);
      this.room = this.numbers.length;
    } else {
      const [from, to] = [this.least * PARTS, Math.min(this.most + 1, this.count) * PARTS];
      if (to > from) gl.bufferSubData(gl.ARRAY_BUFFER, from * 4, this.numbers, from, to - from);
    }
    [this.least, this.most] = [Infinity, -1];
  }
}

export class Points {
  /** Throws where there is no WebGL 2. */
  constructor(canvas) {
    const gl = canvas.getContext('webgl2', { antialias: false, premultipliedAlpha: true, depth: false, stencil: false });
    if (!gl) throw new Error('this browser draws no maps: it has no WebGL 2');
    this.gl = gl;
    this.canvas = canvas;
    this.points = new Things(gl);
    this.links = new Things(gl);
    this.disc = program(gl, POINT, DISC);
    this.stroke = program(gl, LINE, STROKE);
    this.colours = gl.createTexture();
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  /** The colours from 0 to 1, as red, green, blue, alpha from 0 to 255. */
  paint(bytes) {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, this.colours);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, bytes.length / 4, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
    for (const what of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, what, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
  }

  /**
   * Draws a picture. `now` is the time of what moves, `clock` that of what glows; `lines`: a line for each point, from where
   * it begins to where it goes; `round`: the shortest way over the Earth.
   */
  draw({ camera, origin, now, clock, moves, lines, round, bright }) {
    const { gl, canvas } = this;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    this.points.send();
    this.links.send();
    const pixels = canvas.width / camera.width;
    const common = (of) => {
      gl.useProgram(of.made);
      gl.uniform2f(of.at('u_middle'), camera.x - origin[0], camera.y - origin[1]);
      gl.uniform2f(of.at('u_scale'), (2 * camera.scale) / camera.width, (-2 * camera.scale) / camera.height);
      gl.uniform1f(of.at('u_now'), now);
      gl.uniform1i(of.at('u_moves'), moves ? 1 : 0);
      gl.bindTexture(gl.TEXTURE_2D, this.colours);
    };
    const strokes = (things, wide, alpha, bent) => {
      if (!things.count) return;
      common(this.stroke);
      const steps = bent ? 24 : 1;
      gl.uniform1i(this.stroke.at('u_round'), bent ? 1 : 0);
      gl.uniform1f(this.stroke.at('u_steps'), steps);
      gl.uniform2f(this.stroke.at('u_width'), wide / camera.width, wide / camera.height);
      gl.uniform1f(this.stroke.at('u_alpha'), alpha);
      gl.bindVertexArray(things.input[1]);
      gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 2 * (steps + 1), things.count);
    };
    if (lines) strokes(this.points, 2.2, 0.55, round);
    strokes(this.links, 2.2, 0.5, false);
    if (!this.points.count) return;
    common(this.disc);
    gl.uniform1i(this.disc.at('u_round'), round && moves ? 1 : 0);
    gl.uniform1f(this.disc.at('u_clock'), clock);
    gl.uniform1f(this.disc.at('u_pixels'), pixels);
    gl.uniform3f(this.disc.at('u_bright'), ...bright);
    gl.bindVertexArray(this.points.input[0]);
    gl.drawArrays(gl.POINTS, 0, this.points.count);
  }
}
