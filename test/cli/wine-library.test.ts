// Bases, layers and prefixes from the command line: what is printed, JSON, mistakes and exit codes.
// Wine-free; what the commands do is tested in test/wine/library*.test.ts.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { installer, makePlace, type Place } from '../wine/library-place.js';
import { type Cli, cliIn } from './cli.js';

interface Library extends Cli {
  readonly place: Place;
  json(...args: string[]): unknown;
}

function library(t: { after(fn: () => void): void }): Library {
  const folder = tempDir(t);
  const place = makePlace(folder);
  process.env['VARVE_WINE_DIR'] = place.root;
  t.after(() => delete process.env['VARVE_WINE_DIR']);
  const cli = cliIn(folder);
  const json = (...args: string[]): unknown => {
    const ran = cli.run('wine', ...args, '--json');
    assert.equal(ran.err, '');
    return JSON.parse(ran.out);
  };
  return { ...cli, place, json };
}

test('a base, a prefix and what they take, as text and as JSON', (t) => {
  const { run, json, place } = library(t);
  assert.deepEqual(run('wine', 'ls'), {
    code: 0,
    out: `${place.root}: nothing yet: \`varve wine create NAME\`\n`,
    err: '',
  });
  const added = run('wine', 'base', 'add', 'default', '--from', place.plain);
  assert.deepEqual(added, {
    code: 0,
    out: '',
    err: `varve: default@1: ${place.root}/bases/default/1\n`,
  });
  const made = json('create', 'p') as Record<string, unknown>;
  assert.deepEqual(made, {
    folder: `${place.root}/prefixes/p`,
    version: 1,
    base: 'default@1',
    follows: true,
    layers: [],
  });
  assert.equal(run('wine', 'create', './here', '--quiet').err, '');
  assert.ok(existsSync(join(place.folder, 'here/.varve/prefix.json')));
  const { out } = run('wine', 'ls');
  assert.match(out, /^PREFIX +STATE +BASE +LAYERS\np +down +default@1 +-\n/);
  assert.match(out, /default@1 \* +folder +- +p, .*here\n$/);
  assert.equal(run('wine', 'ls', '-q').out, `p\n${place.folder}/here\n`);
  const du = json('du') as { prefixes: { name: string; belowBytes: number }[] };
  assert.deepEqual(
    du.prefixes.map(({ name, belowBytes }) => [name, belowBytes > 0]),
    [
      ['p', true],
      [`${place.folder}/here`, true],
    ],
  );
  assert.match(run('wine', 'base', 'ls', '--check').out, /intact/);
  writeFileSync(join(place.root, 'bases/default/1/drive_c/Program Files/readme.txt'), 'changed');
  const checked = run('wine', 'base', 'ls', '--check');
  assert.equal(checked.code, 3);
  assert.match(checked.out, /changed/);
  assert.equal(run('wine', 'rm', 'p', '--yes').code, 0);
  assert.equal(run('wine', 'ls', '-q').out, `${place.folder}/here\n`);
});

test('a layer is recorded, put, exported, imported and removed', {
  skip: requires({ features: ['fuse'] }),
}, (t) => {
  const { run, json, place } = library(t);
  run('wine', 'base', 'add', 'default', '--from', place.plain);
  run('wine', 'create', 'p');
  const build = join(place.folder, 'build');
  const setup = installer(place, 'setup.exe', 'echo app >"$C/app.exe"; key App yes; exit "$1"');
  const failed = run('wine', 'layer', 'add', 'app', '--wine', build, '-q', '--', setup, '3');
  assert.equal(failed.code, 1);
  assert.match(failed.err, /setup\.exe: exit code 3: nothing is kept \(--keep-failed keeps it\)/);
  const added = run('wine', 'layer', 'add', 'app', '--wine', build, '--', setup, '0');
  assert.equal(added.code, 0, added.err);
  assert.match(added.err, /app: 1 file, 1 registry key: `varve wine layer put app PREFIX`/);
  assert.match(run('wine', 'layer', 'ls').out, /app +folder .* - +.*setup\.exe 0\n/);
  assert.deepEqual((json('layer', 'put', 'app', 'p') as { layers: string[] }).layers, ['app']);
  assert.match(
    run('wine', 'layer', 'rm', 'app').err,
    /layer app: is used by prefix p: change that first, or say --force/,
  );
  assert.equal(run('wine', 'export', 'app', 'app.reg').code, 0);
  assert.equal(readFileSync(join(place.folder, 'app.reg')).readUInt16LE(), 0xfeff);
  assert.equal(run('wine', 'export', 'app', 'app.erofs').code, 0);
  assert.equal(run('wine', 'import', 'app.erofs', 'again', '--link').code, 0);
  assert.equal((json('layer', 'take', 'app', 'p') as { layers: string[] }).layers.length, 0);
  assert.deepEqual(json('layer', 'rm', 'app'), { version: 1, removed: ['app'] });
  assert.equal(run('wine', 'layer', 'ls', '-q').out, 'again\n');
});

test('mistakes are one line, with an exit code', (t) => {
  const { run, place } = library(t);
  run('wine', 'base', 'add', 'default', '--from', place.plain);
  mkdirSync(join(place.folder, 'folder'));
  const rows: readonly (readonly [string, number, RegExp])[] = [
    ['wine create ./no/where', 3, /no such directory/],
    ['wine create -', 2, /prefix "-": not a name/],
    ['wine create p --base nope', 6, /base nope: there is none/],
    ['wine create p --layer ./nope', 6, /no such folder or image/],
    ['wine base add x --link', 2, /--link: is for images/],
    ['wine base rm nope', 6, /there is none/],
    ['wine layer add x setup.exe', 2, /then -- and the installer/],
    ['wine layer add x --put -- setup.exe', 2, /--put: say by --prefix/],
    ['wine layer put nope nope', 6, /prefix nope: there is none/],
    ['wine commit ./folder x', 6, /is no prefix of varve/],
    ['wine rm nope --yes', 6, /prefix nope: there is none/],
    ['wine export nope x.tar', 6, /no base, layer or prefix/],
    ['wine export default x.erofs -z nope', 2, /unknown compression/],
    ['wine import nope x', 3, /nope: no such file or directory/],
    ['wine import folder x', 3, /folder/],
    ['wine base', 2, /wine base add/],
    ['wine layer nope', 2, /unknown command wine layer nope: one of add, put, take, ls, rm/],
  ];
  for (const [line, code, wanted] of rows) {
    const ran = run(...line.split(' '));
    assert.equal(ran.code, code, `${line}: ${ran.err}`);
    assert.match(ran.err, wanted, line);
    if (code !== 2) assert.equal(ran.err.trimEnd().split('\n').length, 1, line);
  }
  assert.equal(run('wine', 'create', 'p').code, 0);
  assert.match(run('wine', 'rm', 'p').err, /nobody can be asked here: write --yes/);
  assert.match(run('help', 'wine', 'layer', 'add').out, /record what an installer changes/);
  assert.match(run('wine', 'layer').err, /wine layer put/);
});
