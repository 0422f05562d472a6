// A mounted tree as lines of text, one an object, to be compared between a mount and its oracle.
// Walks by descriptors, so that no depth is too deep. What is not comparable between two runs is
// left out: inode numbers (their relations stay), sizes and link counts of folders, times of today.

import { createHash } from 'node:crypto';
import { must, O, readdir, S, type Stat, show, stat, sys } from '../support/sys.js';

export interface Tree {
  /** Path to its line; the path is '' for the root and has one code unit a byte. */
  lines: Map<string, string>;
  /** What the tree says about itself that does not fit together. */
  contradictions: string[];
}

/** Times in this range, in nanoseconds, were made by the run and differ between the two sides. */
const startOfRun = BigInt(Date.now() - 3_600_000) * 1_000_000n;
const endOfRun = BigInt(Date.now() + 86_400_000) * 1_000_000n;

export function showTime(time: bigint): string {
  return time >= startOfRun && time < endOfRun ? 'now' : String(time);
}

const typeNames = new Map<number, string>([
  [S.IFREG, 'file'],
  [S.IFDIR, 'dir'],
  [S.IFLNK, 'symlink'],
  [S.IFIFO, 'fifo'],
  [S.IFSOCK, 'socket'],
  [S.IFCHR, 'chr'],
  [S.IFBLK, 'blk'],
]);

export function showStat(st: Stat): string {
  const type = typeNames.get(st.mode & S.IFMT) ?? 'unknown';
  const fields = [type, (st.mode & 0o7777).toString(8), `${st.uid}:${st.gid}`];
  // An overlay may count the links of a folder or say 1; the size of a folder means nothing.
  if (type !== 'dir') fields.push(`nlink=${st.nlink}`, `size=${st.size}`);
  if (type === 'chr' || type === 'blk') fields.push(`rdev=${st.rdev}`);
  fields.push(`mtime=${showTime(st.mtime)}`, `atime=${showTime(st.atime)}`);
  return fields.join(' ');
}

/** @param xattr which attributes count, by name */
export function readTree(root: number, xattr: (name: string) => boolean): Tree {
  const tree: Tree = { lines: new Map(), contradictions: [] };
  const links = new Map<string, string[]>();
  walk(root, '', '');

  for (const paths of links.values()) {
    if (paths.length < 2) continue;
    const first = paths.sort()[0];
    for (const path of paths) tree.lines.set(path, `${tree.lines.get(path)} same-as=${first}`);
  }
  return tree;

  function walk(dir: number, path: string, name: string): void {
    const st = stat(dir, name === '' ? '.' : name, 0x100);
    if (typeof st === 'number') {
      tree.lines.set(path, `stat: ${show(st)}`);
      return;
    }
    const parts = [showStat(st)];
    const keys = sys.listxattr(dir, name);
    if (typeof keys === 'number') parts.push(`listxattr: ${show(keys)}`);
    else {
      for (const key of keys.filter(xattr)) {
        parts.push(`${key}=${showBytes(sys.getxattr(dir, name, key))}`);
      }
    }
    const type = st.mode & S.IFMT;
    if (type === S.IFREG) parts.push(contentOf(dir, name, st.size));
    if (type === S.IFLNK) parts.push(`-> ${showBytes(sys.readlink(dir, name))}`);
    tree.lines.set(path, parts.join(' '));
    if (type !== S.IFDIR) {
      if (st.nlink > 1) {
        const key = `${st.dev} ${st.ino}`;
        links.set(key, [...(links.get(key) ?? []), path]);
      }
      return;
    }
    descend(dir, path, name);
  }

  function descend(dir: number, path: string, name: string): void {
    const fd = sys.open(dir, name === '' ? '.' : name, O.DIRECTORY | O.NOFOLLOW);
    if (fd < 0) {
      tree.lines.set(path, `${tree.lines.get(path)} open: ${show(fd)}`);
      return;
    }
    const entries = readdir(fd);
    if (typeof entries === 'number') {
      tree.lines.set(path, `${tree.lines.get(path)} readdir: ${show(entries)}`);
    } else {
      const seen = new Set<string>();
      for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
        const { name: child } = entry;
        const childPath = path === '' ? child : `${path}/${child}`;
        if (seen.has(child)) tree.contradictions.push(`${childPath} is listed twice`);
        seen.add(child);
        if (child === '.' || child === '..') continue;
        const st = stat(fd, child, 0x100);
        if (st === ENOENT) {
          // The kernel lists whiteouts where a single layer shows: nothing is there.
          tree.contradictions.push(`${childPath} is listed but absent`);
          continue;
        }
        if (typeof st !== 'number') {
          if (entry.type << 12 !== (st.mode & S.IFMT)) {
            tree.contradictions.push(`${childPath}: d_type ${entry.type}, ${showStat(st)}`);
          }
          if (entry.ino !== st.ino) {
            tree.contradictions.push(`${childPath}: d_ino ${entry.ino}, st_ino ${st.ino}`);
          }
        }
        walk(fd, childPath, child);
      }
      if (!seen.has('.') || !seen.has('..')) tree.contradictions.push(`${path}: no . or ..`);
    }
    must(sys.close(fd));
  }
}

