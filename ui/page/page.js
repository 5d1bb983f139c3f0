// The page: which screen is shown, the headline, the figures, the keys.

import { number, short, span, spark } from './charts.js';
import { Live } from './live.js';
import { AgentScreen, Overview, ViewScreen, address } from './screens.js';

const at = (id) => document.getElementById(id);
const state = {
  about: null, views: [], looks: new Map(), screen: null, sizes: {}, figures: null, rates: {}, behind: [], worst: [],
  frame: null, trouble: 'connecting', held: false,
};

// --- Screens -----------------------------------------------------------------------------

function show() {
  const [path, query] = location.hash.slice(1).split('?');
  const [view, key] = path.split('/').slice(1).map((part) => decodeURIComponent(part));
  let screen;
  if (!view) {
    screen = new Overview(live, state.views, state.looks);
  } else if (key === undefined) {
    const remember = (filter) => {
      const search = filter ? `?${new URLSearchParams({ filter })}` : '';
      history.replaceState(null, '', `${address(view)}${search}`);
    };
    screen = new ViewScreen(live, view, new URLSearchParams(query).get('filter') ?? '', remember, state.looks);
  } else {
    let parsed = key;
    try { parsed = JSON.parse(key); } catch { /* a key that somebody has typed */ }
    screen = new AgentScreen(live, view, parsed, state.views, state.looks);
  }
  state.screen = screen;
  at('main').replaceChildren(screen.element);
  document.title = [screen.title, state.about?.job ?? 'nekton'].filter(Boolean).join(' · ');
  for (const link of at('views').children) link.classList.toggle('here', link.hash === address(view ?? ''));
  window.scrollTo(0, 0);
}

function names(views) {
  state.views = views;
  at('views').replaceChildren(...views.map((view) => {
    const link = document.createElement('a');
    link.href = address(view);
    link.textContent = view;
    return link;
  }));
}

async function about() {
  try {
    const ask = async (path) => {
      const answer = await fetch(path);
      const said = await answer.json();
      if (!answer.ok) throw new Error(said.error);
      return said;
    };
    const [{ about: of }, shown] = await Promise.all([ask('/api/job'), ask('/api/views')]);
    const views = shown.map(({ view }) => view);
    // Another job, or another run of it, may be there now.
    const other = state.about?.started !== of.started || views.join() !== state.views.join();
    state.about = of;
    state.looks = new Map(shown.map(({ view, size, map, charts }) => [view, { size, map, charts, described: Boolean(map || charts.length) }]));
    at('job').textContent = of.job;
    if (other) {
      names(views);
      state.rates = {};
      state.figures = null;
      show();
    }
  } catch (error) {
    state.trouble = error.message;
  }
}

// --- The headline and the figures --------------------------------------------------------

const TILES = [
  { id: 'events', label: 'events', unit: '/s', rate: true },
  { id: 'messages', label: 'messages out', unit: '/s', rate: true },
  { id: 'changes', label: 'changes seen here', unit: '/s', rate: true },
  { id: 'behind', label: 'behind, at worst', unit: '' },
  { id: 'in_flight', label: 'epochs in flight', unit: '' },
  { id: 'checkpoint', label: 'last checkpoint', unit: '' },
  { id: 'dead_letters', label: 'dead letters', unit: '' },
];
let seen = 0;

function tiles() {
  at('tiles').replaceChildren(...TILES.map((tile) => {
    const box = document.createElement('div');
    box.className = 'tile';
    tile.value = document.createElement('b');
    tile.note = document.createElement('span');
    tile.note.textContent = tile.label;
    tile.line = document.createElement('canvas');
    tile.line.className = 'spark';
    tile.value.textContent = '–';
    box.append(tile.value, tile.note, tile.line);
    tile.box = box;
    return box;
  }));
}

function figures(frame) {
  const { figures: is, now } = frame;
  const was = state.figures;
  state.figures = { ...is, now, changes: seen };
  state.sizes = is.views;
  const seconds = was ? (now - was.now) / 1000 : 0;
  const worst = Math.max(0, ...state.worst);
  state.worst = [];
  const values = {
    in_flight: is.in_flight, dead_letters: is.dead_letters, behind: worst,
    checkpoint: is.committed ? now - is.committed : null,
  };
  if (seconds > 0) {
    for (const id of ['events', 'messages', 'changes']) {
      values[id] = Math.max(0, (state.figures[id] - (was[id] ?? 0)) / seconds);
    }
  }
  for (const tile of TILES) {
    const value = values[tile.id];
    if (value === undefined) continue;
    const points = (state.rates[tile.id] ??= []);
    if (value !== null) points.push(value);
    if (points.length > 120) points.shift();
    const spoken = tile.id === 'checkpoint' ? (value === null ? 'none' : span(value))
      : tile.id === 'behind' ? span(value) : short(value) + tile.unit;
    tile.value.textContent = spoken;
    tile.box.classList.toggle('bad', tile.id === 'dead_letters' && value > 0);
    if (tile.id !== 'checkpoint' && tile.id !== 'dead_letters') spark(tile.line, points);
  }
  at('tiles').title = `${number(is.events)} events, ${number(is.messages)} messages, ${number(is.epochs)} epochs, ` +
    `${number(is.checkpoints)} checkpoints since the start; ${number(is.clients)} watching`;
}

