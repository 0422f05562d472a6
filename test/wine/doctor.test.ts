import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { drivesOf } from '../../src/wine/doctor/drives.js';
import { isolateFiles } from '../../src/wine/doctor/isolate.js';
import { outwardLinks, withUnion } from '../../src/wine/doctor/links.js';
import { menuFiles, moveAway } from '../../src/wine/doctor/menus.js';
import { registryLinks, stateFindings } from '../../src/wine/doctor/state.js';
import { fingerprint } from '../clients/wine-fixtures.js';
import { tempDir } from '../support/temp.js';
import { makeLayeredPrefix, makePlainPrefix, PROFILE_LINKS, writeFiles } from './prefixes.js';

const euid = process.geteuid?.() ?? 0;
const down = { layered: true, up: false, euid };

test('links of the profile are found in the base, with what else leads out', async (t) => {
  const folder = tempDir(t);
  const base = join(folder, 'base');
  const own = join(folder, 'prefix/drive_c');
  makePlainPrefix(base, join(folder, 'home'));
  mkdirSync(join(own, 'users/tester'), { recursive: true });
  symlinkSync('/usr/share/fonts', join(own, 'fonts'));
  symlinkSync('../../../etc', join(own, 'users/up'));
  symlinkSync('../users/Public', join(own, 'users/inside'));
  symlinkSync(join(own, 'users'), join(own, 'absolute-inside'));
  // A folder in place of one of the links: it is no link any more.
  mkdirSync(join(own, 'users/tester/Desktop'));
  const links = await withUnion([own, join(base, 'drive_c')], (union) =>
    outwardLinks(union, join(folder, 'prefix')),
  );
  assert.deepEqual(
    links.filter(({ profile }) => profile).map(({ path, below }) => [path, below]),
    PROFILE_LINKS.filter((name) => name !== 'Desktop').map((name) => [
      `users/tester/${name}`,
      true,
    ]),
  );
  assert.deepEqual(
    links.filter(({ profile }) => !profile).map(({ path, target }) => [path, target]),
    [
      ['fonts', '/usr/share/fonts'],
      ['users/up', '../../../etc'],
    ],
  );
});

test('isolation makes folders of the links in the own files, and leaves the base alone', async (t) => {
  const folder = tempDir(t);
  const base = join(folder, 'base');
  const prefix = join(folder, 'prefix');
  makePlainPrefix(base, join(folder, 'home'));
  makeLayeredPrefix(prefix);
  chmodSync(join(base, 'drive_c/users/tester'), 0o710);
  const before = fingerprint(base);
  // One link has been made anew in the prefix itself.
  mkdirSync(join(prefix, 'drive_c/users/tester'), { recursive: true });
  symlinkSync('/elsewhere', join(prefix, 'drive_c/users/tester/Music'));
  // A killed run's.
  mkdirSync(join(prefix, 'drive_c/users/tester/.varve-isolate'));
  const lowers = [join(base, 'drive_c')];
  const { links, drives } = await isolateFiles(prefix, lowers);
  assert.deepEqual(drives, []);
  assert.equal(links.length, PROFILE_LINKS.length);
  for (const name of PROFILE_LINKS) {
    const path = join(prefix, 'drive_c/users/tester', name);
    assert.ok(lstatSync(path).isDirectory(), name);
    assert.deepEqual(readdirSync(path), []);
  }
  const tester = join(prefix, 'drive_c/users/tester');
  assert.deepEqual(readdirSync(tester).sort(), [
    'AppData',
    'Desktop',
    'Documents',
    'Downloads',
    'Music',
    'Pictures',
    'Videos',
  ]);
  // What had to be made on the way looks as in the base.
  assert.equal(
    statSync(join(tester, 'AppData/Roaming')).mode,
    statSync(join(base, 'drive_c/users/tester/AppData/Roaming')).mode,
  );
  assert.deepEqual(fingerprint(base), before);
  const again = await isolateFiles(prefix, lowers);
  assert.deepEqual(again.links, []);
  assert.ok(existsSync(join(prefix, 'dosdevices/z:')));
});

