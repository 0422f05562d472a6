// `varve boot inspect` and `diff` on real builds: every part is found in every form, the same by each way to it, and what differs is told.
// What was read is held against ranges and pages that the test itself has chosen; a kernel's log is a text here.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { writePe } from '../../src/boot/auth/pe.js';
import { comparedTree, compareParts } from '../../src/boot/inspect/compare.js';
import { openBoot } from '../../src/boot/inspect/open.js';
import { partsOf } from '../../src/boot/inspect/parts.js';
import { bootLog, cachedOf, filesIn } from '../../src/boot/inspect/reads.js';
import { MemorySource } from '../../src/bytes/source.js';
import { FileSource } from '../../src/linux/file-source.js';
import { mapMemory } from '../../src/linux/memory.js';
import { residentRanges } from '../../src/linux/page-cache.js';
import { treeChanges } from '../../src/union/tree-changes.js';
import { requires } from '../support/requires.js';
import { makeTempDir, removeTempDir, tempDir } from '../support/temp.js';
import { makeInitramfs, noise, RELEASE } from './made-build.js';

const varve = fileURLToPath(new URL('../../../bin/varve.js', import.meta.url));
const skip = requires({ packages: ['busybox-static'] });

let folder: string;
before(() => {
  folder = makeTempDir();
  if (skip !== false) return;
  makeInitramfs(join(folder, 'one.img'), RELEASE, 1);
  makeInitramfs(join(folder, 'two.img'), RELEASE, 2);
  mkdirSync(join(folder, 'site/etc'), { recursive: true });
  writeFileSync(join(folder, 'site/etc/site.conf'), 'site\n');
  build('one.img', 'out', '--bootfs', 'LABEL=boot');
  build('two.img', 'embedded', '--embed', '--layer', join(folder, 'site'));
});
after(() => removeTempDir(folder));

function run(...args: string[]) {
  return spawnSync(process.execPath, [varve, ...args], { cwd: folder, encoding: 'utf8' });
}

function build(initramfs: string, out: string, ...more: string[]): void {
  const made = run(
    'boot',
    'build',
    '--initramfs',
    initramfs,
    '--verify',
    'digest',
    '-q',
    '-o',
    out,
    ...more,
  );
  assert.equal(made.status, 0, made.stderr);
}

function inspected<T>(name: string, look: (boot: ReturnType<typeof openBoot>) => T): T {
  const boot = openBoot(join(folder, name));
  try {
    return look(boot);
  } finally {
    boot.close();
  }
}

