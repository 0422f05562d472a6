// Nothing is written for the sake of inode numbers: a read-only stack is mounted, walked and read, and the disks that its layers lie
// on have been written not one sector more.

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountStack } from '../../src/stack/mount.js';
import { parseOptions } from '../../src/stack/options.js';
import { unmount } from '../../src/stack/unmount.js';
import { run } from '../overlay/stack.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { fill } from './matrix.js';

const skip = requires({
  root: true,
  features: ['fuse', 'loop', 'ext4', 'xfs'],
  packages: ['e2fsprogs', 'xfsprogs'],
});

/** Sectors written to the block device of a filesystem since it is there. */
function written(path: string): number {
  run('sync', ['-f', path]);
  const { dev } = statSync(path);
  const device = `${(dev >>> 8) & 0xfff}:${(dev & 0xff) | ((dev >>> 12) & 0xfff00)}`;
  const fields = readFileSync(`/sys/dev/block/${device}/stat`, 'latin1').trim().split(/\s+/);
  return Number(fields[6]);
}

test('mounting and walking a read-only stack writes nothing to its layers', { skip }, async (t) => {
  const base = tempDir(t);
  const disks = ['ext4', 'xfs'].map((type, i) => {
    const disk = join(base, type);
    mkdirSync(disk);
    run('truncate', ['-s', '320M', `${disk}.img`]);
    // Nothing is to be left for the kernel to write later.
    const ready = ['-E', 'lazy_itable_init=0,lazy_journal_init=0'];
    run(`mkfs.${type}`, ['-q', ...(type === 'ext4' ? ready : []), `${disk}.img`]);
    // With the strictest handling of access times.
    run('mount', ['-o', 'loop,strictatime', `${disk}.img`, disk]);
    mkdirSync(join(disk, 'layer'));
    fill(join(disk, 'layer'), i, 1000);
    return disk;
  });
  const mountpoint = join(base, 'mnt');
  mkdirSync(mountpoint);
  // Looking changes access times, too: of the disks themselves before and after what is measured.
  const files = readdirSync(base, { recursive: true }).length;
  // The journals settle: what they write after a sync is no answer to anything here.
  run('sync', []);
  for (const disk of disks) run('fsfreeze', ['--freeze', disk]);
  for (const disk of disks) run('fsfreeze', ['--unfreeze', disk]);
  const before = disks.map(written);

  const lowers = disks.map((disk) => join(disk, 'layer')).join(':');
  const options = parseOptions([`lowerdir=${lowers}`], { defaults: 'allow_other' });
  const { served } = await mountStack(options, mountpoint, 'fuse');
  served?.supervisor.close();
  let bytes = 0;
  let objects = 0;
  for (const name of readdirSync(mountpoint, { recursive: true, encoding: 'utf8' })) {
    const path = join(mountpoint, name);
    objects++;
    if (statSync(path).isFile()) bytes += readFileSync(path).length;
  }
  await unmount(mountpoint, { lazy: false, force: false });
  assert.ok(objects > 2000 && bytes > 0);
  assert.deepEqual(disks.map(written), before);
  assert.equal(readdirSync(base, { recursive: true }).length, files);
});
