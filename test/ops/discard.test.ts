// varve discard: the layers show again, at once and for everybody; what is open goes on as if it had been unlinked.
// Under test: ops/commit/discard.ts, stack/{discard,change-layers}.ts, overlay/{abandon,stale}.ts.
// The oracle is a fresh mount of the lowers, and the kernel's overlayfs.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fstatSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { dir, file } from '../layer/tree.js';
import { differences } from '../oracle/tree.js';
import { run, type Stack, stack } from '../overlay/stack.js';
import { requires } from '../support/requires.js';
import { changeMuch, discard, varve } from './frozen.js';

const skip = requires({ root: true, features: ['fuse', 'overlayfs', 'resend'] });

const lower = {
  d: dir(),
  'd/x': file('x'),
  'd/y': file('y'),
  e: dir(),
  'e/in': file('in'),
  gone: file('gone'),
  h1: file('h'),
  h2: { type: 'link', data: 'h1' } as const,
  replaced: dir(),
  'replaced/old': file('old'),
};

function change(s: Stack): void {
  changeMuch(s);
  s.write('made/file', 'file');
  s.write('h1', 'hh');
}

/** What the kernel remembers, positive and negative, is what a discard must undo. */
function look(s: Stack): void {
  for (const name of ['gone', 'e', 'new', 'e2/in', 'made/file', 'replaced/old', 'd/x']) {
    existsSync(s.path(name));
    if (existsSync(s.path(name)) && statSync(s.path(name)).isFile()) s.read(name);
  }
  for (const name of ['', 'd', 'replaced']) readdirSync(s.path(name));
}

function readFrom(fd: number): string {
  const bytes = Buffer.alloc(100);
  return bytes.toString('latin1', 0, readSync(fd, bytes, 0, bytes.length, 0));
}

test('everything', { skip }, async (t) => {
  const s = await stack(t, { lowers: [lower] });
  const before = s.tree();
  const inD = spawn('sh', ['-c', 'read line; pwd -P; cat x'], { cwd: s.path('d') });
  let said = '';
  inD.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const ended = new Promise((resolve) => inD.once('close', resolve));
  change(s);
  look(s);
  const written = openSync(s.path('d/x'), 'r+');
  const fresh = openSync(s.path('made/file'), 'r+');
  const below = openSync(s.path('d/y'), 'r');
  discard(s);

  assert.deepEqual(differences(s.tree(), before), []);
  assert.deepEqual(readdirSync(s.upper), []);
  assert.equal(s.read('d/x'), 'x');
  assert.equal(s.read('h2'), 'h');
  for (const [fd, text] of [
    [written, 'changed'],
    [fresh, 'file'],
  ] as const) {
    assert.equal(fstatSync(fd).nlink, 0);
    assert.equal(readFrom(fd), text);
    writeSync(fd, '!', text.length);
    assert.equal(readFrom(fd), `${text}!`);
    closeSync(fd);
  }
  assert.equal(readFrom(below), 'y');
  closeSync(below);
  inD.stdin.end('go\n');
  await ended;
  assert.equal(said, `${s.path('d')}\nx`);
  change(s);
  assert.equal(s.read('e2/in'), 'in');
  assert.equal(s.read('h2'), 'hh');
  const left = readdirSync(s.work).sort();
  assert.deepEqual(left, ['index', 'work']);
  await s.sameToKernel();
});

test('single paths', { skip }, async (t) => {
  const s = await stack(t, { lowers: [lower] });
  change(s);
  look(s);
  const fd = openSync(s.path('d/x'), 'r+');
  discard(s, 'd/x', s.path('gone'), 'made');
  assert.equal(s.read('d/x'), 'x');
  assert.equal(s.read('gone'), 'gone');
  assert.equal(existsSync(s.path('made')), false);
  assert.equal(readFrom(fd), 'changed');
  closeSync(fd);
  assert.equal(s.read('new'), 'new', 'the rest stays');
  assert.deepEqual(readdirSync(s.path('replaced')), ['fresh']);
  // One file under two names: the other one is told, and goes along.
  const told = varve('discard', s.mnt, '--path', 'h1', '--yes');
  assert.equal(told.code, 0, told.err);
  assert.equal(s.read('h1'), 'h');
  assert.equal(s.read('h2'), 'h');
  s.write('h2', 'again');
  assert.equal(s.read('h1'), 'again');
  // A directory that replaced the lower one, whole.
  discard(s, 'replaced');
  assert.deepEqual(readdirSync(s.path('replaced')), ['old']);
  // A renamed one: both names.
  discard(s, 'e2', 'e');
  assert.equal(s.read('e/in'), 'in');
  assert.equal(existsSync(s.path('e2')), false);
  s.write('d/x', 'changed again');
  assert.equal(s.read('d/x'), 'changed again');
  await s.sameToKernel();
});

