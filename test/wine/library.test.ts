// Bases, layers and prefixes by name: how they are made, what they share, who may take them away.
// Wine-free: programs are shell scripts in a stub of Wine, sessions are real.

import assert from 'node:assert/strict';
import {
  chmodSync,
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { addBase } from '../../src/wine/library/base.js';
import { createPrefix } from '../../src/wine/library/create.js';
import { digestOf, openForm } from '../../src/wine/library/form.js';
import { listLibrary } from '../../src/wine/library/listing.js';
import { giveProfile } from '../../src/wine/library/profile.js';
import { putLayer, takeLayer } from '../../src/wine/library/put.js';
import { removeBase, removeLayer, removePrefix } from '../../src/wine/library/remove.js';
import { findBase, findLayer } from '../../src/wine/library/shelf.js';
import { openStage } from '../../src/wine/library/stage.js';
import { usageOf } from '../../src/wine/library/usage.js';
import { userName } from '../../src/wine/library/user-name.js';
import { windowsCommand } from '../../src/wine/library/windows-command.js';
import { resolveBelow } from '../../src/wine/prefix/below.js';
import { harvest } from '../../src/wine/prefix/materialise.js';
import { winePlaces } from '../../src/wine/prefix/places.js';
import { startSession } from '../../src/wine/prefix/session.js';
import { isEmpty } from '../../src/wine/registry/delta.js';
import { parseHive } from '../../src/wine/registry/parse.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import {
  installer,
  keysOf,
  makePlace,
  type Place,
  record,
  withBase,
  writeOwn,
} from './library-place.js';

const USER = userName(process.env);
const skip = requires({ features: ['fuse'] });

const create = (place: Place, prefix: string, layers: readonly string[] = []): Promise<string> =>
  createPrefix({ prefix, base: 'default', layers, env: place.env }).then(({ folder }) => folder);

/** Runs a script in a prefix. */
async function inPrefix(place: Place, folder: string, script: string): Promise<void> {
  const below = await resolveBelow(
    JSON.parse(readFileSync(join(folder, '.varve/prefix.json'), 'utf8')),
    place.env,
  );
  const session = await startSession({
    folder,
    below,
    wine: place.wine,
    env: place.env,
    quiet: true,
  });
  const file = installer(place, 'in-prefix', script);
  assert.deepEqual(await session.run(file, [], 'inherit'), { code: 0, signal: null });
  await session.stop();
}

const digestAt = async (path: string): Promise<string> => {
  const form = await openForm({ path, isImage: false });
  try {
    return digestOf(form.root);
  } finally {
    form.close();
  }
};

test('a base is a copy that shares nothing with what it was made of', async (t) => {
  const place = makePlace(tempDir(t));
  const { plain, env } = place;
  // Both ways in which wineserver would write into somebody else's file.
  renameSync(join(plain, 'system.reg'), join(place.folder, 'system.reg'));
  symlinkSync(join(place.folder, 'system.reg'), join(plain, 'system.reg'));
  linkSync(join(plain, 'user.reg'), join(place.folder, 'user.reg'));
  const { reference, path } = await addBase({
    name: 'b',
    from: plain,
    wine: () => place.wine,
    env,
  });
  assert.equal(reference, 'b@1');
  assert.equal(readlinkSync(join(place.root, 'bases/b/current')), '1');
  writeFileSync(join(place.folder, 'system.reg'), 'other');
  writeFileSync(join(plain, 'user.reg'), 'other');
  writeFileSync(join(plain, 'drive_c/Program Files/readme.txt'), 'other');
  assert.match(readFileSync(join(path, 'system.reg'), 'latin1'), /"name"="base"/);
  const manifest = JSON.parse(readFileSync(join(path, 'base.json'), 'utf8'));
  assert.deepEqual(
    { arch: manifest.arch, infTime: manifest.infTime, user: manifest.user },
    { arch: 'win64', infTime: 1676758571, user: USER },
  );
  assert.equal(await digestAt(path), manifest.digest);
  assert.deepEqual(readdirSync(place.root), ['bases']);
});

