// A base gets a next version, and prefixes go there and back: files and registry in three versions, conflicts kept and decided.
// Wine-free: bases are made by hand, and what a session would have changed is written into the prefix.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { addBase } from '../../src/wine/library/base.js';
import { exportThing } from '../../src/wine/library/export.js';
import { pathsOf, winePlaces } from '../../src/wine/prefix/places.js';
import { lineOf } from '../../src/wine/update/conflict-words.js';
import { openConflicts } from '../../src/wine/update/conflicts.js';
import { followBase } from '../../src/wine/update/follow.js';
import { type MoveReport, movePrefix } from '../../src/wine/update/move.js';
import { makeVersion, setCurrent } from '../../src/wine/update/new-version.js';
import { resolveConflicts } from '../../src/wine/update/resolve.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import {
  changeKeys,
  filesOf,
  keysOf,
  NEW_FILES,
  NEW_KEYS,
  recordOf,
  start,
  type UpdatePlace,
  updatePlace,
  writeOwn,
} from './update-place.js';

const skip = requires({ root: true });

const whiteout = (prefix: string, path: string): void => {
  const ran = spawnSync('mknod', [join(prefix, 'drive_c', path), 'c', '0', '0']);
  assert.equal(ran.status, 0, String(ran.stderr));
};

/** What a user of the prefix has changed: each of what can happen once. */
function changeAll(prefix: string): void {
  writeOwn(prefix, {
    'windows/ours.ini': 'mine',
    'windows/both.ini': 'mine, too',
    'windows/same.ini': 'agreed',
    'windows/gone.ini': 'mine',
    'own/file.txt': 'mine',
  });
  whiteout(prefix, 'windows/left.ini');
  changeKeys(prefix, {
    'Software\\App': { Ours: '"mine"', Both: '"mine"', Same: '"agreed"', Own: 'dword:00000001' },
    'Software\\Gone': { x: '"mine"' },
    'Software\\Left': undefined,
    'Software\\Mine': { x: '"mine"' },
  });
}

const move = (
  place: UpdatePlace,
  folder: string,
  to: string,
  more: { follows?: boolean; dryRun?: boolean } = {},
): Promise<MoveReport> =>
  movePrefix({ folder, record: recordOf(folder), to, follows: false, env: place.env, ...more });

const follow = async (place: UpdatePlace, prefix: string): Promise<MoveReport | undefined> =>
  followBase(prefix, recordOf(prefix), place.env);

const resolve = (
  place: UpdatePlace,
  folder: string,
  side: 'ours' | 'theirs',
  ...wanted: string[]
): ReturnType<typeof resolveConflicts> =>
  resolveConflicts({ folder, record: recordOf(folder), side, wanted, env: place.env });

test('a prefix without changes of its own goes with its base, silently', async (t) => {
  const place = await updatePlace(tempDir(t));
  const prefix = await place.create('plain');
  assert.equal(await follow(place, prefix), undefined, 'nothing newer');
  assert.equal(await place.update(place.plain('v2', NEW_FILES, NEW_KEYS)), 'default@2');
  const report = await follow(place, prefix);
  assert.equal(report?.to, 'default@2');
  assert.equal(report?.open, 0);
  assert.deepEqual(recordOf(prefix), {
    version: 1,
    base: 'default@2',
    follows: true,
    layers: [],
  });
  assert.deepEqual(await filesOf(place, prefix), NEW_FILES);
  assert.equal(keysOf(prefix)['Software\\App\\Theirs'], '"new"');
  assert.equal(readFileSync(join(prefix, '.update-timestamp'), 'utf8'), 'disable\n');
  assert.equal(await follow(place, prefix), undefined);
  // The start of a session has nothing left to do.
  const before = statSync(join(prefix, 'system.reg')).ino;
  await start(prefix, place.env);
  assert.equal(statSync(join(prefix, 'system.reg')).ino, before);
});

