// One real boot of what `varve boot build` has made: disks with the images, QEMU with Debian's kernel, and what came on the console.
// Called by the boot tests. The lines of storage-init are on the console since all of the kernel's log is shown there.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { appendFileSync, copyFileSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { type BuildRequest, buildBoot } from '../../src/boot/build/build.js';
import type { BootManifest } from '../../src/boot/build/manifest.js';
import { writeCpio } from '../../src/tree/cpio-write.js';
import { add, makeNode, memoryContent } from '../../src/tree/tree.js';
import { run } from '../vm/guest-files.js';
import { debianKernel, type Kernel, NoKernelError } from '../vm/kernel.js';
import { type Machine, runMachine } from '../vm/qemu.js';

/** Modules that a payload loads to see its disks. */
export const STORAGE = ['virtio_pci', 'virtio_blk'];

let found: Kernel | undefined;

/** @throws NoKernelError when apt does not give it. */
export function kernel(): Kernel {
  found ??= debianKernel(STORAGE);
  return found;
}

/** @returns why there can be no boot, for node:test's `skip`; else false. */
export function cannotBoot(): string | false {
  if (process.arch !== 'x64') return 'needs an x86-64 processor';
  try {
    kernel();
    return false;
  } catch (error) {
    if (error instanceof NoKernelError) return error.message;
    throw error;
  }
}

/** What most tests ask for; the others say what is different. */
export function request(out: string, changes: Partial<BuildRequest>): BuildRequest {
  const { root, release } = kernel();
  return {
    source: {},
    modules: { folder: root, release },
    out,
    layers: [],
    format: 'erofs',
    ...(changes.format === 'btrfs' ? {} : { compress: 'lz4' }),
    storage: ['virtio'],
    host: false,
    bootfs: 'LABEL=varve-boot',
    bootfstype: 'ext4',
    raw: false,
    embed: false,
    verify: 'none',
    timeout: 5,
    onFailure: 'poweroff',
    overlaySize: '50%',
    miniCompress: 'none',
    pathInBootfs: '/initoverlayfs.img',
    ...changes,
  };
}

/** A build with its files. */
export interface Built {
  readonly folder: string;
  readonly manifest: BootManifest;
}

export async function build(folder: string, changes: Partial<BuildRequest>): Promise<Built> {
  return { folder, manifest: await buildBoot(request(folder, changes)) };
}

/** An ext4 with the images of a build, as /boot is; and further files by their names there. */
export function bootDisk(
  { folder, manifest }: Built,
  path: string,
  files: Readonly<Record<string, string>> = {},
): string {
  const tree = `${path}.tree`;
  mkdirSync(tree);
  for (const { file } of manifest.layers) copyFileSync(join(folder, file), join(tree, file));
  for (const [name, source] of Object.entries(files)) {
    mkdirSync(dirname(join(tree, name)), { recursive: true });
    copyFileSync(source, join(tree, name));
  }
  return ext4(path, tree, 'varve-boot');
}

/** A disk with the tree in it, and as much again. */
export function ext4(path: string, tree: string, label: string, uuid?: string): string {
  const kilobytes = Number(/^\d+/.exec(run('du', ['-sk', tree]))?.[0]);
  const size = `${Math.ceil((kilobytes * 1.1) / 1024) + 8}M`;
  const named = ['-L', label, ...(uuid === undefined ? [] : ['-U', uuid])];
  const options = ['-q', '-F', '-O', '^has_journal', '-E', 'root_owner=0:0', ...named];
  rmSync(path, { force: true });
  run('mkfs.ext4', [...options, '-d', tree, path, size]);
  rmSync(tree, { recursive: true });
  return path;
}

/** The initramfs with files in the place of its own: a later archive wins. `undefined` makes a folder of that name. */
export function patched(
  { folder, manifest }: Built,
  path: string,
  files: Readonly<Record<string, Uint8Array | undefined>>,
): string {
  copyFileSync(join(folder, manifest.initramfs.file), path);
  appendFileSync(path, new Uint8Array((4 - (statSync(path).size % 4)) % 4));
  const root = makeNode(0o40755);
  for (const [name, bytes] of Object.entries(files)) {
    const names = name.split('/');
    const last = names.pop() as string;
    let dir = root;
    for (const part of names) {
      const next = dir.entries?.get(part) ?? makeNode(0o40755);
      if (!dir.entries?.has(part)) add(dir, part, next);
      dir = next;
    }
    const node =
      bytes === undefined
        ? makeNode(0o40755)
        : makeNode(0o100644, { size: bytes.length, content: memoryContent(bytes) });
    add(dir, last, node);
  }
  writeCpio(root, (piece) => appendFileSync(path, piece));
  return path;
}