/** Freshness: how old the oldest epoch is that has been read and is not here yet. */
function headline() {
  const quiet = Date.now() - live.heard;
  const [head, note] = [at('fresh'), at('fresh-note')];
  const { frame } = state;
  let kind = 'good';
  if (!frame || live.socket.readyState !== WebSocket.OPEN || quiet > 3000) {
    kind = 'bad';
    head.textContent = frame ? span(quiet) : '–';
    note.textContent = frame ? `without a word: ${state.trouble || 'the job is silent'}` : state.trouble;
  } else if (frame.ended) {
    head.textContent = 'complete';
    note.textContent = 'all inputs have ended';
  } else if (state.held) {
    head.textContent = 'held';
    note.textContent = 'p goes on';
  } else {
    const worst = Math.max(0, ...state.behind.map(([, behind]) => behind));
    kind = worst > 5000 ? 'bad' : worst > 500 ? 'slow' : 'good';
    head.textContent = worst === 0 ? 'up to date' : span(worst);
    const since = frame.now - frame.time;
    note.textContent = worst > 0 ? 'behind its inputs' : frame.time ? `last change ${since < 1500 ? 'now' : `${span(since)} ago`}` : 'nothing has come yet';
  }
  document.documentElement.dataset.state = kind;
}

/** For tests, and for who looks in the console. */
globalThis.nekton = state;

const live = new Live((frame, deltas) => {
  state.trouble = '';
  const now = Date.now();
  state.frame = frame;
  state.behind = [...state.behind.filter(([time]) => now - time < 1000), [now, frame.behind]];
  state.worst.push(frame.behind);
  for (const delta of deltas ?? []) seen += delta.changed.length + delta.gone.length;
  if (frame.figures) figures(frame);
  if (!state.held) state.screen?.update(frame, deltas, state.sizes);
  headline();
}, (why) => {
  state.trouble = why;
  headline();
});
live.socket.addEventListener('open', about);
const connect = live.connect.bind(live);
live.connect = () => {
  connect();
  live.socket.addEventListener('open', about);
};

// --- Keys ------------------------------------------------------------------------------------

function back() {
  const [view, key] = location.hash.slice(2).split('?')[0].split('/');
  location.hash = key !== undefined ? `#/${view}` : '#/';
}

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
  localStorage.setItem('nekton-theme', root.dataset.theme);
}

function hold() {
  state.held = !state.held;
  // What was missed comes as a snapshot.
  if (!state.held) show();
  headline();
}

const KEYS = {
  '/': () => state.screen.filter?.focus(),
  j: () => state.screen.table?.step(1),
  k: () => state.screen.table?.step(-1),
  ArrowDown: () => state.screen.table?.step(1),
  ArrowUp: () => state.screen.table?.step(-1),
  Enter: () => state.screen.table?.enter(),
  Escape: back,
  t: theme,
  p: hold,
  '?': () => at('keys').showModal(),
  0: () => { location.hash = '#/'; },
};

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at('keys').open) return;
  const { target, key } = event;
  if (target instanceof HTMLInputElement) {
    if (key === 'Escape' || key === 'Enter' || key === 'ArrowDown') {
      target.blur();
      // Of itself, Escape would empty the filter.
      event.preventDefault();
    }
    if (key === 'ArrowDown') KEYS.ArrowDown();
    return;
  }
  if (key === 'Enter' && target !== document.body) return;
  const view = key >= '1' && key <= '9' ? state.views[Number(key) - 1] : null;
  if (view) location.hash = address(view);
  else if (KEYS[key]) KEYS[key]();
  else return;
  event.preventDefault();
});

const kept = localStorage.getItem('nekton-theme');
if (kept) document.documentElement.dataset.theme = kept;
at('theme').onclick = theme;
at('help').onclick = KEYS['?'];
window.addEventListener('hashchange', show);
setInterval(headline, 500);
tiles();
