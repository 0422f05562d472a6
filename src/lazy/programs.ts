// The files of a layer that are read whole more often than not, and where in its blob they lie: programs, libraries, and what is a few
// chunks long. So whoever fetches the first bytes of one knows what is next.
// Made where a layer's metadata is walked anyway (pull/, tar/); read by load/guess.ts. A layer without it is loaded all the same.
// A file of JSON in the layer's folder; its paths are latin1, as the names of an image are read.

import { existsSync, readFileSync } from 'node:fs';
import { holeSource } from '../bytes/source.js';
import { eachInode } from '../erofs/each-inode.js';
import { ErofsImage, type Inode } from '../erofs/image.js';
import { S } from '../linux/constants.js';
import { FileSource } from '../linux/file-source.js';
import { CHUNK_SIZE } from './build/cut.js';
import type { LayerFolder } from './layer-folder.js';
import { writeDurable } from './write-durable.js';

/** A regular file whose content lies in one piece of the blob. */
export interface Program {
  /** Empty: it is no program. */
  readonly path: string;
  /** Byte of the blob, and bytes. */
  readonly at: number;
  readonly size: number;
}

/** What the file holds. */
interface Recorded {
  readonly version: 1;
  readonly files: readonly (readonly [path: string, at: number, size: number])[];
  /** Symbolic links to libraries and programs. */
  readonly links: readonly (readonly [path: string, target: string])[];
  /** Other files of more than one chunk. */
  readonly data: readonly (readonly [at: number, size: number])[];
}

/** Smaller than the head of a program. */
const LEAST = 64;
/** Data up to this size is likely to be read whole. */
const MOST_DATA = 512 << 10;
const LIBRARY = /\.so(?:\.|$)/;
/** Where loaders look first: several files may have a library's name. */
const SYSTEM = /^(?:\/usr)?\/lib(?:64)?(?:\/[^/]*-linux-gnu[^/]*)?$/;
const PROGRAMS = /\/s?bin$/;
/** Links that lead to links. */
const MOST_LINKS = 8;

const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
const folderOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/')));

/** Takes programs and libraries out of a walk through an image. */
export class ProgramCollector {
  readonly #files: [string, number, number][] = [];
  readonly #links: [string, string][] = [];
  readonly #data: [number, number][] = [];

  see(image: ErofsImage, path: string, inode: Inode): void {
    const { mode, size } = inode;
    const isLibrary = LIBRARY.test(nameOf(path));
    if ((mode & S.IFMT) === S.IFLNK) {
      if (isLibrary || PROGRAMS.test(folderOf(path)))
        this.#links.push([path, image.readlink(inode)]);
    } else if ((mode & S.IFMT) === S.IFREG) {
      const isProgram = size >= LEAST && (isLibrary || (mode & 0o111) !== 0);
      const isData = size > CHUNK_SIZE && size <= MOST_DATA;
      const at = isProgram || isData ? pieceOf(image, inode) : undefined;
      if (at === undefined) return;
      if (isProgram) this.#files.push([path, at, size]);
      else this.#data.push([at, size]);
    }
  }

  /** Writes what was seen into the folder of the layer. */
  write(folder: LayerFolder): void {
    const [files, links, data] = [this.#files, this.#links, this.#data];
    const recorded: Recorded = { version: 1, files, links, data };
    writeDurable(folder.programs, JSON.stringify(recorded));
  }
}

/** For a layer whose metadata nobody walks otherwise. @param blobSize bytes. @throws ErofsError. */
export function writePrograms(folder: LayerFolder, blobSize: number): void {
  const meta = FileSource.open(folder.meta);
  try {
    const image = ErofsImage.open(meta, [holeSource(blobSize)]);
    const programs = new ProgramCollector();
    eachInode(image, (path, inode) => programs.see(image, path, inode));
    programs.write(folder);
  } finally {
    meta.close();
  }
}

/** Where the content begins in the blob, if all of it lies there side by side. */
function pieceOf(image: ErofsImage, inode: Inode): number | undefined {
  let first: number | undefined;
  let next = 0;
  for (const { device, storedAt, length, where } of image.extents(inode)) {
    if (where !== 'device' || device !== 1) return undefined;
    if (first === undefined) first = storedAt;
    else if (storedAt !== next) return undefined;
    next = storedAt + length;
  }
  return first;
}

export class ProgramList {
  /** By where they begin; some share their content, and overlap. */
  readonly #files: readonly Program[];
  /** Where the last of those up to each one ends. */
  readonly #ends: readonly number[];
  readonly #named = new Map<string, Program>();
  readonly #links = new Map<string, string>();

  private constructor({ files, links, data }: Recorded) {
    const all = files.map(([path, at, size]) => ({ path, at, size }));
    for (const [at, size] of data) all.push({ path: '', at, size });
    this.#files = all.sort((a, b) => a.at - b.at);
    let end = 0;
    this.#ends = this.#files.map(({ at, size }) => {
      end = Math.max(end, at + size);
      return end;
    });
    for (const file of this.#files) {
      if (file.path === '') continue;
      const name = nameOf(file.path);
      const before = this.#named.get(name);
      const isBetter =
        SYSTEM.test(folderOf(file.path)) && !SYSTEM.test(folderOf(before?.path ?? ''));
      if (before === undefined || isBetter) this.#named.set(name, file);
    }
    for (const [path, target] of links) this.#links.set(nameOf(path), nameOf(target));
  }

  /** @returns undefined where the layer has none, or one of another version. */
  static read(folder: LayerFolder): ProgramList | undefined {
    if (!existsSync(folder.programs)) return undefined;
    try {
      const recorded = JSON.parse(readFileSync(folder.programs, 'utf8')) as Recorded;
      return recorded.version === 1 ? new ProgramList(recorded) : undefined;
    } catch {
      // Nothing depends on it.
      return undefined;
    }
  }

  /** Those of which something lies in these bytes of the blob. */
  in(from: number, to: number): readonly Program[] {
    let low = 0;
    let high = this.#files.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ends[middle] as number) > from) high = middle;
      else low = middle + 1;
    }
    const found: Program[] = [];
    for (let i = low; i < this.#files.length; i++) {
      const file = this.#files[i] as Program;
      if (file.at >= to) break;
      if (file.at + file.size > from) found.push(file);
    }
    return found;
  }

  /** A program or library. @param name without folders, as DT_NEEDED has it. */
  named(name: string): Program | undefined {
    for (
      let links = 0, at: string | undefined = name;
      at !== undefined && links < MOST_LINKS;
      links++
    ) {
      const file = this.#named.get(at);
      if (file !== undefined) return file;
      at = this.#links.get(at);
    }
    return undefined;
  }
}
