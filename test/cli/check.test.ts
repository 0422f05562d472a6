// `varve check`: lowers are changed while nothing is mounted; each change is listed, the mount shows what one would expect of it,
// and a stack that nobody touched is clean.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { MountReport } from '../../src/stack/status.js';
import { mountExt4 } from '../overlay/stack.js';
import { requires } from '../support/requires.js';
import { AT, must, O, sys } from '../support/sys.js';
import { tempDir } from '../support/temp.js';
import { type Cli, cliIn, MAIN } from './cli.js';

const skip = requires({ root: true, features: ['fuse', 'loop', 'ext4'], packages: ['e2fsprogs'] });

const STACK = 'lowerdir=top:base,upperdir=upper,workdir=work';

interface Report {
  readonly ok: boolean;
  readonly found: number;
  readonly harmless: number;
  readonly objects: number;
  readonly unverified: number;
  readonly misfits: readonly {
    readonly kind: string;
    readonly path: string;
    readonly message: string;
  }[];
}

interface Place extends Cli {
  at(path: string): string;
  mount(options?: string): void;
  umount(): void;
  /** What `varve check` finds, as `kind path`. */
  found(options?: string): string[];
}

/** A stack on an ext4 of its own, whose file handles the kernel can open. */
function place(t: { after(fn: () => void): void }): Place {
  const base = tempDir(t);
  mountExt4(join(base, 'disk'), join(base, 'image'), 32);
  const cli = cliIn(join(base, 'disk'));
  const at = (path: string): string => join(cli.folder, path);
  for (const name of ['base', 'top', 'upper', 'work', 'm']) mkdirSync(at(name));
  const succeed = (...args: string[]): void => {
    const ran = cli.run(...args);
    assert.equal(ran.code, 0, `varve ${args.join(' ')}: ${ran.err}`);
  };
  t.after(() => {
    cli.run('umount', '--force', 'm');
    spawnSync('umount', ['-l', join(base, 'disk')]);
  });
  return {
    ...cli,
    at,
    mount: (options = STACK) => succeed('mount', '--backend=fuse', '-o', options, 'm'),
    umount: () => succeed('umount', 'm'),
    found(options = STACK) {
      const ran = cli.run('check', '--json', '-o', options);
      const report = JSON.parse(ran.out) as Report;
      assert.equal(ran.code, report.ok ? 0 : 3);
      assert.equal(report.misfits.length, report.found + report.harmless);
      assert.equal(report.unverified, 0);
      return report.misfits.map(({ kind, path }) => `${kind} ${path}`).sort();
    },
  };
}

function write(path: string, text: string): void {
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, text);
}

