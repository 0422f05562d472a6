// Bases, layers and prefixes as files: what is exported comes back as it was, and an image serves as it lies there.
// Wine-free; sessions are real.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { writeComposefs } from '../../src/erofs/composefs.js';
import { S } from '../../src/linux/constants.js';
import { addImage } from '../../src/store/add.js';
import { initStore, Store } from '../../src/store/store.js';
import { addBase } from '../../src/wine/library/base.js';
import { createPrefix } from '../../src/wine/library/create.js';
import { type ExportRequest, exportThing } from '../../src/wine/library/export.js';
import { digestOf, manifestOfBase, openForm, readShelved } from '../../src/wine/library/form.js';
import { importLayer, kindOfFile } from '../../src/wine/library/import.js';
import { putLayer } from '../../src/wine/library/put.js';
import { findBase, findLayer, type Shelved } from '../../src/wine/library/shelf.js';
import { resolveBelow } from '../../src/wine/prefix/below.js';
import { winePlaces } from '../../src/wine/prefix/places.js';
import { startSession } from '../../src/wine/prefix/session.js';
import { requires } from '../support/requires.js';
import { AT, must, sys } from '../support/sys.js';
import { tempDir } from '../support/temp.js';
import {
  installer,
  keysOf,
  makePlace,
  type Place,
  record,
  shown,
  withBase,
  writeOwn,
} from './library-place.js';

const fuse = requires({ features: ['fuse'] });

const out = (
  place: Place,
  what: string,
  file: string,
  more: Partial<ExportRequest> = {},
): ReturnType<typeof exportThing> =>
  exportThing({
    what,
    file: join(place.folder, file),
    own: false,
    force: false,
    compression: [],
    env: place.env,
    ...more,
  });

const digest = async (one: Shelved): Promise<string> => {
  const form = await openForm(one);
  try {
    return digestOf(form.root);
  } finally {
    form.close();
  }
};

/** A layer with everything that a layer can have: made by hand, for a recording needs a mount. */
async function withLayer(folder: string): Promise<Place> {
  const place = await withBase(folder);
  const reg = join(folder, 'app.reg');
  const text =
    'Windows Registry Editor Version 5.00\r\n\r\n[HKEY_LOCAL_MACHINE\\Software\\Stub\\App]\r\n"v"="yes"\r\n\r\n[-HKEY_LOCAL_MACHINE\\Software\\Base]\r\n';
  writeFileSync(reg, text);
  const path = await importLayer({
    file: reg,
    name: 'app',
    link: false,
    unpack: false,
    env: place.env,
  });
  const driveC = join(path, 'drive_c');
  mkdirSync(join(driveC, 'Program Files/App'), { recursive: true });
  writeFileSync(join(driveC, 'Program Files/App/app.exe'), 'app');
  symlinkSync('app.exe', join(driveC, 'Program Files/App/link'));
  must(sys.mknod(AT.FDCWD, join(driveC, 'Program Files/readme.txt'), S.IFCHR, 0));
  mkdirSync(join(driveC, 'windows/temp'), { recursive: true });
  const prefix = process.geteuid?.() === 0 ? 'trusted' : 'user';
  const attr = ['-n', `${prefix}.overlay.opaque`, '-v', 'y', join(driveC, 'windows/temp')];
  assert.equal(spawnSync('setfattr', attr).status, 0);
  return place;
}

test('a base comes back from an image and from an archive with the digest that it had', async (t) => {
  const place = await withBase(tempDir(t));
  const { env } = place;
  const places = winePlaces(env);
  const before = await digest(findBase('default', places));
  await out(place, 'default', 'b.erofs');
  await out(place, 'default', 'b.tar');
  await out(place, 'default', 'again.erofs', { kind: 'base' });
  assert.deepEqual(
    readFileSync(join(place.folder, 'again.erofs')),
    readFileSync(join(place.folder, 'b.erofs')),
  );
  await assert.rejects(out(place, 'default', 'b.tar'), /is there already/);
  await assert.rejects(out(place, 'default', 'b.zip'), /let it end in/);
  await assert.rejects(out(place, 'nothing', 'c.tar'), /no base, layer or prefix is called so/);
  const wine = (): never => assert.fail('no Wine is needed');
  for (const [name, file, more] of [
    ['image', 'b.erofs', {}],
    ['linked', 'b.erofs', { link: true }],
    ['unpacked', 'b.erofs', { unpack: true }],
    ['tar', 'b.tar', {}],
  ] as const) {
    const from = join(place.folder, file);
    assert.equal(await kindOfFile(from), 'base');
    await addBase({ name, from, wine, env, ...more });
    const found = findBase(name, places);
    assert.equal(await digest(found), before, name);
    assert.equal((await manifestOfBase(found))?.digest, before, name);
  }
  assert.equal(readlinkSync(join(places.bases, 'linked/1.erofs')), join(place.folder, 'b.erofs'));
  assert.ok(lstatSync(join(places.bases, 'image/1.erofs')).isFile());
  assert.deepEqual(readdirSync(places.bases), ['default', 'image', 'linked', 'tar', 'unpacked']);
  await assert.rejects(
    addBase({ name: 'x', from: join(place.folder, 'b.tar'), link: true, wine, env }),
    /is no image/,
  );
});