test('the parts of a build: modules in the order of loading, programs, configuration, image', {
  skip,
}, () => {
  const parts = inspected('out', partsOf);
  assert.equal(parts.kind, 'build');
  const modules = parts.initramfs?.modules.map(({ path }) => path.replace(/.*\//, ''));
  assert.ok(
    modules?.includes('erofs.ko') && modules.indexOf('virtio_blk.ko') < modules.indexOf('erofs.ko'),
  );
  assert.ok(parts.initramfs?.programs.some(({ path }) => path === 'bin/busybox'));
  assert.equal(parts.initramfs?.config?.bootfs, 'LABEL=boot');
  assert.equal(parts.initramfs?.compression, 'lz4');
  const [image, ...more] = parts.images;
  assert.equal(more.length, 0);
  assert.equal(image?.layer?.verify, 'digest');
  const largest = image?.erofs?.largest.map(({ bytes }) => bytes);
  assert.deepEqual(
    largest,
    [...(largest ?? [])].sort((a, b) => b - a),
  );
  // The mini-initramfs alone, and the image alone, say the same.
  assert.deepEqual(inspected('out/initramfs.img', partsOf).initramfs, parts.initramfs);
  assert.deepEqual(inspected('out/initoverlayfs.img', partsOf).images[0]?.erofs, image?.erofs);
});

test('images inside of a mini-initramfs are read where they lie; a complete initramfs has no image', {
  skip,
}, () => {
  const parts = inspected('embedded', partsOf);
  assert.deepEqual(
    parts.images.map(({ path, isThere }) => [path, isThere]),
    [
      [undefined, true],
      [undefined, true],
    ],
  );
  assert.ok(parts.images.every(({ erofs }) => (erofs?.inodes ?? 0) > 1));
  const complete = inspected('one.img', partsOf);
  assert.equal(complete.kind, 'initramfs');
  assert.equal(complete.initramfs?.compression, 'gzip');
  assert.equal(complete.initramfs?.modules.length, 6);
  assert.deepEqual(complete.images, []);
});

test('a unified kernel image: what its sections say, and the mini-initramfs inside', {
  skip: requires({ packages: ['busybox-static', 'systemd-boot-efi'] }),
}, () => {
  const stub = FileSource.open('/usr/lib/systemd/boot/efi/linuxx64.efi.stub');
  const text = (name: string, content: string) => ({
    name,
    source: new MemorySource(Buffer.from(content)),
  });
  const sections = [
    text('.osrel', 'ID=x\nPRETTY_NAME="Some Linux"\n'),
    text('.cmdline', 'root=LABEL=x quiet'),
    text('.uname', RELEASE),
    { name: '.initrd', source: new MemorySource(readFileSync(join(folder, 'out/initramfs.img'))) },
  ];
  const pieces: Buffer[] = [];
  writePe(stub, sections, 'stub', (piece) => pieces.push(Buffer.from(piece)));
  stub.close();
  writeFileSync(join(folder, 'out/linux.efi'), Buffer.concat(pieces));
  const parts = inspected('out/linux.efi', partsOf);
  assert.equal(parts.kind, 'unified kernel image');
  assert.equal(parts.uki?.cmdline, 'root=LABEL=x quiet');
  assert.equal(parts.uki?.uname, RELEASE);
  assert.equal(parts.uki?.os, 'Some Linux');
  assert.equal(parts.uki?.signatures, 0);
  const build = inspected('out', partsOf);
  assert.deepEqual({ ...parts.initramfs, path: '' }, { ...build.initramfs, path: '' });
  assert.deepEqual(parts.images, build.images);
  const told = run('boot', 'diff', 'out', 'out/linux.efi');
  assert.match(told.stdout, /^command line +- -> root=LABEL=x quiet$/m);
  assert.match(told.stdout, /^no changes|0 changes/m);
});

test('an image that is not where it is named is said to be missing', { skip }, (t) => {
  const elsewhere = tempDir(t);
  spawnSync('cp', [join(folder, 'out/initramfs.img'), elsewhere]);
  const shown = run('boot', 'inspect', join(elsewhere, 'initramfs.img'));
  assert.equal(shown.status, 0, shown.stderr);
  assert.match(shown.stdout, /is not there: named as \/initoverlayfs.img/);
  const compared = run('boot', 'diff', join(elsewhere, 'initramfs.img'), 'out');
  assert.equal(compared.status, 6);
  assert.match(compared.stderr, /name the folder of the build/);
});

test('diff: a build has the files of its initramfs; two builds differ in files, settings and layers', {
  skip,
}, () => {
  const same = inspected('one.img', (old) =>
    inspected('out', (now) => treeChanges(comparedTree(old, false), comparedTree(now, false))),
  );
  assert.deepEqual(same, []);
  const told = run('boot', 'diff', '--name-status', '--payload', 'out', 'embedded');
  assert.equal(told.status, 0, told.stderr);
  const lines = told.stdout.trim().split('\n');
  assert.ok(lines.includes('A\tpayload/etc/site.conf'), told.stdout);
  assert.ok(lines.includes('M\tpayload/usr/bin/program1'), told.stdout);
  assert.ok(lines.every((line) => line.includes('\tpayload')));
  const { settings } = inspected('out', (old) =>
    inspected('embedded', (now) => compareParts(old, now)),
  );
  assert.deepEqual(
    settings.find(({ key }) => key === 'bootfs'),
    { key: 'bootfs', before: 'LABEL=boot', after: 'initrd' },
  );
  assert.ok(settings.some(({ key }) => key === 'layer 2 digest'));
  assert.equal(run('boot', 'diff', '-q', 'out', 'out').status, 0);
  assert.equal(run('boot', 'diff', '-q', 'out', 'embedded').status, 1);
  const json = JSON.parse(run('boot', 'diff', '--json', 'out', 'embedded').stdout);
  // Without storage there are fewer modules.
  assert.ok(json.boot.modules.removed.includes('virtio_blk'));
  assert.ok(
    json.changes.some(({ path }: { path: string }) => path.startsWith('mini/lib/modules/')),
  );
});

test('bytes of an image lead to the files that have them', { skip }, () => {
  inspected('out', ({ images: [image] }) => {
    assert.ok(image?.erofs);
    const { erofs } = image;
    const all = filesIn(erofs, [{ at: 0, length: image.size }]);
    assert.ok(all.length >= 3);
    assert.ok(all.every(({ cached, stored }) => cached === stored));
    const [first] = all;
    assert.ok(first);
    // One byte in the middle of what is stored for one file is of that file alone.
    const nid = first.path
      .split('/')
      .reduce(
        (dir, name) => erofs.lookup(erofs.inode(dir), Buffer.from(name)) as never,
        erofs.rootNid,
      );
    const [extent] = [...erofs.extents(erofs.inode(nid))];
    assert.ok(extent);
    const at = extent.storedAt + Math.floor(extent.stored / 2);
    assert.deepEqual(filesIn(erofs, [{ at, length: 1 }]), [
      { path: first.path, cached: 1, stored: first.stored },
    ]);
    assert.deepEqual(filesIn(erofs, []), []);
    // Just built: all of it is in memory, unless somebody needed that memory.
    const reads = cachedOf(image);
    assert.ok(reads && reads.cached > 0 && reads.cached <= image.size);
  });
});

test('pages in memory are found, and only they', (t) => {
  mapMemory();
  const path = join(tempDir(t), 'sparse');
  const fd = openSync(path, 'w+');
  ftruncateSync(fd, 1_000_001);
  writeSync(fd, noise(8192, 1), 0, 8192, 40_960);
  writeSync(fd, Buffer.from('x'), 0, 1, 1_000_000);
  assert.deepEqual(residentRanges(fd, 1_000_001), [
    { at: 40_960, length: 8192 },
    { at: 999_424, length: 577 },
  ]);
  closeSync(fd);
});

test('a boot is told by the log of the kernel and by what the initramfs has recorded', (t) => {
  const run = join(tempDir(t), 'run');
  const sys = join(tempDir(t), 'sys');
  const log = `[    0.900000] other: thing
varve-boot: [1.05] storage-init begins
varve-boot: [1.42] image 1: 5120 KiB read so far
varve-boot: [1.43] starting the init of the image`;
  const without = bootLog(log, run, sys);
  assert.deepEqual(without, {
    lines: [
      { at: 1.05, text: 'storage-init begins' },
      { at: 1.42, text: 'image 1: 5120 KiB read so far' },
      { at: 1.43, text: 'starting the init of the image' },
    ],
    read: [5120],
    remains: [],
  });
  mkdirSync(run);
  writeFileSync(
    join(run, 'stat.end'),
    'loop0       40        0     20480       9        0 0 0 0 0 0 0\n',
  );
  writeFileSync(join(run, 'reads'), '   4096 /etc/a b\n      0 /etc/none\n8192 /usr/bin/x\n');
  mkdirSync(join(sys, 'loop0/loop'), { recursive: true });
  writeFileSync(join(sys, 'loop0/loop/backing_file'), '/boot/varve/initoverlayfs-00.img\n');
  const traced = bootLog(log, run, sys);
  assert.deepEqual(traced.devices, [{ name: 'loop0', bytes: 20480 * 512 }]);
  assert.deepEqual(traced.files, [
    { path: '/usr/bin/x', bytes: 8192 },
    { path: '/etc/a b', bytes: 4096 },
  ]);
  assert.deepEqual(traced.remains, ['loop0: /boot/varve/initoverlayfs-00.img']);
});