test('what is no prefix makes no base, and leaves nothing', async (t) => {
  const place = makePlace(tempDir(t));
  const { env, folder } = place;
  mkdirSync(join(folder, 'empty'));
  writeFileSync(join(folder, 'text'), 'x'.repeat(5000));
  const add = (from: string, name = 'b'): Promise<unknown> =>
    addBase({ name, from, wine: () => place.wine, env });
  await assert.rejects(add(join(folder, 'empty')), /is no Wine prefix/);
  await assert.rejects(add(join(folder, 'nowhere')), /no such file or directory/);
  await assert.rejects(add(join(folder, 'text')), /no tar or cpio archive/);
  await assert.rejects(add(place.plain, 'a/b'), /not a name/);
  await assert.rejects(add(place.plain, 'a@1'), /not a name/);
  await add(place.plain);
  await assert.rejects(add(place.plain), /base b: is there already/);
  assert.deepEqual(readdirSync(place.root), ['bases']);
});

test('wineboot makes a base; where it fails there is none, and its words are shown', async (t) => {
  const place = makePlace(tempDir(t));
  const bin = join(place.folder, 'bin');
  mkdirSync(bin);
  const env = { ...place.env, PATH: `${bin}:${process.env['PATH']}` };
  const wineboot = (script: string): void => {
    writeFileSync(join(bin, 'wineboot'), `#!/bin/sh\n${script}`);
    chmodSync(join(bin, 'wineboot'), 0o755);
  };
  const add = (): Promise<{ path: string }> =>
    addBase({ name: 'made', wine: () => place.wine, env });
  wineboot('echo a failure of wine >&2; exit 3');
  await assert.rejects(add(), /wineboot -i: exit code 3 \(a failure of wine\)/);
  assert.equal(existsSync(join(place.root, 'bases')), false);
  wineboot(`cp -a ${place.plain}/. "$WINEPREFIX"; ln -s ../drive_c "$WINEPREFIX/c"`);
  const { path } = await add();
  assert.deepEqual(readdirSync(path).sort(), [
    '.update-timestamp',
    'base.json',
    'drive_c',
    'system.reg',
    'user.reg',
    'userdef.reg',
  ]);
});

test('a prefix is made of next to nothing, and says what it stands on', async (t) => {
  const place = await withBase(tempDir(t));
  const folder = await create(place, 'p');
  assert.equal(folder, join(place.root, 'prefixes/p'));
  assert.deepEqual(readdirSync(join(folder, 'drive_c')), []);
  assert.equal(readlinkSync(join(folder, 'dosdevices/c:')), '../drive_c');
  assert.equal(readFileSync(join(folder, '.update-timestamp'), 'utf8').trim(), 'disable');
  assert.deepEqual(
    readFileSync(join(folder, 'system.reg')),
    readFileSync(join(place.plain, 'system.reg')),
  );
  assert.deepEqual(JSON.parse(readFileSync(join(folder, '.varve/prefix.json'), 'utf8')), {
    version: 1,
    base: 'default@1',
    follows: true,
    layers: [],
  });
  const pinned = await createPrefix({
    prefix: join(place.folder, 'pinned'),
    base: 'default@1',
    layers: [],
    env: place.env,
  });
  assert.equal(pinned.record.follows, false);
  await assert.rejects(create(place, 'p'), /is there already/);
  await assert.rejects(create(place, 'q', ['none']), /layer none: there is none/);
  await assert.rejects(create(place, join(place.folder, 'no/where')), /no such directory/);
  await assert.rejects(
    createPrefix({ prefix: 'q', base: 'defualt', layers: [], env: place.env }),
    /base defualt: there is none: did you mean default\?/,
  );
  await assert.rejects(
    createPrefix({ prefix: 'q', base: 'default@7', layers: [], env: place.env }),
    /no such version: name one of default@1/,
  );
  assert.deepEqual(readdirSync(join(place.root, 'prefixes')), ['p']);
  const listing = await listLibrary(winePlaces(place.env));
  assert.deepEqual(
    listing.prefixes.map(({ name, state, base }) => ({ name, state, base })),
    [
      { name: 'p', state: 'down', base: 'default@1' },
      { name: pinned.folder, state: 'down', base: 'default@1' },
    ],
  );
  assert.deepEqual(listing.bases[0]?.users, ['p', pinned.folder]);
});

