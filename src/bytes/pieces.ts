// Many small writes become few large ones.
// Used where an archive or a page is written: a tar is made of headers of 512 bytes.
// What is given to `put` is borrowed until it returns.

/** Bytes that are collected before they are written. */
const PIECE = 1024 * 1024;

/**
 * @param make gives all bytes, in order; what it gives may be used again after each call.
 * @param put takes them at once, with where they belong, bytes. @returns how many there were.
 */
export function inPieces(
  make: (write: (bytes: Uint8Array) => void) => void,
  put: (bytes: Uint8Array, at: number) => void,
): number {
  const piece = Buffer.allocUnsafe(PIECE);
  let held = 0;
  let at = 0;
  const flush = (): void => {
    if (held > 0) put(piece.subarray(0, held), at);
    at += held;
    held = 0;
  };
  make((bytes) => {
    if (bytes.length > PIECE - held) flush();
    if (bytes.length > PIECE) {
      put(bytes, at);
      at += bytes.length;
    } else {
      piece.set(bytes, held);
      held += bytes.length;
    }
  });
  flush();
  return at;
}
