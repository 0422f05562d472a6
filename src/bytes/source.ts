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

/** Most that is read at once, bytes. */
const PIECE = 4 * 1024 * 1024;

/** Reads the bytes from `from` to `to` in order. @param take is given each piece, which is valid until it returns. */
export function eachPiece(
  source: ByteSource,
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
