// Boots through a payload of busybox to a root on another disk: the image is used, and afterwards nothing of it is left.
// Each test is a real boot in QEMU; memory is compared with a boot of the same payload as an ordinary initramfs.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { requires } from '../support/requires.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { run } from '../vm/guest-files.js';
import { boot, bootDisk, build, cannotBoot, partitioned } from './machine.js';
import { makePayload, makeRootDisk, values } from './payload.js';

const packages = ['busybox-static', 'dmsetup', 'e2fsprogs', 'kmod', 'qemu-system-x86'];
const skip = requires({ root: true, packages }) || cannotBoot();

suite('a payload of busybox', { skip }, () => {
  let folder = '';
  let payload = '';
  let rootDisk = '';
  /** KiB available in the root when the payload was an ordinary initramfs. */
  let ordinary = 0;

  before(async () => {
    folder = makeTempDir();
    payload = makePayload(join(folder, 'payload'), { ballast: 24 });
    rootDisk = makeRootDisk(join(folder, 'root'));
    const archive = join(folder, 'payload.cpio');
    run('sh', ['-c', 'cd "$0" && find . | busybox cpio -o -H newc > "$1"', payload, archive]);
    const console = await boot({ initramfs: archive, disks: [rootDisk] });
    ordinary = available(console);
  });
  after(() => removeTempDir(folder));

  const available = (console: string): number => {
    const [value] = values(console, 'root', 'available');
    assert.ok(value !== undefined, console);
    return Number(value);
  };

  /** What must be seen when the root's init runs. */
  const assertGone = (console: string, drivers = 4096): void => {
    const mounts = values(console, 'root', 'mount').sort();
    assert.deepEqual(mounts, ['/', '/dev', '/proc', '/sys'], console);
    for (const key of ['image', 'loop', 'dm']) assert.deepEqual(values(console, 'root', key), []);
    // Drivers stay: some hundred KiB, 10 MiB of btrfs. What the payload wrote were 24 MiB.
    assert.ok(
      available(console) > ordinary - drivers,
      `${available(console)} KiB instead of ${ordinary}`,
    );
  };

  test('verity: the image is the root, then nothing of it is left', async () => {
    const built = await build(join(folder, 'verity'), {
      source: { root: payload },
      verify: 'verity',
    });
    const disk = bootDisk(built, join(folder, 'disk'));
    const initramfs = join(built.folder, 'initramfs.img');
    const console = await boot({ initramfs, disks: [disk, rootDisk], append: 'first second' });
    assert.deepEqual(values(console, 'payload', 'loop'), ['/initoverlayfs.img'], console);
    assert.equal(values(console, 'payload', 'dm').length, 1);
    assert.match(
      values(console, 'payload', 'image').join(),
      /^\S+ \S+ \S+ \/ \/ .*- overlay .*volatile/,
    );
    assert.match(values(console, 'payload', 'arguments').join(), /first second$/);
    for (const line of [
      'storage-init begins',
      'modules loaded',
      'device LABEL=varve-boot is /dev/vda',
    ])
      assert.ok(console.includes(line), line);
    assert.match(console, /varve-boot: \[\d+\.\d\d\] starting the init of the image/);
    assertGone(console);
  });

  test('digest, found by the name of its partition', async () => {
    const built = await build(join(folder, 'digest'), {
      source: { root: payload },
      verify: 'digest',
      bootfs: 'PARTLABEL=varve-part',
      bootfstype: 'auto',
    });
    const disk = join(folder, 'partitioned');
    partitioned(disk, bootDisk(built, join(folder, 'partition')), 'varve-part');
    const initramfs = join(built.folder, 'initramfs.img');
    const console = await boot({ initramfs, disks: [rootDisk, disk] });
    assert.match(console, /device PARTLABEL=varve-part is \/dev\/vdb1$/m);
    assert.match(console, /digest of \/boot\/initoverlayfs.img is right/);
    assertGone(console);
  });

  test('embedded: no driver for a disk', async () => {
    const built = await build(join(folder, 'embedded'), {
      source: { root: payload },
      verify: 'digest',
      embed: true,
    });
    assert.ok(!built.manifest.initramfs.modules.some((path) => path.includes('virtio')));
    const initramfs = join(built.folder, 'initramfs.img');
    // With root= the kernel takes a ramfs for its initramfs, and no tmpfs.
    const console = await boot({ initramfs, disks: [rootDisk], append: 'root=LABEL=varve-root' });
    assert.deepEqual(
      values(console, 'payload', 'loop'),
      ['/images/initoverlayfs.img (deleted)'],
      console,
    );
    assertGone(console);
  });

  test('300 MB in 192 MB of memory, with layers above, found by UUID', async () => {
    const large = makePayload(join(folder, 'large'), {
      commands: `cat /file /vendor /site; ls /gone; sha256sum /data/40; cat /data/* | wc -c
        poweroff -f`,
    });
    const text = Buffer.alloc(4_000_000, 'What is compressed well is made and read quickly.\n');
    mkdirSync(join(large, 'data'));
    for (let i = 0; i < 75; i++) {
      text.writeUInt32LE(i);
      writeFileSync(join(large, 'data', String(i)), text);
    }
    text.writeUInt32LE(40);
    writeFileSync(join(large, 'file'), 'file of the payload\n');
    writeFileSync(join(large, 'gone'), '');
    const [vendor, site] = ['vendor', 'site'].map((name) => join(folder, name)) as [string, string];
    for (const layer of [vendor, site]) {
      mkdirSync(layer);
      writeFileSync(join(layer, 'file'), `file of ${basename(layer)}\n`);
      writeFileSync(join(layer, basename(layer)), `only in ${basename(layer)}\n`);
    }
    run('mknod', [join(vendor, 'gone'), 'c', '0', '0']);
    const uuid = '7d5a1b0e-2222-4333-8444-0123456789ab';
    const built = await build(join(folder, 'layered'), {
      source: { root: large },
      layers: [vendor, site],
      verify: 'verity',
      bootfs: `UUID=${uuid}`,
    });
    rmSync(large, { recursive: true });
    const disk = bootDisk(built, join(folder, 'layered-disk'));
    run('tune2fs', ['-U', uuid, disk]);
    const initramfs = join(built.folder, 'initramfs.img');
    const hashes = built.manifest.layers.map(({ verity }) => verity?.roothash).join(',');
    const append = `varve.roothash=${hashes}`;
    const console = await boot({ initramfs, disks: [disk], memory: 192, append });
    assert.match(console, /^file of site$\n^only in vendor$\n^only in site$/m);
    assert.match(console, /ls: \/gone: No such file/);
    assert.ok(console.includes(createHash('sha256').update(text).digest('hex')), console);
    assert.match(console, /^300000000$/m);
  });

  test('a partition that is the image itself, found by its own UUID', async () => {
    const built = await build(join(folder, 'raw'), {
      source: { root: payload },
      verify: 'verity',
      bootfs: '/dev/vdz',
      raw: true,
    });
    const disk = join(folder, 'raw-disk');
    const uuid = partitioned(disk, join(built.folder, 'initoverlayfs.img'), 'image');
    const initramfs = join(built.folder, 'initramfs.img');
    const append = `varve.bootfs=PARTUUID=${uuid}`;
    const console = await boot({ initramfs, disks: [rootDisk, disk], append });
    assert.match(console, /device PARTUUID=\S+ is \/dev\/vdb1$/m);
    assert.equal(values(console, 'payload', 'dm').length, 1, console);
    assert.deepEqual(values(console, 'payload', 'loop'), []);
    assertGone(console);
  });

  test('btrfs', { skip: requires({ packages: ['btrfs-progs'] }) }, async () => {
    const built = await build(join(folder, 'btrfs'), {
      source: { root: payload },
      format: 'btrfs',
      verify: 'none',
    });
    const disk = bootDisk(built, join(folder, 'btrfs-disk'));
    const initramfs = join(built.folder, 'initramfs.img');
    const console = await boot({ initramfs, disks: [disk, rootDisk] });
    assert.deepEqual(values(console, 'payload', 'loop'), ['/initoverlayfs.img'], console);
    assertGone(console, 16_384);
  });
});
