// Names and strings as a registry file writes them: escapes to UTF-16 and back.
// Used by parse.ts, write.ts and value.ts; text of a file is latin1, one character a byte.
// Follows: server/unicode.c of Wine (parse_strW, dump_strW).

const LETTERS = 'abtnvfr';

/** What a letter behind a backslash stands for. */
const UNIT_OF: Readonly<Record<string, number>> = {
  a: 7,
  b: 8,
  t: 9,
  n: 10,
  v: 11,
  f: 12,
  r: 13,
  e: 27,
};

/**
 * Where a string that begins at `from` of a line ends: the place of `end`, escaped ones skipped; -1 without one.
 * @param end `"` or `]`
 */
export function endOfEscaped(line: string, from: number, end: string): number {
  for (let at = line.indexOf(end, from); at !== -1; at = line.indexOf(end, at + 1)) {
    let slashes = 0;
    while (at - slashes > from && line.charCodeAt(at - slashes - 1) === 0x5c) slashes++;
    if (slashes % 2 === 0) return at;
  }
  return -1;
}

/**
 * The string behind its escapes. Bytes above 0x7f are UTF-8, single surrogates included; what is none
 * stays as latin1 (Wine drops it), for that is what old files in a code page are closest to.
 */
export function unescapeText(text: string): string {
  if (!/[\\\x80-\xff]/.test(text)) return text;
  return text.replace(
    /\\(?:x([0-9a-fA-F]{1,4})|([0-7]{1,3})|([\0-\x7f])|)|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}/g,
    (all, hex?: string, octal?: string, other?: string) => {
      if (hex !== undefined) return String.fromCharCode(Number.parseInt(hex, 16));
      if (octal !== undefined) return String.fromCharCode(Number.parseInt(octal, 8));
      if (other !== undefined) {
        const unit = UNIT_OF[other];
        return unit === undefined ? other : String.fromCharCode(unit);
      }
      return all === '\\' ? '' : decodeUtf8(all);
    },
  );
}

/** One sequence; a surrogate is a character here, an overlong form or one past U+10FFFF stays. */
function decodeUtf8(sequence: string): string {
  let point = sequence.charCodeAt(0) & (0x7f >> sequence.length);
  for (let i = 1; i < sequence.length; i++) {
    point = (point << 6) | (sequence.charCodeAt(i) & 0x3f);
  }
  const least = [0, 0, 0x80, 0x800, 0x10000][sequence.length];
  return point < least || point > 0x10ffff ? sequence : String.fromCodePoint(point);
}

/** As Wine writes it. @param marks characters that get a backslash besides the backslash: `"` or `[]` */
export function escapeText(text: string, marks: string): string {
  const plain = marks === '"' ? /[\0-\x1f"\\\x80-\uffff]/ : /[\0-\x1f[\]\\\x80-\uffff]/;
  if (!plain.test(text)) return text;
  let out = '';
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    const next = text[i + 1] ?? '';
    if (unit > 0x7f) {
      const hex = unit.toString(16);
      out += `\\x${/[0-9a-fA-F]/.test(next) ? hex.padStart(4, '0') : hex}`;
    } else if (unit < 0x20) {
      const letter = unit === 27 ? 'e' : LETTERS[unit - 7];
      const octal = unit.toString(8);
      out += `\\${letter ?? (/[0-7]/.test(next) ? octal.padStart(3, '0') : octal)}`;
    } else {
      const mark = text[i];
      out += mark === '\\' || marks.includes(mark) ? `\\${mark}` : mark;
    }
  }
  return out;
}
