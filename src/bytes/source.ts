// Where bytes come from: a readable range of known size, read at offsets.
// Taken by the readers of disk formats (erofs/), so that a file, memory or a fetched range serve alike.
// Synchronous, because what reads metadata answers a kernel request on the same thread.

/** A range of bytes that does not change while it is read. */
export interface ByteSource {
  /** Bytes. */
  readonly size: number;
  /**
   * Reads exactly `out.length` bytes at byte `at` into `out`, which the caller owns.
   * @throws RangeError past the end, or the error of the device.
   */
  read(at: number, out: Uint8Array): void;
}

/** Throws unless `length` bytes at `at` lie within `size`: the check of every source. */
export function requireRange(at: number, length: number, size: number): void {
  if (at < 0 || at + length > size || !Number.isSafeInteger(at)) {
    throw new RangeError(`${length} bytes at ${at}: the source has ${size}`);
  }
}

/** Bytes in memory, borrowed. */
export class MemorySource implements ByteSource {
  readonly size: number;
  readonly #bytes: Uint8Array;

  /** @param bytes not copied: the caller leaves them alone. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.size = bytes.length;
  }

  read(at: number, out: Uint8Array): void {
    requireRange(at, out.length, this.size);
    out.set(this.#bytes.subarray(at, at + out.length));
  }
}

/** Zeros, for who reads metadata and must not miss the content that it names. @param size bytes. */
export function holeSource(size: number): ByteSource {
  return {
    size,
    read: (_at, out) => {
      out.fill(0);
    },
  };
}

/** Most that is read at once, bytes. */
const PIECE = 4 * 1024 * 1024;

/** Reads the bytes from `from` to `to` in order. @param take is given each piece, which is valid until it returns. */
export function eachPiece(
  source: Pick<ByteSource, 'read'>,
  from: number,
  to: number,
  take: (piece: Uint8Array) => void,
): void {
  const buffer = Buffer.alloc(Math.max(0, Math.min(PIECE, to - from)));
  for (let at = from; at < to; ) {
    const piece = buffer.subarray(0, Math.min(buffer.length, to - at));
    source.read(at, piece);
    take(piece);
    at += piece.length;
  }
}

/** A source whose bytes come one after the other, from elsewhere. */
export interface LateSource extends ByteSource {
  /** Whether all of these bytes are here. */
  isHere(at: number, length: number): boolean;
  /**
   * Calls `done` once: with 0 when parts `first` to `last` (not included) are here, with -errno when they do not come.
   * @returns what ends the wait without a call.
   */
  whenHere(first: number, last: number, done: (result: number) => void): () => void;
  /** Has bytes fetched that will be asked for soon. Nobody waits for them. */
  wantSoon(at: number, length: number): void;
}

/** What stands for NotHereError where results are numbers: below every -errno. */
export const NOT_HERE = -0x10002;

/** Thrown by a LateSource for bytes that it has not yet. */
export class NotHereError extends Error {
  source: LateSource | undefined;
  first = 0;
  last = 0;
}

/** The one that is thrown: a source that waits for its bytes would spend its time on stacks otherwise. */
const notHere = new NotHereError('its content is not here yet');

/** @param first part that is missing, and `last` (not included): numbers of the source. */
export function throwNotHere(source: LateSource, first: number, last: number): never {
  notHere.source = source;
  notHere.first = first;
  notHere.last = last;
  throw notHere;
}

/** Waits for what the last NotHereError of this thread was about, see LateSource.whenHere(). */
export function whenHere(done: (result: number) => void): () => void {
  const { source, first, last } = notHere;
  if (source === undefined) throw notHere;
  return source.whenHere(first, last, done);
}
