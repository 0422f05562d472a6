// Two versions of a set of Debian packages as lowers, with what an administrator does in between: the upper goes over silently,
// and what both have changed is told. Takes whatever two versions apt's own configuration offers (a release, and its updates).

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { RebaseStack, type Scenario } from './rebase-stack.js';

const skip = requires({
  root: true,
  features: ['overlayfs', 'fuse', 'tmpfs'],
  commands: ['apt-get', 'dpkg-deb'],
});

/** Small packages that get updates often. */
const CANDIDATES = ['openssl', 'tzdata', 'libssl3', 'libxml2', 'libgnutls30'];

function command(cwd: string, line: readonly string[]): string {
  const [program = '', ...args] = line;
  const ran = spawnSync(program, args, { cwd, encoding: 'utf8', timeout: 120_000 });
  assert.equal(ran.status, 0, `${line.join(' ')}: ${ran.stderr}`);
  return ran.stdout;
}

/** Versions that apt offers, the oldest first. */
function versionsOf(name: string): string[] {
  const ran = spawnSync('apt-cache', ['madison', name], { encoding: 'utf8' });
  const versions = ran.stdout.split('\n').map((line) => line.split('|')[1]?.trim() ?? '');
  const older = (a: string, b: string): boolean =>
    spawnSync('dpkg', ['--compare-versions', a, 'lt', b]).status === 0;
  return [...new Set(versions)].filter(Boolean).sort((a, b) => (older(a, b) ? -1 : 1));
}

/** Downloads openssl, tzdata and what else is to be had in two versions, to `old` and `new`. */
function download(folder: string): string[] {
  for (const name of ['old', 'new']) mkdirSync(join(folder, name));
  const told: string[] = [];
  for (const name of CANDIDATES) {
    const versions = versionsOf(name);
    const [oldest, newest] = [versions.at(0), versions.at(-1)];
    const isNeeded = name === 'openssl' || name === 'tzdata';
    if (oldest === undefined || newest === undefined) continue;
    if (!isNeeded && (oldest === newest || told.length > 2)) continue;
    for (const [at, version] of [
      ['old', oldest],
      ['new', newest],
    ] as const) {
      command(join(folder, at), ['apt-get', 'download', '-qq', `${name}=${version}`]);
    }
    told.push(`${name} ${oldest} ${newest}`);
  }
  return told;
}

const unpack = (folder: string): string =>
  `for deb in ${folder}/*.deb; do dpkg-deb -x "$deb" .; done`;

describe('two versions of Debian packages', () => {
  test('local changes go over to the new version', { skip, timeout: 300_000 }, (t) => {
    const debs = tempDir(t);
    const told = download(debs);
    t.diagnostic(told.join(', '));
    assert.equal(readdirSync(join(debs, 'new')).length, told.length);
    const scenario: Scenario = {
      old: unpack(join(debs, 'old')),
      ours: `
        echo '# ours' >>etc/ssl/openssl.cnf
        echo secret >etc/ssl/private/key; chmod 600 etc/ssl/private/key
        chmod 750 usr/bin/openssl; chown 0:4 usr/share/zoneinfo/Etc/UTC
        rm usr/bin/c_rehash; rm -r usr/share/zoneinfo/Antarctica
        mv usr/share/zoneinfo/Europe usr/share/zoneinfo/Evropa; rm usr/share/zoneinfo/Evropa/Oslo
        mkdir -p usr/local/bin; echo tool >usr/local/bin/tool`,
      theirs: `find . -mindepth 1 -delete; ${unpack(join(debs, 'new'))}
        echo 'a zone that is new' >usr/share/zoneinfo/Europe/Newtown`,
    };
    const stack = new RebaseStack(t, scenario);
    const isChanged = (path: string): boolean =>
      spawnSync('cmp', ['-s', join(stack.at('old'), path), join(stack.at('new'), path)]).status !==
      0;
    const conflicts = ['usr/bin/c_rehash', 'etc/ssl/openssl.cnf'].filter(isChanged);
    const ran = stack.rebase();
    assert.deepEqual(
      ran.conflicts.filter((line) => !conflicts.some((path) => line.startsWith(path))),
      [],
    );
    const look = `
      tail -n1 etc/ssl/openssl.cnf; cat etc/ssl/private/key usr/local/bin/tool
      stat -c '%a' etc/ssl/private/key usr/bin/openssl; stat -c '%u:%g' usr/share/zoneinfo/Etc/UTC
      cmp usr/bin/openssl ${stack.at('new')}/usr/bin/openssl && echo new
      ls -d usr/bin/c_rehash usr/share/zoneinfo/Antarctica usr/share/zoneinfo/Europe 2>/dev/null || true
      diff -r ${stack.at('new')}/usr/share/zoneinfo/Europe usr/share/zoneinfo/Evropa || true
      diff -rq --no-dereference ${stack.at('new')} . | sed 's,${stack.at('new')}/*,NEW/,' |
        grep -v '[.]theirs' | sort`;
    assert.deepEqual(stack.shown(look), [
      ...['# ours', 'secret', 'tool', '600', '750', '0:4', 'new'],
      `Only in ${stack.at('new')}/usr/share/zoneinfo/Europe: Oslo`,
      ...['Files NEW/etc/ssl/openssl.cnf and ./etc/ssl/openssl.cnf differ'],
      ...['Only in ./etc/ssl/private: key', 'Only in ./usr/share/zoneinfo: Evropa'],
      ...['Only in ./usr: local'],
      ...['Only in NEW/usr/bin: c_rehash', 'Only in NEW/usr/share/zoneinfo: Antarctica'],
      'Only in NEW/usr/share/zoneinfo: Europe',
    ]);
    assert.equal(stack.misfits(), '');

    // And on: what one has removed and the next version has changed is told.
    stack.mounted('new', () => stack.shell('mnt', 'rm -r usr/share/doc/openssl; echo x >etc/motd'));
    stack.shell('.', 'rm -rf old; cp -a new old; echo x >new/usr/share/doc/openssl/NEWS');
    const next = stack.rebase();
    assert.deepEqual(next.conflicts, ['usr/share/doc/openssl: existence']);
    const there = 'ls -d usr/share/doc/openssl*; cat usr/share/doc/openssl.theirs/NEWS';
    assert.deepEqual(stack.shown(there), ['usr/share/doc/openssl.theirs', 'x']);
  });
});
