// `varve diff` as a person or a script uses it: its forms, what it refuses, prune, and `varve why` over stacks that are not mounted.
// Under test: src/cli/{diff*,why}.ts, src/report/{name-status,outline,stat}.ts, on plain directories; the kernel mounts one.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { run as runCommand } from '../overlay/stack.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { type Cli, cliIn } from './cli.js';

const TIME = 1_000_000_000;

interface Place extends Cli {
  readonly at: (path: string) => string;
  /** Makes a file with a time of its own, or a directory (`d/`), or a symlink (`a -> b`). */
  make(path: string, text?: string): void;
}

const stack = 'lowerdir=low,upperdir=up,workdir=work';

function place(t: TestContext): Place {
  const cli = cliIn(tempDir(t));
  const at = (path: string): string => join(cli.folder, path);
  for (const name of ['low', 'up', 'work']) mkdirSync(at(name));
  return {
    ...cli,
    at,
    make: (path, text = path) => {
      const [name = '', target] = path.split(' -> ');
      if (name.endsWith('/')) mkdirSync(at(name), { recursive: true });
      else {
        mkdirSync(dirname(at(name)), { recursive: true });
        if (target !== undefined) {
          symlinkSync(target, at(name));
          lutimesSync(at(name), TIME, TIME);
        } else {
          writeFileSync(at(name), text);
          utimesSync(at(name), TIME, TIME);
        }
      }
    },
  };
}

/** Lower and upper with one change of each kind that needs no marks. */
function changes(t: TestContext): Place {
  const p = place(t);
  p.make('low/etc/a', 'one\n');
  p.make('low/etc/b', 'two\n');
  p.make('low/link -> etc/a');
  p.make('low/same', 'same bytes\n');
  p.make('low/time', 'time\n');
  p.make('low/type');
  p.make('up/etc/a', 'one\nmore\n');
  p.make('up/etc/b', 'two\n');
  chmodSync(p.at('up/etc/b'), 0o600);
  p.make('up/link -> etc/b');
  p.make('up/same', 'same bytes\n');
  p.make('up/time', 'time\n');
  utimesSync(p.at('up/time'), TIME + 1, TIME + 1);
  p.make('up/type/');
  p.make('up/new/ü\n"x"', 'new\n');
  for (const name of ['low', 'up', 'low/etc', 'up/etc']) utimesSync(p.at(name), TIME, TIME);
  return p;
}

test('name-status is as git writes it, and is the same each time', (t) => {
  const p = changes(t);
  const unmounted = 'lowerdir=low,upperdir=up';
  const expected = [
    'M\tetc/a',
    'M\tetc/b',
    'M\tlink',
    'A\tnew',
    'A\t"new/\\303\\274\\n\\"x\\""',
    'T\ttype',
    '',
  ].join('\n');
  const ran = p.run('diff', '--name-status', '-o', unmounted);
  assert.deepEqual(ran, { code: 0, out: expected, err: '' });
  assert.equal(p.run('diff', '--name-status', 'up', 'low').out, expected);
  const zero = p.run('diff', '--name-status', '-z', 'up', 'low').out;
  assert.equal(zero.split('\0')[9], 'new/ü\n"x"');
  const all = p.run('diff', '--name-status', '--all', 'up', 'low').out;
  assert.match(all, /^=\tsame$/m);
  assert.match(all, /^M?=?\ttime$/m);
});

test('paths limit what is told', (t) => {
  const p = changes(t);
  const told = (...paths: string[]): string =>
    p.run('diff', '--name-status', '-o', stack, '--', ...paths).out;
  assert.equal(told('etc'), 'M\tetc/a\nM\tetc/b\n');
  assert.equal(told('/etc/a', 'link/'), 'M\tetc/a\nM\tlink\n');
  assert.equal(told('et'), '');
  assert.equal(told('.'), told());
});

test('exit codes are those of git', (t) => {
  const p = changes(t);
  assert.equal(p.run('diff', '--exit-code', 'up', 'low').code, 1);
  assert.deepEqual(p.run('diff', '--quiet', 'up', 'low'), { code: 1, out: '', err: '' });
  assert.deepEqual(p.run('diff', '--quiet', 'up', 'up'), { code: 0, out: '', err: '' });
  assert.equal(p.run('diff', '--exit-code', '-o', stack, '--', 'same').code, 0);
});