test('a layer comes back whole: files, deletions, replaced folders and keys', async (t) => {
  const place = await withLayer(tempDir(t));
  const { env } = place;
  const places = winePlaces(env);
  const delta = await readShelved(findLayer('app', places), 'registry.delta');
  const { folder } = await createPrefix({ prefix: 'p', base: 'default', layers: ['app'], env });
  const wanted = await shown(place, folder);
  assert.match(wanted, /App\/app\.exe/);
  assert.doesNotMatch(wanted, /readme\.txt|temp\/\.keep/);
  for (const file of ['app.erofs', 'app.tar']) {
    await out(place, 'app', file);
    assert.equal(await kindOfFile(join(place.folder, file)), 'layer');
    for (const unpack of file === 'app.erofs' ? [false, true] : [false]) {
      const name = `from-${file.slice(4)}${unpack ? '-unpacked' : ''}`;
      const request = { file: join(place.folder, file), name, link: false, unpack, env };
      const path = await importLayer(request);
      assert.equal(path.endsWith('.erofs'), !unpack && file === 'app.erofs');
      assert.deepEqual(await readShelved(findLayer(name, places), 'registry.delta'), delta);
      const other = await createPrefix({
        prefix: `p-${name}`,
        base: 'default',
        layers: [name],
        env,
      });
      assert.equal(await shown(place, other.folder), wanted, name);
    }
  }
  const names = spawnSync('tar', ['tf', join(place.folder, 'app.tar')], {
    encoding: 'utf8',
  }).stdout;
  assert.match(names, /Program Files\/\.wh\.readme\.txt/);
  assert.match(names, /windows\/temp\/\.wh\.\.wh\.\.opq/);
  await out(place, 'app', 'back.reg');
  await importLayer({
    file: join(place.folder, 'back.reg'),
    name: 'back',
    link: false,
    unpack: false,
    env,
  });
  const before = keysOf(folder);
  const { folder: other } = await createPrefix({
    prefix: 'keys',
    base: 'default',
    layers: ['back'],
    env,
  });
  assert.deepEqual(keysOf(other), before);
  assert.doesNotMatch(readFileSync(join(other, 'system.reg'), 'latin1'), /Software\\\\Base/);
});

test('a prefix is exported whole as a base, or with what is its own as a layer', async (t) => {
  const place = await withLayer(tempDir(t));
  const { env } = place;
  const { folder } = await createPrefix({ prefix: 'p', base: 'default', layers: ['app'], env });
  writeOwn(folder, 'mine.txt', 'mine');
  const wanted = await shown(place, folder);
  const whole = await out(place, 'p', 'p.erofs');
  assert.deepEqual([whole.kind, whole.form], ['prefix', 'image']);
  const file = join(place.folder, 'p.erofs');
  await addBase({ name: 'whole', from: file, wine: () => assert.fail(), env });
  const flat = await createPrefix({ prefix: 'flat', base: 'whole', layers: [], env });
  assert.equal(await shown(place, flat.folder), wanted);
  await out(place, 'p', 'own.tar', { own: true });
  const own = join(place.folder, 'own.tar');
  await importLayer({ file: own, name: 'own', link: false, unpack: false, env });
  assert.deepEqual(readdirSync(join(winePlaces(env).layers, 'own/drive_c')), ['mine.txt']);
  await assert.rejects(out(place, 'app', 'x.tar', { own: true }), /it is for prefixes/);
  await createPrefix({ prefix: 'default', base: 'default', layers: [], env });
  await assert.rejects(out(place, 'default', 'y.tar'), /is a base and a prefix: say --base/);
});

