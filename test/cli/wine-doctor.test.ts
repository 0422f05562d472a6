import assert from 'node:assert/strict';
import { chmodSync, existsSync, lstatSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Finding } from '../../src/wine/doctor/finding.js';
import { fingerprint } from '../clients/wine-fixtures.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { makePlainPrefix, PROFILE_LINKS, writeFiles } from '../wine/prefixes.js';
import { type Cli, cliIn } from './cli.js';

interface Report {
  readonly machine: { readonly wines: readonly { readonly version: string }[] };
  readonly prefixes: readonly {
    readonly folder: string;
    readonly up: boolean;
    readonly layers: readonly string[];
    readonly findings: readonly Finding[];
    readonly done?: readonly string[];
  }[];
}

const skip = requires({ features: ['fuse'] });

/** A library with the prefix `work` over a handmade base, a home with a menu entry of it, and a stub of Wine. */
function setUp(folder: string): Cli & { prefix: string; base: string } {
  const cli = cliIn(folder);
  const library = join(folder, 'library');
  const base = join(library, 'bases/pristine/1');
  const prefix = join(library, 'prefixes/work');
  makePlainPrefix(base, join(folder, 'home'));
  writeFiles(prefix, {
    'drive_c/own.txt': 'own',
    '.varve/prefix.json': JSON.stringify({
      version: 1,
      base: 'pristine@1',
      follows: true,
      layers: [],
    }),
    '.update-timestamp': 'disable\n',
    'dosdevices/.keep': '',
  });
  symlinkSync('../drive_c', join(prefix, 'dosdevices/c:'));
  symlinkSync('/', join(prefix, 'dosdevices/z:'));
  writeFiles(folder, {
    'home/.local/share/applications/wine/App.desktop': `Exec=env WINEPREFIX="${prefix}" wine app\n`,
    'bin/wine': '#!/bin/sh\necho wine-99.0\n',
    'bin/wineserver': '#!/bin/sh\n',
  });
  for (const name of ['wine', 'wineserver']) chmodSync(join(folder, 'bin', name), 0o755);
  Object.assign(cli.env, {
    HOME: join(folder, 'home'),
    VARVE_WINE_DIR: library,
    VARVE_WINE: join(folder, 'bin/wine'),
  });
  for (const name of ['WINEPREFIX', 'WINEPREFIX_OVERLAYS', 'XDG_DATA_HOME', 'XDG_CONFIG_HOME']) {
    delete cli.env[name];
  }
  return { ...cli, prefix, base };
}

function reportOf(cli: Cli, ...args: string[]): { report: Report; code: number | null } {
  const { out, err, code } = cli.run('wine', 'doctor', '--json', ...args);
  assert.equal(err.replace(/^varve: .*looked at again.*\n/, ''), '');
  return { report: JSON.parse(out) as Report, code };
}

const namesOf = (report: Report): string[] =>
  (report.prefixes[0]?.findings ?? []).map(({ name }) => name);

