// cpio archives become a tree: one after the other, compressed or not, as a kernel takes them for its initramfs.
// Called by `image build` and boot/; content stays in the file where that can be read again, else it is spooled.
// Follows: Documentation/driver-api/early-userspace/buffer-format.rst of Linux 6.18 (newc, crc); cpio(5) for odc.

import { S } from '../linux/constants.js';
import { encodeDevice } from '../linux/device.js';
import { streamFormat } from '../linux/stream-codecs.js';
import { type Archive, type ArchiveOptions, openArchive } from './archive-input.js';
import { Assembly } from './assemble.js';
import { ArchiveError, TreeError } from './errors.js';
import { RangeContent } from './stored.js';
import { makeNode, type SourceTree, type TreeNode } from './tree.js';
import { decode, type Window } from './window.js';

/** Bytes of a name or of a symlink's target. */
const NAME_LIMIT = 64 * 1024;
const TRAILER = 'TRAILER!!!';

/** Where the fields of a header are: text, one after the other behind the 6 bytes of magic. */
interface Format {
  readonly fields: readonly (readonly [name: keyof Fields, digits: number])[];
  readonly base: 8 | 16;
  /** Names and data are padded to this many bytes. */
  readonly align: number;
}

interface Fields {
  dev: number;
  devMajor: number;
  devMinor: number;
  ino: number;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  rdev: number;
  rdevMajor: number;
  rdevMinor: number;
  /** Seconds since 1970, unsigned. */
  mtime: number;
  /** Bytes, with the NUL. */
  nameSize: number;
  fileSize: number;
  /** crc format: sum of the data's bytes, modulo 2^32. */
  check: number;
}

/** 110 bytes, hexadecimal. */
const NEWC: Format = {
  fields: [
    ['ino', 8],
    ['mode', 8],
    ['uid', 8],
    ['gid', 8],
    ['nlink', 8],
    ['mtime', 8],
    ['fileSize', 8],
    ['devMajor', 8],
    ['devMinor', 8],
    ['rdevMajor', 8],
    ['rdevMinor', 8],
    ['nameSize', 8],
    ['check', 8],
  ],
  base: 16,
  align: 4,
};

/** 76 bytes, octal; device numbers in one field. */
const ODC: Format = {
  fields: [
    ['dev', 6],
    ['ino', 6],
    ['mode', 6],
    ['uid', 6],
    ['gid', 6],
    ['nlink', 6],
    ['rdev', 6],
    ['mtime', 11],
    ['nameSize', 6],
    ['fileSize', 11],
  ],
  base: 8,
  align: 1,
};

const FORMATS: Readonly<Record<string, Format>> = { '070701': NEWC, '070702': NEWC, '070707': ODC };

/**
 * Reads all archives in `fd`: newc, crc and odc, each plain or compressed by gzip, zstd, xz, lzma or lz4, with zeros
 * between them. Later members replace earlier ones. The descriptor stays the caller's and must stay open until the tree
 * is closed; a regular file is read from its beginning.
 * @throws ArchiveError or TreeError, with the byte offset in the (decompressed) archive.
 */
export function readCpio(fd: number, options: ArchiveOptions = {}): SourceTree {
  return openArchive(fd, options, (archive) => ({ kind: 'cpio', root: readCpioParts(archive) }));
}

/** The tree of an open file of archives. */
export function readCpioParts(archive: Archive): TreeNode {
  const { input, window, name } = archive;
  const reader = new CpioReader(archive);
  let parts = 0;
  if (window !== input) {
    readAll(window, reader);
    parts++;
  }
  while (input.skipZeros() !== undefined) {
    readPart(input, name, reader);
    parts++;
  }
  if (parts === 0) throw new TreeError(`${name} is no cpio archive: it is empty`);
  return reader.finish();
}

/** One archive of the file itself, or all that one compressed part holds. */
function readPart(input: Window, name: string, reader: CpioReader): void {
  const window = decode(input, name);
  if (window === input) {
    reader.archive(input);
    return;
  }
  try {
    readAll(window, reader);
  } finally {
    window.close();
  }
}

