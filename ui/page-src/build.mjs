// Makes the files of other people that the page has: a chart library, and the outlines of countries and states.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildSync } from 'esbuild';
import { merge, mesh } from 'topojson-client';
import { filter, filterWeight, presimplify, simplify } from 'topojson-simplify';

const into = process.argv[2];
const of = (path) => readFileSync(join('node_modules', path), 'utf8');
mkdirSync(into, { recursive: true });
const write = (name, text) => writeFileSync(join(into, name), text);

// --- Charts ----------------------------------------------------------------------------------

buildSync({
  stdin: { contents: "export { default } from 'uplot';", resolveDir: '.' },
  bundle: true, minify: true, format: 'esm', target: 'es2022', legalComments: 'none', outfile: join(into, 'uplot.js'),
});
write('uplot.css', of('uplot/dist/uPlot.min.css'));

// --- Outlines --------------------------------------------------------------------------------

// Bends smaller than so many square degrees are left out, and islands five times that.
const DETAIL = 0.01;
// Degrees are whole numbers of so many parts.
const PARTS = 100;

function simpler(topology) {
  const simple = simplify(presimplify(topology), DETAIL);
  return filter(simple, filterWeight(simple, DETAIL * 5));
}

/** A line as differences: x, y, x, y .. */
function differences(line) {
  const flat = [];
  let [left, down] = [0, 0];
  for (const [longitude, latitude] of line) {
    const [x, y] = [Math.round(longitude * PARTS), Math.round(latitude * PARTS)];
    if (flat.length && x === left && y === down) continue;
    flat.push(x - left, y - down);
    [left, down] = [x, y];
  }
  return flat;
}

const world = simpler(JSON.parse(of('world-atlas/countries-50m.json')));
const states = simpler(JSON.parse(of('us-atlas/states-10m.json')));
const { countries } = world.objects;
const inner = (one, other) => one !== other;
const lines = (of) => of.coordinates.map(differences).filter((line) => line.length >= 4);
write('outlines.json', JSON.stringify({
  parts: PARTS,
  land: merge(world, countries.geometries).coordinates.flatMap((rings) => rings.map(differences)).filter((ring) => ring.length >= 8),
  borders: lines(mesh(world, countries, inner)),
  states: lines(mesh(states, states.objects.states, inner)),
}));

// --- Licences --------------------------------------------------------------------------------

const version = (name) => JSON.parse(of(`${name}/package.json`)).version;
write('LICENCES.txt', [
  `uplot.js, uplot.css: uPlot ${version('uplot')}\n\n${of('uplot/LICENSE')}`,
  `outlines.json: made of world-atlas ${version('world-atlas')}, which is made of Natural Earth (public domain)\n\n${of('world-atlas/LICENSE')}`,
  `outlines.json: and of us-atlas ${version('us-atlas')}, which is made of the U.S. Census Bureau's boundaries (public domain)\n\n${of('us-atlas/LICENSE')}`,
].join('\n----\n\n'));
