// Bytes of a name, path or target as text, and whether the text says all of them.
// Used by everything in report/ that leaves the latin1 strings of the tree behind.
// JSON and HTML hold Unicode: what is no UTF-8 is shown escaped and carried beside it as base64.

export interface Readable {
  /** UTF-8 decoded; bytes that are no UTF-8 as `\xNN`. */
  readonly text: string;
  /** The exact bytes in base64, only where `text` could not hold them. */
  readonly bytes?: string;
}

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder('utf-8', { ignoreBOM: true });

/** @param latin1 bytes, one code unit a byte. */
export function readable(latin1: string): Readable {
  // Most names: nothing to decode, nothing to allocate.
  if (!/[\x80-\xff]/.test(latin1)) return { text: latin1 };
  const bytes = Buffer.from(latin1, 'latin1');
  try {
    return { text: strict.decode(bytes) };
  } catch {
    return { text: escapeInvalid(bytes), bytes: bytes.toString('base64') };
  }
}

/** Keeps the sequences that are UTF-8, so that one bad byte does not make a long name unreadable. */
function escapeInvalid(bytes: Buffer): string {
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes, at);
    if (length === 0) {
      text += `\\x${(bytes[at] as number).toString(16).padStart(2, '0')}`;
      at++;
    } else {
      text += lenient.decode(bytes.subarray(at, at + length));
      at += length;
    }
  }
  return text;
}

/** Bytes of the UTF-8 sequence at `at`, 0 when there is none: RFC 3629, no surrogates, nothing overlong. */
function sequenceLength(bytes: Buffer, at: number): number {
  const lead = bytes[at] as number;
  const length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (length < 2) return length;
  try {
    const text = strict.decode(bytes.subarray(at, at + length));
    return at + length <= bytes.length && text.length > 0 ? length : 0;
  } catch {
    return 0;
  }
}