test('isolation takes drives of the host away when it is told to', async (t) => {
  const prefix = tempDir(t);
  makeLayeredPrefix(prefix);
  symlinkSync('/dev/ttyS0', join(prefix, 'dosdevices/com1'));
  symlinkSync('/dev/sr0', join(prefix, 'dosdevices/d::'));
  symlinkSync('/media', join(prefix, 'dosdevices/d:'));
  symlinkSync('../drive_c/users', join(prefix, 'dosdevices/e:'));
  assert.deepEqual(
    drivesOf(prefix).map(({ name, outside }) => [name, outside]),
    [
      ['c:', false],
      ['com1', false],
      ['d:', true],
      ['d::', false],
      ['e:', false],
      ['z:', true],
    ],
  );
  const { drives } = await isolateFiles(prefix, [], { drives: true });
  assert.deepEqual(drives, ['d:', 'z:']);
  assert.deepEqual(readdirSync(join(prefix, 'dosdevices')).sort(), ['c:', 'com1', 'd::', 'e:']);
});

test('isolation follows no link on its way', async (t) => {
  const folder = tempDir(t);
  const prefix = join(folder, 'prefix');
  const outside = join(folder, 'outside');
  makeLayeredPrefix(prefix);
  mkdirSync(join(outside, 'tester'), { recursive: true });
  symlinkSync('/elsewhere', join(outside, 'tester/Desktop'));
  symlinkSync(outside, join(prefix, 'drive_c/users'));
  const { links } = await isolateFiles(prefix, []);
  assert.deepEqual(links, []);
  assert.equal(readlinkSync(join(outside, 'tester/Desktop')), '/elsewhere');
});

test('menu entries of one prefix are told from those of others', (t) => {
  const folder = tempDir(t);
  const env = { HOME: join(folder, 'home') };
  const prefix = join(folder, 'prefix');
  const entry = (where: string, icon: string): string =>
    `[Desktop Entry]\nExec=env WINEPREFIX="${where}" wine C:\\\\\\\\a.lnk\nIcon=${icon}\n`;
  const menu = (name: string): string =>
    `<Menu><Directory>wine-wine.directory</Directory><Directory>wine-Programs-${name}.directory</Directory>` +
    `<Include><Filename>wine-Programs-${name}-${name}.desktop</Filename></Include></Menu>`;
  writeFiles(env.HOME, {
    '.local/share/applications/wine/Programs/Ours/Ours.desktop': entry(prefix, 'F830_ours.0'),
    '.local/share/applications/wine/Programs/Theirs/Theirs.desktop': entry(
      `${prefix}2`,
      'F830_theirs.0',
    ),
    '.local/share/applications/wine-extension-our.desktop': entry(prefix, 'F830_theirs.0'),
    '.local/share/applications/editor.desktop': '[Desktop Entry]\nExec=editor\n',
    '.local/share/desktop-directories/wine-wine.directory': '',
    '.local/share/desktop-directories/wine-Programs-Ours.directory': '',
    '.local/share/desktop-directories/wine-Programs-Theirs.directory': '',
    '.local/share/icons/hicolor/32x32/apps/F830_ours.0.png': '',
    '.local/share/icons/hicolor/32x32/apps/F830_theirs.0.png': '',
    '.local/share/mime/packages/x-wine-extension-our.xml': '',
    '.local/share/mime/packages/x-wine-extension-their.xml': '',
    '.config/menus/applications-merged/wine-Programs-Ours-Ours.menu': menu('Ours'),
    '.config/menus/applications-merged/wine-Programs-Theirs-Theirs.menu': menu('Theirs'),
    'Desktop/Ours.desktop': entry(prefix, 'F830_ours.0'),
  });
  const files = menuFiles([prefix], env);
  const below = (name: string): string => join(env.HOME, name);
  const ours = [
    '.config/menus/applications-merged/wine-Programs-Ours-Ours.menu',
    '.local/share/applications/wine-extension-our.desktop',
    '.local/share/applications/wine/Programs/Ours/Ours.desktop',
    '.local/share/desktop-directories/wine-Programs-Ours.directory',
    '.local/share/icons/hicolor/32x32/apps/F830_ours.0.png',
    '.local/share/mime/packages/x-wine-extension-our.xml',
    'Desktop/Ours.desktop',
  ];
  assert.deepEqual(files, ours.map(below));
  const moved = moveAway(files, join(prefix, 'menu-entries'), env);
  assert.deepEqual(
    moved,
    ours.map((name) => join(prefix, 'menu-entries', name)),
  );
  assert.ok(moved.every((path) => existsSync(path)));
  assert.deepEqual(menuFiles([prefix], env), []);
  const theirs = [
    '.config/menus/applications-merged/wine-Programs-Theirs-Theirs.menu',
    '.local/share/applications/wine/Programs/Theirs/Theirs.desktop',
    '.local/share/desktop-directories/wine-Programs-Theirs.directory',
    '.local/share/desktop-directories/wine-wine.directory',
    '.local/share/icons/hicolor/32x32/apps/F830_theirs.0.png',
  ];
  assert.deepEqual(menuFiles([`${prefix}2`], env), theirs.map(below));
});

