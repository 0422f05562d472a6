// Is an image whole? Everything that fsck.erofs looks at, and what it leaves out: link counts, types, all data.
// Called by cli/image-check.ts and tests; problems are data, and the check goes on behind each of them.
// Follows: fsck/main.c and lib/dir.c of erofs-utils 1.9.3. A passed check is not trust: the kernel reads more than this.

import { ErofsError } from './errors.js';
import { FILE_TYPE_MODES } from './format.js';
import type { ErofsImage, Inode } from './image.js';
import type { Nid } from './nid.js';

/** Something that is wrong. */
export interface Problem {
  /** Where it shows: an absolute path, Latin-1 (one character a byte); undefined: in no file. */
  readonly path: string | undefined;
  readonly nid: Nid | undefined;
  /** Structure, field and byte offset, as ErofsError has them. */
  readonly structure: string;
  readonly field: string;
  readonly at: number;
  /** What is wrong, with the place. */
  readonly message: string;
}

export interface CheckOptions {
  /** Reads (and decompresses) all data; true by default. */
  readonly data?: boolean;
  /** Called once for every inode that is not damaged itself; goes through its extents where `data` is false. */
  readonly visit?: (path: string, inode: Inode) => void;
  /** Called for every inode, with what has been done so far. */
  readonly progress?: (inodes: number, bytes: number) => void;
}

/** What was looked at. */
export interface CheckResult {
  inodes: number;
  directories: number;
  /** Bytes of file data that were read. */
  bytes: number;
}

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const CHUNK = 1024 * 1024;
/** Bytes of a fragment that are read. */
const MOST_OF_FRAGMENT = 64 * CHUNK;
/** Directories may share blocks, but not so often: bytes of all of them for each byte of the image, and spare ones. */
const DIRECTORY_BYTES = 4;
const SPARE_DIRECTORY_BYTES = 64 * 1024 * 1024;

interface Child {
  readonly name: string;
  readonly nid: Nid;
  readonly type: number;
}

/**
 * Checks an image.
 * @returns a generator of problems; its return value says what was looked at. Ends early when nothing can be reached.
 */
export function* checkImage(
  image: ErofsImage,
  options: CheckOptions = {},
): Generator<Problem, CheckResult> {
  const check = new Check(image, options);
  yield* check.superblock();
  yield* check.tree();
  yield* check.links();
  return check.result;
}

class Check {
  readonly result: CheckResult = { inodes: 0, directories: 0, bytes: 0 };
  readonly #image: ErofsImage;
  readonly #options: CheckOptions;
  readonly #buffer = new Uint8Array(CHUNK);
  readonly #seen = new NidSet();
  /** Names found of inodes with more than one. */
  readonly #links = new Map<Nid, { names: number; nlink: number; path: string; at: number }>();
  #directoryBytes: number;

  constructor(image: ErofsImage, options: CheckOptions) {
    this.#image = image;
    this.#options = options;
    this.#directoryBytes = image.size * DIRECTORY_BYTES + SPARE_DIRECTORY_BYTES;
  }

  *superblock(): Generator<Problem> {
    const { superblock: sb, size } = this.#image;
    const sbProblem = (field: string, offset: number, what: string): Problem =>
      problem('erofs_super_block', field, 1024 + offset, what);
    if (this.#image.checksumMatches() === false) {
      yield sbProblem('checksum', 4, 'it is not that of the superblock');
    }
    if (sb.blocks * sb.blockSize > size) {
      yield sbProblem('blocks_lo', 36, `${sb.blocks} blocks, the image has ${size} bytes`);
    }
    const packed = sb.packedNid;
    if (packed === undefined) return;
    try {
      const inode = this.#image.inode(packed);
      this.#seen.add(packed);
      this.result.inodes++;
      if ((inode.mode & S_IFMT) !== S_IFREG) {
        yield sbProblem('packed_nid', 96, `nid ${packed} is not a file`);
      } else yield* this.#data(inode, undefined);
    } catch (error) {
      yield caught(error, undefined, packed);
    }
  }