test('what does not go alone', { skip }, async (t) => {
  const s = await stack(t, { lowers: [lower] });
  change(s);
  const refused = (code: number, pattern: RegExp, ...args: string[]): void => {
    const ran = varve('discard', ...args);
    assert.match(ran.err, pattern);
    assert.equal(ran.err.trim().split('\n').length, 1, ran.err);
    assert.equal(ran.code, code, ran.err);
  };
  refused(2, /nobody can be asked/, s.mnt);
  refused(2, /e: was renamed to e2/, s.mnt, '--yes', '--path', 'e');
  refused(6, /d\/y: the upper has nothing/, s.mnt, '--yes', '--path', 'd/y');
  refused(2, /replaced: lies in|lies in replaced/, s.mnt, '--yes', '--path', 'replaced/fresh');
  refused(2, /whole upper/, s.mnt, '--yes', '--path', '/');
  refused(5, /in use/, '-o', s.layerOptions(), '--yes');
  const before = s.tree();
  const dry = varve('discard', s.mnt, '--dry-run');
  assert.equal(dry.code, 0, dry.err);
  assert.match(dry.out, /D {2}gone/);
  assert.deepEqual(differences(s.tree(), before), []);
});

test('of a stack that is not mounted', { skip }, async (t) => {
  const s = await stack(t, { lowers: [lower] });
  const before = s.tree();
  change(s);
  await s.unmount();
  const options = s.layerOptions();
  assert.equal(varve('discard', '-o', options, '--yes', '--path', 'd/x', '--path', 'h2').code, 6);
  const some = varve('discard', '-o', options, '--yes', '--path', 'd/x', '--path', 'h1');
  assert.equal(some.code, 0, some.err);
  await s.mount();
  assert.equal(s.read('d/x') + s.read('h2') + s.read('new'), 'xhnew');
  await s.unmount();
  // What a killed one has left is removed by the next.
  mkdirSync(join(s.work, 'discarded-1-1/x'), { recursive: true });
  const all = varve('discard', '-o', options, '--yes');
  assert.equal(all.code, 0, all.err);
  await s.mount();
  assert.deepEqual(differences(s.tree(), before), []);
  assert.deepEqual(readdirSync(s.work).sort(), ['index', 'work']);
});

test('what is mounted in the upper is not discarded with it', { skip }, async (t) => {
  const s = await stack(t, { lowers: [lower] });
  mkdirSync(s.path('made'));
  await s.unmount();
  const elsewhere = join(s.base, 'elsewhere');
  mkdirSync(elsewhere);
  writeFileSync(join(elsewhere, 'precious'), 'precious');
  run('mount', ['--bind', elsewhere, join(s.upper, 'made')]);
  try {
    for (let i = 0; i < 2; i++) {
      const { code, err } = varve('discard', '-o', s.layerOptions(), '--yes');
      assert.equal(code, 0, err);
      assert.equal(readFileSync(join(elsewhere, 'precious'), 'latin1'), 'precious');
    }
  } finally {
    const trash = readdirSync(s.work).filter((name) => name.startsWith('discarded-'));
    for (const name of trash) run('umount', [join(s.work, name, 'made')]);
  }
});

test('a commit, then a discard: the layer stays', { skip }, async (t) => {
  const s = await stack(t, { lowers: [lower] });
  change(s);
  // Its other name lies below only, which a layer cannot tell.
  discard(s, 'h1');
  linkSync(s.path('new'), s.path('new2'));
  const before = s.tree();
  const layer = join(s.base, 'layer');
  assert.equal(varve('commit', s.mnt, '--into', layer).code, 0);
  s.write('new2', 'after the commit');
  writeFileSync(s.path('h2'), 'after, too');
  unlinkSync(s.path('made/file'));
  discard(s);
  assert.deepEqual(differences(s.tree(), before), []);
  assert.equal(readFileSync(join(layer, 'new'), 'latin1'), 'new');
});
