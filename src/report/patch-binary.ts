// Two contents that are no text, as a piece of a patch from which git makes either of the other.
// Called by patch.ts for --binary; only literal contents are written, no deltas.
// Follows: "GIT binary patch" as git-apply(1) reads it (apply.c, base85.c of git 2.39): zlib, then base 85 in lines of 52 bytes.

import { deflateSync } from 'node:zlib';

const DIGITS =
  '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~';

export function binaryPatch(before: Uint8Array, after: Uint8Array): string {
  return `GIT binary patch\n${literal(after)}\n${literal(before)}\n`;
}

function literal(bytes: Uint8Array): string {
  const packed = deflateSync(bytes);
  const lines = [`literal ${bytes.length}\n`];
  for (let at = 0; at < packed.length; at += 52) {
    const piece = packed.subarray(at, at + 52);
    // The letter tells how many bytes the line holds: A to Z for 1 to 26, a to z for 27 to 52.
    const code = piece.length <= 26 ? 64 + piece.length : 96 + piece.length - 26;
    lines.push(`${String.fromCharCode(code)}${base85(piece)}\n`);
  }
  return lines.join('');
}

/** Five digits for each four bytes, most significant first; the last four are filled up with zeros. */
function base85(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 4) {
    let word = 0;
    for (let i = 0; i < 4; i++) word = word * 256 + (bytes[at + i] ?? 0);
    let digits = '';
    for (let i = 0; i < 5; i++) {
      digits = DIGITS.charAt(word % 85) + digits;
      word = Math.floor(word / 85);
    }
    text += digits;
  }
  return text;
}