test('a prefix that somebody has packed with tar becomes a base', async (t) => {
  const place = makePlace(tempDir(t));
  const { env, folder } = place;
  const pack = (file: string, ...what: string[]): string => {
    const path = join(folder, file);
    assert.equal(spawnSync('tar', ['-czf', path, '-C', folder, ...what]).status, 0);
    return path;
  };
  const wine = (): never => assert.fail('no Wine is needed');
  const nested = pack('nested.tar.gz', 'plain');
  const flat = pack(
    'flat.tgz',
    '-C',
    place.plain,
    'drive_c',
    'system.reg',
    'user.reg',
    'userdef.reg',
  );
  for (const [name, from] of [
    ['nested', nested],
    ['flat', flat],
  ] as const) {
    assert.equal(await kindOfFile(from), 'base');
    const { path } = await addBase({ name, from, wine, env });
    assert.equal(existsSync(join(path, 'drive_c/windows/system32/kernel32.dll')), true);
    assert.equal(existsSync(join(path, 'drive_c/.wine')), false);
    assert.deepEqual(
      readFileSync(join(path, 'system.reg')),
      readFileSync(join(place.plain, 'system.reg')),
    );
  }
  const partial = pack('partial.tar', '-C', place.plain, 'drive_c', 'user.reg');
  await assert.rejects(addBase({ name: 'x', from: partial, wine, env }), /system\.reg is missing/);
  const other = pack('other.tar', '-C', place.plain, 'user.reg');
  await assert.rejects(kindOfFile(other), /say --base or --layer/);
  assert.deepEqual(readdirSync(winePlaces(env).bases), ['flat', 'nested']);
});

test('sessions run over a base and a layer that are one file each', { skip: fuse }, async (t) => {
  const place = await withLayer(tempDir(t));
  const { env } = place;
  await out(place, 'default', 'b.erofs');
  await out(place, 'app', 'app.erofs');
  const wine = (): never => assert.fail('no Wine is needed');
  await addBase({ name: 'image', from: join(place.folder, 'b.erofs'), link: true, wine, env });
  const layer = { file: join(place.folder, 'app.erofs'), name: 'linked', link: true };
  await importLayer({ ...layer, unpack: false, env });
  const made = await createPrefix({ prefix: 'p', base: 'image', layers: [], env });
  await putLayer('p', 'linked', undefined, env);
  const below = await resolveBelow({ base: 'image@1', layers: ['linked'] }, env);
  const session = await startSession({
    folder: made.folder,
    below,
    wine: place.wine,
    env,
    quiet: true,
  });
  const script = `[ "$(cat "$C/Program Files/App/app.exe")" = app ] || exit 1
[ ! -e "$C/Program Files/readme.txt" ] || exit 2
[ "$(cat "$C/windows/system32/kernel32.dll")" = builtin ] || exit 3
echo more >>"$C/windows/system32/kernel32.dll"; key Ran yes`;
  const ran = await session.run(installer(place, 'script', script), [], 'inherit');
  await session.stop();
  assert.deepEqual(ran, { code: 0, signal: null });
  assert.deepEqual(keysOf(made.folder), { App: 'yes', Ran: 'yes' });
  assert.deepEqual(readdirSync(join(made.folder, 'drive_c')), ['windows']);
  const more = await record(place, 'over', [installer(place, 'setup', 'echo x >"$C/x"')], {
    base: 'image',
    layers: ['linked'],
  });
  assert.equal(more.exitCode, 0);
});

test('a composefs image of a store is a base', { skip: fuse }, async (t) => {
  const place = await withBase(tempDir(t));
  const { env } = place;
  const path = join(place.folder, 'store');
  initStore(path);
  const form = await openForm(findBase('default', winePlaces(env)));
  const write: Parameters<typeof addImage>[2] = (root, sink) => writeComposefs(root, {}, sink);
  await addImage(new Store(path), form.root, write, { name: 'win' });
  form.close();
  const wine = (): never => assert.fail('no Wine is needed');
  await addBase({ name: 'store', from: `${path}#win`, wine, env });
  const { folder } = await createPrefix({ prefix: 'p', base: 'store', layers: [], env });
  const below = await resolveBelow({ base: 'store@1', layers: [] }, env);
  const session = await startSession({ folder, below, wine: place.wine, env, quiet: true });
  const script = '[ "$(cat "$C/Program Files/readme.txt")" = "of the base" ] || exit 1';
  const ran = await session.run(installer(place, 'script', script), [], 'inherit');
  await session.stop();
  assert.deepEqual(ran, { code: 0, signal: null });
});
