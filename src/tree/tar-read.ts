// A tar archive becomes a tree, in one pass: plain or compressed, from a file or a pipe.
// Called by `image build` and store/; content stays in the archive where that can be read again, else it is spooled.
// Follows: pax(1) of POSIX.1-2017 and tar(5) of libarchive for the dialects. Owners are numbers, names are bytes.

import { S } from '../linux/constants.js';
import { encodeDevice } from '../linux/device.js';
import { type Archive, type ArchiveOptions, openArchive } from './archive-input.js';
import { Assembly } from './assemble.js';
import { ArchiveError, TreeError } from './errors.js';
import { PiecesContent, RangeContent } from './stored.js';
import { BLOCK, decodeHeader, type Header, isZeroBlock } from './tar-header.js';
import { interpret, type Overrides, PAX_MAX, parseRecords, type Records } from './tar-pax.js';
import { checkMap, readOldGnuMap, readPaxMap, type SparseMap } from './tar-sparse.js';
import { makeNode, type SourceTree, type TreeNode } from './tree.js';
import type { Window } from './window.js';

/** Bytes of a name in a GNU long-name member. */
const LONG_NAME_MAX = 1024 * 1024;
/** Bytes of global records: a comment, in archives that were not made to hurt. */
const GLOBAL_MAX = 64 * 1024;
/** Members that hold no file: ACLs of Solaris, inodes, volume labels, old long names. */
const IGNORED = new Set(['A', 'E', 'I', 'N', 'V']);

/**
 * Reads an archive from `fd` to its end. The descriptor stays the caller's and must stay open until the tree is closed;
 * a regular file is read from its beginning.
 * @throws ArchiveError or TreeError, with the byte offset in the (decompressed) archive.
 */
export function readTar(fd: number, options: ArchiveOptions = {}): SourceTree {
  return openArchive(fd, options, (archive) => ({ kind: 'tar', root: readTarMembers(archive) }));
}

/** The tree of an open archive. */
export function readTarMembers(archive: Archive): TreeNode {
  const { input, window } = archive;
  const root = new TarReader(archive).run();
  // The rest is read for the checksum behind the data, and so that a pipe's writer can finish.
  if (window !== input || input.file === undefined) {
    for (let some = window.peekSome(); some.length > 0; some = window.peekSome()) {
      window.pass(some.length);
    }
  }
  return root;
}

/** What members before a header say about it. */
interface Prelude {
  local: Records;
  longName?: string;
  longLink?: string;
}

class TarReader {
  readonly #archive: Archive;
  readonly #window: Window;
  readonly #assembly: Assembly;
  #global: Records = [];
  #members = 0;

  constructor(archive: Archive) {
    this.#archive = archive;
    this.#window = archive.window;
    this.#assembly = new Assembly(archive.isMark);
  }

  run(): TreeNode {
    let prelude: Prelude = { local: [] };
    for (let header = this.#header(); header !== undefined; header = this.#header()) {
      if (!this.#extension(header, prelude)) {
        this.#member(header, prelude);
        prelude = { local: [] };
      }
    }
    this.#archive.onProgress(this.#members);
    return this.#assembly.finish();
  }