test('whoever uses a base of another user gets a profile of his own', async (t) => {
  const place = makePlace(tempDir(t));
  const home = join(place.folder, 'home');
  mkdirSync(join(home, 'Music'), { recursive: true });
  const profile = join(place.plain, 'drive_c/users', USER);
  symlinkSync('/home/other/Music', join(profile, 'Music'));
  symlinkSync('/home/other', join(profile, 'Desktop'));
  writeFileSync(join(profile, 'secret.txt'), 'of another');
  const paths = `"Desktop"="C:\\\\users\\\\${USER}\\\\Desktop"\n"Other"="C:\\\\users\\\\${USER}s"\n`;
  const key = `\n[Software\\\\Shell] 1700000000\n#time=1da1a2b3c4d5e6f\n${paths}`;
  writeFileSync(join(place.plain, 'system.reg'), key, { flag: 'a' });
  await addBase({ name: 'default', from: place.plain, wine: () => place.wine, env: place.env });
  const folder = await create(place, 'p');
  const below = await resolveBelow({ base: 'default@1', layers: [] }, place.env);
  rmSync(join(folder, 'drive_c/users'), { recursive: true, force: true });
  await giveProfile(folder, below, { ...place.env, HOME: home }, 'eve');
  const eve = join(folder, 'drive_c/users/eve');
  assert.deepEqual(readdirSync(eve).sort(), ['Desktop', 'Music', 'Temp']);
  assert.equal(readlinkSync(join(eve, 'Desktop')), home);
  assert.equal(readlinkSync(join(eve, 'Music')), join(home, 'Music'));
  const { keys } = parseHive(readFileSync(join(folder, 'system.reg')));
  const shell = keys.get('software\\shell')?.values.values() ?? [];
  assert.deepEqual(Object.fromEntries([...shell].map(({ name, data }) => [name, data])), {
    Desktop: '"C:\\\\users\\\\eve\\\\Desktop"',
    Other: `"C:\\\\users\\\\${USER}s"`,
  });
});

test('an installer becomes a layer: what it changed, without copies and noise', {
  skip,
}, async (t) => {
  const place = await withBase(tempDir(t));
  const before = await digestAt(findBase('default', winePlaces(place.env)).path);
  const setup = installer(
    place,
    'setup',
    `mkdir "$C/Program Files/App"; echo app >"$C/Program Files/App/app.exe"
echo "$1" >"$C/Program Files/App/flag"
rm "$C/Program Files/readme.txt"
cat "$C/windows/system32/kernel32.dll" >"$C/copy"; cat "$C/copy" >"$C/windows/system32/kernel32.dll"; rm "$C/copy"
echo junk >"$C/windows/temp/setup.log"; echo junk >"$U/Temp/x.tmp"
key Installed yes`,
  );
  const recorded = await record(place, 'app', [setup, '/S']);
  const layer = join(place.root, 'layers/app');
  assert.equal(recorded.path, layer);
  assert.equal(readFileSync(join(layer, 'drive_c/Program Files/App/flag'), 'utf8'), '/S\n');
  assert.equal(existsSync(join(layer, 'drive_c/windows/system32/kernel32.dll')), false);
  assert.equal(existsSync(join(layer, 'drive_c/windows/temp/setup.log')), false);
  assert.equal(existsSync(join(layer, 'drive_c/users', USER, 'Temp/x.tmp')), false);
  assert.equal(recorded.keys, 1);
  assert.ok(recorded.dropped.files >= 1);
  const manifest = JSON.parse(readFileSync(join(layer, 'layer.json'), 'utf8'));
  assert.deepEqual(manifest.command, [setup, '/S']);
  assert.equal(manifest.base, 'default@1');
  assert.equal(await digestAt(findBase('default', winePlaces(place.env)).path), before);
  assert.deepEqual(readdirSync(place.root).sort(), ['bases', 'layers']);

  await assert.rejects(record(place, 'app', [setup]), /layer app: is there already/);
  const failing = installer(place, 'failing', 'echo x >"$C/x"; exit 7');
  const failed = await record(place, 'failed', [failing]);
  assert.deepEqual([failed.path, failed.exitCode], [undefined, 7]);
  assert.deepEqual(readdirSync(join(place.root, 'layers')), ['app']);
  const kept = await record(place, 'failed', [failing], { keepFailed: true });
  assert.equal(readFileSync(join(kept.path as string, 'drive_c/x'), 'utf8'), 'x\n');
});

