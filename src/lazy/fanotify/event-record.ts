// The events of a layer that were read and not answered yet, in memory that outlives the loader: a memfd that the supervisor holds.
// read(2) puts an event straight into a slot, so that there is no moment at which it is read and not recorded; used by the
// reading thread (which takes slots) and by kernel-way.ts (which frees them), and by a successor that finds what was in hand.
// Format: u32 which of two notes counts, u32 flag; two notes (u32 length, UTF-8), each 8 KiB; slots of EVENT_SIZE bytes, in which the
// first word of an event (its length) is 0 when the slot is free.

import { decodeEvent, EVENT_SIZE, type PreContentEvent } from '../../linux/fanotify.js';
import { mapFile, memoryFile, nativeBytes, pinMemory, release } from '../../linux/native-memory.js';

/** Readers of one layer that may wait at a time; more wait in the kernel's queue. Each costs the loader a descriptor. */
const SLOTS = 1024;

/** Words of the head: the note that counts; the reading thread has found no free slot. */
const W = { note: 0, full: 1 } as const;
const NOTE_AT = 4096;
const NOTE_SIZE = 8192;
const SLOTS_AT = NOTE_AT + 2 * NOTE_SIZE;
const SIZE = SLOTS_AT + SLOTS * EVENT_SIZE;

export class EventRecord {
  readonly #address: number;
  readonly #view: DataView;
  readonly #words: Int32Array;
  /** Where the search for a free slot begins. Of the reading thread. */
  #next = 0;

  /** Maps the record behind `fd`. */
  constructor(fd: number) {
    this.#address = mapFile(fd, SIZE);
    // Else a page could be missing when the kernel writes an event: see readEvent().
    pinMemory(this.#address, SIZE);
    const bytes = nativeBytes(this.#address, SIZE);
    this.#view = new DataView(bytes.buffer);
    this.#words = new Int32Array(bytes.buffer);
  }

  /** A new one, empty. @returns its descriptor. @throws Error. */
  static create(): number {
    return memoryFile('varve-events', SIZE);
  }

  /** What a successor is to know about the layer; empty at first. */
  get note(): string {
    const at = this.#noteAt(Atomics.load(this.#words, W.note));
    const length = Math.min(this.#view.getUint32(at, true), NOTE_SIZE - 4);
    return Buffer.from(this.#view.buffer, at + 4, length).toString();
  }

  /** Whoever is killed meanwhile leaves the one before. @throws RangeError when it is too long. */
  set note(text: string) {
    const bytes = Buffer.from(text);
    if (bytes.length > NOTE_SIZE - 4) throw new RangeError(`a note of ${bytes.length} bytes`);
    const other = 1 - Atomics.load(this.#words, W.note);
    const at = this.#noteAt(other);
    this.#view.setUint32(at, bytes.length, true);
    new Uint8Array(this.#view.buffer, at + 4, bytes.length).set(bytes);
    Atomics.store(this.#words, W.note, other);
  }

  #noteAt(which: number): number {
    return NOTE_AT + (which & 1) * NOTE_SIZE;
  }

  /** A free slot, or undefined when all are in hand. */
  free(): number | undefined {
    for (let tries = 0; tries < SLOTS; tries++) {
      const slot = this.#next;
      this.#next = (slot + 1) % SLOTS;
      if (Atomics.load(this.#words, this.#word(slot)) === 0) return slot;
    }
    return undefined;
  }

  /** For the reading thread: whether there is a free slot. Else whoever frees one is told to wake it. */
  hasRoom(): boolean {
    if (this.free() !== undefined) return true;
    Atomics.store(this.#words, W.full, 1);
    // One may have been freed before the flag was seen.
    return this.free() !== undefined;
  }

  /** Slots with an event. */
  inHand(): number[] {
    const slots: number[] = [];
    for (let slot = 0; slot < SLOTS; slot++) {
      if (Atomics.load(this.#words, this.#word(slot)) !== 0) slots.push(slot);
    }
    return slots;
  }

  /** Where read(2) is to put the event of `slot`. */
  address(slot: number): number {
    return this.#address + SLOTS_AT + slot * EVENT_SIZE;
  }

  /** The event in `slot`, undefined where that is free. */
  at(slot: number): PreContentEvent | undefined {
    return decodeEvent(new DataView(this.#view.buffer, SLOTS_AT + slot * EVENT_SIZE, EVENT_SIZE));
  }

  /**
   * The event was answered. Only then may its descriptor be closed: the number is free for another event afterwards.
   * @returns whether the reading thread waits for a free slot.
   */
  clear(slot: number): boolean {
    Atomics.store(this.#words, this.#word(slot), 0);
    return Atomics.exchange(this.#words, W.full, 0) === 1;
  }

  #word(slot: number): number {
    return (SLOTS_AT + slot * EVENT_SIZE) / 4;
  }

  close(): void {
    release(this.#address, SIZE);
  }
}
