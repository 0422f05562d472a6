// A tree as text, a line an object, so that an image and the kernel's view of it are compared as a diff.
// Made of an opened image, of a folder and of a mount; they say the same about the same tree.

import { execFileSync } from 'node:child_process';
import { createHash, type Hash } from 'node:crypto';
import {
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
} from 'node:fs';
import type { ErofsImage, Inode } from '../../src/erofs/image.js';
import { sys } from '../support/sys.js';

const S_IFMT = 0o170000n;
const S_IFREG = 0o100000n;
const S_IFDIR = 0o040000n;
const S_IFLNK = 0o120000n;
const CHUNK = 192 * 1024 + 511;
const BILLION = 1_000_000_000n;

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
const shown = (text: string): string =>
  text.replace(/[^!-~]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
const digest = (hash: Hash): string => hash.digest('hex').slice(0, 24);

interface Attributes {
  ino: bigint;
  mode: bigint;
  nlink: bigint;
  uid: bigint;
  gid: bigint;
  size: bigint;
  blocks: bigint;
  rdev: bigint;
  mtimeNs: bigint;
}

function line(
  path: string,
  a: Attributes,
  content: string,
  xattrs: [string, Uint8Array][],
): string {
  const hash = createHash('sha256');
  xattrs.sort(([x], [y]) => (x < y ? -1 : 1));
  for (const [name, value] of xattrs) hash.update(`${name}\0${latin1(value)}\0`);
  const { ino, mode, nlink, uid, gid, size, blocks, rdev, mtimeNs } = a;
  return (
    `${shown(path)} ino=${ino} ${mode.toString(8)} ${nlink} ${uid}:${gid} ${size} (${blocks}) ` +
    `rdev=${rdev} mtime=${mtimeNs} ${content} xattrs=${xattrs.length}:${digest(hash)}`
  );
}

/** What a listing of an image reads: everything by default. */
export interface ListingOptions {
  /** Bytes of each read; reads begin at odd places when it is odd. */
  readonly chunk?: number;
}

/** The tree in an image, sorted by path. */
export function listImage(image: ErofsImage, options: ListingOptions = {}): string[] {
  const lines: string[] = [];
  const buffer = new Uint8Array(options.chunk ?? CHUNK);
  const visit = (path: string, inode: Inode): void => {
    const type = BigInt(inode.mode) & S_IFMT;
    let content = '-';
    if (type === S_IFLNK) content = shown(image.readlink(inode));
    else if (type === S_IFREG) {
      const hash = createHash('sha256');
      let at = 0;
      for (let n = -1; n !== 0; at += n) {
        n = image.read(inode, buffer, at);
        hash.update(buffer.subarray(0, n));
      }
      content = digest(hash);
    }
    const { mode, nlink, uid, gid, size, rdev } = inode;
    const attributes = {
      ino: image.ino(inode.nid),
      mode: BigInt(mode),
      nlink: BigInt(nlink),
      uid: BigInt(uid),
      gid: BigInt(gid),
      size: BigInt(size),
      blocks: BigInt(inode.blocks512),
      rdev: BigInt(rdev),
      mtimeNs: BigInt(inode.mtime) * BILLION + BigInt(inode.mtimeNsec),
    };
    const xattrs = image
      .xattrs(inode)
      .map(({ name, value }): [string, Uint8Array] => [name, value]);
    lines.push(line(path, attributes, content, xattrs));
    if (type !== S_IFDIR) return;
    image.list(inode, (name, nid) => {
      const text = latin1(name);
      if (text !== '.' && text !== '..') visit(`${path}/${text}`, image.inode(nid));
    });
  };
  visit('', image.inode(image.rootNid));
  return lines.sort();
}

/** The tree in a folder, sorted by path. */
export function listFolder(folder: string): string[] {
  const lines: string[] = [];
  const buffer = Buffer.alloc(1024 * 1024);
  const root = openSync(folder, 'r');
  const visit = (path: string): void => {
    const name = Buffer.from(folder + path, 'latin1');
    const stat = lstatSync(name, { bigint: true });
    const type = stat.mode & S_IFMT;
    let content = '-';
    if (type === S_IFLNK) content = shown(latin1(readlinkSync(name, { encoding: 'buffer' })));
    else if (type === S_IFREG) {
      const hash = createHash('sha256');
      const fd = openSync(name, 'r');
      for (let n = -1; n !== 0; ) {
        n = readSync(fd, buffer);
        hash.update(buffer.subarray(0, n));
      }
      closeSync(fd);
      content = digest(hash);
    }
    lines.push(line(path, stat, content, xattrsOf(root, path.slice(1))));
    if (type !== S_IFDIR) return;
    for (const entry of readdirSync(name, { encoding: 'buffer' })) {
      visit(`${path}/${latin1(entry)}`);
    }
  };
  visit('');
  closeSync(root);
  return lines.sort();
}

function xattrsOf(dir: number, path: string): [string, Uint8Array][] {
  const names = sys.listxattr(dir, path);
  if (typeof names === 'number') throw new Error(`listxattr ${path}: ${names}`);
  return names.map((name) => {
    const value = sys.getxattr(dir, path, name);
    if (typeof value === 'number') throw new Error(`getxattr ${path} ${name}: ${value}`);
    return [name, value];
  });
}

/** The tree of an image as the kernel shows it, mounted for that. @param blob its second device. */
export function listMount(image: string, blob: string | undefined): string[] {
  const mountpoint = `${image}.mnt`;
  mkdirSync(mountpoint);
  let device: string | undefined;
  try {
    let options = 'ro,loop';
    if (blob !== undefined) {
      device = execFileSync('losetup', ['-r', '-f', '--show', blob], { encoding: 'utf8' }).trim();
      options += `,device=${device}`;
    }
    execFileSync('mount', ['-t', 'erofs', '-o', options, image, mountpoint]);
    const lines = listFolder(mountpoint);
    execFileSync('umount', [mountpoint]);
    return lines;
  } finally {
    if (device !== undefined) execFileSync('losetup', ['-d', device]);
  }
}
