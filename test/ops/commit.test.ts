// varve commit on mounts that are in use: nobody notices, the layer is whole and stays as it is, the kernel sees the same stack.
// Under test: ops/commit/commit.ts, stack/{freeze,freeze-plan,change-layers}.ts, supervisor/mount.ts (change).
// Programs at work under commits: commit-work.test.ts.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { dir, file } from '../layer/tree.js';
import { differences } from '../oracle/tree.js';
import { run, type Stack, stack } from '../overlay/stack.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { mapShared } from '../support/sys.js';
import { changeMuch, commit, digest, numbers, varve } from './frozen.js';

/** Layers that one stack gets. */
const COMMITS = campaign('rounds', 5);

const skip = requires({ root: true, features: ['fuse', 'overlayfs', 'resend'] });

const lower = {
  d: dir(),
  'd/x': file('x'),
  'd/y': file('y'),
  'd/z': file('z', { mode: 0o600, uid: 7, xattrs: { 'user.a': 'b' } }),
  e: dir(),
  'e/in': file('in'),
  f: dir(),
  'f/deep': dir(),
  'f/deep/g': file('g'),
  gone: file('gone'),
  replaced: dir(),
  'replaced/old': file('old'),
};

/** Every kind of change that an upper can hold. */
function change(s: Stack): void {
  changeMuch(s);
  symlinkSync('../d/x', s.path('made/link'));
  linkSync(s.path('new'), s.path('made/hard'));
  renameSync(s.path('d/y'), s.path('made/y'));
}

test('nobody notices', { skip }, async (t) => {
  const s = await stack(t, { lowers: [lower] });
  change(s);
  const held = openSync(s.path('made/held'), 'w+');
  writeSync(held, 'before ');
  const read = openSync(s.path('d/x'), 'r');
  const below = openSync(s.path('f/deep/g'), 'r');
  const nameless = openSync(s.path('nameless'), 'w+');
  writeSync(nameless, 'nameless');
  unlinkSync(s.path('nameless'));
  const removed = openSync(s.path('d/z'), 'r');
  unlinkSync(s.path('d/z'));
  const mapping = mapShared(held, 4096, true);
  assert.ok(typeof mapping !== 'number');
  ftruncateSync(held, 7);
  // It sits in a directory of the upper, and says where it is when it is asked.
  const child = spawn('sh', ['-c', 'read line; pwd -P; ls'], { cwd: s.path('made') });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const ended = new Promise((resolve) => child.once('close', resolve));

  const before = s.tree();
  const seen = numbers(s.mnt);
  const { dev, ino } = fstatSync(held);
  const layer = join(s.base, 'layer');
  const told = commit(s, layer);
  assert.deepEqual(told.copied.toSorted(), ['d/x', 'made/held']);
  assert.deepEqual(told.changing, []);

  assert.deepEqual(numbers(s.mnt), seen, 'numbers and devices stay');
  assert.deepEqual(differences(s.tree(), before), []);
  const frozen = digest(s, layer);

  assert.equal(fstatSync(held).ino, ino);
  assert.equal(fstatSync(held).dev, dev);
  assert.equal(fstatSync(held).nlink, 1);
  writeSync(held, 'after');
  assert.equal(s.read('made/held'), 'before after');
  assert.equal(readFileSync(join(layer, 'made/held'), 'latin1'), 'before ');
  assert.equal(readFrom(read), 'changed');
  assert.equal(readFrom(below), 'g');
  assert.equal(readFrom(removed), 'z');
  writeSync(nameless, '!');
  assert.equal(readFrom(nameless), 'nameless!');
  assert.equal(fstatSync(nameless).nlink, 0);
  s.write('d/x', 'changed again');
  assert.equal(readFrom(read), 'changed again', 'one file, however it was opened');
  child.stdin.end('go\n');
  await ended;
  assert.equal(said, `${s.path('made')}\nhard\nheld\nlink\ny\n`);
  for (const fd of [held, read, below, nameless, removed]) closeSync(fd);
  mapping.unmap();

  assert.equal(digest(s, layer), frozen, 'the layer is what it was');
  // A file without a name goes when the kernel says that it was closed, which is a moment later.
  const left = readdirSync(join(s.work, 'work')).filter((name) => !name.startsWith('#h'));
  assert.deepEqual(left, [], 'nothing is left in the work directory');
  await s.sameToKernel();
});

