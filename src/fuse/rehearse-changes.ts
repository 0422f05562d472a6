// Practises changes: small files come, are written, renamed and go, in a directory that the filesystem lends for it.
// One round of it belongs to a turn of rehearse.ts; a filesystem that lends no directory is not practised on.
// Measured: CREATE and what comes with it take 16 us of processor in the first thousands and 7 us afterwards.

import { O } from '../linux/constants.js';
import { type FileSystem, type NodeRef, SETATTR } from '../vfs/filesystem.js';
import {
  FuseCreateIn,
  FuseEntryOut,
  FuseGetxattrIn,
  FuseReleaseIn,
  FuseRename2In,
  FuseSetattrIn,
  FuseWriteIn,
} from './abi.js';
import { OP } from './opcodes.js';
import { numberAt, OUT, type Practice, putArguments } from './practice.js';

const text = (name: string): Uint8Array => new TextEncoder().encode(`${name}\0`);

/** Files of one round: enough to be worth a turn, few enough for a request that comes meanwhile. */
const FILES = 4;
const NAMES = Array.from({ length: FILES }, (_, i) => text(`practice-${i}`));
const MOVED = text('practice-moved');
const CAPABILITY = text('security.capability');
const DATA = new Uint8Array(1024);

export class ChangeRehearsal {
  readonly #practice: Practice;
  /** Undefined where the filesystem lends none, and at the end. */
  #place: NodeRef | undefined;

  constructor(practice: Practice, fs: FileSystem) {
    this.#practice = practice;
    this.#place = fs.practicePlace?.();
  }

  /** One round: afterwards the directory is empty again. */
  round(number: number): void {
    if (this.#place === undefined) return;
    for (const name of NAMES) {
      if (!this.#file(this.#place, name, number)) {
        // Not as foreseen (memory, limits): no reason to go on.
        this.leave();
        return;
      }
    }
  }

  /** Gives the directory back. */
  leave(): void {
    if (this.#place !== undefined) this.#practice.forget(this.#place);
    this.#place = undefined;
  }

  /** What the kernel asks for `echo > name`, touch, mv and rm. */
  #file(place: NodeRef, name: Uint8Array, number: number): boolean {
    const p = this.#practice;
    p.getAttributes(place);
    p.lookUp(place, name);
    const flags = O.WRONLY | O.CREAT | O.EXCL;
    const wanted = putArguments([flags, 0o100644, 0o022], FuseCreateIn.size, name);
    if (p.ask(OP.CREATE, place, wanted) === 0) return false;
    const node = numberAt(OUT);
    const fh = numberAt(OUT + FuseEntryOut.size);
    p.ask(OP.GETXATTR, node, putArguments([64], FuseGetxattrIn.size, CAPABILITY));
    p.ask(OP.WRITE, node, putArguments([...fh, 0, 0, DATA.length], FuseWriteIn.size, DATA));
    p.ask(OP.RELEASE, node, putArguments([...fh, O.WRONLY], FuseReleaseIn.size));
    if (number % 4 === 0) {
      p.ask(
        OP.SETATTR,
        node,
        putArguments([SETATTR.MTIME | SETATTR.MTIME_NOW], FuseSetattrIn.size),
      );
      const both = new Uint8Array([...name, ...MOVED]);
      p.ask(OP.RENAME2, place, putArguments([...place], FuseRename2In.size, both));
      p.ask(OP.UNLINK, place, putArguments([], 0, MOVED));
    } else {
      p.ask(OP.UNLINK, place, putArguments([], 0, name));
    }
    p.forget(node);
    return true;
  }
}
