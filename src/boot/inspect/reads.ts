// Which bytes of an image were read, and which files they are: by what is in the page cache, and by what a boot has recorded.
// Used by `varve boot inspect --reads` and `--running`.
// The kernel reads ahead, and pclusters are shared: a file counts with the part of what is stored for it that is in memory.

import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import type { ErofsImage } from '../../erofs/image.js';
import { O, S } from '../../linux/constants.js';
import { mapMemory } from '../../linux/memory.js';
import { type ByteRange, residentRanges } from '../../linux/page-cache.js';
import type { OpenImageFile } from './open.js';

export interface FileReads {
  readonly path: string;
  /** Bytes stored for it that are in memory, and all that are stored for it. */
  readonly cached: number;
  readonly stored: number;
}

export interface ImageReads {
  readonly name: string;
  /** Bytes of the image. */
  readonly size: number;
  /** Bytes of it that are in memory. */
  readonly cached: number;
  /** Files of which something is in memory, the most first. */
  readonly files: readonly FileReads[];
}

/** undefined: it is no file, so that nobody can tell. */
export function cachedOf(image: OpenImageFile): ImageReads | undefined {
  if (image.path === undefined) return undefined;
  mapMemory();
  const fd = openSync(image.path, 'r');
  let ranges: ByteRange[];
  try {
    ranges = residentRanges(fd, image.size);
  } finally {
    closeSync(fd);
  }
  const cached = ranges.reduce((sum, { length }) => sum + length, 0);
  const files = image.erofs === undefined ? [] : filesIn(image.erofs, ranges);
  return { name: image.name, size: image.size, cached, files };
}

/** Maps ranges of an image's bytes to the files that have them. @param ranges ascending, apart. */
export function filesIn(image: ErofsImage, ranges: readonly ByteRange[]): FileReads[] {
  const found: FileReads[] = [];
  const seen = new Set<number>();
  const pending: [nid: number, path: string][] = [[image.rootNid, '']];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [dir, above] = next;
    image.children(image.inode(dir), (name, nid) => {
      if (seen.has(nid)) return;
      seen.add(nid);
      const inode = image.inode(nid);
      const path = `${above}${Buffer.from(name).toString('latin1')}`;
      const type = inode.mode & S.IFMT;
      if (type === S.IFDIR) pending.push([nid, `${path}/`]);
      if (type !== S.IFREG) return;
      let cached = 0;
      let stored = 0;
      for (const extent of image.extents(inode)) {
        if (extent.where !== 'device' || extent.device !== 0) continue;
        stored += extent.stored;
        cached += within(ranges, extent.storedAt, extent.stored);
      }
      if (cached > 0) found.push({ path, cached, stored });
    });
  }
  return found.sort((a, b) => b.cached - a.cached || (a.path < b.path ? -1 : 1));
}

/** Bytes of a run that lie in the ranges, which are found by bisection. */
function within(ranges: readonly ByteRange[], at: number, length: number): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const range = ranges[middle] as ByteRange;
    if (range.at + range.length <= at) low = middle + 1;
    else high = middle;
  }
  let sum = 0;
  for (let i = low; i < ranges.length; i++) {
    const range = ranges[i] as ByteRange;
    if (range.at >= at + length) break;
    sum += Math.min(range.at + range.length, at + length) - Math.max(range.at, at);
  }
  return sum;
}

/** What a boot has left to be told: lines of the kernel's log, and what record-reads has written. */
export interface BootLog {
  /** Seconds since the kernel began, as far as a line says so, and text. */
  readonly lines: readonly { readonly at?: number; readonly text: string }[];
  /** KiB of each image that were read before its init began, lowest first. */
  readonly read: readonly number[];
  /** Of the loop devices when the initramfs was left, bytes; only with varve.trace. */
  readonly devices?: readonly { readonly name: string; readonly bytes: number }[];
  /** Bytes of each file of the initramfs that were in memory then, the most first. */
  readonly files?: readonly { readonly path: string; readonly bytes: number }[];
  /** Loop devices, mounts and the like of an image that are still there. */
  readonly remains: readonly string[];
}

/** @param log text of the kernel's log. @param folder what record-reads has written. */
export function bootLog(log: string, folder: string, sys = '/sys/block'): BootLog {
  const lines = log
    .split('\n')
    .map((line) => /varve-boot: (?:\[ *([0-9.]+)\] )?(.*)$/.exec(line))
    .filter((match) => match !== null)
    .map(([, at, text = '']) => ({ ...(at !== undefined && { at: Number(at) }), text }));
  const read = lines.flatMap(({ text }) => {
    const [, kib] = /^image \d+: (\d+) KiB read/.exec(text) ?? [];
    return kib === undefined ? [] : [Number(kib)];
  });
  const devices = linesOf(join(folder, 'stat.end')).map((line) => {
    const [name = '', , , sectors] = line.split(/\s+/);
    return { name, bytes: Number(sectors) * 512 };
  });
  const files = linesOf(join(folder, 'reads'))
    .map((line) => /^\s*(\d+)\s+(.*)$/.exec(line))
    .flatMap((match) =>
      match === null ? [] : [{ path: match[2] as string, bytes: Number(match[1]) }],
    )
    .filter(({ bytes }) => bytes > 0)
    .sort((a, b) => b.bytes - a.bytes || (a.path < b.path ? -1 : 1));
  return {
    lines,
    read,
    ...(devices.length > 0 && { devices }),
    ...(files.length > 0 && { files }),
    remains: remainsOf(sys),
  };
}

/** Devices whose file is an image of ours, or whose file is gone from every mount. */
function remainsOf(sys: string): string[] {
  let names: string[];
  try {
    names = readdirSync(sys);
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    const [backing] = linesOf(join(sys, name, 'loop/backing_file'));
    const [mapped] = linesOf(join(sys, name, 'dm/name'));
    if (backing !== undefined && /initoverlayfs|\/varve\//.test(backing))
      return [`${name}: ${backing}`];
    return mapped !== undefined && /^varve\d+$/.test(mapped) ? [`${name}: ${mapped}`] : [];
  });
}

function linesOf(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').filter(Boolean);
  } catch {
    return [];
  }
}

/** What the kernel's log has now: one record a read(2), EAGAIN is the end. @throws the error of node:fs where it may not be read. */
export function kernelLog(): string {
  const fd = openSync('/dev/kmsg', O.RDONLY | O.NONBLOCK);
  const buffer = Buffer.alloc(8192);
  const records: string[] = [];
  try {
    for (;;) {
      let n: number;
      try {
        n = readSync(fd, buffer, 0, buffer.length, null);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        // A record was overwritten in the meantime.
        if (code === 'EPIPE') continue;
        if (code === 'EAGAIN') break;
        throw error;
      }
      if (n === 0) break;
      const [head = ''] = buffer.toString('utf8', 0, n).split('\n');
      records.push(head.slice(head.indexOf(';') + 1));
    }
  } finally {
    closeSync(fd);
  }
  return records.join('\n');
}