test('a layer goes into a prefix and out again; what the prefix made of it stays', {
  skip,
}, async (t) => {
  const place = await withBase(tempDir(t));
  const setup = installer(
    place,
    'setup',
    `mkdir "$C/App"; echo one >"$C/App/one"; echo two >"$C/App/two"; echo three >"$C/App/three"
rm "$C/Program Files/readme.txt"; key A layer; key B layer`,
  );
  await record(place, 'app', [setup]);
  const folder = await create(place, 'p');
  await putLayer('p', 'app', undefined, place.env);
  assert.deepEqual(keysOf(folder), { A: 'layer', B: 'layer' });
  await assert.rejects(putLayer('p', 'app', undefined, place.env), /has the layer app already/);
  await inPrefix(
    place,
    folder,
    `[ "$(cat "$C/App/one")" = one ] || exit 1
[ ! -e "$C/Program Files/readme.txt" ] || exit 2
echo mine >"$C/App/two"; rm "$C/App/three"; key A own`,
  );
  assert.equal(readFileSync(join(folder, 'drive_c/App/two'), 'utf8'), 'mine\n');
  await takeLayer('p', 'app', place.env);
  assert.deepEqual(readdirSync(join(folder, 'drive_c/App')), ['two']);
  assert.deepEqual(keysOf(folder), { A: 'own' });
  await inPrefix(
    place,
    folder,
    '[ "$(cat "$C/Program Files/readme.txt")" = "of the base" ] || exit 1; [ ! -e "$C/App/one" ] || exit 2',
  );
  await assert.rejects(takeLayer('p', 'app', place.env), /has no layer app: it has none/);
});

test('taking one of two layers leaves the other, and an untouched prefix as it was', {
  skip,
}, async (t) => {
  const place = await withBase(tempDir(t));
  for (const name of ['a', 'b']) {
    const script = `mkdir -p "$C/Shared"; echo ${name} >"$C/Shared/${name}"; key ${name} 1`;
    await record(place, name, [installer(place, `setup-${name}`, script)]);
  }
  const folder = await create(place, 'p');
  const plain = readFileSync(join(folder, 'system.reg'));
  await putLayer('p', 'a', undefined, place.env);
  assert.deepEqual((await putLayer('p', 'b', 'a', place.env)).layers, ['a', 'b']);
  await inPrefix(place, folder, '[ "$(ls "$C/Shared" | tr "\\n" " ")" = "a b " ]');
  await takeLayer('p', 'a', place.env);
  assert.deepEqual(keysOf(folder), { b: '1' });
  await inPrefix(place, folder, '[ "$(ls "$C/Shared")" = b ]');
  await takeLayer('p', 'b', place.env);
  assert.deepEqual(readFileSync(join(folder, 'system.reg')), plain);
  assert.ok(isEmpty(harvest(folder)));
  assert.deepEqual(readdirSync(join(folder, 'drive_c')), []);
});

test('putting a layer drops nothing of the prefix, also where it brings the same', {
  skip,
}, async (t) => {
  const place = await withBase(tempDir(t));
  await record(place, 'app', [installer(place, 'setup', 'echo same >"$C/same"')]);
  const folder = await create(place, 'p');
  writeOwn(folder, 'same', 'same\n');
  await putLayer('p', 'app', undefined, place.env);
  assert.equal(readFileSync(join(folder, 'drive_c/same'), 'utf8'), 'same\n');
});

test('the profile of a new prefix is no part of what is recorded in it', { skip }, async (t) => {
  const place = await withBase(tempDir(t));
  const env = { ...place.env, USER: 'eve' };
  const script = '[ -d "$C/users/eve/Temp" ] || exit 1; echo app >"$C/users/eve/app"; key App yes';
  const done = await record(place, 'app', [installer(place, 'setup', script)], { env });
  assert.equal(done.exitCode, 0);
  assert.deepEqual(readdirSync(join(done.path as string, 'drive_c/users/eve')), ['app']);
  assert.equal(done.keys, 1);
});

