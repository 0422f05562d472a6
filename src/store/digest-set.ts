// The digests that one ingest has met, in memory that its threads share.
// Asked by object-writer.ts before bytes are written: two equal files of a tree become one object, written once.
// Open addressing; a slot is claimed by one compare-and-exchange, its digest is written, then it is made ready.

const FREE = 0;
const CLAIMED = 1;
const READY = 2;

export class DigestSet {
  /** [slots, words of a slot], then the slots: state, digest. */
  readonly #words: Int32Array;
  readonly #slots: number;
  readonly #slotWords: number;

  /** Memory for up to `count` digests of `digestSize` bytes. */
  static memory(count: number, digestSize: number): SharedArrayBuffer {
    let slots = 64;
    while (slots < count * 2) slots *= 2;
    const slotWords = 1 + digestSize / 4;
    const memory = new SharedArrayBuffer((2 + slots * slotWords) * 4);
    const words = new Int32Array(memory);
    words[0] = slots;
    words[1] = slotWords;
    return memory;
  }

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
    this.#slots = this.#words[0] as number;
    this.#slotWords = this.#words[1] as number;
  }

  /** @returns false when it was there. @throws RangeError when there is no room. */
  add(digest: Buffer): boolean {
    const words = this.#words;
    const length = this.#slotWords - 1;
    const mask = this.#slots - 1;
    for (let tried = 0, slot = digest.readUInt32LE(0) & mask; tried <= mask; tried++) {
      const at = 2 + slot * this.#slotWords;
      if (Atomics.compareExchange(words, at, FREE, CLAIMED) === FREE) {
        for (let i = 0; i < length; i++) words[at + 1 + i] = digest.readInt32LE(i * 4);
        Atomics.store(words, at, READY);
        return true;
      }
      // Its claimant writes a few words.
      while (Atomics.load(words, at) !== READY);
      let same = 0;
      while (same < length && words[at + 1 + same] === digest.readInt32LE(same * 4)) same++;
      if (same === length) return false;
      slot = (slot + 1) & mask;
    }
    throw new RangeError('more digests than there was memory made for');
  }
}