function readAll(window: Window, reader: CpioReader): void {
  while (window.skipZeros() !== undefined) reader.archive(window);
}

class CpioReader {
  readonly #source: Archive;
  readonly #assembly = new Assembly();
  #members = 0;

  constructor(source: Archive) {
    this.#source = source;
  }

  finish(): TreeNode {
    this.#source.onProgress(this.#members);
    return this.#assembly.finish();
  }

  /** Reads to the trailer, or to the end of an archive without one. Inode numbers mean something within one archive. */
  archive(window: Window): void {
    const linked = new Map<string, TreeNode>();
    const start = window.position;
    for (;;) {
      const offset = window.position;
      const magic = Buffer.from(window.peek(6)).toString('latin1');
      if (magic === '' && offset > start) return;
      const format = FORMATS[magic];
      if (format === undefined) throw bad(offset, 'magic', explain(window.peek(6)));
      const fields = readFields(window, format, offset);
      const name = readName(window, format, fields, offset, start);
      if (name === TRAILER) {
        // A trailer has no data; a size there is a lie that is not followed.
        return;
      }
      this.#member(window, format, magic, fields, name, offset, linked, start);
      // Between members there may be zeros, when an archive without trailer ends in padding.
      if (window.peek(1)[0] === 0) return;
    }
  }

  #member(
    window: Window,
    format: Format,
    magic: string,
    fields: Fields,
    name: string,
    offset: number,
    linked: Map<string, TreeNode>,
    start: number,
  ): void {
    if ((++this.#members & 0x3ff) === 0) this.#source.onProgress(this.#members);
    const where = { structure: 'cpio header', offset };
    const isDir = (fields.mode & S.IFMT) === S.IFDIR;
    const key = `${fields.devMajor}:${fields.devMinor}:${fields.dev}:${fields.ino}:${fields.mode & S.IFMT}`;
    const known = !isDir && fields.nlink > 1 ? linked.get(key) : undefined;
    const node = known ?? this.#node(fields, offset);
    if (known === undefined && !isDir && fields.nlink > 1) linked.set(key, node);
    this.#data(node, window, format, magic, fields, offset, start);
    this.#assembly.place(name, node, where);
  }

  #node(fields: Fields, offset: number): TreeNode {
    const type = fields.mode & S.IFMT;
    if (fields.mode > 0xffff || !TYPES.has(type)) {
      throw bad(offset, 'mode', `${fields.mode.toString(8)} names no type of file`);
    }
    const isDevice = type === S.IFCHR || type === S.IFBLK;
    if (fields.rdevMajor > 0xfff || fields.rdevMinor > 0xfffff) {
      throw bad(offset, 'rdev', `${fields.rdevMajor}:${fields.rdevMinor} is no device of Linux`);
    }
    return makeNode(fields.mode, {
      uid: fields.uid,
      gid: fields.gid,
      mtime: fields.mtime,
      rdev: isDevice ? fields.rdev || encodeDevice(fields.rdevMajor, fields.rdevMinor) : 0,
    });
  }

  /** What is behind a header. Of several names of a file any one may carry its data: in newc archives the last does. */
  #data(
    node: TreeNode,
    window: Window,
    format: Format,
    magic: string,
    fields: Fields,
    offset: number,
    start: number,
  ): void {
    const size = fields.fileSize;
    const type = node.mode & S.IFMT;
    if (type === S.IFLNK) {
      if (size === 0 || size > NAME_LIMIT) throw bad(offset, 'filesize', `${size} for a symlink`);
      const target = window.take(size);
      if (target.length < size) throw tooShort(offset, size, target.length);
      // Some writers count a NUL in.
      node.target = target.toString('latin1').replace(/\0.*$/s, '');
      node.size = node.target.length;
    } else if (type === S.IFREG && size > 0) {
      const check = magic === '070702' ? fields.check : undefined;
      node.size = size;
      node.content = this.#keep(window, size, check, offset);
    } else if (!window.skip(size)) {
      throw tooShort(offset, size, undefined);
    }
    align(window, format, start);
  }

  #keep(window: Window, size: number, check: number | undefined, offset: number): RangeContent {
    const content = new RangeContent(this.#source.store.keep(window, size, 'cpio member'), size);
    if (check === undefined) return content;
    const sum = sumOf(content, size);
    if (sum !== check) throw bad(offset, 'check', `is ${check}, the data sums up to ${sum}`);
    return content;
  }
}

