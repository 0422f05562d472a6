// A composefs dump, text with one line a name, becomes a tree; nothing that it says is lost.
// Called by store/ and `image build`; dump-write.ts is the way back.
// Follows: composefs-dump(5) of composefs 1.0.8; limits are those of its library (libcomposefs/lcfs-writer.c).

import { S } from '../linux/constants.js';
import { DumpError } from './errors.js';
import {
  add,
  find,
  makeNode,
  memoryContent,
  type Name,
  nameProblem,
  show,
  type TreeNode,
} from './tree.js';

/** Bytes of content that a line may carry. */
export const INLINE_MAX = 5000;
const XATTR_NAME_MAX = 255;
const XATTR_VALUE_MAX = 0xffff;
/** What the xattrs of one file may take in the library's reckoning, and the bytes of a line that may name them. */
const XATTR_SPACE_MAX = 0x7fff;
const XATTR_TEXT_MAX = 0xffff;
const XATTR_ENTRY_SPACE = 7;
const XATTR_HEADER_SPACE = 12;
/** Bytes of a symlink's target, and of the path of an object or a hard link's target. */
const TARGET_MAX = 4095;
/** The largest file that composefs builds: 2^48 - 1 blocks of 4 KiB would be more than a Number holds exactly. */
const FILE_MAX = Number.MAX_SAFE_INTEGER;
const LINE_MAX = 16 * 1024 * 1024;

const FIELDS = [
  'PATH',
  'SIZE',
  'MODE',
  'NLINK',
  'UID',
  'GID',
  'RDEV',
  'MTIME',
  'PAYLOAD',
  'CONTENT',
  'DIGEST',
] as const;

type Field = (typeof FIELDS)[number] | 'XATTR';

const TYPES: ReadonlySet<number> = new Set([
  S.IFREG,
  S.IFDIR,
  S.IFLNK,
  S.IFCHR,
  S.IFBLK,
  S.IFIFO,
  S.IFSOCK,
]);

export interface DumpReadOptions {
  /** Refuse also what composefs only refuses when it is asked to be strict: what contradicts a file's type. */
  readonly strict?: boolean;
}

/**
 * A tree from the text of a dump, whose bytes are kept only where they are content or xattr values.
 * @throws DumpError with line and field.
 */
export function readDump(text: Uint8Array, options: DumpReadOptions = {}): TreeNode {
  const reader = new DumpReader(options.strict ?? false);
  const bytes = Buffer.from(text.buffer, text.byteOffset, text.length);
  for (let at = 0; at < bytes.length; ) {
    const newline = bytes.indexOf(0x0a, at);
    const end = newline < 0 ? bytes.length : newline;
    reader.line(bytes, at, end, newline >= 0);
    at = end + 1;
  }
  return reader.finish();
}

interface HardLink {
  readonly line: number;
  readonly dir: TreeNode;
  readonly name: string;
  readonly path: string;
  readonly target: string;
}

class DumpReader {
  readonly #strict: boolean;
  readonly #links: HardLink[] = [];
  /** Names that hard links will take, by directory. */
  readonly #reserved = new Map<TreeNode, Set<string>>();
  #root: TreeNode | undefined;
  #lastFolder: string | undefined;
  #lastDirectory: TreeNode | undefined;
  #line = 0;

  constructor(strict: boolean) {
    this.#strict = strict;
  }