test('a sound prefix has no findings; a plain one of Wine neither', (t) => {
  const folder = tempDir(t);
  makeLayeredPrefix(join(folder, 'layered'));
  makePlainPrefix(join(folder, 'plain'), folder);
  assert.deepEqual(stateFindings(join(folder, 'layered'), down), []);
  assert.deepEqual(stateFindings(join(folder, 'plain'), { ...down, layered: false }), []);
});

/** A way in which a prefix goes wrong, and what doctor calls it. */
const FAULTS: readonly (readonly [string, string, (prefix: string) => void])[] = [
  [
    'a .reg file is a symlink',
    'registry-link',
    (prefix) => {
      renameSync(join(prefix, 'user.reg'), join(prefix, 'elsewhere.reg'));
      symlinkSync('elsewhere.reg', join(prefix, 'user.reg'));
    },
  ],
  [
    'a .reg file has a second name',
    'registry-link',
    (prefix) => linkSync(join(prefix, 'system.reg'), join(prefix, 'elsewhere.reg')),
  ],
  [
    'the own files were not moved back',
    'upper-left',
    (prefix) => renameSync(join(prefix, 'drive_c'), join(prefix, '.varve/upper')),
  ],
  [
    'files were written where drive_c would be mounted',
    'two-uppers',
    (prefix) => {
      renameSync(join(prefix, 'drive_c'), join(prefix, '.varve/upper'));
      writeFiles(prefix, { 'drive_c/a': '', '.varve/upper/b': '' });
    },
  ],
  [
    'a session was not ended',
    'session-left',
    (prefix) => writeFileSync(join(prefix, '.varve/session.json'), '{}'),
  ],
  [
    'wineserver was killed while it saved',
    'registry-temporary',
    (prefix) => writeFileSync(join(prefix, 'reg2b00.tmp'), ''),
  ],
  [
    'Wine ran without the layers',
    'builtins',
    (prefix) => {
      for (const path of ['drive_c', 'dosdevices']) rmSync(join(prefix, path), { recursive: true });
      makePlainPrefix(prefix, '/home');
      writeFileSync(join(prefix, '.update-timestamp'), 'disable');
    },
  ],
  [
    'Wine would update the prefix',
    'update-timestamp',
    (prefix) => writeFileSync(join(prefix, '.update-timestamp'), '1676758571\n'),
  ],
  [
    'drive c: is somewhere else',
    'drive-c',
    (prefix) => {
      rmSync(join(prefix, 'dosdevices/c:'));
      symlinkSync('/tmp', join(prefix, 'dosdevices/c:'));
    },
  ],
];

for (const [title, name, spoil] of FAULTS) {
  test(`found: ${title}`, (t) => {
    const prefix = tempDir(t);
    makeLayeredPrefix(prefix);
    spoil(prefix);
    const found = stateFindings(prefix, down);
    assert.deepEqual(
      found.map((finding) => finding.name),
      [name],
    );
    for (const path of found[0]?.paths ?? []) assert.ok(lstatSync(path), path);
  });
}

test('found: the prefix belongs to somebody else', (t) => {
  const prefix = tempDir(t);
  makeLayeredPrefix(prefix);
  const [finding] = stateFindings(prefix, { ...down, euid: euid + 1 });
  assert.equal(finding?.name, 'owner');
  assert.match(finding.what, new RegExp(`belongs to user ${euid}:`));
});

test('while drive_c is mounted only what holds then is looked for', (t) => {
  const prefix = tempDir(t);
  makeLayeredPrefix(prefix);
  mkdirSync(join(prefix, '.varve/upper'));
  writeFileSync(join(prefix, '.varve/session.json'), '{}');
  assert.deepEqual(stateFindings(prefix, { ...down, up: true }), []);
});

test('a linked .reg of a layer is named as such', (t) => {
  const base = tempDir(t);
  makePlainPrefix(base, '/home');
  linkSync(join(base, 'system.reg'), join(base, 'copy.reg'));
  const found = registryLinks(base, false);
  assert.deepEqual(
    found.map(({ name, paths }) => [name, paths]),
    [['layer-registry-link', [join(base, 'system.reg')]]],
  );
});
