// A volatile upper after a crash is refused, for what programs synced may be missing from it: by varve and by the kernel.
// Follows: "Volatile mount" in Documentation/filesystems/overlayfs.rst.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { MountError } from '../../src/stack/errors.js';
import { file } from '../layer/tree.js';
import { run, stack } from '../overlay/stack.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { alone } from './alone.js';
import { type Filesystem, Machine } from './crash.js';

/** One line, that says what is wrong, where, and what to do. */
const refused = (error: unknown): boolean => {
  assert.ok(error instanceof MountError);
  assert.equal(error.kind, 'layer');
  assert.match(
    error.message,
    /^upperdir: \S+: was mounted volatile before and may be incomplete since a crash: discard it, or, if there was none, remove \S+\/work\/incompat$/,
  );
  return true;
};

for (const type of ['ext4', 'xfs'] as const satisfies readonly Filesystem[]) {
  const skip = requires({
    root: true,
    features: ['fuse', 'overlayfs', 'loop', type],
    packages: ['sqlite3', 'e2fsprogs', 'xfsprogs'],
  });

  test(`a volatile upper is refused after a shutdown of ${type}, a moment after its mount`, {
    skip,
  }, async (t) => {
    alone();
    const machine = new Machine(tempDir(t), type);
    machine.clear();
    await machine.mount('volatile');
    writeFileSync(join(machine.mnt, 'made'), 'x');
    machine.shutDown(false);
    await machine.recover();
    for (const options of ['volatile', '']) await assert.rejects(machine.mount(options), refused);
    const kernel = spawnSync('mount', machine.kernelMount('index=on'), { encoding: 'utf8' });
    assert.notEqual(kernel.status, 0, 'the kernel mounts it');
    rmSync(machine.incompatible, { recursive: true });
    await machine.mount('');
    assert.ok(existsSync(join(machine.mnt, 'a0/f1')));
    await machine.recover();
  });
}

const skip = requires({ root: true, features: ['fuse', 'overlayfs', 'tmpfs'] });

test('a volatile upper is refused after its server and its supervisor were killed', {
  skip,
}, async (t) => {
  const s = await stack(t, { lowers: [{ f: file('x') }], options: 'volatile' });
  s.write('f', 'changed');
  const supervisor = Number(/^PPid:\t(\d+)$/m.exec(statusOf(s.server))?.[1]);
  assert.ok(supervisor > 1);
  for (const pid of [supervisor, s.server]) process.kill(pid, 'SIGKILL');
  run('umount', ['-l', s.mnt]);
  while (existsSync(`/proc/${s.server}/exe`)) await new Promise((done) => setTimeout(done, 10));
  await assert.rejects(s.mount(), refused);
  rmSync(join(s.work, 'work/incompat'), { recursive: true });
  await s.mount();
  assert.equal(s.read('f'), 'changed');
});

test('and after it was unmounted, until the mark is removed, as the kernel does', {
  skip,
}, async (t) => {
  const s = await stack(t, { options: 'volatile' });
  await s.unmount();
  await assert.rejects(s.mount(), refused);
});

const statusOf = (pid: number): string => readFileSync(`/proc/${pid}/status`, 'utf8');