test('recording over a prefix sees its own changes, and keeps them out of the layer', {
  skip,
}, async (t) => {
  const place = await withBase(tempDir(t));
  const folder = await create(place, 'p');
  await inPrefix(place, folder, 'echo own >"$C/own"; key Own yes');
  const script = '[ "$(cat "$C/own")" = own ] || exit 9; echo plug >"$C/plug"; key Plug yes';
  const done = await record(place, 'plug', [installer(place, 'plug', script)], { prefix: 'p' });
  assert.equal(done.exitCode, 0);
  assert.deepEqual(readdirSync(join(done.path as string, 'drive_c')), ['plug']);
  await putLayer('p', 'plug', undefined, place.env);
  assert.deepEqual(keysOf(folder), { Own: 'yes', Plug: 'yes' });
});

test('what is stood on stays, unless it is forced', { skip }, async (t) => {
  const place = await withBase(tempDir(t));
  const { env } = place;
  await record(place, 'app', [installer(place, 'setup', 'echo x >"$C/x"')]);
  const folder = await create(place, join(place.folder, 'elsewhere'), ['app']);
  await assert.rejects(
    removeLayer('app', false, env),
    /layer app: is used by prefix \/.*elsewhere/,
  );
  await assert.rejects(
    removeBase('default', false, env),
    /is used by prefix .*elsewhere, layer app/,
  );
  const below = await resolveBelow({ base: 'default@1', layers: ['app'] }, env);
  const session = await startSession({ folder, below, wine: place.wine, env, quiet: true });
  await assert.rejects(removePrefix(folder, env), /Wine runs in it/);
  await assert.rejects(putLayer(folder, 'app', undefined, env), /Wine runs in it/);
  const up = usageOf(winePlaces(env));
  await session.stop();
  // The mount shows the base as well: it must not be counted.
  assert.ok((up.prefixes[0]?.bytes ?? 0) < (up.bases[0]?.bytes ?? 0) + 65536);
  await removePrefix(folder, env);
  assert.equal(existsSync(folder), false);
  await removeLayer('app', false, env);
  assert.deepEqual(await removeBase('default', false, env), ['default@1']);
  assert.deepEqual(await listLibrary(winePlaces(env)), {
    root: place.root,
    bases: [],
    layers: [],
    prefixes: [],
  });
});

test('a layer that is gone from the library can be taken out of a prefix', { skip }, async (t) => {
  const place = await withBase(tempDir(t));
  const { env } = place;
  await record(place, 'app', [installer(place, 'setup', 'echo x >"$C/x"; key App 1')]);
  const folder = await create(place, 'p', ['app']);
  await removeLayer('app', true, env);
  await assert.rejects(inPrefix(place, folder, 'true'), /layer app: not found/);
  assert.deepEqual((await takeLayer('p', 'app', env)).layers, []);
  assert.deepEqual(keysOf(folder), {});
  await inPrefix(place, folder, '[ ! -e "$C/x" ]');
});

test('a prefix on which another one stands is not removed', { skip }, async (t) => {
  const place = await withBase(tempDir(t));
  const { env } = place;
  const lower = await create(place, 'lower');
  const upper = await create(place, 'upper', [join(lower, 'drive_c')]);
  await assert.rejects(removePrefix('lower', env), /prefix lower: is used by prefix upper/);
  await removePrefix(upper, env);
  await removePrefix('lower', env);
});

test('names by which files are told from folders are nobody’s', async (t) => {
  const place = makePlace(tempDir(t));
  for (const name of ['a.erofs', 'a.erofs.objects']) {
    assert.throws(
      () => findLayer(name, winePlaces(place.env)),
      /no \.erofs or \.objects at the end/,
    );
  }
});

test('a recording holds what it stands on, and what a killed one left is taken down', {
  skip,
}, async (t) => {
  const place = await withBase(tempDir(t));
  const { env } = place;
  const places = winePlaces(env);
  const live = openStage(places);
  const recording = join(live.folder, 'prefix');
  renameSync(await create(place, join(place.folder, 'p')), recording);
  await assert.rejects(removeBase('default', false, env), /is used by prefix of a recording/);
  const killed = join(place.root, '.tmp-killed/prefix');
  mkdirSync(join(killed, '..'));
  renameSync(recording, killed);
  live.close();
  const below = await resolveBelow({ base: 'default@1', layers: [] }, env);
  await startSession({ folder: killed, below, wine: place.wine, env, quiet: true });
  openStage(places).close();
  assert.ok(existsSync(killed));
  // As if whoever recorded had gone: nobody has the lock of its session.
  const locks = readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === join(killed, '.varve/session');
    } catch {
      return false;
    }
  });
  for (const fd of locks) closeSync(Number(fd));
  await record(place, 'next', [installer(place, 'setup', 'echo x >"$C/x"')]);
  assert.deepEqual(readdirSync(place.root).sort(), ['bases', 'elsewhere', 'layers']);
});

