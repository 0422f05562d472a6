// Names as git writes them in its listings and patches: which bytes are escaped, and how.
// Used by name-status.ts and patch.ts, which differ in when they put quotes around a name.
// Follows: git-config(1), core.quotePath; quote.c of git.

const ESCAPES: Readonly<Record<string, string>> = {
  '\x07': '\\a',
  '\b': '\\b',
  '\t': '\\t',
  '\n': '\\n',
  '\v': '\\v',
  '\f': '\\f',
  '\r': '\\r',
  '"': '\\"',
  '\\': '\\\\',
};

/** @param name latin1. @returns it with all that is no printable ASCII, and quotes and backslashes, escaped. */
export function escapeName(name: string): string {
  return name.replace(
    /[\x00-\x1f\x7f-\xff"\\]/g,
    (byte) => ESCAPES[byte] ?? `\\${byte.charCodeAt(0).toString(8).padStart(3, '0')}`,
  );
}
