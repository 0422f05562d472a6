// `varve mount --image`: the three modes, what is compared before a mount, what the others say about such a mount.
// Under test: src/cli/mount-composefs.ts and src/stack/ (find-image, image-options, image-plan, mount-image, compare-objects).

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountAt } from '../../src/linux/mountinfo.js';
import type { WhyAnswer } from '../../src/ops/why.js';
import type { MountReport } from '../../src/stack/status.js';
import { CONTENT, MTIME, type SampleStore, sampleStore } from '../support/composefs.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { type Cli, cliIn, type Ran } from './cli.js';

const skip = requires({ features: ['fuse'] });
const skipRoot = requires({ root: true, features: ['fuse', 'overlayfs', 'erofs'] });

interface Place extends Cli, SampleStore {
  at(path: string): string;
  /** `varve mount --store STORE`, then these. */
  mount(...args: string[]): Ran;
  /** As mount(), with success. @returns what it said. */
  mounted(...args: string[]): string;
  umount(): void;
}

function place(t: { after(fn: () => void): void }): Place {
  const folder = tempDir(t);
  const sample = sampleStore(folder);
  const at = (path: string): string => join(folder, path);
  for (const name of ['m', 'upper', 'work', 'cache']) mkdirSync(at(name));
  process.env['XDG_CACHE_HOME'] = at('cache');
  t.after(() => delete process.env['XDG_CACHE_HOME']);
  const cli = cliIn(folder);
  const mount = (...args: string[]): Ran => cli.run('mount', '--store', sample.store, ...args, 'm');
  return {
    ...cli,
    ...sample,
    at,
    mount,
    mounted(...args) {
      const ran = mount(...args);
      assert.equal(ran.code, 0, `varve mount ${args.join(' ')}: ${ran.err}`);
      return ran.err;
    },
    umount() {
      const ran = cli.run('umount', '-q', 'm');
      assert.equal(ran.code, 0, ran.err);
    },
  };
}

const json = <T>(cli: Cli, ...args: string[]): T => JSON.parse(cli.run(...args, '--json').out) as T;