test('what a killed command left in the stage goes, what is in use stays', (t) => {
  const place = makePlace(tempDir(t));
  const places = winePlaces(place.env);
  const live = openStage(places);
  const dead = join(place.root, '.tmp-dead');
  mkdirSync(join(dead, 'prefix/drive_c'), { recursive: true });
  const next = openStage(places);
  assert.equal(existsSync(dead), false);
  assert.ok(existsSync(live.folder));
  live.close();
  next.close();
  assert.deepEqual(readdirSync(place.root), []);
});

test('temporary files are dropped from the folders of a layer alone, never through a link', {
  skip,
}, async (t) => {
  const place = await withBase(tempDir(t));
  const outside = join(place.folder, 'outside/Temp');
  mkdirSync(outside, { recursive: true });
  writeFileSync(join(outside, 'precious'), '');
  const script = `rm -rf "$U"; mkdir -p "$U/AppData"
ln -s ${join(place.folder, 'outside')} "$U/AppData/Local"; ln -s ${outside} "$U/Temp"`;
  await record(place, 'evil', [installer(place, 'setup', script)]);
  assert.deepEqual(readdirSync(outside), ['precious']);
});

test('what a person names as an installer is given to the program that runs it', (t) => {
  const folder = tempDir(t);
  for (const name of ['app.msi', 'Setup.EXE', 'x.bat']) writeFileSync(join(folder, name), '');
  const z = `Z:${folder.replaceAll('/', '\\')}\\`;
  const rows: [string[], string[]][] = [
    [
      ['app.msi', '/qn'],
      ['msiexec', '/i', `${z}app.msi`, '/qn'],
    ],
    [
      ['Setup.EXE', '/S'],
      [`${folder}/Setup.EXE`, '/S'],
    ],
    [
      ['x.bat', 'a b'],
      ['cmd', '/c', `${z}x.bat`, 'a b'],
    ],
    [['C:\\x.msi'], ['msiexec', '/i', 'C:\\x.msi']],
    [['winecfg'], ['winecfg']],
    [
      ['reg', 'add', 'HKCU\\X'],
      ['reg', 'add', 'HKCU\\X'],
    ],
  ];
  assert.deepEqual(
    windowsCommand(['wine', 'a.exe', '/S'], folder),
    windowsCommand(['a.exe', '/S'], folder),
  );
  for (const [given, wanted] of rows) assert.deepEqual(windowsCommand(given, folder), wanted);
});

test('own files of a prefix count once, shared ones where they are', async (t) => {
  const place = await withBase(tempDir(t));
  const folder = await create(place, 'p');
  await create(place, 'q');
  writeOwn(folder, 'big', 'x'.repeat(300_000));
  linkSync(join(folder, 'drive_c/big'), join(folder, 'drive_c/again'));
  const { prefixes, bases, bytes, sharedBytes, unsharedBytes } = usageOf(winePlaces(place.env));
  const [p, q] = prefixes;
  assert.ok(p !== undefined && q !== undefined);
  const more = p.bytes - q.bytes;
  assert.ok(more >= 300_000 && more < 400_000, `${more}`);
  assert.equal(bases[0]?.users, 2);
  assert.equal(sharedBytes, bases[0]?.bytes);
  assert.equal(bytes, p.bytes + q.bytes + sharedBytes);
  assert.equal(unsharedBytes, p.bytes + q.bytes + 2 * sharedBytes);
});

test('the user is called as Wine calls him', () => {
  assert.equal(userName({ USER: 'eve' }), 'eve');
  assert.equal(userName({ USER: 'DOMAIN\\eve' }), 'eve');
  assert.equal(userName({}), userInfo().username);
});
