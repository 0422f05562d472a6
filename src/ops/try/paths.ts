// Paths as bytes (latin1, one code unit a byte) and as Node's text.
// Used by ops/try wherever a path comes in or goes out.
// Text that is no UTF-8 does not survive the way through Node: such paths are compared and opened as bytes only.

export function latin1(path: string): string {
  return Buffer.from(path, 'utf8').toString('latin1');
}

export function text(path: string): string {
  return Buffer.from(path, 'latin1').toString('utf8');
}

/** For node:fs. */
export function bytes(path: string): Buffer {
  return Buffer.from(path, 'latin1');
}
