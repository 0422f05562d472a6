// Command lines that are wrong: the one line that is printed, and the exit code.
// Under test: src/cli/main.ts, args.ts, overlayfs.ts, mount-helper.ts. Nothing is mounted.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parseArguments } from '../../src/cli/args.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { type Cli, cliIn } from './cli.js';

let folder: string;
let cli: Cli;
before(() => {
  folder = makeTempDir();
  for (const name of ['a', 'u', 'w', 'm']) mkdirSync(join(folder, name));
  cli = cliIn(folder);
});
after(() => removeTempDir(folder));

const rows: readonly (readonly [string, number, RegExp])[] = [
  ['', 2, /^varve - stack directories/],
  ['dance', 2, /^varve: unknown command dance: one of mount, run, try, pull, /],
  ['mount', 2, /^varve: something is missing: write: varve mount \[flags\] \[REF\] MOUNTPOINT\n$/],
  ['mount a b c', 2, /^varve: too many operands: write: /],
  [
    'mount -o lowerdir=a b c',
    2,
    /^varve: lowerdir: the layers of an image are its own: leave it out/,
  ],
  [
    'mount --lazy -o lowerdir=a m',
    2,
    /^varve: --lazy: means something for an image of a registry: /,
  ],
  ['pull localhost:1/Abc', 2, /^varve: .*lower case/],
  [
    'pull --limit-rate=fast localhost:1/a',
    2,
    /^varve: --limit-rate=fast: write a number of bytes, /,
  ],
  ['push none localhost:1/a', 3, /^varve: none: no such directory, image, archive or stack/],
  ['push --chunk-size=5000 a localhost:1/a', 2, /^varve: --chunk-size=5000: .* 4096/],
  ['pull --authfile=none localhost:1/a', 2, /^varve: --authfile: none: no such file/],
  ['top m', 6, /^varve: .*\/m: nothing is mounted there: see /],
  ['top --limit-rate=1M', 6, /^varve: nothing is being loaded: give --limit-rate to /],
  ['images --rm', 2, /^varve: --rm: no image is named/],
  ['evict ./m', 6, /^varve: \.\/m: not the mount point of a stack: /],
  ['evict --keep=much m', 2, /^varve: --keep=much: write a number of bytes, /],
  ['detach m', 6, /^varve: .*\/m: not a varve mount: /],
  ['top --interval=0', 2, /^varve: --interval=0: must be a number of seconds/],
  ['mount --dance m', 2, /^varve: unknown flag --dance: see --help/],
  ['mount -x m', 2, /^varve: unknown flag -x: /],
  ['mount -o', 2, /^varve: -o needs a value \(OPTIONS\)/],
  ['mount --json=1 m', 2, /^varve: --json takes no value/],
  ['mount m', 2, /^varve: lowerdir: missing: /],
  ['mount -o lowerdir=a,dance m', 2, /^varve: unknown option: dance: /],
  [
    'mount --backend=moon -o lowerdir=a m',
    2,
    /^varve: --backend=moon: must be one of auto, fuse, kernel/,
  ],
  ['mount -o lowerdir=none m', 3, /^varve: lowerdir: none: no such directory: create it/],
  ['mount -o lowerdir=a none', 3, /^varve: mount point: none: no such directory/],
  ['mount -o lowerdir=a,upperdir=u m', 2, /^varve: workdir: missing/],
  ['umount m', 6, /^varve: .*\/m: not a varve mount: /],
  ['umount none m', 6, /^varve: .*none: not a varve mount.*\nvarve: .*\/m: not a varve mount/],
  ['status m', 6, /^varve: .*\/m: not a varve mount: `varve status` lists them/],
  ['why a', 6, /^varve: a: not in a stacked mount/],
  ['completion csh', 2, /^varve: completion: csh: one of bash, zsh, fish/],
  ['help dance', 2, /^varve: no command dance: one of /],
  ['fuse-overlayfs', 1, /^fuse-overlayfs: no mountpoint specified\n$/],
  ['fuse-overlayfs -o lowerdir=none m', 1, /^fuse-overlayfs: lowerdir: none: no such directory/],
  ['fuse-overlayfs -o lowerdir=a,dance m', 1, /^fuse-overlayfs: unknown option: dance/],
  ['mount.fuse varve', 1, /^mount.fuse.varve: usage: /],
  ['mount.fuse varve m -o lowerdir=a,dance', 1, /^mount.fuse.varve: unknown option: dance/],
  ['mount.fuse varve m -o lowerdir=none', 32, /^mount.fuse.varve: lowerdir: none: no such/],
];

for (const [line, code, message] of rows) {
  test(`varve ${line}`, () => {
    const ran = cli.run(...line.split(' ').filter((word) => word !== ''));
    assert.match(ran.err, message);
    assert.equal(ran.code, code);
    assert.equal(ran.out, '');
  });
}

test('what is asked for goes to stdout, with code 0', () => {
  for (const line of [
    '--help',
    '-h',
    'help',
    'help mount',
    'mount --help',
    'umount -h',
    '--version',
  ]) {
    const ran = cli.run(...line.split(' '));
    assert.equal(ran.code, 0, line);
    assert.equal(ran.err, '', line);
    assert.match(ran.out, /^varve/, line);
  }
  assert.equal(cli.run('status').code, 0);
  assert.deepEqual(mountsHere(), []);
});

/** Mounts of this test; others on the machine are listed as well. */
function mountsHere(): unknown[] {
  const all = JSON.parse(cli.run('status', '--json').out) as { mountpoint: string }[];
  return all.filter((mount) => mount.mountpoint.startsWith(folder));
}

test('tools find the version of fuse-overlayfs', () => {
  for (const flag of ['--version', '-V']) {
    const ran = cli.run('fuse-overlayfs', flag);
    assert.equal(ran.code, 0);
    assert.match(ran.out, /^fuse-overlayfs: version 1\.\d+/);
    assert.match(ran.out, /\nusing FUSE kernel interface version 7\.\d+\n/);
  }
});

test('mount.fuse.varve -f checks, and mounts nothing', () => {
  const ran = cli.run(
    'mount.fuse',
    'varve',
    'm',
    '-f',
    '-n',
    '-s',
    '-v',
    '-o',
    'rw,noauto,lowerdir=a',
  );
  assert.deepEqual([ran.code, ran.err], [0, '']);
  assert.deepEqual(mountsHere(), []);
});

test('flags in all their forms', () => {
  const flags = [
    { name: 'options', short: 'o', value: 'X', many: true, help: '' },
    { name: 'force', short: 'f', help: '' },
    { name: 'lazy', short: 'l', help: '' },
  ];
  const given = parseArguments(
    ['-o', 'a', '-ob', '--options=c', '--options', 'd', '-lf', 'x', '-', '--', '-o'],
    flags,
  );
  assert.deepEqual(given.values('options'), ['a', 'b', 'c', 'd']);
  assert.equal(given.value('options'), 'd');
  assert.deepEqual(given.operands, ['x', '-', '-o']);
  assert.ok(given.has('lazy') && given.has('force'));
  assert.deepEqual(parseArguments(['-flo', 'v'], flags).values('options'), ['v']);
});