test('what leads out of a prefix is found, and made its own by --fix', { skip }, (t) => {
  const cli = setUp(tempDir(t));
  const { prefix, base } = cli;
  const untouched = fingerprint(base);
  const first = reportOf(cli);
  assert.equal(first.code, 0);
  assert.equal(first.report.machine.wines[0]?.version, 'wine-99.0');
  assert.deepEqual(first.report.prefixes[0]?.layers, ['pristine@1']);
  assert.deepEqual(namesOf(first.report), ['profile-link', 'drive', 'menu-entry']);
  assert.equal(first.report.prefixes[0]?.findings[0]?.paths.length, PROFILE_LINKS.length);

  const fixed = reportOf(cli, '--fix', 'work');
  assert.equal(fixed.code, 0);
  assert.deepEqual(namesOf(fixed.report), ['drive']);
  assert.equal(fixed.report.prefixes[0]?.done?.length, PROFILE_LINKS.length + 1);
  for (const name of PROFILE_LINKS) {
    assert.ok(lstatSync(join(prefix, 'drive_c/users/tester', name)).isDirectory());
  }
  assert.ok(existsSync(join(prefix, 'menu-entries/.local/share/applications/wine/App.desktop')));
  assert.deepEqual(readdirSync(join(cli.folder, 'home/.local/share/applications/wine')), []);
  const overrides = /\[Software\\\\Wine\\\\DllOverrides\][^[]*"winemenubuilder.exe"=""/;
  assert.match(readFileSync(join(prefix, 'user.reg'), 'latin1'), overrides);
  assert.match(readFileSync(join(prefix, '.varve/registry.delta'), 'latin1'), /winemenubuilder/);
  assert.deepEqual(fingerprint(base), untouched);

  const closed = reportOf(cli, '--fix', '--no-z', 'work');
  assert.deepEqual(namesOf(closed.report), []);
  assert.ok(!existsSync(join(prefix, 'dosdevices/z:')));
  assert.ok(existsSync(join(prefix, 'dosdevices/c:')));
});

test('a plain prefix keeps its registry but for the one value', { skip }, (t) => {
  const cli = setUp(tempDir(t));
  const folder = join(cli.folder, 'plain');
  makePlainPrefix(folder, join(cli.folder, 'home'));
  const before = readFileSync(join(folder, 'user.reg'), 'latin1');
  const { report } = reportOf(cli, '--fix', './plain');
  assert.deepEqual(namesOf(report), ['drive']);
  const after = readFileSync(join(folder, 'user.reg'), 'latin1');
  assert.ok(after.startsWith(before));
  assert.match(after, /"winemenubuilder.exe"=""/);
  assert.ok(!existsSync(join(folder, '.varve')));
  assert.ok(existsSync(join(folder, 'drive_c/windows/system32/ntdll.dll')));
});

test('Wine that ran without the layers is found, and its builtins are dropped', { skip }, (t) => {
  const cli = setUp(tempDir(t));
  const system = join(cli.prefix, 'drive_c/windows/system32');
  for (const name of readdirSync(join(cli.base, 'drive_c/windows/system32'))) {
    writeFiles(system, { [name]: `${name} of Wine` });
  }
  writeFiles(system, { 'own.dll': 'not of Wine' });
  writeFiles(cli.prefix, { '.update-timestamp': '1676758571\n' });
  const found = reportOf(cli);
  assert.equal(found.code, 3);
  assert.deepEqual(namesOf(found.report).slice(0, 2), ['builtins', 'update-timestamp']);
  const fixed = reportOf(cli, '--fix', 'work');
  assert.equal(fixed.code, 0);
  assert.deepEqual(readdirSync(system), ['own.dll']);
  assert.equal(readFileSync(join(cli.prefix, '.update-timestamp'), 'latin1').trim(), 'disable');
  assert.equal(readFileSync(join(cli.prefix, 'drive_c/own.txt'), 'latin1'), 'own');
});

test('a prefix whose base is gone is told of, not refused', { skip }, (t) => {
  const cli = setUp(tempDir(t));
  writeFiles(cli.prefix, {
    '.varve/prefix.json': '{"version":1,"base":"lost@3","follows":true,"layers":[]}',
  });
  const { report, code } = reportOf(cli);
  assert.equal(code, 3);
  assert.equal(namesOf(report)[0], 'layer-missing');
  assert.match(report.prefixes[0]?.findings[0]?.what ?? '', /base lost@3: not found/);
});

test('the text names what to do; --quiet only the exit code', { skip }, (t) => {
  const cli = setUp(tempDir(t));
  const { out, code } = cli.run('wine', 'doctor', 'work');
  assert.equal(code, 0);
  assert.match(out, /^ {2}leak {3}folders of the profile are folders of the home/m);
  assert.match(out, /^ {9}--fix: each becomes a folder of the prefix/m);
  assert.match(out, /wine-99\.0/);
  assert.deepEqual(cli.run('wine', 'doctor', '-q', 'work'), { code: 0, out: '', err: '' });
});

const MISTAKES: readonly (readonly [readonly string[], number, RegExp])[] = [
  [['--fix'], 2, /^varve: --fix: name the prefix that is to be mended\n$/],
  [['--no-z', 'work'], 2, /^varve: --no-z: is about what --fix does: add --fix\n$/],
  [['nobody'], 6, /^varve: .*nobody: no prefix of Wine: .*\n$/],
  [['../up'], 6, /^varve: .*up: no prefix of Wine: .*\n$/],
  [['a b'], 2, /^varve: prefix "a b": not a name: .*\n$/],
];

test('mistakes are told in one line', { skip }, (t) => {
  const cli = setUp(tempDir(t));
  for (const [args, expected, message] of MISTAKES) {
    const { code, err } = cli.run('wine', 'doctor', ...args);
    assert.match(err, message);
    assert.equal(code, expected, err);
  }
});
