// The registry of a layered prefix on disk: what Wine gets, what is kept of what it wrote, and what a cut leaves.
// Wine-free: the files are written as wineserver writes them, whole, by rename.

import assert from 'node:assert/strict';
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Below, belowAt, overlaysOf } from '../../src/wine/prefix/below.js';
import { tryLock } from '../../src/wine/prefix/locks.js';
import {
  changeOwnRegistry,
  currentChange,
  finishPublishing,
  harvest,
  materialise,
} from '../../src/wine/prefix/materialise.js';
import { isEmpty } from '../../src/wine/registry/delta.js';
import { tempDir } from '../support/temp.js';

type Keys = Record<string, Record<string, string>>;

function hiveText(keys: Keys): string {
  const blocks = Object.entries(keys).map(([path, values]) => {
    const lines = Object.entries(values).map(([name, data]) =>
      name === '' ? `@=${data}` : `"${name}"=${data}`,
    );
    return `[${path.replaceAll('\\', '\\\\')}] 1676758571\n#time=1d943a5cb5f0b80\n${lines.map((line) => `${line}\n`).join('')}`;
  });
  return `WINE REGISTRY Version 2\n;; All keys relative to \\\\Machine\n\n#arch=win64\n\n${blocks.join('\n')}`;
}

const EMPTY = { Environment: {} };

/** Writes as wineserver does: a file beside, then a rename; into a file of several names in place. */
function writeHives(folder: string, system: Keys): void {
  mkdirSync(join(folder, 'drive_c'), { recursive: true });
  for (const [name, keys] of [
    ['system', system],
    ['user', EMPTY],
    ['userdef', EMPTY],
  ] as const) {
    const path = join(folder, `${name}.reg`);
    writeFileSync(`${path}.tmp`, hiveText(keys));
    renameSync(`${path}.tmp`, path);
  }
}

const BASE: Keys = {
  'Software\\Base': { '': '"default"', Version: '"1"', Gone: 'dword:00000001' },
  'Software\\Base\\Old': { x: '"y"' },
};

async function place(t: { after(fn: () => void): void }): Promise<{
  at: (path: string) => string;
  below: (...paths: string[]) => Promise<Below[]>;
  system: () => string;
  prefix: string;
}> {
  const folder = tempDir(t);
  const at = (path: string): string => join(folder, path);
  writeHives(at('base'), BASE);
  mkdirSync(at('prefix/drive_c'), { recursive: true });
  return {
    at,
    below: (...paths) => Promise.all(paths.map((path) => belowAt(path, at(`${path}/drive_c`)))),
    system: () => readFileSync(at('prefix/system.reg'), 'latin1'),
    prefix: at('prefix'),
  };
}

test('a new prefix has what is below; what it changes is kept, what it deletes stays deleted', async (t) => {
  const p = await place(t);
  const below = await p.below('base');
  assert.equal(materialise(p.prefix, below).changed, true);
  assert.equal(p.system(), hiveText(BASE));
  assert.equal(readFileSync(p.at('prefix/.update-timestamp'), 'utf8'), 'disable\n');
  assert.deepEqual(materialise(p.prefix, await p.below('base')), { changed: false, conflicts: [] });
  assert.ok(isEmpty(harvest(p.prefix)));

  writeHives(p.prefix, {
    'Software\\Base': { '': '"default"', Version: '"1"' },
    'Software\\Mine': { a: '"b"' },
  });
  const delta = harvest(p.prefix).system;
  assert.deepEqual([...delta.keys()].sort(), [
    'software\\base',
    'software\\base\\old',
    'software\\mine',
  ]);
  assert.deepEqual([...(delta.get('software\\base')?.removed.values() ?? [])], ['Gone']);
  assert.equal(delta.get('software\\base\\old')?.deleted, true);
  assert.equal(delta.get('software\\mine')?.set.get('a')?.data, '"b"');
  // Harvested again, nothing else.
  assert.deepEqual(harvest(p.prefix).system, delta);
});