test('each side keeps what it alone has changed; what both have changed is listed, and ours stays', {
  skip,
}, async (t) => {
  const place = await updatePlace(tempDir(t));
  const prefix = await place.create('p');
  changeAll(prefix);
  const kept = statSync(join(prefix, 'drive_c/own/file.txt')).ino;
  await place.update(place.plain('v2', NEW_FILES, NEW_KEYS));
  const report = await follow(place, prefix);
  assert.ok(report);
  assert.deepEqual(await filesOf(place, prefix), {
    'windows/kept.dll': 'base',
    'windows/theirs.dll': 'new',
    'windows/new.dll': 'new',
    'windows/ours.ini': 'mine',
    'windows/both.ini': 'mine, too',
    'windows/same.ini': 'agreed',
    'windows/gone.ini': 'mine',
    'own/file.txt': 'mine',
  });
  assert.equal(existsSync(join(prefix, 'drive_c/windows/same.ini')), false, 'the base has it');
  assert.equal(statSync(join(prefix, 'drive_c/own/file.txt')).ino, kept, 'not copied');
  assert.deepEqual(keysOf(prefix), {
    'Software\\App\\Both': '"mine"',
    'Software\\App\\Kept': '"base"',
    'Software\\App\\Ours': '"mine"',
    'Software\\App\\Own': 'dword:00000001',
    'Software\\App\\Same': '"agreed"',
    'Software\\App\\Theirs': '"new"',
    'Software\\Gone\\x': '"mine"',
    'Software\\Mine\\x': '"mine"',
    'Software\\New\\x': '"new"',
  });
  const lines = openConflicts(prefix).map(lineOf);
  assert.deepEqual(lines, [
    '1  drive_c/windows/both.ini: content: ours 9 bytes, theirs 11 bytes',
    '2  drive_c/windows/gone.ini: changed here, deleted in the base',
    '3  drive_c/windows/left.ini: deleted here, changed in the base',
    '4  HKEY_LOCAL_MACHINE\\Software\\Left: "x": deleted here, changed in the base',
    '5  HKEY_LOCAL_MACHINE\\Software\\App: "Both": ours "mine", theirs "new", before "base"',
    '6  HKEY_LOCAL_MACHINE\\Software\\Gone: changed here, deleted in the base',
  ]);
  assert.equal(report.open, lines.length);
  const sides = join(pathsOf(prefix).state, 'conflicts/1');
  assert.equal(readFileSync(join(sides, 'theirs/windows/both.ini'), 'utf8'), 'new version');
  assert.equal(readFileSync(join(sides, 'old/windows/both.ini'), 'utf8'), 'base');
  assert.equal(readFileSync(join(sides, 'theirs/windows/left.ini'), 'utf8'), 'new');
  assert.equal(readFileSync(join(sides, 'old/windows/gone.ini'), 'utf8'), 'base');
  assert.match(readFileSync(join(sides, 'theirs.reg'), 'utf16le'), /"Both"="new"/);
});

test('conflicts are decided: for ours by a word, for theirs by what lies below', {
  skip,
}, async (t) => {
  const place = await updatePlace(tempDir(t));
  const prefix = await place.create('p');
  changeAll(prefix);
  await place.update(place.plain('v2', NEW_FILES, NEW_KEYS));
  await follow(place, prefix);
  const before = { files: await filesOf(place, prefix), keys: keysOf(prefix) };

  await assert.rejects(resolve(place, prefix, 'ours', 'HKCU\\Software\\App'), /no conflict of/);
  await resolve(place, prefix, 'ours', '1', 'HKLM\\software\\gone');
  assert.deepEqual(
    openConflicts(prefix).map(({ id }) => id),
    [2, 3, 4, 5],
  );
  assert.deepEqual({ files: await filesOf(place, prefix), keys: keysOf(prefix) }, before);

  const { open } = await resolve(
    place,
    prefix,
    'theirs',
    'C:\\windows\\gone.ini',
    'HKLM\\Software\\App\\Both',
  );
  assert.deepEqual(
    open.map(({ id }) => id),
    [3, 4],
  );
  assert.equal('windows/gone.ini' in (await filesOf(place, prefix)), false);
  assert.equal(keysOf(prefix)['Software\\App\\Both'], '"new"');
  assert.equal(keysOf(prefix)['Software\\App\\Ours'], '"mine"');

  assert.deepEqual((await resolve(place, prefix, 'theirs')).open, []);
  assert.equal((await filesOf(place, prefix))['windows/left.ini'], 'new');
  assert.equal(keysOf(prefix)['Software\\Left\\x'], '"new"');
  assert.equal(existsSync(join(prefix, 'drive_c/windows/left.ini')), false);
  assert.deepEqual(readdirSync(join(pathsOf(prefix).state, 'conflicts')), []);
  // It stays so when the prefix starts.
  const now = keysOf(prefix);
  await start(prefix, place.env);
  assert.deepEqual(keysOf(prefix), now);
});