  *tree(): Generator<Problem> {
    const image = this.#image;
    let root: Inode;
    try {
      root = image.inode(image.rootNid);
    } catch (error) {
      yield caught(error, '/', image.rootNid);
      return;
    }
    if ((root.mode & S_IFMT) !== S_IFDIR) {
      yield problem('erofs_super_block', 'rootnid', 1038, 'the root is not a directory', '/', root);
      return;
    }
    this.#seen.add(root.nid);
    yield* this.#inode(root, '/');
    const pending: { dir: Inode; path: string; parent: Nid }[] = [
      { dir: root, path: '', parent: root.nid },
    ];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const { dir, path, parent } = next;
      this.#directoryBytes -= dir.size;
      if (this.#directoryBytes < 0) {
        const what = 'directories refer to the same blocks again and again: the check ends here';
        yield problem('erofs_inode', 'i_u', dir.at, what, path, dir);
        return;
      }
      const children: Child[] = [];
      yield* this.#entries(dir, path, parent, children);
      let folders = 0;
      for (const { name, nid, type } of children) {
        const childPath = `${path}/${name}`;
        let child: Inode;
        try {
          child = image.inode(nid);
        } catch (error) {
          yield caught(error, childPath, nid);
          continue;
        }
        const isFolder = (child.mode & S_IFMT) === S_IFDIR;
        if (isFolder) folders++;
        if (type === 0 || FILE_TYPE_MODES[type] !== (child.mode & S_IFMT)) {
          const what = `${type}, the inode's mode is 0${child.mode.toString(8)}`;
          yield problem('erofs_dirent', 'file_type', dir.at, what, childPath, child);
        }
        const isFirst = this.#seen.add(nid);
        if (isFirst) {
          yield* this.#inode(child, childPath);
          if (isFolder) pending.push({ dir: child, path: childPath, parent: dir.nid });
        } else if (isFolder) {
          const what = 'a directory with several names, or a loop';
          yield problem('erofs_dirent', 'nid', dir.at, what, childPath, child);
        }
        if (!isFolder) this.#count(child, childPath, isFirst);
      }
      // Some tools leave 1 in all directories: unknown.
      if (dir.nlink !== folders + 2 && dir.nlink !== 1) {
        const what = `${dir.nlink}, with ${folders} folders in it`;
        yield problem('erofs_inode', 'i_nlink', dir.at, what, path || '/', dir);
      }
    }
  }

  /** Names in the tree against link counts. */
  *links(): Generator<Problem> {
    for (const [nid, { names, nlink, path, at }] of this.#links) {
      if (names === nlink) continue;
      const what = `${nlink}, with ${names} names`;
      yield { ...problem('erofs_inode', 'i_nlink', at, what, path), nid };
    }
  }

  /** Inodes with one name, as they say, are not remembered until a second one shows. */
  #count(inode: Inode, path: string, isFirst: boolean): void {
    const known = this.#links.get(inode.nid);
    if (known !== undefined) known.names++;
    else if (inode.nlink !== 1 || !isFirst) {
      const names = isFirst ? 1 : 2;
      this.#links.set(inode.nid, { names, nlink: inode.nlink, path, at: inode.at });
    }
  }

  /** Entries of a directory: sorted, unique, whole names, "." and "..". Adds the others to `children`. */
  *#entries(dir: Inode, path: string, parent: Nid, children: Child[]): Generator<Problem> {
    const problems: Problem[] = [];
    const bad = (field: string, what: string): void => {
      problems.push(problem('erofs_dirent', field, dir.at, what, path || '/', dir));
    };
    let before = '';
    let self = dir.dotOmitted;
    let up = false;
    try {
      this.#image.list(dir, (bytes, nid, type) => {
        const name = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
        if (name <= before) bad('nameoff', `${quote(name)} comes behind ${quote(before)}`);
        before = name;
        if (name === '.') {
          self = true;
          if (nid !== dir.nid) bad('nid', `"." is nid ${nid}`);
        } else if (name === '..') {
          up = true;
          if (nid !== parent) bad('nid', `".." is nid ${nid}, the parent is ${parent}`);
        } else {
          children.push({ name, nid, type });
        }
      });
      if (!self || !up) bad('nameoff', `there is no ${self ? '".."' : '"."'}`);
    } catch (error) {
      problems.push(caught(error, path || '/', dir.nid));
    }
    yield* problems;
    this.result.directories++;
  }

  /** Xattrs, target and data of one inode. */
  *#inode(inode: Inode, path: string): Generator<Problem> {
    this.result.inodes++;
    this.#options.progress?.(this.result.inodes, this.result.bytes);
    try {
      const names = this.#image.xattrs(inode).map(({ name }) => name);
      if (new Set(names).size < names.length) {
        const what = 'a name is there twice';
        yield problem('erofs_xattr_entry', 'e_name', inode.at, what, path, inode);
      }
    } catch (error) {
      yield caught(error, path, inode.nid);
    }
    const type = inode.mode & S_IFMT;
    this.#options.visit?.(path, inode);
    if (type === S_IFREG) yield* this.#data(inode, path);
    if (type !== S_IFLNK) return;
    try {
      const target = this.#image.readlink(inode);
      if (target === '' || target.includes('\0')) {
        const what = `a symbolic link to ${quote(target)}`;
        yield problem('erofs_inode', 'i_size', inode.at, what, path, inode);
      }
    } catch (error) {
      yield caught(error, path, inode.nid);
    }
  }

  /** Where all data of a file lies, and that it can be read. */
  *#data(inode: Inode, path: string | undefined): Generator<Problem> {
    const { data: read = true, visit } = this.#options;
    if (!read && visit !== undefined) return;
    try {
      for (const extent of this.#image.extents(inode)) {
        if (!read) continue;
        // The packed inode has been read as a whole: of a fragment, which may be larger than its image, the ends will do.
        const isLong = extent.where === 'packed' && extent.length > MOST_OF_FRAGMENT;
        const step = isLong ? extent.length - 1 : CHUNK;
        for (let done = 0; done < extent.length; done += step) {
          const n = isLong ? 1 : Math.min(CHUNK, extent.length - done);
          const out = this.#buffer.subarray(0, n);
          this.result.bytes += this.#image.read(inode, out, extent.at + done);
        }
      }
    } catch (error) {
      yield caught(error, path, inode.nid);
    }
  }
}

