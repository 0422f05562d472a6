// Which modules a mini-initramfs gets: dependencies, soft ones, aliases, what is built in, compressed files; the drivers of a
// machine, read from a /sys of our own; libraries of a program, against what ld.so says.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { sharedLibraries } from '../../src/boot/build/elf.js';
import { bootFilesystem, hostModules } from '../../src/boot/build/host.js';
import { KernelModules, modulesOfTree, openModuleFolder } from '../../src/boot/build/modules.js';
import { storageModules } from '../../src/boot/build/storage.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { makeModules, RELEASE, withTree } from './build-parts.js';

const names = (modules: KernelModules, ...wanted: string[]): string[] =>
  modules.resolve(wanted).map(({ name }) => name);

test('modules come behind what they need, once, and what is built in is left out', (t) => {
  const d = tempDir(t);
  const modules = new KernelModules(openModuleFolder(makeModules(d), undefined));
  assert.equal(modules.folder.release, RELEASE);
  assert.deepEqual(names(modules, 'virtio-blk', 'virtio_pci', 'virtio_blk'), [
    'virtio_ring',
    'virtio',
    'virtio_blk',
    'virtio_pci',
  ]);
  assert.deepEqual(names(modules, 'ext4'), []);
  assert.deepEqual(names(modules, 'dm-verity'), ['dm_mod', 'dm_verity']);
  assert.throws(() => names(modules, 'stone'), /module stone: the kernel 6\.1\.0-stone has none/);
});

test('a soft dependency is a module or an alias; one that is built in will do', (t) => {
  const d = tempDir(t);
  const without = new KernelModules(openModuleFolder(makeModules(join(d, 'a')), undefined));
  assert.deepEqual(names(without, 'erofs'), ['crc32c_generic', 'libcrc32c', 'erofs']);
  const within = new KernelModules(openModuleFolder(makeModules(join(d, 'b'), true), undefined));
  assert.deepEqual(names(within, 'erofs'), ['libcrc32c', 'erofs']);
});

test('a folder of modules may be named in each of three ways', (t) => {
  const d = makeModules(tempDir(t));
  const place = join(d, 'lib/modules', RELEASE);
  for (const folder of [d, join(d, 'lib/modules'), place]) {
    assert.equal(openModuleFolder(folder, undefined).where, place, folder);
    assert.equal(openModuleFolder(folder, RELEASE).where, place, folder);
  }
  mkdirSync(join(d, 'lib/modules/7.0/kernel'), { recursive: true });
  assert.throws(() => openModuleFolder(d, undefined), /there are those of 6\.1\.0-stone, 7\.0/);
  assert.throws(
    () => new KernelModules(openModuleFolder(d, '7.0')),
    /has no modules\.dep: run depmod for 7\.0 first/,
  );
});

const compressed = { skip: requires({ packages: ['xz-utils', 'zstd'] }) };

test('compressed modules are decompressed, in a folder and in a payload', compressed, (t) => {
  const d = makeModules(tempDir(t));
  const place = join(d, 'lib/modules', RELEASE);
  const loop = join(place, 'kernel/drivers/block/loop.ko');
  const plain = readFileSync(loop);
  const dep = readFileSync(join(place, 'modules.dep'), 'utf8');
  rmSync(loop);
  for (const [ending, command] of [
    ['xz', 'xz --check=crc32 -c'],
    ['zst', 'zstd -qc'],
    ['gz', 'gzip -c'],
  ] as const) {
    writeFileSync(`${loop}.${ending}`, execFileSync('sh', ['-c', command], { input: plain }));
    writeFileSync(join(place, 'modules.dep'), dep.replace('loop.ko:', `loop.ko.${ending}:`));
    const modules = new KernelModules(openModuleFolder(d, undefined));
    const [file] = modules.resolve(['loop']);
    assert.equal(file?.path, `kernel/drivers/block/loop.ko.${ending}`);
    assert.ok(plain.equals(modules.folder.module(file.path)), ending);
    withTree(d, (root) => {
      const own = modulesOfTree(root, 'payload');
      assert.ok(plain.equals(own?.module(file.path) ?? Buffer.alloc(0)), ending);
    });
  }
});