function readFrom(fd: number): string {
  const bytes = Buffer.alloc(100);
  return bytes.toString('latin1', 0, readSync(fd, bytes, 0, bytes.length, 0));
}

test('what is written through a mapping does not reach the layer', { skip }, async (t) => {
  const s = await stack(t, { lowers: [{}] });
  s.write('mapped', 'a'.repeat(8192));
  const fd = openSync(s.path('mapped'), 'r+');
  const mapping = mapShared(fd, 8192, true);
  assert.ok(typeof mapping !== 'number');
  closeSync(fd);
  mapping.bytes.fill(0x62, 0, 10);
  const layer = join(s.base, 'layer');
  commit(s, layer);
  mapping.bytes.fill(0x63, 4096, 8192);
  assert.equal(mapping.sync(), 0);
  mapping.unmap();
  const expected = 'b'.repeat(10) + 'a'.repeat(4086);
  const same = (a: string, b: string): void => assert.ok(a === b, `${a.slice(4090, 4100)}`);
  same(readFileSync(join(layer, 'mapped'), 'latin1'), expected + 'a'.repeat(4096));
  same(s.read('mapped'), expected + 'c'.repeat(4096));
});

test('names of one file stay names of one file', { skip }, async (t) => {
  const s = await stack(t, {
    lowers: [{ a: file('1'), b: { type: 'link', data: 'a' }, 'd/c': { type: 'link', data: 'a' } }],
  });
  // One name is copied up, the other two lie in the lower only: the index knows.
  s.write('a', '22');
  s.write('own', 'own');
  linkSync(s.path('own'), s.path('d/own2'));
  const before = s.tree();
  const layer = join(s.base, 'layer');
  assert.deepEqual(commit(s, layer).parted, ['a']);
  assert.deepEqual(differences(s.tree(), before), []);
  const frozen = digest(s, layer);
  for (const name of ['a', 'b', 'd/c']) assert.equal(statSync(s.path(name)).nlink, 3, name);
  s.write('d/c', '333');
  assert.equal(s.read('a'), '333');
  s.write('own', 'owned');
  assert.equal(s.read('d/own2'), 'owned');
  assert.equal(digest(s, layer), frozen);
  await s.remount();
  assert.equal(s.read('b'), '333');
  assert.equal(statSync(s.path('own')).ino, statSync(s.path('d/own2')).ino);
  // Now all names are in the upper: they go together.
  s.write('b', '4');
  for (const name of ['a', 'b', 'd/c']) linkSync(s.path(name), s.path(`${name}.more`));
  commit(s, join(s.base, 'layer2'));
  s.write('a.more', '55555');
  for (const name of ['a', 'b', 'd/c']) assert.equal(s.read(name), '55555', name);
});

test('commits in a row', { skip }, async (t) => {
  const s = await stack(t, { lowers: [lower] });
  change(s);
  const numbered = new Map<string, string>();
  const layers: { path: string; frozen: string }[] = [];
  const log = openSync(s.path('log'), 'a');
  let expected = '';
  for (let i = 0; i < COMMITS; i++) {
    s.write(`made/file${i}`, String(i));
    if (i > 0) renameSync(s.path(`made/file${i - 1}`), s.path(`made/old${i - 1}`));
    writeSync(log, `${i}\n`);
    expected += `${i}\n`;
    const path = join(s.base, `c${i}`);
    commit(s, path);
    layers.push({ path, frozen: digest(s, path) });
    assert.equal(s.read('log'), expected);
    const seen = numbers(s.mnt);
    for (const [name, line] of numbered) if (seen.has(name)) assert.equal(seen.get(name), line);
    for (const [name, line] of seen) if (!name.startsWith('made/file')) numbered.set(name, line);
  }
  closeSync(log);
  for (const { path, frozen } of layers) assert.equal(digest(s, path), frozen, path);
  const before = numbers(s.mnt);
  const tree = s.tree();
  await s.remount();
  assert.deepEqual(differences(s.tree(), tree), []);
  const again = [...numbers(s.mnt).values()].map((line) => line.replace(/ \d+ (\w)$/, ' $1'));
  assert.deepEqual(
    again,
    [...before.values()].map((line) => line.replace(/ \d+ (\w)$/, ' $1')),
  );
  await s.sameToKernel();
});

