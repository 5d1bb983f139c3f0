// What a browser shows of jobs: the examples flights, traffic and swarm are started, and looked at in Chromium.
//
//   node browser.mjs FOLDER [PICTURES]     FOLDER has the examples' programs; screenshots go to PICTURES
//
// Ends with the line `N passed, N failed`.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [folder, pictures] = process.argv.slice(2);
const PATIENCE = 90_000;
let port = 19_300 + (process.pid % 500) * 4;

/** A job, in a process of its own, with topics of its own. */
class Job {
  constructor(name, flags) {
    this.topics = mkdtempSync(join(tmpdir(), `nekton-${name}-`));
    this.port = port++;
    this.url = `http://127.0.0.1:${this.port}/`;
    Object.assign(this, { name, flags });
    this.start();
  }

  start() {
    const flags = ['--topics', `file:${this.topics}`, '--checkpoints', 'none', '--listen', `127.0.0.1:${this.port}`, ...this.flags];
    this.process = spawn(join(folder, this.name), flags, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.said = '';
    this.process.stderr.on('data', (text) => { this.said += text; });
  }

  async kill() {
    const gone = new Promise((resolve) => { this.process.once('exit', resolve); });
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill('SIGKILL');
      await gone;
    }
  }

  async end() {
    await this.kill();
    rmSync(this.topics, { recursive: true, force: true });
  }

  /** The lines of a topic, in all of its partitions. */
  topic(name) {
    const path = join(this.topics, name);
    const files = readdirSync(path).filter((file) => file.endsWith('.jsonl'));
    return files.flatMap((file) => readFileSync(join(path, file), 'utf8').split('\n').slice(0, -1).map((line) => JSON.parse(line)));
  }
}

/** Asks again and again until there is an answer. */
async function until(what, ask) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    let answer;
    try { answer = await ask(); } catch (error) { answer = null; what = `${what}: ${error.message}`.slice(0, 400); }
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`waited for ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}

const browser = await chromium.launch({
  executablePath: process.env.NEKTON_CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist'],
});

/** A page that has had its first frame; complains of errors in its scripts. */
async function open(job, { path = '', width = 1280, height = 900, dark = false, scale = 1, motion = false } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? 'dark' : 'light', deviceScaleFactor: scale, reducedMotion: motion ? 'no-preference' : 'reduce' });
  const page = await context.newPage();
  // While one works on the page: its scripts and styles as they are, not those in the program.
  if (process.env.NEKTON_PAGE) {
    const file = (route) => join(process.env.NEKTON_PAGE, new URL(route.request().url()).pathname);
    await page.route(/\.(js|css)$/, (route) => route.fulfill({ path: file(route) }));
  }
  page.setDefaultTimeout(PATIENCE);
  page.errors = [];
  page.on('pageerror', (error) => page.errors.push(String(error)));
  page.on('console', (message) => { if (message.type() === 'error' && /Content Security|WebGL|SyntaxError|program/.test(message.text())) page.errors.push(message.text()); });
  await until(`the job's address: ${job.said}`, () => page.goto(`${job.url}${path}`));
  await until('a frame', () => page.errors.length > 0 || page.evaluate(() => Boolean(globalThis.nekton?.frame)));
  assert.deepEqual(page.errors, []);
  page.done = async () => {
    assert.deepEqual(page.errors, []);
    await context.close();
  };
  return page;
}