test('kinds of storage, and modules by their names', (t) => {
  const d = makeModules(tempDir(t));
  const modules = new KernelModules(openModuleFolder(d, undefined));
  const virtio = ['virtio_pci', 'virtio_blk', 'sd_mod'];
  assert.deepEqual(storageModules(['virtio'], modules), virtio);
  assert.deepEqual(storageModules(['virtio', 'dm-mod'], modules), [...virtio, 'dm-mod']);
  assert.deepEqual(new Set(storageModules([], modules)), new Set(virtio));
  // The driver of disks alone reaches none.
  assert.throws(() => storageModules(['ata'], modules), /has none of ahci, ata_piix/);
});

/** A machine with one virtio disk, whose first partition is /boot. */
function makeMachine(d: string): { proc: string; sys: string; dev: string } {
  const write = (path: string, text: string): void => {
    mkdirSync(dirname(join(d, path)), { recursive: true });
    writeFileSync(join(d, path), text);
  };
  const link = (path: string, target: string): void => {
    mkdirSync(dirname(join(d, path)), { recursive: true });
    symlinkSync(join(d, target), join(d, path));
  };
  const pci = 'sys/devices/pci0000:00/0000:00:02.0';
  const disk = `${pci}/virtio1/block/vda`;
  write(`${pci}/modalias`, 'pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00\n');
  write(`${pci}/virtio1/modalias`, 'virtio:d00000002v00001AF4\n');
  write('sys/module/virtio_blk/refcnt', '1\n');
  link(`${pci}/virtio1/driver`, 'sys/bus/virtio/drivers/virtio_blk');
  mkdirSync(join(d, 'sys/bus/virtio/drivers/virtio_blk'), { recursive: true });
  link('sys/bus/virtio/drivers/virtio_blk/module', 'sys/module/virtio_blk');
  write(`${disk}/vda1/dev`, '254:1\n');
  link('sys/dev/block/254:1', `${disk}/vda1`);
  link('sys/class/block/vda', disk);
  link('sys/class/block/vda1', `${disk}/vda1`);
  link('sys/block/vda', disk);
  write('dev/vda1', '');
  link('dev/disk/by-uuid/1234-ABCD', 'dev/vda1');
  write(
    'proc/self/mountinfo',
    '22 1 254:2 / / rw - ext4 /dev/vda2 rw\n23 22 254:1 / /boot rw - vfat /dev/vda1 rw\n',
  );
  return { proc: join(d, 'proc'), sys: join(d, 'sys'), dev: join(d, 'dev') };
}

test('--host: the filesystem of /boot, and the drivers from the bus to its device', async (t) => {
  const d = tempDir(t);
  const machine = makeMachine(join(d, 'machine'));
  assert.deepEqual(await bootFilesystem(machine), {
    bootfs: 'UUID=1234-ABCD',
    type: 'vfat',
    folder: '',
    device: 'vda1',
  });
  const modules = new KernelModules(openModuleFolder(makeModules(join(d, 'kernel')), undefined));
  assert.deepEqual(hostModules(modules, 'vda1', machine), ['virtio_pci', 'virtio_blk']);
  assert.deepEqual(hostModules(modules, undefined, machine), ['virtio_pci', 'virtio_blk']);
});

test('--host: /boot as a folder of the root, on nothing, and on what must be assembled', async (t) => {
  const machine = makeMachine(tempDir(t));
  const mounted = (text: string): void =>
    writeFileSync(join(machine.proc, 'self/mountinfo'), `${text}\n`);
  mounted('22 1 0:25 /@ / rw - btrfs /dev/vda1 rw');
  const { folder, device } = await bootFilesystem({ ...machine, dev: machine.dev }).catch(() => ({
    folder: '',
    device: '',
  }));
  assert.deepEqual({ folder, device }, { folder: '/@/boot', device: 'vda1' });
  mounted('22 1 0:25 / / rw - overlay overlay rw');
  await assert.rejects(
    bootFilesystem(machine),
    /\/boot: is on no disk \(overlay overlay\): name another by --bootfs/,
  );
});

test('the libraries of a program are those that ld.so finds', {
  skip: requires({ packages: ['dmsetup'] }),
}, () => {
  const said = execFileSync('ldd', ['/usr/sbin/dmsetup'], { encoding: 'utf8' });
  const wanted = [...said.matchAll(/(\/\S+) \(0x/g)].map(([, path]) =>
    realpathSync(path as string),
  );
  const found = sharedLibraries('/usr/sbin/dmsetup').map((path) => realpathSync(path));
  assert.deepEqual(found.toSorted(), wanted.toSorted());
  assert.deepEqual(sharedLibraries('/bin/busybox'), []);
  assert.throws(() => sharedLibraries('/etc/passwd'), /is no program of a 64-bit/);
});