const TYPES: ReadonlySet<number> = new Set([
  S.IFREG,
  S.IFDIR,
  S.IFLNK,
  S.IFCHR,
  S.IFBLK,
  S.IFIFO,
  S.IFSOCK,
]);

function readFields(window: Window, format: Format, offset: number): Fields {
  const length = format.fields.reduce((sum, [, digits]) => sum + digits, 6);
  const bytes = window.peek(length);
  if (bytes.length < length) throw tooShort(offset, length, bytes.length);
  const text = Buffer.from(bytes).toString('latin1');
  window.pass(length);
  const fields: Fields = {
    dev: 0,
    devMajor: 0,
    devMinor: 0,
    ino: 0,
    mode: 0,
    uid: 0,
    gid: 0,
    nlink: 0,
    rdev: 0,
    rdevMajor: 0,
    rdevMinor: 0,
    mtime: 0,
    nameSize: 0,
    fileSize: 0,
    check: 0,
  };
  let at = 6;
  for (const [name, digits] of format.fields) {
    const word = text.slice(at, at + digits);
    if (!(format.base === 16 ? /^[0-9a-fA-F]+$/ : /^[0-7]+$/).test(word)) {
      throw bad(offset, name.toLowerCase(), `${JSON.stringify(word)} is no number`);
    }
    fields[name] = Number.parseInt(word, format.base);
    at += digits;
  }
  return fields;
}

function readName(
  window: Window,
  format: Format,
  fields: Fields,
  offset: number,
  start: number,
): string {
  const size = fields.nameSize;
  if (size < 2 || size > NAME_LIMIT) throw bad(offset, 'namesize', `${size} is out of range`);
  const bytes = window.take(size);
  if (bytes.length < size) throw tooShort(offset, size, bytes.length);
  if (bytes[size - 1] !== 0) throw bad(offset, 'name', 'does not end with a NUL byte');
  align(window, format, start);
  return bytes.toString('latin1', 0, size - 1);
}

/** Passes padding, which counts from the archive's beginning. At the very end it may be missing. */
function align(window: Window, format: Format, start: number): void {
  const over = (window.position - start) % format.align;
  if (over > 0) window.pass(window.peek(format.align - over).length);
}

function sumOf(content: RangeContent, size: number): number {
  const opened = content.open();
  try {
    const buffer = new Uint8Array(Math.min(size, 65_536));
    let sum = 0;
    for (let at = 0; at < size; at += buffer.length) {
      const part = buffer.subarray(0, Math.min(buffer.length, size - at));
      opened.read(at, part);
      for (const byte of part) sum = (sum + byte) >>> 0;
    }
    return sum;
  } finally {
    opened.close();
  }
}

/** What bytes that are no magic number may be. */
function explain(bytes: Uint8Array): string {
  const [a, b] = bytes;
  if ((a === 0xc7 && b === 0x71) || (a === 0x71 && b === 0xc7)) {
    return 'is that of the old binary format, which is not read: use newc';
  }
  if (streamFormat(bytes) !== undefined)
    return 'is that of compressed data inside of compressed data';
  return `${JSON.stringify(Buffer.from(bytes).toString('latin1'))} is none of 070701, 070702, 070707`;
}

function tooShort(offset: number, wanted: number, have: number | undefined): ArchiveError {
  const detail = have === undefined ? '' : `, ${have} there`;
  return bad(offset, 'data', `ends too early: ${wanted} bytes wanted${detail}`);
}

function bad(offset: number, field: string, problem: string): ArchiveError {
  return new ArchiveError('cpio header', field, offset, problem);
}