async function picture(page, name, options = {}) {
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`), ...options });
}

const cases = {
  async 'the page shows what the topics hold at the same time, two views of one time, and comes back'() {
    const job = new Job('flights', ['--months', '4', '--speed', '40000']);
    try {
      const page = await open(job, { width: 1400, height: 1000 });
      await until('planes on the map', () => page.evaluate(() => nekton.screen.cards?.find(({ view }) => view === 'aloft')?.panels.map.columns.slots.size > 20));

      // Every departure is counted for a carrier and for an airport: a page at two times would see the sums differ.
      const sums = await page.evaluate(async () => {
        const sum = (view) => [...nekton.screen.cards.find((card) => card.view === view).table.rows.rows.values()].reduce((all, { value }) => all + value.departed, 0);
        const seen = [];
        for (const begun = performance.now(); performance.now() - begun < 60000 && !(seen.length > 100 && new Set(seen.map(String)).size > 4);) {
          await new Promise((resolve) => { setTimeout(resolve, 10); });
          seen.push([sum('carriers'), sum('airports')]);
        }
        return seen;
      });
      for (const [carriers, airports] of sums) assert.equal(carriers, airports);
      assert.ok(new Set(sums.map(String)).size > 4, 'they move');

      // The topic of carriers, up to the time of the page.
      const shown = await page.evaluate(() => ({
        time: nekton.frame.time, ended: nekton.frame.ended,
        rows: [...nekton.screen.cards.find(({ view }) => view === 'carriers').table.rows.rows.values()].map(({ key, value }) => [key, value]),
      }));
      const whole = await until('the topic', () => {
        const lines = job.topic('carriers');
        return lines.some(({ time }) => time >= shown.time) && lines;
      });
      const now = new Map();
      for (const { key, value, time } of whole) if (time < shown.time) now.set(key, value);
      assert.deepEqual(new Map(shown.rows), now);
      await until('the map', () => page.evaluate(() => nekton.screen.cards.every(({ panels }) => !panels?.map || panels.map.frames > 3)));
      await picture(page, 'screens-all');

      // A plane is opened from the map's view, by its row.
      await page.goto(`${job.url}#/aloft`);
      await page.waitForSelector('.table tbody tr');
      await until('a map of lines', () => page.evaluate(() => nekton.screen.panels?.map?.frames > 3));
      await picture(page, 'screens-map');
      await page.fill('input[type=search]', 'origin=JFK late>15');
      await until('what the filter lets through', () => page.evaluate(() => {
        const rows = [...nekton.screen.table.rows.rows.values()];
        const { columns } = nekton.screen.panels;
        return rows.length > 0 && rows.every(({ value }) => value.origin === 'JFK' && value.late > 15) && columns.ready && Math.abs(columns.slots.size - rows.length) < 5;
      }));
      await page.fill('input[type=search]', '');
      await page.goto(`${job.url}#/airports/%22JFK%22`);
      await page.waitForSelector('.facts');
      await until('charts of what the agent was', () => page.evaluate(() => document.querySelectorAll('.agent .chart:not([hidden]) canvas').length >= 3));
      assert.equal(await page.textContent('h1'), 'JFKairports');
      await picture(page, 'screens-agent');

      // The server goes, and another one comes: the page says so and recovers by itself.
      const started = await page.evaluate(() => nekton.about.started);
      await job.kill();
      await until('bad news', () => page.evaluate(() => document.documentElement.dataset.state === 'bad'));
      job.start();
      await until('the other run', () => page.evaluate((before) => nekton.about.started !== before && document.documentElement.dataset.state !== 'bad', started));
      await until('rows', () => page.evaluate(() => nekton.screen.own?.some(({ rows }) => rows.rows.size > 0)));
      await page.done();
    } finally {
      await job.end();
    }
  },

  async 'a city is a plane with links, light and dark, and on a phone'() {
    const job = new Job('traffic', ['--intersections', '400', '--speed', '60']);
    try {
      const page = await open(job, { path: '#/intersections', dark: true });
      await until('the city', () => page.evaluate(() => nekton.screen.panels?.map?.columns.slots.size === 400));
      // A point is where its record says, and a click on it opens the agent.
      const [x, y] = await until('a point', () => page.evaluate(() => {
        const { map } = nekton.screen.panels;
        if (!map.frames) return null;
        const slot = map.columns.keys.indexOf(210);
        const [x, y] = map.where(slot);
        const box = map.element.getBoundingClientRect();
        return [box.left + map.camera.pixelX(x), box.top + map.camera.pixelY(y)];
      }));
      await page.mouse.move(x, y);
      await until('its name', () => page.evaluate(() => document.querySelector('.tip').textContent.startsWith('210')));
      await until('lights', () => page.evaluate(() => nekton.screen.panels.map.kinds.size >= 2));
      await picture(page, 'screens-city');
      await page.mouse.click(x, y);
      await until('the agent', () => page.evaluate(() => location.hash === '#/intersections/210'));
      await page.done();

      const phone = await open(job, { path: '#/intersections', width: 390, height: 844, scale: 2 });
      await until('the city', () => phone.evaluate(() => nekton.screen.panels?.map?.frames > 2));
      assert.equal(await phone.evaluate(() => document.documentElement.scrollWidth), 390, 'nothing is wider than the screen');
      await picture(phone, 'screens-phone');
      await phone.done();
    } finally {
      await job.end();
    }
  },

  async 'very many things move'() {
    const things = Number(process.env.NEKTON_THINGS || 20_000);
    const job = new Job('swarm', ['--things', String(things), '--changes', String(things / 10)]);
    try {
      const page = await open(job, { path: '#/things', motion: true });
      await until('all of them', () => page.evaluate((all) => nekton.screen.panels?.map?.columns.slots.size === all, things));
      const measured = await page.evaluate(async () => {
        const { map } = nekton.screen.panels;
        const [begun, frames] = [performance.now(), map.frames];
        await new Promise((resolve) => { setTimeout(resolve, 5000); });
        const seconds = (performance.now() - begun) / 1000;
        return { pictures: (map.frames - frames) / seconds, seconds };
      });
      console.log(`   ${things} things: ${measured.pictures.toFixed(1)} pictures a second, drawn in software`);
      assert.ok(measured.pictures > 0);
      await picture(page, 'screens-swarm');
      await page.done();
    } finally {
      await job.end();
    }
  },
};

let [passed, failed] = [0, 0];
for (const [name, run] of Object.entries(cases)) {
  if (process.env.NEKTON_ONLY && !name.includes(process.env.NEKTON_ONLY)) continue;
  const begun = Date.now();
  try {
    await run();
    passed += 1;
    console.log(`ok   ${name} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}\n${error.stack}`);
  }
}
await browser.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