test('a lower that changes is followed; what both have changed is a conflict, and ours counts', async (t) => {
  const p = await place(t);
  materialise(p.prefix, await p.below('base'));
  writeHives(p.prefix, {
    ...BASE,
    'Software\\Base': { '': '"mine"', Version: '"1"', Gone: 'dword:00000001' },
  });
  harvest(p.prefix);
  writeHives(p.at('base'), {
    ...BASE,
    'Software\\Base': { '': '"theirs"', Version: '"2"', Gone: 'dword:00000001' },
  });
  const { changed, conflicts } = materialise(p.prefix, await p.below('base'));
  assert.ok(changed);
  assert.deepEqual(
    conflicts.map(({ hive, path, value, old, ours, theirs }) => ({
      hive,
      path,
      value,
      old,
      ours,
      theirs,
    })),
    [
      {
        hive: 'system',
        path: 'Software\\Base',
        value: '',
        old: '"default"',
        ours: '"mine"',
        theirs: '"theirs"',
      },
    ],
  );
  assert.match(p.system(), /@="mine"\n"Version"="2"/);
  // Said once.
  assert.deepEqual(materialise(p.prefix, await p.below('base')).conflicts, []);
});

test('layers: a delta over a base, and taking it away', async (t) => {
  const p = await place(t);
  writeHives(p.at('other'), {});
  for (const suffix of ['system', 'user', 'userdef']) unlinkSync(p.at(`other/${suffix}.reg`));
  // Another prefix over the same base, used as a layer: only what it changed counts.
  materialise(p.at('other'), await p.below('base'));
  writeHives(p.at('other'), { ...BASE, 'Software\\App': { Installed: 'dword:00000001' } });
  harvest(p.at('other'));
  const below = await p.below('other', 'base');
  assert.deepEqual(
    below.map(({ registry }) => registry.kind),
    ['delta', 'full'],
  );
  materialise(p.prefix, below);
  assert.match(p.system(), /\[Software\\\\App\]/);
  const own = readFileSync(p.at('prefix/system.reg'), 'latin1');
  writeFileSync(p.at('prefix/system.reg'), `${own}\n[Software\\\\Own] 1\n"v"="1"\n`);
  materialise(p.prefix, await p.below('base'));
  assert.doesNotMatch(p.system(), /Software\\\\App/);
  assert.match(p.system(), /\[Software\\\\Own\]/);
});

test('a full prefix above another one sets what it has and deletes nothing; so does one that becomes layered', async (t) => {
  const p = await place(t);
  writeHives(p.at('app'), {
    'Software\\App': { x: '"1"' },
    'Software\\Base': { Version: '"app"' },
  });
  writeHives(p.prefix, { 'Software\\Base': { '': '"own"' }, 'Software\\Own': { o: '"1"' } });
  materialise(p.prefix, await p.below('app', 'base'));
  for (const found of [
    /@="own"/,
    /"Version"="app"/,
    /"Gone"=dword:00000001/,
    /\\App\]/,
    /\\Own\]/,
    /\\Old\]/,
  ]) {
    assert.match(p.system(), found);
  }
});

test('the files of a prefix never lead into a lower one', async (t) => {
  const p = await place(t);
  const before = readFileSync(p.at('base/system.reg'));
  symlinkSync(p.at('base/system.reg'), p.at('prefix/system.reg'));
  linkSync(p.at('base/user.reg'), p.at('prefix/user.reg'));
  materialise(p.prefix, await p.below('base'));
  for (const name of ['system.reg', 'user.reg']) {
    const found = lstatSync(p.at(`prefix/${name}`));
    assert.deepEqual([found.isFile(), found.nlink], [true, 1], name);
  }
  // Later too, though nothing has changed.
  unlinkSync(p.at('prefix/user.reg'));
  linkSync(p.at('base/user.reg'), p.at('prefix/user.reg'));
  assert.ok(materialise(p.prefix, await p.below('base')).changed);
  assert.equal(lstatSync(p.at('prefix/user.reg')).nlink, 1);
  assert.deepEqual(readFileSync(p.at('base/system.reg')), before);
});