test('a large file in use is copied before', { skip }, async (t) => {
  const s = await stack(t, { lowers: [{}], size: '512m' });
  const fd = openSync(s.path('large'), 'w+');
  for (let i = 0; i < 72; i++) writeSync(fd, Buffer.alloc(1 << 20, i));
  const layer = join(s.base, 'layer');
  const told = commit(s, layer);
  assert.deepEqual([told.copied, told.changing], [['large'], []]);
  writeSync(fd, 'more', 0);
  closeSync(fd);
  const bytes = readFileSync(join(layer, 'large'));
  assert.equal(bytes.length, 72 << 20);
  for (let i = 0; i < 72; i++) assert.equal(bytes[i << 20], i);
});

test('into an image, a store, another filesystem, and without a mount', { skip }, async (t) => {
  const s = await stack(t, { lowers: [lower] });
  change(s);
  const before = s.tree();
  const image = join(s.base, 'layer.erofs');
  const told = commit(s, image);
  assert.equal(told.frozen, `${s.upper}.frozen-1`);
  assert.deepEqual(differences(s.tree(), before), []);
  s.write('d/x', 'over the image');
  await s.unmount();
  s.place(image, ...told.lowerdirs.slice(1));
  await s.mount();
  assert.equal(s.read('d/x'), 'over the image');
  s.write('d/x', 'changed');
  assert.deepEqual(
    differences(s.tree(), before).filter((line) => !/mtime/.test(line)),
    [],
  );
  await s.unmount();
  // Nobody serves it: the same, by the command alone.
  const options = `${s.layerOptions()}`;
  const elsewhere = join(s.base, 'elsewhere');
  mkdirSync(elsewhere);
  run('mount', ['-t', 'tmpfs', 'tmpfs', elsewhere]);
  const into = join(elsewhere, 'layer');
  const offline = varve('commit', '-o', options, '--into', into, '--json');
  assert.equal(offline.code, 0, offline.err);
  s.place(into, image, ...told.lowerdirs.slice(1));
  assert.deepEqual(readdirSync(s.upper), []);
  await s.mount();
  assert.equal(s.read('d/x'), 'changed');
  s.write('to the store', 'content');
  const store = join(s.base, 'store');
  assert.equal(varve('store', 'init', store).code, 0);
  unlinkSync(s.path('e2/in'));
  const marked = varve('commit', s.mnt, '--into', `${store}#one`);
  assert.match(marked.err, /cannot say that something was deleted/);
  assert.equal(marked.code, 2);
  varve('discard', s.mnt, '--path', 'e2', '--yes');
  const stored = commit(s, `${store}#one`);
  assert.match(stored.options, /::/);
  await s.unmount();
});

test('what cannot be committed', { skip }, async (t) => {
  const s = await stack(t, { lowers: [lower] });
  s.write('new', 'new');
  const layer = join(s.base, 'layer');
  const refused = (code: number, pattern: RegExp, ...args: string[]): void => {
    const ran = varve('commit', ...args);
    assert.match(ran.err, pattern);
    assert.equal(ran.err.trim().split('\n').length, 1, ran.err);
    assert.equal(ran.code, code, ran.err);
  };
  refused(2, /--into is missing/, s.mnt);
  refused(2, /is not empty/, s.mnt, '--into', s.base);
  refused(2, /part of the stack/, s.mnt, '--into', join(s.mnt, 'layer'));
  refused(2, /part of the stack/, s.mnt, '--into', join(s.upper, 'layer'));
  refused(3, /create it first/, s.mnt, '--into', join(s.base, 'none/layer'));
  refused(6, /not the mount point/, join(s.base, 'l0'), '--into', layer);
  refused(5, /in use/, '-o', s.layerOptions(), '--into', layer);
  const dry = varve('commit', s.mnt, '--into', layer, '--dry-run');
  assert.equal(dry.code, 0, dry.err);
  assert.equal(existsSync(layer), false);
  assert.deepEqual(readdirSync(s.upper), ['new']);
  // The upper has another name by now: whoever commits is told, and the mount goes on.
  renameSync(s.upper, `${s.upper}.moved`);
  refused(3, /renamed|no such file/, s.mnt, '--into', layer);
  renameSync(`${s.upper}.moved`, s.upper);
  assert.equal(existsSync(layer), false);
  assert.equal(s.read('new'), 'new');
  await s.unmount();
  s.kernelMount('index=off');
  refused(2, /kernel serves it|not the mount point/, s.mnt, '--into', layer);
  s.kernelUnmount();
});