test('the tree names sizes and what differs, and has colours only where they are wanted', (t) => {
  const p = changes(t);
  const { out } = p.run('diff', 'up', 'low');
  assert.match(out, /M a +4 B → 9 B +content$/m);
  assert.match(out, /M b +4 B +mode 0644 → 0600$/m);
  assert.match(out, /M link +target etc\/a → etc\/b$/m);
  assert.match(out, /A ü\\x0a"x" +4 B$/m);
  assert.match(out, /T type\/ +was a file, is a directory$/m);
  assert.match(out, /^6 changes: 2 added, 3 modified, 1 of another type; /m);
  assert.doesNotMatch(out, /\x1b/);
  assert.match(p.run('diff', '--color=always', 'up', 'low').out, /\x1b\[32mA new\/\x1b\[0m/);
});

test('stat tells bytes and totals', (t) => {
  const p = changes(t);
  const lines = p.run('diff', '--stat', 'up', 'low').out.split('\n');
  assert.match(lines[0] ?? '', /^ etc\/a +\| \+9 B -4 B \++-+$/);
  assert.match(lines[1] ?? '', /^ etc\/b +\| +0 mode 0644 → 0600$/);
  assert.equal(lines.at(-2), ' 6 changes, 13 B added(+), 12 B removed(-), 17 B in the upper');
});

test('json counts all and lists what is shown', (t) => {
  const p = changes(t);
  const document = JSON.parse(p.run('diff', '--json', 'up', 'low').out);
  assert.equal(document.version, 1);
  assert.deepEqual(
    document.changes.map((c: { path: string }) => c.path),
    ['etc/a', 'etc/b', 'link', 'new', 'new/ü\n"x"', 'type'],
  );
  assert.equal(document.summary.identicalBytes, 16);
});

test('an OCI layer has whiteouts, and appears when it is complete', {
  skip: requires({ root: true, features: ['overlayfs', 'tmpfs'], commands: ['tar'] }),
}, (t) => {
  const p = changes(t);
  p.make('low/gone');
  p.make('low/again/old');
  runCommand('mount', ['-t', 'tmpfs', 'none', p.at('up')]);
  for (const name of ['u', 'w', 'm']) mkdirSync(p.at(`up/${name}`));
  const options = `lowerdir=${p.at('low')},upperdir=${p.at('up/u')},workdir=${p.at('up/w')}`;
  runCommand('mount', ['-t', 'overlay', 'overlay', '-o', options, p.at('up/m')]);
  writeFileSync(p.at('up/m/new'), 'new');
  runCommand('sh', [
    '-c',
    `cd '${p.at('up/m')}' && rm -r gone again && mkdir again && cp -p again new2 2>/dev/null; cp new again/x`,
  ]);
  const names = (file: string): string[] =>
    spawnSync('tar', ['-tf', p.at(file)], { encoding: 'utf8' })
      .stdout.trim()
      .split('\n');

  assert.equal(p.run('diff', '--tar', 'layer.tar', '-q', 'up/m').code, 0);
  assert.deepEqual(names('layer.tar'), [
    './',
    '.wh.gone',
    'again/',
    'again/.wh..wh..opq',
    'again/x',
    'new',
  ]);
  assert.equal(p.run('diff', '--tar', 'again.tar', '-q', 'up/m').code, 0);
  assert.ok(readFileSync(p.at('layer.tar')).equals(readFileSync(p.at('again.tar'))));
  assert.equal(p.run('diff', '--tar', 'kernel.tar', '--kernel', '-q', 'up/m').code, 0);
  assert.deepEqual(names('kernel.tar'), ['./', 'again/', 'again/x', 'gone', 'new']);

  writeFileSync(p.at('up/m/.wh.x'), '');
  const refused = p.run('diff', '--tar', 'layer.tar', 'up/m');
  assert.deepEqual([refused.code, refused.out], [3, '']);
  assert.match(
    refused.err,
    /^varve: "\.wh\.x": in an OCI layer .*: write --kernel, or rename it\n$/,
  );
  assert.deepEqual(names('layer.tar').length, 6);
  assert.deepEqual(
    readdirSync(p.folder).filter((name) => name.startsWith('.varve')),
    [],
  );
  // A live mount is not pruned.
  const live = p.run('diff', '--prune', 'up/m');
  assert.equal(live.code, 5);
  runCommand('umount', [p.at('up/m')]);
});

test('whole trees: what the old one alone has was deleted', (t) => {
  const p = changes(t);
  p.make('low/dir/x', 'x');
  const told = p.run('diff', '--trees', '--name-status', 'low', 'up').out;
  assert.match(told, /^D\tdir\nD\tdir\/x$/m);
  assert.match(told, /^M\tetc\/a$/m);
  spawnSync('tar', ['-cf', p.at('up.tar'), '-C', p.at('up'), '.']);
  assert.equal(p.run('diff', '--trees', '--quiet', 'up', 'up.tar').code, 0);
});

test('prune drops what is identical, and tells what it would before', {
  skip: requires({ root: true }),
}, (t) => {
  const p = changes(t);
  p.make('low/copied/deep/f', 'f');
  p.make('up/copied/deep/f', 'f');
  p.make('up/etc/c', 'kept');
  const told = p.run('diff', '--prune', '-n', '-o', stack);
  assert.equal(told.code, 0);
  assert.match(
    told.out,
    /^copied\/\ncopied\/deep\/\ncopied\/deep\/f {2}1 B\nsame {2}11 B\ntime {2}5 B\n/,
  );
  assert.ok(existsSync(p.at('up/same')), 'a dry run drops nothing');
  const before = statSync(p.at('up')).mtimeMs;

  const kept = JSON.parse(
    p.run('diff', '--prune', '--keep-times', '--json', '-o', stack, '--', 'time', 'same').out,
  );
  assert.deepEqual([kept.files, kept.bytes, kept.kept.time], [1, 11, 1]);
  const done = JSON.parse(p.run('diff', '--prune', '--json', '-o', stack).out);
  assert.deepEqual([done.files, done.directories, done.bytes], [2, 2, 6]);
  assert.deepEqual(readdirSync(p.at('up')).sort(), ['etc', 'link', 'new', 'type']);
  assert.equal(statSync(p.at('up')).mtimeMs, before);
  assert.equal(JSON.parse(p.run('diff', '--prune', '--json', '-o', stack).out).files, 0);
});

test('what is wrong is said in one line', (t) => {
  const p = changes(t);
  const cases: [args: string[], code: number, text: RegExp][] = [
    [['diff'], 2, /no stack is named/],
    [['diff', '-o', stack, 'up'], 2, /write PATHs behind --/],
    [['diff', '-o', 'lowerdir=none,upperdir=up'], 3, /lowerdir: none/],
    [['diff', '--json', '--stat', 'up'], 2, /both go to standard output/],
    [['diff', '-z', 'up'], 2, /--null: goes with --name-status/],
    [['diff', '--color=pink', 'up'], 2, /one of auto, always, never/],
    [['diff', '--trees', 'up'], 2, /write OLD NEW/],
    [['diff', '--trees', '--tar', 'x.tar', 'low', 'up'], 2, /leave --trees out/],
    [['diff', '--prune', '--stat', 'up', 'low'], 2, /leave --stat out/],
    [
      ['diff', '--tar', 'none/x.tar', 'up', 'low'],
      3,
      /none\/x\.tar: cannot be written: no such file/,
    ],
  ];
  for (const [args, code, text] of cases) {
    const ran = p.run(...args);
    assert.equal(ran.code, code, `${args.join(' ')}: ${ran.err}`);
    assert.match(ran.err, text);
    assert.match(ran.err, /^varve: [^\n]+\n$/);
    assert.equal(ran.out, '');
  }
});

test('why tells the life of a path over a stack that is not mounted', (t) => {
  const p = place(t);
  p.make('low/f', 'old');
  p.make('mid/f', 'new bytes');
  p.make('up/f', 'new bytes');
  chmodSync(p.at('up/f'), 0o600);
  const options = `lowerdir=mid:low,upperdir=up,workdir=work`;
  const { out, code } = p.run('why', '--hash', '-o', options, 'f');
  assert.equal(code, 0);
  assert.match(out, /^f: from upper, /);
  assert.match(out, /lower 2 +added +file, 3 B, sha256:cba06b57/);
  assert.match(out, /lower 1 +changed +content, 9 B/);
  assert.match(out, /upper +changed +mode 0644 → 0600, 9 B/);
  const answer = JSON.parse(p.run('why', '--json', '-o', options, 'f').out);
  assert.deepEqual(
    answer.life.map((event: { role: string; status: string }) => `${event.role} ${event.status}`),
    ['lower 2 A', 'lower 1 M', 'upper M'],
  );
});