test('the way back gives what was, and the way there again asks nothing that was decided', {
  skip,
}, async (t) => {
  const place = await updatePlace(tempDir(t));
  const prefix = await place.create('p');
  changeAll(prefix);
  const before = { files: await filesOf(place, prefix), keys: keysOf(prefix) };
  await place.update(place.plain('v2', NEW_FILES, NEW_KEYS));
  await follow(place, prefix);
  const back = await move(place, prefix, 'default@1');
  assert.equal(back.open, 0);
  assert.equal(recordOf(prefix).follows, false);
  assert.deepEqual({ files: await filesOf(place, prefix), keys: keysOf(prefix) }, before);
  assert.equal(await follow(place, prefix), undefined, 'it is kept there');

  await move(place, prefix, 'default@2', { follows: true });
  assert.equal(openConflicts(prefix).length, 6);
  await resolve(place, prefix, 'ours');
  assert.equal((await move(place, prefix, 'default@1')).open, 0);
  assert.equal((await move(place, prefix, 'default@2')).open, 0);
  assert.equal((await move(place, prefix, 'default@1')).open, 0);
  assert.deepEqual({ files: await filesOf(place, prefix), keys: keysOf(prefix) }, before);
});

test('what the prefix had changed to the new base and back again is not put back', async (t) => {
  const place = await updatePlace(tempDir(t));
  const prefix = await place.create('p');
  changeKeys(prefix, { 'Software\\App': { Same: '"agreed"' } });
  writeOwn(prefix, { 'windows/same.ini': 'agreed' });
  await place.update(place.plain('v2', NEW_FILES, NEW_KEYS));
  await follow(place, prefix);
  changeKeys(prefix, { 'Software\\App': { Same: '"other"' } });
  writeOwn(prefix, { 'windows/same.ini': 'other' });
  await move(place, prefix, 'default@1');
  assert.equal(keysOf(prefix)['Software\\App\\Same'], '"other"');
  assert.equal((await filesOf(place, prefix))['windows/same.ini'], 'other');
});

test('a dry run tells the same and writes nothing', { skip }, async (t) => {
  const place = await updatePlace(tempDir(t));
  const prefix = await place.create('p');
  changeAll(prefix);
  await place.update(place.plain('v2', NEW_FILES, NEW_KEYS));
  const look = (): string =>
    spawnSync('sh', ['-c', 'find . -printf "%p %i %s %T@\\n" | sort'], {
      cwd: prefix,
      encoding: 'utf8',
    }).stdout;
  const before = look();
  const planned = await move(place, prefix, 'default@2', { dryRun: true });
  assert.equal(look(), before);
  const done = await move(place, prefix, 'default@2');
  assert.deepEqual({ ...planned, done: true }, done);
});

