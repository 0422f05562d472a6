// A folder with what is hard about trees: sizes around blocks, holes, names of bytes, many names, links, devices, xattrs.
// Made anew for each suite from a fixed seed; image tests pack it and compare.

import { randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, linkSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { must, sys } from '../support/sys.js';

/** Deterministic numbers below 2^32. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
}

/** Text that compresses about as source code does. */
export function text(length: number, seed: number): Buffer {
  const next = generator(seed);
  const words = Array.from({ length: 400 }, () => (next() % 0x100000).toString(16));
  const out = Buffer.alloc(length);
  for (let at = 0; at < length; ) {
    at += out.write(`${words[(next() % 400) & (next() % 400)]} `, at, 'latin1');
    if (length - at < 8) return out.fill('.', at);
  }
  return out;
}

const S_IFIFO = 0o010000;
const S_IFSOCK = 0o140000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;

/**
 * Fills `folder`.
 * @param names files in the largest directory
 */
export function makeSample(folder: string, names = 3000): void {
  const write = (name: string, ...parts: Buffer[]): void => {
    const fd = openSync(Buffer.from(`${folder}/${name}`, 'latin1'), 'w');
    for (const part of parts) if (part.length > 0) writeSync(fd, part);
    closeSync(fd);
  };
  for (const size of [0, 1, 100, 4095, 4096, 4097, 8192, 20000, 123456, 2_000_003]) {
    write(`text-${size}`, text(size, size));
  }
  write('zeros', Buffer.alloc(3_000_000));
  const noise = randomBytes(300_001);
  write('noise', noise);
  write('mixed', text(50_000, 1), noise.subarray(0, 70_000), Buffer.alloc(200_000), text(9999, 2));
  const shared = text(400_000, 3);
  write('shared-1', shared);
  write('shared-2', Buffer.from('moved'), shared.subarray(3000, 300_000));
  write('shared-3', shared);
  const sparse = openSync(join(folder, 'sparse'), 'w');
  writeSync(sparse, text(5000, 4), 0, 5000, 0);
  writeSync(sparse, text(5000, 5), 0, 5000, 2_000_000);
  ftruncateSync(sparse, 3_000_001);
  closeSync(sparse);

  mkdirSync(join(folder, 'many'));
  for (let i = 0; i < names; i++) {
    write(`many/${String(i).padStart(6, '0')}-${'n'.repeat((i * 7) % 60)}`, text(i % 97, i));
  }
  mkdirSync(join(folder, 'empty'));
  mkdirSync(join(folder, 'a/deep/path/of/folders'), { recursive: true });
  write('a/\xff\xfe not utf-8', Buffer.from('x'));
  // mkfs.erofs 1.5 cuts off the last byte of a name of 255.
  write(`a/${'L'.repeat(254)}`, text(300, 6));

  const dir = openSync(folder, 'r');
  must(sys.symlink('../x/y', dir, 'a/link'));
  must(sys.symlink(`/${'long/'.repeat(700)}`, dir, 'a/long-link'));
  linkSync(join(folder, 'text-100'), join(folder, 'a/hard'));
  must(sys.mknod(dir, 'fifo', S_IFIFO | 0o640));
  must(sys.mknod(dir, 'socket', S_IFSOCK | 0o755));
  must(sys.mknod(dir, 'char', S_IFCHR | 0o600, (5 << 8) | 1));
  must(sys.mknod(dir, 'block', S_IFBLK | 0o660, (259 << 8) | 3));
  must(sys.mknod(dir, 'whiteout', S_IFCHR));
  must(sys.chown(dir, 'text-1', 70_000, 4_000_000_000));
  must(sys.chmod(dir, 'text-4096', 0o6755));
  const old = [-12345, 999_999_999] as const;
  must(sys.utimens(dir, 'text-100', [old, old]));
  for (let i = 0; i < 24; i++) {
    const name = `text-${[1, 100, 4095, 4096][i % 4]}`;
    must(sys.setxattr(dir, name, `user.key${i}`, Buffer.alloc(i * 11, 'v')));
  }
  for (const name of ['zeros', 'noise', 'mixed', 'a']) {
    must(sys.setxattr(dir, name, 'user.shared', Buffer.alloc(100, 'same value')));
    must(sys.setxattr(dir, name, 'trusted.overlay.opaque', Buffer.from('y')));
    must(sys.setxattr(dir, name, 'security.test', Buffer.from([0, 1, 2, 255])));
  }
  must(sys.setxattr(dir, 'many', 'user.large', Buffer.alloc(3000, 'B')));
  closeSync(dir);
}