/** A set of nids: a bit for each slot, in pages. */
class NidSet {
  readonly #pages = new Map<number, Uint32Array>();

  /** @returns false when it was there. */
  add(nid: Nid): boolean {
    const number = Math.floor(nid / 32768);
    let page = this.#pages.get(number);
    if (page === undefined) this.#pages.set(number, (page = new Uint32Array(1024)));
    const bit = nid - number * 32768;
    const mask = 1 << (bit & 31);
    const word = page[bit >>> 5] as number;
    page[bit >>> 5] = word | mask;
    return (word & mask) === 0;
  }
}

const quote = (name: string): string => JSON.stringify(Buffer.from(name, 'latin1').toString());

function problem(
  structure: string,
  field: string,
  at: number,
  what: string,
  path?: string,
  inode?: Inode,
): Problem {
  const message = new ErofsError({ structure, field, at, metabox: inode?.metabox }, what).message;
  return { path, nid: inode?.nid, structure, field, at, message };
}

/** What was thrown while something was read; what is not about the image (a broken disk) is a problem as well. */
function caught(error: unknown, path: string | undefined, nid: Nid): Problem {
  if (error instanceof ErofsError) {
    const { structure, field, at, message } = error;
    return { path, nid, structure, field, at, message };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { path, nid, structure: 'image', field: 'bytes', at: 0, message };
}