test('cut off at any point: the old registry or the new one, and no change is lost', async (t) => {
  const p = await place(t);
  materialise(p.prefix, await p.below('base'));
  writeHives(p.prefix, { ...BASE, 'Software\\Mine': { a: '"b"' } });
  // The session was cut off: nothing harvested it, and the base moves.
  writeHives(p.at('base'), { ...BASE, 'Software\\New': { n: '"1"' } });
  materialise(p.prefix, await p.below('base'));
  assert.match(p.system(), /Software\\\\Mine/);
  assert.match(p.system(), /Software\\\\New/);
  // Between the rename that publishes and the moves, half of these done.
  const wanted = readFileSync(p.at('prefix/system.reg'));
  const state = p.at('prefix/.varve');
  mkdirSync(join(state, 'registry.next'));
  for (const name of ['below.gz', 'registry.json', '../system.reg']) {
    renameSync(join(state, name), join(state, 'registry.next', name.replace('../', '')));
  }
  assert.ok(!existsSync(p.at('prefix/system.reg')));
  finishPublishing(p.prefix);
  assert.deepEqual(readFileSync(p.at('prefix/system.reg')), wanted);
  assert.deepEqual(materialise(p.prefix, await p.below('base')), { changed: false, conflicts: [] });
  // A file that a power cut left empty.
  writeFileSync(p.at('prefix/system.reg'), '');
  materialise(p.prefix, await p.below('base'));
  assert.match(p.system(), /Software\\\\Mine/);
});

test('a change of ours goes into the files; what is unreadable is said with its place', async (t) => {
  const p = await place(t);
  materialise(p.prefix, await p.below('base'));
  writeHives(p.prefix, { ...BASE, 'Software\\Mine': { a: '"b"' } });
  changeOwnRegistry(p.prefix, (delta) => ({
    ...delta,
    user: new Map([
      [
        'new',
        { path: 'New', set: new Map([['v', { name: 'v', data: '"1"' }]]), removed: new Map() },
      ],
    ]),
  }));
  assert.match(readFileSync(p.at('prefix/user.reg'), 'latin1'), /\[New\].*\n(?:#.*\n)*"v"="1"/);
  assert.match(p.system(), /Software\\\\Mine/);
  assert.deepEqual([...(currentChange(p.prefix)?.delta.user.keys() ?? [])], ['new']);
  writeFileSync(p.at('prefix/system.reg'), 'nonsense');
  assert.throws(() => harvest(p.prefix), /system\.reg: .*take it from a backup/);
});

test('who only looks finishes what was cut off under the lock, and does not meddle with who has it', async (t) => {
  const p = await place(t);
  materialise(p.prefix, await p.below('base'));
  const state = join(p.prefix, '.varve');
  mkdirSync(join(state, 'registry.next'));
  renameSync(join(p.prefix, 'system.reg'), join(state, 'registry.next/system.reg'));
  const lock = tryLock(join(state, 'lock'), false);
  assert.throws(() => currentChange(p.prefix), /another command is busy with it/);
  assert.ok(existsSync(join(state, 'registry.next/system.reg')));
  lock?.release();
  assert.equal(currentChange(p.prefix)?.delta.system.size, 0);
  assert.ok(existsSync(join(p.prefix, 'system.reg')));
  assert.equal(existsSync(join(state, 'registry.next')), false);
});

test('WINEPREFIX_OVERLAYS', () => {
  assert.deepEqual(overlaysOf('a:/b/::c\\:d/e\\\\', '/w'), ['/w/a', '/b', '/w/c:d/e\\']);
  assert.deepEqual(overlaysOf('', '/w'), []);
});