  /** The next header; undefined at the end mark, or where an archive without one ends. */
  #header(): Header | undefined {
    const offset = this.#window.position;
    const block = this.#window.peek(BLOCK);
    if (block.length < BLOCK) {
      if (block.length === 0 && offset > 0) return undefined;
      const name = this.#archive.name;
      if (offset === 0)
        throw new TreeError(`${name} is no tar archive: it has ${block.length} bytes`);
      throw new ArchiveError(
        'tar header',
        'block',
        offset,
        `has ${block.length} bytes of ${BLOCK}`,
      );
    }
    if (isZeroBlock(block)) return undefined;
    const header = decodeHeader(block, offset);
    this.#window.pass(BLOCK);
    return header;
  }

  /** Takes in a member that describes the next one. @returns false when this one stands for a file. */
  #extension(header: Header, prelude: Prelude): boolean {
    switch (header.type) {
      case 'x':
      case 'X':
        prelude.local = parseRecords(this.#body(header, PAX_MAX), header.offset);
        return true;
      case 'g':
        this.#addGlobal(parseRecords(this.#body(header, GLOBAL_MAX), header.offset), header.offset);
        return true;
      case 'L':
        prelude.longName = this.#longName(header);
        return true;
      case 'K':
        prelude.longLink = this.#longName(header);
        return true;
      case 'M':
        throw new ArchiveError(
          'tar header',
          'typeflag',
          header.offset,
          'M: parts of a multi-volume archive are not read',
        );
      default:
        if (!IGNORED.has(header.type)) return false;
        this.#skipData(header.size, header.offset);
        return true;
    }
  }

  /** Global records hold for all members to come: each of them interprets all of these. */
  #addGlobal(records: Records, offset: number): void {
    const all = new Map([...this.#global, ...records]);
    let bytes = 0;
    for (const [key, value] of all) bytes += key.length + value.length;
    if (bytes > GLOBAL_MAX) {
      throw new ArchiveError(
        'pax header',
        'global records',
        offset,
        `take more than ${GLOBAL_MAX} bytes`,
      );
    }
    this.#global = [...all];
  }

  /** The data of a member, in memory. */
  #body(header: Header, limit: number): Buffer {
    const { size, offset } = header;
    if (size < 0 || size > limit) {
      throw new ArchiveError(
        'tar header',
        'size',
        offset,
        `${size} is more than ${limit} for type ${header.type}`,
      );
    }
    const body = this.#window.take(size);
    if (body.length < size) throw tooShort(offset, size, body.length);
    this.#pad(size, offset);
    return body;
  }

  #longName(header: Header): string {
    return this.#body(header, LONG_NAME_MAX).toString('latin1').replace(/\0.*$/s, '');
  }

  #member(header: Header, prelude: Prelude): void {
    const { offset, type } = header;
    if ((++this.#members & 0x3ff) === 0) this.#archive.onProgress(this.#members);
    const { local } = prelude;
    const records = this.#global.length === 0 ? local : [...this.#global, ...local];
    const more = interpret(records, offset);
    const where = { structure: 'tar header', offset };
    const size = more.size ?? header.size;
    if (size < 0) throw new ArchiveError('tar header', 'size', offset, `${size} is negative`);
    let path = more.path ?? prelude.longName ?? header.name;
    const linkPath = more.linkPath ?? prelude.longLink ?? header.linkName;
    if (type === '1') {
      // A hard link has no data, whatever its size says.
      this.#assembly.link(path, linkPath, where);
      return;
    }
    const node = makeNode(fileType(type, path) | (header.mode & 0o7777), {
      uid: id(more.uid ?? header.uid, 'uid', offset),
      gid: id(more.gid ?? header.gid, 'gid', offset),
      mtime: more.mtime?.[0] ?? header.mtime,
      mtimeNsec: more.mtime?.[1] ?? 0,
      xattrs: sorted(more.xattrs),
    });
    if ((node.mode & S.IFMT) === S.IFREG) {
      const before = this.#window.position;
      const map =
        type === 'S'
          ? readOldGnuMap(header.raw, this.#window, offset)
          : readPaxMap(records, this.#window, offset);
      // The map of PAX version 1.0 counts as data, the blocks of the old format do not.
      const mapSize = type === 'S' ? 0 : this.#window.position - before;
      path = map?.name ?? path;
      this.#data(node, size - mapSize, map, offset);
    } else {
      this.#special(node, header, more, linkPath);
      this.#skipData(size, offset);
    }
    this.#assembly.place(path, node, where);
  }

  /** The content of a regular file. @param size bytes of data in the archive from here on. */
  #data(node: TreeNode, size: number, map: SparseMap | undefined, offset: number): void {
    if (map === undefined) {
      node.size = size;
      if (size === 0) return;
      node.content = new RangeContent(
        this.#archive.store.keep(this.#window, size, 'tar member'),
        size,
      );
    } else {
      checkMap(map, size, offset);
      node.size = map.realSize;
      const range = this.#archive.store.keep(this.#window, size, 'tar member', map);
      if (map.pieces.length > 0) {
        node.content = new PiecesContent(range, map.realSize, map.pieces);
      }
    }
    this.#pad(size, offset);
  }

  #special(node: TreeNode, header: Header, more: Overrides, linkPath: string): void {
    const type = node.mode & S.IFMT;
    if (type === S.IFLNK) {
      if (linkPath === '')
        throw new ArchiveError('tar header', 'linkname', header.offset, 'is empty');
      node.target = linkPath;
      node.size = linkPath.length;
    } else if (type === S.IFCHR || type === S.IFBLK) {
      const major = more.devMajor ?? header.devMajor;
      const minor = more.devMinor ?? header.devMinor;
      if (major < 0 || major > 0xfff || minor < 0 || minor > 0xfffff) {
        throw new ArchiveError(
          'tar header',
          'devmajor',
          header.offset,
          `${major}:${minor} is no device of Linux`,
        );
      }
      node.rdev = encodeDevice(major, minor);
    }
  }

  #skipData(size: number, offset: number): void {
    if (size < 0) throw new ArchiveError('tar header', 'size', offset, `${size} is negative`);
    if (!this.#window.skip(size)) throw tooShort(offset, size, undefined);
    this.#pad(size, offset);
  }

  /** Passes the padding behind data; at the end of an archive it may be missing. */
  #pad(size: number, offset: number): void {
    const padding = (BLOCK - (size % BLOCK)) % BLOCK;
    const rest = this.#window.peek(padding).length;
    if (rest < padding && rest > 0) throw tooShort(offset, padding, rest);
    this.#window.pass(rest);
  }
}

/** S_IFMT bits of a typeflag. Unknown ones are regular files, as POSIX wants. */
function fileType(type: string, path: string): number {
  switch (type) {
    case '2':
      return S.IFLNK;
    case '3':
      return S.IFCHR;
    case '4':
      return S.IFBLK;
    case '5':
    case 'D':
      return S.IFDIR;
    case '6':
      return S.IFIFO;
    default:
      // Before ustar there was no type for directories.
      return path.endsWith('/') && type !== 'S' ? S.IFDIR : S.IFREG;
  }
}

function id(value: number, field: string, offset: number): number {
  // Owners above 2^31 appear as negative numbers in archives of tars that knew no better.
  const unsigned = value < 0 ? value + 2 ** 32 : value;
  if (unsigned < 0 || unsigned > 0xffff_ffff) {
    throw new ArchiveError('tar header', field, offset, `${value} is out of range`);
  }
  return unsigned;
}

function sorted(xattrs: Map<string, Uint8Array> | undefined): Map<string, Uint8Array> | undefined {
  return xattrs === undefined || xattrs.size < 2
    ? xattrs
    : new Map([...xattrs].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function tooShort(offset: number, wanted: number, have: number | undefined): ArchiveError {
  const detail = have === undefined ? '' : `, ${have} there`;
  return new ArchiveError(
    'tar member',
    'data',
    offset,
    `ends too early: ${wanted} bytes wanted${detail}`,
  );
}