/** Compares all names, types and bytes, then what diff(1) does not look at. */
function assertSame(p: Place): void {
  const diff = spawnSync('diff', ['-r', '--no-dereference', p.tree, p.at('m')], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  assert.equal(diff.stdout + diff.stderr, '');
  const large = statSync(p.at('m/large'));
  assert.deepEqual(
    [large.mode & 0o7777, large.size, large.mtimeMs],
    [0o600, 300_000, MTIME * 1000],
  );
  assert.equal(statSync(p.at('m/text')).nlink, 2);
  assert.equal(statSync(p.at('m/hard')).ino, statSync(p.at('m/text')).ino);
  assert.equal(spawnSync(p.at('m/bin/tool'), [], { timeout: 60_000 }).status, 0);
}

for (const mode of ['kernel', 'overlay', 'follow'] as const) {
  const skipMode = mode === 'follow' ? skip : skipRoot;
  test(`mode ${mode}: the tree, status, why, umount`, { skip: skipMode }, (t) => {
    const p = place(t);
    const said = p.mounted('--mode', mode, '--image', 'sample');
    assert.match(said, new RegExp(`mode ${mode}: as asked`));
    assertSame(p);
    const status = json<MountReport>(p, 'status', 'm');
    assert.equal(status.mode, mode);
    assert.equal(status.image?.digest, p.digest);
    assert.deepEqual(status.layers?.datadirs, [join(p.store, 'objects')]);
    assert.equal(status.backend, mode === 'kernel' ? 'kernel' : 'fuse');
    assert.equal(status.counters === undefined, mode === 'kernel');
    assert.match(p.run('status').out, new RegExp(`/m +${mode} +mounted`));
    const why = json<WhyAnswer>(p, 'why', p.at('m/text'));
    assert.deepEqual(
      why.layers.map(({ role, effect }) => [role, effect]),
      [
        ['lower 1', 'owner'],
        ['data 1', 'data'],
      ],
    );
    assert.equal(why.layers[1]?.path, p.textObject);
    p.umount();
    assert.equal(mountAt(p.at('m')), undefined);
    assert.equal(existsSync(p.at('m/text')), false);
    // Mounts of tests that run at the same time are seen too, as nobody's.
    const left = json<MountReport[]>(p, 'status').map(({ mountpoint }) => mountpoint);
    assert.ok(!left.includes(p.at('m')), left.join());
  });
}

test('mode overlay: content causes no request', { skip: skipRoot }, (t) => {
  const p = place(t);
  p.mounted('--mode=overlay', '--image', 'sample');
  for (const name of ['text', 'large', 'bin/tool', 'hard']) readFileSync(p.at(`m/${name}`));
  assertSame(p);
  const opcodes = json<MountReport>(p, 'status', 'm').counters?.opcodes ?? {};
  assert.equal(opcodes['OPEN'] ?? 0, 1, 'of the inline file: the kernel learns not to ask');
  assert.equal(opcodes['READ'] ?? 0, 0, 'nor of the inline file, whose content came unasked');
  assert.ok((opcodes['LOOKUP'] ?? 0) + (opcodes['READDIRPLUS'] ?? 0) > 0);
  p.umount();
});

for (const mode of ['kernel', 'overlay'] as const) {
  test(`mode ${mode}: writable with an upper`, { skip: skipRoot }, (t) => {
    const p = place(t);
    const options = `upperdir=${p.at('upper')},workdir=${p.at('work')}`;
    p.mounted('--mode', mode, '--image', 'sample', '-o', options);
    writeFileSync(p.at('m/text'), 'more', { flag: 'a' });
    writeFileSync(p.at('m/new'), 'new');
    rmSync(p.at('m/small'));
    p.umount();
    assert.equal(readFileSync(p.at('upper/text'), 'utf8'), `${CONTENT.text}more`);
    assert.equal(readFileSync(p.textObject, 'utf8'), CONTENT.text);
    p.mounted('--mode', mode, '--image', 'sample', '-o', options);
    assert.equal(readFileSync(p.at('m/text'), 'utf8'), `${CONTENT.text}more`);
    assert.equal(existsSync(p.at('m/small')), false);
    assert.deepEqual(readFileSync(p.at('m/large')), CONTENT.large);
    p.umount();
  });
}

test('mode kernel: what a killed mount left is taken away by the next', { skip: skipRoot }, (t) => {
  const p = place(t);
  const folder = p.at('run');
  mkdirSync(join(folder, 'images-killed/0'), { recursive: true });
  const old = Date.now() / 1000 - 60;
  const left = join(folder, 'images-killed');
  spawnSync('mount', ['-t', 'tmpfs', 'left', join(left, '0')]);
  utimesSync(left, old, old);
  mkdirSync(join(folder, 'images-young'));
  p.mounted('--mode=kernel', '--image', 'sample');
  p.umount();
  assert.equal(existsSync(left), false);
  assert.equal(existsSync(join(folder, 'images-young')), true);
});

test('an image is found by path, name, nested name and digest', { skip }, (t) => {
  const p = place(t);
  for (const image of ['./img', p.image, 'img', 'sample', 'group/sample', p.digest]) {
    p.mounted('--mode=follow', '--image', image);
    assert.equal(readFileSync(p.at('m/small'), 'utf8'), CONTENT.small, image);
    p.umount();
  }
});

test('root gets the kernel, and the server where the kernel refuses', { skip: skipRoot }, (t) => {
  const p = place(t);
  assert.match(p.mounted('--image', 'sample'), /mode kernel: root may mount it/);
  p.umount();
  chownSync(p.image, 1000, 1000);
  const said = p.mounted('--image', './img');
  assert.match(said, /mode follow: the kernel refuses \(.*others could have written this image/);
  assertSame(p);
  p.umount();
  const forced = p.mount('--mode=kernel', '--image', './img');
  assert.equal(forced.code, 4);
  assert.match(forced.err, /^varve: mode=kernel: .*others could have written this image.*\n$/);
  // With its digest it is taken, as a copy.
  assert.match(p.mounted('--image', './img', '-o', `digest=${p.digest}`), /mode kernel/);
  assertSame(p);
  p.umount();
});

for (const mode of ['kernel', 'overlay', 'follow'] as const) {
  const skipMode = mode === 'follow' ? skip : skipRoot;
  test(`mode ${mode}: digest= refuses another image`, { skip: skipMode }, (t) => {
    const p = place(t);
    const sum = spawnSync('sha256sum', [p.image], { encoding: 'utf8' }).stdout.slice(0, 64);
    for (const digest of [p.digest, `fsverity-sha256:${p.digest}`, `sha256:${sum}`]) {
      p.mounted('--mode', mode, '--image', './img', '-o', `digest=${digest}`);
      // Whatever it was called: what the server compares is the fs-verity digest.
      const status = json<MountReport>(p, 'status', 'm');
      if (mode !== 'kernel') assert.equal(status.image?.digest, p.digest);
      p.umount();
    }
    const bytes = readFileSync(p.image);
    bytes[bytes.length - 1] ^= 1;
    writeFileSync(p.image, bytes);
    for (const digest of [p.digest, `sha256:${sum}`]) {
      const ran = p.mount('--mode', mode, '--image', './img', '-o', `digest=${digest}`);
      assert.equal(ran.code, 3);
      assert.match(ran.err, /^varve: digest: .*img has .*, not the one that is named: .*\n$/);
      assert.equal(mountAt(p.at('m')), undefined);
    }
  });
}

for (const mode of ['kernel', 'overlay'] as const) {
  test(`mode ${mode}: verity= compares all objects before the mount`, { skip: skipRoot }, (t) => {
    const p = place(t);
    const mount = (verity: string): Ran =>
      p.mount('--mode', mode, '--image', 'sample', '-o', `verity=${verity}`);
    assert.match(mount('require').err, /varve compared 3 objects before the mount; /);
    p.umount();
    // Their change times are old enough to be believed after two seconds.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2100);
    assert.match(mount('on').err, /compared 3 objects before the mount; /);
    p.umount();
    assert.match(
      mount('require').err,
      /compared 3 objects before the mount, 3 of them remembered; /,
    );
    p.umount();
    const bytes = readFileSync(p.textObject);
    bytes[100] ^= 1;
    writeFileSync(p.textObject, bytes);
    utimesSync(p.textObject, MTIME, MTIME);
    for (const verity of ['on', 'require']) {
      const { code, err } = mount(verity);
      assert.equal(code, 3);
      assert.match(
        err,
        /^varve: verity: object .* \(content of \/(text|hard)\) has the digest .*\n$/,
      );
    }
    rmSync(p.textObject);
    assert.match(mount('require').err, /^varve: verity: object .* is missing: .*\n$/);
    assert.equal(mount('off').code, 0);
    p.umount();
  });
}

for (const mode of ['kernel', 'overlay', 'follow'] as const) {
  const skipMode = mode === 'follow' ? skip : skipRoot;
  test(`mode ${mode}: gc leaves what is mounted alone`, { skip: skipMode }, (t) => {
    const p = place(t);
    p.mounted('--mode', mode, '--image', 'sample');
    rmSync(join(p.store, 'images/refs'), { recursive: true });
    mkdirSync(join(p.store, 'images/refs'));
    const gc = (): Ran => p.run('store', 'gc', p.store);
    assert.equal(gc().code, 0);
    assertSame(p);
    p.umount();
    // A server has its image until it has ended, a moment after its mount.
    for (let i = 0; i < 200 && existsSync(p.textObject); i++) assert.equal(gc().code, 0);
    assert.equal(existsSync(p.textObject), false);
    assert.equal(p.mount('--mode', mode, '--image', p.digest).code, 3);
  });
}

test('an image from elsewhere holds the whole store', { skip }, (t) => {
  const p = place(t);
  rmSync(join(p.store, 'images'), { recursive: true });
  mkdirSync(join(p.store, 'images/refs'), { recursive: true });
  p.mounted('--mode=follow', '--image', './img');
  assert.equal(p.run('store', 'gc', p.store).code, 5);
  assertSame(p);
  p.umount();
});

const refusals: readonly [string, number, RegExp][] = [
  ['--image nonesuch', 3, /^varve: image: nonesuch: neither a file nor an image of /],
  ['--image text', 3, /^varve: image: text: neither a file/],
  ['--image ./tree/text', 3, /is neither a directory nor an EROFS image/],
  ['--image sample --mode=fast', 2, /^varve: --mode=fast: must be one of kernel, overlay, follow/],
  ['--image sample --backend=fuse', 2, /^varve: --backend: not with --image/],
  ['--image sample -o lowerdir=tree', 2, /^varve: option lowerdir: not with --image/],
  ['--image sample -o metacopy=off', 2, /^varve: option metacopy: not with --image/],
  ['--image sample -o rw', 2, /^varve: option rw: an image is never written/],
  ['--image sample -o digest=12', 2, /^varve: option digest=12: must be/],
  ['--image sample -o squash_to_root', 2, /^varve: option squash_to_uid.*not with --image/],
  ['--image sample -o upperdir=upper', 2, /^varve: workdir: missing/],
  [
    '--image sample --mode=follow -o upperdir=upper,workdir=work',
    2,
    /^varve: mode=follow: it is read-only/,
  ],
];

test('what cannot be is refused by one line', { skip }, (t) => {
  const p = place(t);
  for (const [line, code, pattern] of refusals) {
    const ran = p.mount(...line.split(' '));
    assert.equal(ran.code, code, `${line}: ${ran.err}`);
    assert.match(ran.err, pattern);
    assert.equal(ran.err.trimEnd().split('\n').length, 1);
  }
  assert.match(p.run('mount', '--store', 'store', 'm').err, /^varve: --store: .*--image only/);
  const gone = p.run('mount', '--image', 'img', '--store', 'nowhere', 'm');
  assert.match(gone.err, /^varve: store: nowhere: no such file or directory/);
});

test('an EROFS image that is not of composefs is refused', { skip: skipRoot }, (t) => {
  const p = place(t);
  assert.equal(p.run('image', 'build', '-q', '-o', 'plain', 'tree').code, 0);
  for (const mode of ['kernel', 'overlay', 'follow']) {
    const ran = p.mount('--mode', mode, '--image', './plain');
    assert.equal(ran.code, 3, ran.err);
    assert.match(ran.err, /is no composefs image/);
  }
});