test('what a layer says against the new base is listed with its name, and can be overruled', async (t) => {
  const place = await updatePlace(tempDir(t));
  const layer = place.plain(
    'layer',
    { 'windows/both.ini': 'of the layer' },
    { 'Software\\App': { Both: '"layer"' } },
  );
  const prefix = await place.create('p', [join(layer, 'drive_c')]);
  await place.update(place.plain('v2', NEW_FILES, NEW_KEYS));
  const report = await follow(place, prefix);
  assert.equal(report?.open, 2);
  const label = join(layer, 'drive_c');
  assert.deepEqual(openConflicts(prefix).map(lineOf), [
    `1  drive_c/windows/both.ini (layer ${label}): content: ours 12 bytes, theirs 11 bytes`,
    `2  HKEY_LOCAL_MACHINE\\Software\\App (layer ${label}): "Both": ours "layer", theirs "new", before "base"`,
  ]);
  assert.equal((await filesOf(place, prefix))['windows/both.ini'], 'of the layer');
  await resolve(place, prefix, 'theirs');
  assert.equal((await filesOf(place, prefix))['windows/both.ini'], 'new version');
  assert.equal(keysOf(prefix)['Software\\App\\Both'], '"new"');
  assert.equal(readFileSync(join(layer, 'drive_c/windows/both.ini'), 'utf8'), 'of the layer');
});

test('versions: numbered on, one of them current, and the old ones stay', async (t) => {
  const place = await updatePlace(tempDir(t));
  const places = winePlaces(place.env);
  const prefix = await place.create('p');
  await place.update(place.plain('v2', NEW_FILES, NEW_KEYS));
  assert.equal(readlinkSync(join(places.bases, 'default/current')), '2');
  assert.equal(await place.update(place.plain('v3', NEW_FILES, NEW_KEYS)), 'default@3');
  assert.deepEqual(readdirSync(join(places.bases, 'default')).sort(), ['1', '2', '3', 'current']);
  setCurrent('default', 1, places);
  assert.equal(await follow(place, prefix), undefined);
  setCurrent('default', 2, places);
  assert.equal((await follow(place, prefix))?.to, 'default@2');
  assert.throws(() => setCurrent('default', 9, places), /there is no such version/);
  mkdirSync(join(places.bases, 'default/7'));
  assert.equal(await place.update(place.plain('v8', NEW_FILES, NEW_KEYS)), 'default@8');
});

test('an image can be the next version, and its next one is an image', async (t) => {
  const place = await updatePlace(tempDir(t));
  const prefix = await place.create('p');
  writeOwn(prefix, { 'windows/both.ini': 'mine' });
  const from = place.plain('v2', NEW_FILES, NEW_KEYS);
  await addBase({ name: 'other', from, wine: () => place.wine, env: place.env });
  const file = join(place.folder, 'v2.erofs');
  const { env } = place;
  await exportThing({ what: 'other', file, own: false, force: false, compression: [], env });
  assert.equal(await place.update(file), 'default@2');
  assert.ok(existsSync(join(winePlaces(env).bases, 'default/2.erofs')));
  const report = await follow(place, prefix);
  assert.equal(report?.open, 1);
  assert.equal((await filesOf(place, prefix))['windows/theirs.dll'], 'new');
  assert.equal(keysOf(prefix)['Software\\New\\x'], '"new"');
  const sides = join(pathsOf(prefix).state, 'conflicts/1');
  assert.equal(readFileSync(join(sides, 'theirs/windows/both.ini'), 'utf8'), 'new version');
  await resolve(place, prefix, 'theirs', 'drive_c/windows');
  assert.equal((await filesOf(place, prefix))['windows/both.ini'], 'new version');

  // The stub's `wineboot` is a program of this machine: the base is updated by what stands in its place.
  const wineboot = join(place.folder, 'stub/bin/wineboot');
  writeFileSync(
    wineboot,
    '#!/bin/sh\necho third >"$WINEPREFIX/drive_c/windows/theirs.dll"\necho 3 >"$WINEPREFIX/.update-timestamp"\n',
  );
  chmodSync(wineboot, 0o755);
  const path = `${join(place.folder, 'stub/bin')}:${env['PATH']}`;
  const made = await makeVersion({
    name: 'default',
    wine: () => place.wine,
    env: { ...env, PATH: path },
  });
  assert.deepEqual([made.to, made.changed], ['default@3', 1]);
  assert.ok(existsSync(join(winePlaces(env).bases, 'default/3.erofs')));
  await follow(place, prefix);
  assert.equal((await filesOf(place, prefix))['windows/theirs.dll'], 'third\n');
});