/** Another file of the same name, as a package manager makes it. */
function replace(path: string, text: string): void {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

const METACOPY = `${STACK},metacopy=on`;

test('what was changed on a mount fits, and every kind of change to the lowers is listed', {
  skip,
}, (t) => {
  const p = place(t);
  for (const name of [
    'kept',
    'replaced',
    'gone',
    'moved',
    'w',
    'meta/same',
    'meta/gone',
    'meta/longer',
    'meta/other',
    'dir/a',
    'left/b',
    'from/sub/c',
    'op/d',
    'two',
  ]) {
    write(p.at(`base/${name}`), `content of ${name}`);
  }
  linkSync(p.at('base/two'), p.at('base/too'));
  p.mount(METACOPY);
  for (const name of ['kept', 'replaced', 'gone', 'moved', 'two', 'dir/a'])
    write(p.at(`m/${name}`), 'changed');
  renameSync(p.at('m/moved'), p.at('m/now here'));
  for (const name of readdirSync(p.at('m/meta'))) chmodSync(p.at(`m/meta/${name}`), 0o600);
  write(p.at('m/left/new'), 'new');
  renameSync(p.at('m/from/sub'), p.at('m/sub'));
  rmSync(p.at('m/w'));
  rmSync(p.at('m/op'), { recursive: true });
  mkdirSync(p.at('m/op'));
  // While it is mounted, and afterwards.
  assert.match(p.run('check', 'm').out, /upper: fits its lowers: \d+ objects\n$/);
  assert.equal(p.run('check', 'm').code, 0);
  p.umount();
  assert.deepEqual(p.found(METACOPY), []);

  replace(p.at('base/replaced'), 'another file');
  replace(p.at('base/meta/other'), 'content of meta/oth!');
  rmSync(p.at('base/gone'));
  rmSync(p.at('base/meta/gone'));
  writeFileSync(p.at('base/meta/longer'), 'more than there was before, in the same inode');
  renameSync(p.at('base/left'), p.at('base/elsewhere'));
  rmSync(p.at('base/from/sub'), { recursive: true });
  rmSync(p.at('base/w'));
  rmSync(p.at('base/op'), { recursive: true });
  rmSync(p.at('base/two'));
  rmSync(p.at('base/too'));
  mkdirSync(p.at('base/fresh'));
  rmSync(p.at('base/dir'), { recursive: true });
  write(p.at('base/dir/other'), 'in another directory of the same name');
  const found = p.found(METACOPY);
  const index = found.find((line) => line.startsWith('index '));
  assert.match(index ?? '', /^index 00fb[0-9a-f]+$/);
  assert.deepEqual(
    found.filter((line) => line !== index),
    [
      'metacopy meta/gone',
      'metacopy meta/longer',
      'metacopy meta/other',
      'opaque op',
      'origin dir',
      'origin dir/a',
      'origin gone',
      'origin left',
      'origin replaced',
      'origin two',
      'redirect sub',
      'whiteout from/sub',
      'whiteout w',
    ],
  );
  const text = p.run('check', '-o', METACOPY);
  assert.equal(text.code, 3);
  assert.match(text.out, /^origin: replaced: .*another one has its place, which this copy hides$/m);
  assert.match(text.out, /^redirect: sub: renamed from \/from\/sub, /m);
  assert.match(
    text.out,
    /: 11 objects that no longer fit: \d+ objects, 3 harmless: --all lists them\n$/,
  );
  assert.doesNotMatch(text.out, /^whiteout/m);
  assert.match(p.run('check', '--all', '-o', METACOPY).out, /^whiteout: w: /m);
  assert.deepEqual(p.run('check', '-q', '-o', METACOPY), { code: 3, out: '', err: '' });

  // The mount shows the upper's part of it, and never another file's content.
  p.mount(METACOPY);
  const read = (name: string): string => readFileSync(p.at(`m/${name}`), 'utf8');
  assert.equal(read('meta/same'), 'content of meta/same');
  for (const name of ['gone', 'longer', 'other']) {
    assert.ok(statSync(p.at(`m/meta/${name}`)).size > 0);
    assert.throws(() => read(`meta/${name}`), { code: 'EIO' });
    assert.throws(() => writeFileSync(p.at(`m/meta/${name}`), 'x', { flag: 'r+' }), {
      code: 'EIO',
    });
  }
  // They can be removed, and written anew.
  rmSync(p.at('m/meta/gone'));
  writeFileSync(p.at('m/meta/longer'), 'anew');
  assert.equal(read('meta/longer'), 'anew');
  assert.ok(!existsSync(p.at('m/meta/gone')));
  for (const name of ['kept', 'replaced', 'gone', 'two', 'dir/a', 'now here'])
    assert.equal(read(name), 'changed');
  assert.deepEqual(readdirSync(p.at('m/sub')), []);
  assert.deepEqual(readdirSync(p.at('m/left')), ['new']);
  assert.deepEqual(readdirSync(p.at('m/dir')).sort(), ['a', 'other']);
  assert.deepEqual(readdirSync(p.at('m/op')), []);
  const report = JSON.parse(p.run('status', '--json', 'm').out) as MountReport;
  // sub, left, dir; gone, longer, other.
  assert.ok((report.counters?.misfits ?? 0) >= 6, JSON.stringify(report.counters));
  assert.match(
    p.run('status', 'm').out,
    /no longer fits the layers below: `varve check .*\/m` lists it/,
  );
  p.umount();
});

test('a mount that nothing was changed below counts nothing', { skip }, (t) => {
  const p = place(t);
  write(p.at('base/dir/sub/file'), 'content');
  write(p.at('top/dir/file'), 'above');
  p.mount(METACOPY);
  writeFileSync(p.at('m/dir/sub/file'), 'changed');
  chmodSync(p.at('m/dir/file'), 0o600);
  renameSync(p.at('m/dir/sub'), p.at('m/sub'));
  p.umount();
  // A layer above, one in the middle and one below change nothing about what fits.
  for (const name of ['above', 'middle', 'below']) write(p.at(`${name}/dir/${name}`), name);
  const more = METACOPY.replace('top:base', 'above:top:middle:base:below');
  assert.deepEqual(p.found(more), []);
  p.mount(more);
  assert.equal(readFileSync(p.at('m/sub/file'), 'utf8'), 'changed');
  assert.equal(readFileSync(p.at('m/dir/file'), 'utf8'), 'above');
  assert.equal(p.run('check', 'm').code, 0);
  const report = JSON.parse(p.run('status', '--json', 'm').out) as MountReport;
  assert.equal(report.counters?.misfits, 0);
  p.umount();
});

test('lowers that were copied are other files; without the index a metacopy file takes their data', {
  skip,
}, (t) => {
  const p = place(t);
  write(p.at('base/file'), 'content');
  p.mount(METACOPY);
  chmodSync(p.at('m/file'), 0o600);
  p.umount();
  renameSync(p.at('base'), p.at('old'));
  cpSync(p.at('old'), p.at('base'), { recursive: true });
  assert.deepEqual(p.found(METACOPY), ['metacopy file']);
  rmSync(p.at('work/index'), { recursive: true });
  const unindexed = `${METACOPY},index=off`;
  p.mount(unindexed);
  assert.equal(readFileSync(p.at('m/file'), 'utf8'), 'content');
  p.umount();
});

test('a redirect that no path is, and names that are no text', { skip }, (t) => {
  const p = place(t);
  const upper = must(sys.open(AT.FDCWD, p.at('upper'), O.DIRECTORY));
  must(sys.mkdir(upper, 'bad\xff', 0o755));
  must(sys.setxattr(upper, 'bad\xff', 'trusted.overlay.redirect', Buffer.from('/a/../b')));
  sys.close(upper);
  const ran = p.run('check', '-o', STACK);
  assert.equal(ran.code, 3);
  assert.match(ran.out, /^redirect: bad.: a redirect that no path is: cannot be used \(EINVAL\)$/m);
});

test('deep and wide uppers', { skip }, (t) => {
  const p = place(t);
  const deep = Array.from({ length: 400 }, (_, i) => `n${i}`).join('/');
  mkdirSync(p.at(`upper/${deep}`), { recursive: true });
  for (let i = 0; i < 500; i++) writeFileSync(p.at(`upper/f${i}`), '');
  const report = JSON.parse(p.run('check', '--json', '-o', STACK).out) as Report;
  assert.deepEqual([report.ok, report.objects], [true, 900]);
});

test('what cannot be checked is refused in one line', { skip }, (t) => {
  const p = place(t);
  const refused = (code: number, line: RegExp, ...args: string[]): void => {
    const ran = p.run('check', ...args);
    assert.equal(ran.code, code, ran.err);
    assert.match(ran.err, line);
    assert.equal(ran.err.trimEnd().split('\n').length, 1);
  };
  refused(2, /^varve: no stack is named: write a mount point, or -o/);
  refused(2, /^varve: a stack is named twice/, '-o', STACK, 'm');
  refused(2, /^varve: upperdir: missing: only a writable stack/, '-o', 'lowerdir=top:base');
  refused(
    3,
    /^varve: upperdir: missing: no such directory/,
    '-o',
    STACK.replace('upperdir=upper', 'upperdir=missing'),
  );
  refused(6, /^varve: .*\/m: not a varve mount/, 'm');
  // Who cannot read the marks cannot know. Without privilege a stack has user.* marks unless it says otherwise.
  for (const path of ['..', '.', 'upper', 'work', 'base', 'top']) chmodSync(p.at(path), 0o777);
  const asUser = (options: string) =>
    spawnSync(
      'setpriv',
      ['--reuid=65534', '--clear-groups', process.execPath, MAIN, 'check', '-o', options],
      { cwd: p.folder, env: p.env, encoding: 'utf8' },
    );
  assert.equal(asUser(STACK).status, 0);
  p.mount();
  const ran = spawnSync(
    'setpriv',
    ['--bounding-set=-sys_admin', '--inh-caps=-sys_admin', process.execPath, MAIN, 'check', 'm'],
    { cwd: p.folder, env: p.env, encoding: 'utf8' },
  );
  assert.equal(ran.status, 4, ran.stderr);
  assert.match(ran.stderr, /^varve: the marks of this stack are trusted\.\* attributes, .*\n$/);
  p.umount();
});
