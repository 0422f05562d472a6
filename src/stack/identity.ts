// What a filesystem is called wherever it is mounted: of this the inode numbers of its objects are made.
// Called by open.ts once a layer when the stack is opened; reads a superblock at most, and writes nothing.
// Which filesystem tells what: docs/decisions/inode-numbers.md. Superblocks: squashfs_fs.h, ECMA-119, erofs_fs.h.

import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import type { ByteSource } from '../bytes/source.js';
import { xxh32 } from '../bytes/xxh32.js';
import { MAGIC } from '../linux/constants.js';
import { majorOf, minorOf } from '../linux/device.js';
import { check } from '../linux/errno.js';
import { emptyPath, fstatfs } from '../linux/files.js';
import { filesystemUuid, nameToHandle, xfsNumberBits } from '../linux/handles.js';
import { getU64, scratch, u8, u32 } from '../linux/memory.js';
import { mountTable } from '../linux/mountinfo.js';
import { type Space, uuidIdentity } from '../overlay/numbers.js';

// Scratch of this thread that no system call wrapper uses: a struct statfs, a file handle.
const STATFS_AT = 0x22000;
const HANDLE_AT = 0x23000;

/** struct statfs: fields used here. */
const Statfs = { type: 0, bsize: 8, blocks: 16, files: 40, fsid: 56 } as const;

/** Read-only filesystems without a UUID: where on the device lies what tells one from another, bytes. */
const SUPERBLOCKS: ReadonlyMap<number, { readonly at: number; readonly length: number }> = new Map([
  [MAGIC.SQUASHFS, { at: 0, length: 96 }],
  [MAGIC.ISOFS, { at: 32768, length: 2048 }],
  [MAGIC.CRAMFS, { at: 0, length: 76 }],
  [MAGIC.ROMFS, { at: 0, length: 512 }],
  [MAGIC.EROFS, { at: 0, length: 8192 }],
]);

export interface DirectoryIdentity extends Space {
  /** 16 bytes as in file handles; zeros when there is none. */
  readonly uuid: Uint8Array;
  /** f_type of statfs(2). */
  readonly magic: number;
}

/**
 * The filesystem that a directory lies on.
 * @param fd any descriptor of the directory. @param real one that is not O_PATH, or -1. @param device `major:minor`
 */
export function identityOf(fd: number, real: number, device: string): DirectoryIdentity {
  const statfs = scratch + STATFS_AT;
  check(fstatfs(fd, statfs), 'statfs', device);
  const magic = u32[(statfs + Statfs.type) >>> 2] as number;
  const found = real < 0 ? undefined : filesystemUuid(real);
  const uuid = found ?? new Uint8Array(16);
  const known = { uuid, magic, place: device, wide: 0 };
  if (uuid.some((byte) => byte !== 0)) {
    if (magic === MAGIC.BTRFS) return { ...known, identity: subvolumeIdentity(fd, uuid) };
    const wide = magic === MAGIC.XFS ? Math.max(0, xfsNumberBits(real) - 32) : 0;
    return { ...known, identity: uuidIdentity(uuid), wide };
  }
  const superblock = SUPERBLOCKS.get(magic);
  if (superblock === undefined) return { ...known, identity: weakIdentity(statfs, device) };
  const bytes = readDevice(device, superblock.at, superblock.length);
  const { type, bsize, blocks, files } = Statfs;
  const identity =
    bytes ??
    new TextEncoder().encode([type, bsize, blocks, files].map((k) => getU64(statfs + k)).join());
  return { ...known, identity: condensed('superblock', identity) };
}

/** An image that is a layer itself: its superblock and what follows, for tools like to give every image the same UUID. */
export function imageIdentity(source: ByteSource): Uint8Array {
  const bytes = new Uint8Array(Math.min(source.size, SUPERBLOCKS.get(MAGIC.EROFS)?.length ?? 0));
  source.read(0, bytes);
  return condensed('image', bytes);
}

/** Bits above the 32nd that the numbers of an image's inodes may have: they count units of 32 bytes. */
export function imageWidth(source: ByteSource): number {
  return Math.max(0, Math.ceil(Math.log2(source.size / 32)) - 32);
}

/** struct btrfs_fid, packed: objectid u64, root_objectid u64, generation u32. */
const BTRFS_ROOT_ID = 8;

/** Every subvolume of btrfs counts its inodes for itself. */
function subvolumeIdentity(fd: number, uuid: Uint8Array): Uint8Array {
  const handle = scratch + HANDLE_AT;
  if (nameToHandle(fd, emptyPath(), handle) < BTRFS_ROOT_ID + 8) return uuidIdentity(uuid);
  const root = new DataView(u8.buffer, u8.byteOffset + handle + 8 + BTRFS_ROOT_ID, 8);
  return uuidIdentity(uuid, root.getUint32(0, true), root.getUint32(4, true));
}

/** What remains (FUSE, overlayfs, NFS): the id of statfs(2), and what the mount table says was mounted. */
function weakIdentity(statfs: number, device: string): Uint8Array {
  const entry = mountTable().find((mount) => mount.device === device);
  const fields = [
    getU64(statfs + Statfs.type),
    getU64(statfs + Statfs.fsid),
    entry?.type,
    entry?.source,
  ];
  return condensed('mount', new TextEncoder().encode(fields.join()));
}

/** Bytes of the block device that is mounted, or undefined where it cannot be read. */
function readDevice(device: string, at: number, length: number): Uint8Array | undefined {
  let fd = -1;
  try {
    const uevent = readFileSync(`/sys/dev/block/${device}/uevent`, 'latin1');
    const name = /^DEVNAME=(.+)$/m.exec(uevent)?.[1];
    if (name === undefined) return undefined;
    fd = openSync(`/dev/${name}`, 'r');
    const { rdev } = fstatSync(fd);
    // stat(2)'s form of it is the same, as far as it is used.
    if (`${majorOf(rdev)}:${minorOf(rdev)}` !== device) return undefined;
    const bytes = new Uint8Array(length);
    const n = readSync(fd, bytes, 0, length, at);
    return bytes.subarray(0, n);
  } catch {
    // Without privilege, or with no block device behind it.
    return undefined;
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

/** 16 bytes for any number of them; `kind` keeps apart what was read in different ways. */
function condensed(kind: string, bytes: Uint8Array): Uint8Array {
  const whole = new Uint8Array(kind.length + bytes.length);
  whole.set(new TextEncoder().encode(kind));
  whole.set(bytes, kind.length);
  const out = new Uint8Array(16);
  const view = new DataView(out.buffer);
  for (let i = 0; i < 4; i++) view.setUint32(4 * i, xxh32(whole, i), true);
  return out;
}