/** Names and types of an open folder in one line, without what is not there when looked at. */
export function showListing(fd: number): string {
  const entries = readdir(fd);
  if (typeof entries === 'number') return show(entries);
  return entries
    .filter(({ name }) => stat(fd, name, 0x100) !== ENOENT)
    .map(({ name, type }) => `${printable(name)}:${type}`)
    .sort()
    .join(' ');
}

/** Large values as their length and digest. */
export function showBytes(bytes: Buffer | number): string {
  if (typeof bytes === 'number') return show(bytes);
  if (bytes.length > 48) return `${bytes.length}:${digest(bytes)}`;
  return JSON.stringify(bytes.toString('latin1'));
}

function digest(bytes: Buffer): string {
  return createHash('sha1').update(bytes).digest('hex').slice(0, 12);
}

const ENOENT = -2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const page = 4096;
const zeros = Buffer.alloc(page);

/** Digest over offsets and bytes of the pages that are not zero: sparse files cost what they hold. */
function contentOf(dir: number, name: string, size: number): string {
  const fd = sys.open(dir, name, O.RDONLY | O.NOATIME);
  if (fd < 0) return `open: ${show(fd)}`;
  try {
    const hash = createHash('sha1');
    const sparse = size > 1 << 20;
    for (let at = 0; at < size; ) {
      let end = size;
      if (sparse) {
        const data = sys.lseek(fd, at, SEEK_DATA);
        if (data < 0) break;
        // Holes end at other places on other filesystems: whole pages are compared.
        at = data - (data % page);
        end = must(sys.lseek(fd, data, SEEK_HOLE));
      }
      for (; at < end; at += page) {
        const bytes = sys.pread(fd, page, at);
        if (typeof bytes === 'number') return `read: ${show(bytes)}`;
        if (bytes.length === 0) return `end at ${at}`;
        if (bytes.equals(zeros.subarray(0, bytes.length))) continue;
        hash.update(`${at} `).update(bytes);
      }
    }
    return `content=${hash.digest('hex').slice(0, 12)}`;
  } finally {
    sys.close(fd);
  }
}

/** Lines that differ, readable; at most `limit` of them. */
export function differences(ours: Tree, theirs: Tree, limit = 12): string[] {
  const found: string[] = [];
  const paths = [...new Set([...ours.lines.keys(), ...theirs.lines.keys()])].sort();
  for (const path of paths) {
    const a = ours.lines.get(path) ?? 'absent';
    const b = theirs.lines.get(path) ?? 'absent';
    if (a === b) continue;
    found.push(`/${printable(path)}\n    subject: ${printable(a)}\n    oracle:  ${printable(b)}`);
    if (found.length >= limit) break;
  }
  return found;
}

/** Bytes outside ASCII as escapes. */
export function printable(text: string): string {
  return text.replace(
    /[^ -~]/g,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}
