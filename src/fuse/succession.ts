// What a server does first when it takes the place of one that died: the request that was in hand, and its reply.
// Used by server.ts with ServeOptions.successor; the journal (vfs/journal.ts) says what was in hand.
// Follows: FUSE_NOTIFY_RESEND (Linux 6.9). docs/restart.md has the table of what may be repeated.

import { E, errnoName } from '../linux/errno.js';
import { u32 } from '../linux/memory.js';
import type { Inheritance } from '../vfs/journal.js';
import * as journal from '../vfs/journal.js';
import { replyBuffer, requestBuffer } from '../vfs/layout.js';
import { FuseInHeader, FuseOutHeader } from './abi.js';
import { KeptReplies } from './kept-replies.js';
import { OP, opName } from './opcodes.js';

const REQ = requestBuffer(0) >>> 2;
const OPCODE = REQ + FuseInHeader.at.opcode / 4;
const UNIQUE = REQ + FuseInHeader.at.unique / 4;
const REPLY = replyBuffer(0) >>> 2;

export class Succession {
  readonly #kept = new KeptReplies();
  readonly #log: (line: string) => void;

  constructor(log: (line: string) => void) {
    this.#log = log;
  }

  /**
   * Brings the request that the predecessor had in hand to a state from which the kernel may send it again.
   * @param killed the predecessor has not ended by itself. @param redo handles the request in requestBuffer(0) once more, to its end. @returns bytes of its reply in
   * replyBuffer(0), 0 when it is answered elsewhere.
   */
  begin(killed: boolean, redo: () => number): void {
    const left = journal.inherit(killed);
    const { state, lo, hi } = left;
    if (state === journal.JOURNAL.DONE) this.#kept.keep(lo, hi, left.length);
    else if (isPoison(left)) this.#refuse(left);
    else if (state === journal.JOURNAL.INHERITED || isUnrepeated(state)) {
      journal.resume();
      const length = redo();
      if (length > 0) {
        journal.done(length);
        this.#kept.keep(lo, hi, length);
      }
    }
    journal.idle();
  }

  /** EIO, and a line for whoever looks for the reason. */
  #refuse({ lo, hi }: Inheritance): void {
    const opcode = u32[OPCODE] as number;
    const unique = hi * 0x1_0000_0000 + lo;
    this.#log(
      `request ${unique} (${opName(opcode)}) has ended one server after the other: answered ${errnoName(E.IO)}`,
    );
    u32[REPLY] = FuseOutHeader.size;
    u32[REPLY + 1] = -E.IO;
    this.#kept.keep(lo, hi, FuseOutHeader.size);
  }

  /**
   * The reply to the request in requestBuffer(0) where a predecessor has made it, put into replyBuffer(0).
   * @returns its length, 0: the request is to be handled.
   */
  reply(): number {
    if (!this.#kept.any) return 0;
    const lo = u32[UNIQUE] as number;
    const hi = u32[UNIQUE + 1] as number;
    if (hi >= journal.RESENT) return this.#kept.take(lo, hi);
    // These overtake what is sent again; any other request comes after it.
    const opcode = u32[OPCODE] as number;
    if (opcode !== OP.FORGET && opcode !== OP.BATCH_FORGET && opcode !== OP.INTERRUPT) {
      this.#kept.dropAll();
    }
    return 0;
  }

  /** Nothing is kept any more. */
  get over(): boolean {
    return !this.#kept.any;
  }

  /** That reply was written. */
  replied(): void {
    this.#kept.drop(u32[UNIQUE] as number, u32[UNIQUE + 1] as number);
  }
}

/** Begun, and sent once only: FORGET may be lost, which costs a record; a batch of them costs thousands. */
function isUnrepeated(state: number): boolean {
  return state === journal.JOURNAL.STARTED && u32[OPCODE] === OP.BATCH_FORGET;
}

function isPoison({ state, deaths }: Inheritance): boolean {
  const inHand = state === journal.JOURNAL.STARTED || state === journal.JOURNAL.INHERITED;
  return inHand && deaths >= journal.POISON;
}