  line(bytes: Buffer, at: number, end: number, ended: boolean): void {
    this.#line++;
    if (end - at > LINE_MAX) throw this.#error('PATH', `the line is longer than ${LINE_MAX} bytes`);
    if (!ended && this.#strict) throw this.#error('XATTR', 'the line does not end with a newline');
    const text = bytes.toString('latin1', at, end);
    if (text.includes('\0')) throw this.#error('PATH', 'the line contains a NUL byte');
    const words = text.split(' ');
    const missing = FIELDS[words.length];
    // composefs takes lines that end behind the payload, where nothing can hang on what is missing.
    if (missing !== undefined && (this.#strict || !mayEndBefore(missing, words))) {
      throw this.#error(missing, 'is missing');
    }
    while (words.length < FIELDS.length) words.push('-');
    const path = this.#unescape(words, 'PATH');
    const isLink = words[2]?.startsWith('@') === true;
    if (isLink) words[2] = (words[2] as string).slice(1);
    const wide = this.#integer(words, 'MODE', 8, 0xffff_ffff);
    // An inode has 16 bits; composefs drops those above.
    const mode = wide & 0xffff;
    if ((wide !== mode && this.#strict) || !TYPES.has(mode & S.IFMT)) {
      throw this.#error('MODE', `${wide.toString(8)} names no type of file`);
    }
    if (isLink) this.#hardLink(path, mode, words);
    else this.#place(path, this.#node(mode, words));
  }

  finish(): TreeNode {
    const root = this.#root;
    if (root === undefined)
      throw new DumpError(Math.max(this.#line, 1), 'PATH', 'there is no root');
    const byPath = new Map(this.#links.map((link) => [link.path, link]));
    const targets = this.#links.map((link) => this.#target(root, link, byPath));
    for (const [i, { dir, name }] of this.#links.entries()) add(dir, name, targets[i] as TreeNode);
    return root;
  }

  /** What a hard link is a name of, which may be said by another hard link. */
  #target(root: TreeNode, link: HardLink, byPath: ReadonlyMap<string, HardLink>): TreeNode {
    this.#line = link.line;
    const seen = new Set<HardLink>();
    let at: HardLink = link;
    for (;;) {
      const target = find(root, at.target);
      if (target?.entries !== undefined) {
        throw this.#error('PAYLOAD', `${show(at.target)} is a directory, which has one name only`);
      }
      if (target !== undefined) {
        target.home ??= homeOf(root, at.target);
        return target;
      }
      const next = byPath.get(at.target);
      if (next === undefined) throw this.#error('PAYLOAD', `${show(at.target)} is not in the dump`);
      if (seen.has(next))
        throw this.#error('PAYLOAD', `${show(link.path)} is a hard link to itself`);
      seen.add(next);
      at = next;
    }
  }

  #node(mode: number, words: string[]): TreeNode {
    const type = mode & S.IFMT;
    const [mtime, mtimeNsec] = this.#time(words);
    const node = makeNode(mode, {
      size: this.#integer(words, 'SIZE', 10, FILE_MAX),
      statedLinks: this.#integer(words, 'NLINK', 10, 0xffff_ffff),
      uid: this.#integer(words, 'UID', 10, 0xffff_ffff),
      gid: this.#integer(words, 'GID', 10, 0xffff_ffff),
      rdev: this.#integer(words, 'RDEV', 10, 0xffff_ffff),
      mtime,
      mtimeNsec,
    });
    const isDevice = type === S.IFCHR || type === S.IFBLK;
    if (!isDevice && node.rdev !== 0) {
      if (this.#strict) throw this.#error('RDEV', `is ${node.rdev} but this is no device`);
      node.rdev = 0;
    }
    this.#payload(node, type, words);
    this.#content(node, type, words);
    const digest = this.#optional(words, 'DIGEST');
    if (digest !== undefined) {
      if (!/^(?:[0-9a-f]{64}|[0-9a-f]{128})$/i.test(digest)) {
        throw this.#error('DIGEST', 'is neither 64 nor 128 hexadecimal digits');
      }
      node.digest = digest.toLowerCase();
    }
    if (words.length > FIELDS.length) node.xattrs = this.#xattrs(words);
    return node;
  }

  #payload(node: TreeNode, type: number, words: string[]): void {
    const payload = this.#optional(words, 'PAYLOAD');
    if (payload !== undefined && payload.length > TARGET_MAX) {
      throw this.#error('PAYLOAD', `has ${payload.length} bytes, more than ${TARGET_MAX}`);
    }
    if (payload?.includes('\0')) throw this.#error('PAYLOAD', 'contains a NUL byte');
    if (type === S.IFLNK) {
      if (payload === undefined || payload === '') {
        throw this.#error('PAYLOAD', 'is missing: a symlink needs a target');
      }
      if (this.#strict && node.size !== payload.length) {
        throw this.#error('SIZE', `is ${node.size}, the target has ${payload.length} bytes`);
      }
      node.target = payload;
      node.size = payload.length;
    } else if (payload !== undefined && type === S.IFREG) {
      node.backing = { path: payload };
    } else if (payload !== undefined && this.#strict) {
      throw this.#error('PAYLOAD', 'is set, but this is no regular file, symlink or hard link');
    }
  }

  #content(node: TreeNode, type: number, words: string[]): void {
    const text = this.#optional(words, 'CONTENT');
    if (text === undefined) return;
    if (type !== S.IFREG) throw this.#error('CONTENT', 'is set, but this is no regular file');
    if (text.length !== node.size) {
      throw this.#error('CONTENT', `has ${text.length} bytes, SIZE says ${node.size}`);
    }
    if (text.length > INLINE_MAX) {
      throw this.#error('CONTENT', `has ${text.length} bytes, more than ${INLINE_MAX}`);
    }
    if (node.backing !== undefined && this.#strict) {
      throw this.#error('CONTENT', 'is set beside PAYLOAD');
    }
    if (text.length > 0) node.content = memoryContent(Buffer.from(text, 'latin1'));
  }

  #xattrs(words: string[]): Map<string, Uint8Array> {
    const xattrs = new Map<string, Uint8Array>();
    let space = XATTR_HEADER_SPACE;
    let length = words.length - FIELDS.length - 1;
    for (let i = FIELDS.length; i < words.length; i++) length += (words[i] as string).length;
    if (length > XATTR_TEXT_MAX) {
      throw this.#error('XATTR', `the xattrs have ${length} bytes, more than ${XATTR_TEXT_MAX}`);
    }
    for (let i = FIELDS.length; i < words.length; i++) {
      const word = words[i] as string;
      // A space at the end of the line ends the list.
      if (word === '' && i === words.length - 1) break;
      const equals = word.indexOf('=');
      if (equals < 0) throw this.#error('XATTR', `${show(word)} has no "="`);
      const key = this.#unescaped(word.slice(0, equals), 'XATTR');
      const value = Buffer.from(this.#unescaped(word.slice(equals + 1), 'XATTR'), 'latin1');
      if (key === '' || key.includes('\0')) throw this.#error('XATTR', `${show(key)} is no name`);
      if (key.length > XATTR_NAME_MAX) {
        throw this.#error('XATTR', `a name has ${key.length} bytes, more than ${XATTR_NAME_MAX}`);
      }
      if (value.length > XATTR_VALUE_MAX) {
        throw this.#error('XATTR', `${show(key)} has a value of ${value.length} bytes`);
      }
      // The last one counts, and has its place.
      const before = xattrs.get(key);
      if (before !== undefined) {
        if (this.#strict) throw this.#error('XATTR', `${show(key)} stands there twice`);
        xattrs.delete(key);
        space -= XATTR_ENTRY_SPACE + key.length + before.length;
      }
      space += XATTR_ENTRY_SPACE + key.length + value.length;
      if (space > XATTR_SPACE_MAX) {
        throw this.#error(
          'XATTR',
          `${show(key)}: a file's xattrs take up to ${XATTR_SPACE_MAX} bytes`,
        );
      }
      xattrs.set(key, value);
    }
    return xattrs;
  }

  #hardLink(path: string, mode: number, words: string[]): void {
    if ((mode & S.IFMT) === S.IFDIR) {
      throw this.#error('MODE', 'is that of a directory, which has one name only');
    }
    const target = this.#optional(words, 'PAYLOAD');
    if (target === undefined || target === '') {
      throw this.#error('PAYLOAD', 'is missing: a hard link needs a path');
    }
    if (target.length > LINE_MAX) throw this.#error('PAYLOAD', 'is too long');
    const [dir, name] = this.#locate(path);
    let names = this.#reserved.get(dir);
    if (names === undefined) this.#reserved.set(dir, (names = new Set()));
    names.add(name);
    this.#links.push({ line: this.#line, dir, name, path, target });
  }

  #place(path: string, node: TreeNode): void {
    if (path !== '/') {
      const [dir, name] = this.#locate(path);
      add(dir, name, node);
      return;
    }
    if (this.#root !== undefined) throw this.#error('PATH', '"/" stands there twice');
    if (node.entries === undefined) throw this.#error('MODE', 'is not that of a directory');
    this.#root = node;
  }

  /** The directory that a path is in, and the name there, which is free. */
  #locate(path: string): [TreeNode, string] {
    if (this.#root === undefined) throw this.#error('PATH', `${show(path)} comes before "/"`);
    if (!path.startsWith('/')) throw this.#error('PATH', `${show(path)} does not begin with "/"`);
    const slash = path.lastIndexOf('/');
    const name = path.slice(slash + 1);
    const problem = nameProblem(name);
    if (problem !== undefined) throw this.#error('PATH', `${show(path)}: the name ${problem}`);
    const dir = slash === 0 ? this.#root : this.#directory(path, path.slice(1, slash), this.#root);
    if (dir.entries?.has(name) || this.#reserved.get(dir)?.has(name)) {
      throw this.#error('PATH', `${show(path)} stands there twice`);
    }
    return [dir, name];
  }

  /** The directory at `folder`, in which `path` is. Lines of one directory mostly follow each other. */
  #directory(path: string, folder: string, root: TreeNode): TreeNode {
    if (folder === this.#lastFolder) return this.#lastDirectory as TreeNode;
    let dir = root;
    for (const part of folder.split('/')) {
      const next = dir.entries?.get(part);
      if (next?.entries === undefined) {
        const what = next === undefined ? 'has no parent directory' : 'is below no directory';
        throw this.#error('PATH', `${show(path)} ${what}`);
      }
      dir = next;
    }
    this.#lastFolder = folder;
    this.#lastDirectory = dir;
    return dir;
  }

  #time(words: string[]): [number, number] {
    const text = words[FIELDS.indexOf('MTIME')] as string;
    const match = /^(-?[0-9]+)\.([0-9]{1,9})$/.exec(text);
    if (match === null) {
      throw this.#error('MTIME', `${show(text)} is not seconds, ".", nanoseconds`);
    }
    const seconds = Number(match[1]);
    if (!Number.isSafeInteger(seconds)) {
      throw this.#error('MTIME', `${match[1]} seconds are more than ${Number.MAX_SAFE_INTEGER}`);
    }
    return [seconds, Number(match[2])];
  }

  #integer(words: string[], field: Field, base: 8 | 10, max: number): number {
    const text = words[FIELDS.indexOf(field as never)] as string;
    if (!(base === 8 ? /^[0-7]+$/ : /^[0-9]+$/).test(text)) {
      throw this.#error(field, `${show(text)} is no ${base === 8 ? 'octal ' : ''}number`);
    }
    const value = Number.parseInt(text, base);
    if (value > max) throw this.#error(field, `${text} is larger than ${max}`);
    return value;
  }

  #optional(words: string[], field: Field): string | undefined {
    return words[FIELDS.indexOf(field as never)] === '-' ? undefined : this.#unescape(words, field);
  }

