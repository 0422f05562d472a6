// Names for the log: where in an image an inode is, which a server that remembers nothing does not know.
// Used by follow-filesystem.ts when an object is refused; runs as an errand, a slice between two requests.
// One walk serves all inodes that are looked for, so that a store without objects costs one walk and not one a file.

import { FileType } from '../erofs/format.js';
import { type ErofsImage, isDots } from '../erofs/image.js';

/** Inodes that are looked for at once; further ones are told by number. */
const MOST = 1000;
/** Milliseconds of a slice. */
const SLICE = 1;
/** Entries between two looks at the clock. */
const STRIDE = 64;

interface Place {
  readonly nid: number;
  /** Latin-1, without a slash at its end. */
  readonly path: string;
  /** Where its listing goes on. */
  from: number;
}

interface Wanted {
  readonly tells: ((path: string) => void)[];
  /** The walk that was on its way when it was asked for: the one after it passes everything. */
  readonly asked: number;
}

/** Finds paths of inodes, and tells whoever asked. */
export class PathSearch {
  readonly #image: ErofsImage;
  readonly #wanted = new Map<number, Wanted>();
  #walk: Place[] = [];
  #number = 0;
  /** Directories of the walk, so that a malformed image with a loop ends it. */
  readonly #entered = new Set<number>();

  constructor(image: ErofsImage) {
    this.#image = image;
  }

  /**
   * Looks for a path of inode `nid`.
   * @param tell receives the path from the root on (UTF-8 as far as it is), or `nid N` when there is none; once.
   * @returns true when step() must be called now and then until it returns false.
   */
  find(nid: number, tell: (path: string) => void): boolean {
    const known = this.#wanted.get(nid);
    if (known !== undefined) {
      known.tells.push(tell);
      return false;
    }
    if (this.#wanted.size >= MOST) {
      tell(`nid ${nid}`);
      return false;
    }
    this.#wanted.set(nid, { tells: [tell], asked: this.#number });
    return this.#wanted.size === 1;
  }

  /** A slice of the walk. @returns whether something is still looked for. */
  step(): boolean {
    const until = performance.now() + SLICE;
    try {
      if (this.#walk.length === 0) this.#begin();
      while (this.#walk.length > 0 && this.#wanted.size > 0) {
        if (!this.#list(this.#walk.pop() as Place, until)) return true;
      }
    } catch {
      // A malformed directory: whoever lists it is told. Here the numbers must do.
      this.#walk = [];
      this.#number++;
    }
    for (const [nid, { asked }] of this.#wanted) {
      if (asked < this.#number) this.#found(nid, `nid ${nid}`);
    }
    if (this.#wanted.size === 0) this.#walk = [];
    return this.#wanted.size > 0;
  }

  #begin(): void {
    this.#number++;
    this.#entered.clear();
    this.#enter(this.#image.rootNid, '');
  }

  #enter(nid: number, path: string): void {
    if (this.#entered.has(nid)) return;
    this.#entered.add(nid);
    this.#walk.push({ nid, path, from: 0 });
  }

  #found(nid: number, path: string): void {
    const tells = this.#wanted.get(nid)?.tells ?? [];
    this.#wanted.delete(nid);
    for (const tell of tells) tell(path);
  }

  /** @returns false when the time was over before the directory was. */
  #list(place: Place, until: number): boolean {
    const inside: [number, string][] = [];
    let entries = 0;
    let whole = true;
    this.#image.list(
      this.#image.inode(place.nid),
      (name, nid, type, next) => {
        place.from = next;
        if (!isDots(name)) {
          const wanted = this.#wanted.has(nid);
          if (wanted || type === FileType.DIR) {
            const path = `${place.path}/${Buffer.from(name).toString('latin1')}`;
            if (type === FileType.DIR) inside.push([nid, path]);
            if (wanted) this.#found(nid, Buffer.from(path, 'latin1').toString());
          }
        }
        whole = ++entries % STRIDE !== 0 || performance.now() < until;
        return whole;
      },
      place.from,
    );
    if (!whole) this.#walk.push(place);
    for (const [nid, path] of inside) this.#enter(nid, path);
    return whole;
  }
}
