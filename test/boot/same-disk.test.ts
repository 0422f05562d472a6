// The boot filesystem belongs to others as well: to the system whose root it is, and to one that is hibernated and comes back.
// Each test is a real boot in QEMU, of an ext4 with a journal that was not put away.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { requires } from '../support/requires.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { run } from '../vm/guest-files.js';
import { boot, build } from './machine.js';
import { makePayload } from './payload.js';

const packages = ['busybox-static', 'dmsetup', 'e2fsprogs', 'kmod', 'qemu-system-x86'];
const skip =
  process.arch === 'x64' ? requires({ root: true, packages }) : 'needs an x86-64 processor';

suite('a boot filesystem with a journal', { skip }, () => {
  let folder = '';
  let initramfs = '';
  let disk = '';

  before(async () => {
    folder = makeTempDir();
    const payload = makePayload(join(folder, 'payload'), {
      commands:
        'mount -t ext4 -o "$mode" /dev/vda /root && echo "payload: mounted $mode"; poweroff -f',
    });
    const built = await build(join(folder, 'built'), { source: { root: payload } });
    initramfs = join(built.folder, 'initramfs.img');
    disk = join(folder, 'disk');
    const [image, target] = [join(folder, 'mounted'), join(folder, 'target')];
    mkdirSync(target);
    run('mkfs.ext4', ['-q', '-F', '-L', 'varve-boot', image, '32M']);
    run('mount', ['-o', 'loop', image, target]);
    try {
      copyFileSync(join(built.folder, 'initoverlayfs.img'), join(target, 'initoverlayfs.img'));
      run('sync', ['-f', target]);
      copyFileSync(image, disk);
    } finally {
      run('umount', [target]);
    }
  });
  after(() => removeTempDir(folder));

  test('the payload gets it as its root, to be written to', async () => {
    const append = 'root=LABEL=varve-boot rw mode=rw';
    const console = await boot({ initramfs, disks: [disk], isScratch: true, append });
    assert.match(console, /payload: mounted rw/);
  });

  test('of a hibernated system nothing is written, not even its journal', async () => {
    const swap = join(folder, 'swap');
    const bytes = Buffer.alloc(1 << 20);
    bytes.write('S1SUSPEND', 4086);
    writeFileSync(swap, bytes);
    const sum = (): string => createHash('sha256').update(readFileSync(disk)).digest('hex');
    const before = sum();
    const append = 'root=LABEL=varve-boot rw mode=ro';
    const console = await boot({ initramfs, disks: [disk, swap], append });
    assert.match(console, /the system is hibernated/);
    assert.match(console, /payload: mounted ro/);
    assert.equal(sum(), before);
  });
});