const SECTOR = 512;
const FIRST = 2048;

/** Puts an image into the only partition of a disk, which has a name. @returns the partition's own UUID. */
export function partitioned(path: string, image: string, label: string): string {
  const sectors = Math.ceil(statSync(image).size / SECTOR);
  const total = FIRST + sectors + FIRST;
  const uuid = randomBytes(16);
  const entry = Buffer.alloc(128);
  // Linux filesystem data: 0FC63DAF-8483-4772-8E79-3D69D8477DE4.
  Buffer.from('af3dc60f838472478e793d69d8477de4', 'hex').copy(entry);
  uuid.copy(entry, 16);
  entry.writeBigUInt64LE(BigInt(FIRST), 32);
  entry.writeBigUInt64LE(BigInt(FIRST + sectors - 1), 40);
  entry.write(label, 56, 'utf16le');
  const guid = randomBytes(16);
  const entries = Buffer.concat([entry, Buffer.alloc(127 * 128)]);
  const header = (self: number, other: number, table: number): Buffer => {
    const bytes = Buffer.alloc(SECTOR);
    bytes.write('EFI PART');
    bytes.writeUInt32LE(0x10000, 8);
    bytes.writeUInt32LE(92, 12);
    const at: [number, number][] = [
      [24, self],
      [32, other],
      [40, 34],
      [48, total - 34],
      [72, table],
    ];
    for (const [offset, value] of at) bytes.writeBigUInt64LE(BigInt(value), offset);
    guid.copy(bytes, 56);
    bytes.writeUInt32LE(128, 80);
    bytes.writeUInt32LE(128, 84);
    bytes.writeUInt32LE(crc32(entries), 88);
    bytes.writeUInt32LE(crc32(bytes.subarray(0, 92)), 16);
    return bytes;
  };
  const protective = Buffer.alloc(SECTOR);
  protective[450] = 0xee;
  protective.writeUInt32LE(1, 454);
  protective.writeUInt32LE(total - 1, 458);
  protective.writeUInt16LE(0xaa55, 510);
  writeFileSync(path, Buffer.concat([protective, header(1, total - 1, 2), entries]));
  run('truncate', ['-s', String(total * SECTOR), path]);
  run('dd', [`if=${image}`, `of=${path}`, 'bs=1M', `seek=${FIRST / 2048}`, 'conv=notrunc,sparse']);
  const end = join(dirname(path), 'gpt-end');
  writeFileSync(end, Buffer.concat([entries, header(total - 1, 1, total - 33)]));
  run('dd', [`if=${end}`, `of=${path}`, 'bs=512', `seek=${total - 33}`, 'conv=notrunc']);
  const hex = uuid.toString('hex').replace(/(..)(..)(..)(..)(..)(..)(..)(..)/, '$4$3$2$1$6$5$8$7');
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

export interface Boot {
  readonly initramfs: string;
  readonly disks?: readonly string[];
  readonly append?: string;
  /** MiB; 192. */
  readonly memory?: number;
  /** When a line matches, the machine is ended: enough is seen. */
  readonly until?: RegExp;
  readonly typed?: Machine['typed'];
  readonly isScratch?: boolean;
  /** Milliseconds; 100 seconds, of which a boot needs 5 on an idle machine. */
  readonly limit?: number;
}

/** @returns what came on the console. Fails when it does not end by itself, or with `until`. */
export async function boot(options: Boot): Promise<string> {
  const lines: string[] = [];
  const { until } = options;
  const ending = await runMachine({
    kernel: kernel().vmlinux,
    initramfs: options.initramfs,
    append: `loglevel=6 ${options.append ?? ''}`,
    memory: options.memory ?? 192,
    disks: options.disks,
    typed: options.typed,
    isScratch: options.isScratch,
    limit: options.limit ?? 100_000,
    onLine: (line) => {
      lines.push(line);
      // A sign of life for the test runner.
      if (line.includes('varve-boot: [')) console.log(line);
      return until?.test(line);
    },
  });
  const said = lines.join('\n');
  assert.equal(ending, undefined, said);
  return said;
}