  #unescape(words: string[], field: Field): string {
    return this.#unescaped(words[FIELDS.indexOf(field as never)] as string, field);
  }

  #unescaped(text: string, field: Field): string {
    if (!text.includes('\\')) return text;
    return text.replace(/\\(x[0-9a-fA-F]{2}|[^x]|x.{0,2}|$)/g, (whole, code: string) => {
      const known = UNESCAPE.get(code);
      if (known !== undefined) return known;
      if (/^x[0-9a-fA-F]{2}$/.test(code)) {
        return String.fromCharCode(Number.parseInt(code.slice(1), 16));
      }
      throw this.#error(field, `${show(whole)} is no escape`);
    });
  }

  #error(field: Field, problem: string): DumpError {
    return new DumpError(this.#line, field, problem);
  }
}

/** Whether a line that is not strict may end before the field `missing`. */
function mayEndBefore(missing: Field, words: readonly string[]): boolean {
  if (missing !== 'CONTENT' && missing !== 'DIGEST') return false;
  const [, size, mode, , , , , , , content] = words as [string, string, string, ...string[]];
  if (mode.startsWith('@') || /^0*$/.test(size)) return true;
  // No content is none of `size` bytes; and what is an object has a digest, if only none.
  return missing === 'DIGEST' && (content !== '-' || !/^0*10[0-7]{4}$/.test(mode));
}

/** The name that a path ends with. */
function homeOf(root: TreeNode, path: string): Name {
  const trimmed = path.replace(/\/+$/, '');
  const slash = trimmed.lastIndexOf('/') + 1;
  return { dir: find(root, trimmed.slice(0, slash)) as TreeNode, name: trimmed.slice(slash) };
}

const UNESCAPE: ReadonlyMap<string, string> = new Map([
  ['\\', '\\'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
]);
