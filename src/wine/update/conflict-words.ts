// Conflicts in words: what each is called, what both sides have, and which one a person means.
// Used by `varve wine update` and by whoever starts a prefix that has some.
// Names of keys are those of regedit.

import { fold } from '../registry/hive.js';
import { REGEDIT_ROOTS } from '../registry/regedit-roots.js';
import { decodeValue } from '../registry/value.js';
import type { Conflict, KeyConflict } from './conflicts.js';

/** What else people call them. */
const SHORT: readonly (readonly [RegExp, string])[] = [
  [/^HKLM(?=\\|$)/i, REGEDIT_ROOTS.system],
  [/^HKCU(?=\\|$)/i, REGEDIT_ROOTS.user],
  [/^HKU(?=\\|$)/i, 'HKEY_USERS'],
];

/** `drive_c/windows/win.ini`, `HKEY_CURRENT_USER\Software\Wine`. */
export function nameOf(conflict: Conflict): string {
  return conflict.kind === 'file' ? fileName(conflict.path) : keyName(conflict);
}

const fileName = (path: string): string =>
  `drive_c${path === '' ? '' : '/'}${Buffer.from(path, 'latin1').toString()}`;

const keyName = ({ hive, path }: KeyConflict): string =>
  `${REGEDIT_ROOTS[hive]}${path === '' ? '' : '\\'}${path}`;

/** `3  HKEY_CURRENT_USER\Software\Wine: "Version": ours "win10", theirs "win11", before "win7"` */
export function lineOf(conflict: Conflict): string {
  const { id, layer } = conflict;
  const whose = layer === undefined ? '' : ` (layer ${layer})`;
  return `${id}  ${printable(nameOf(conflict))}${whose}: ${whatOf(conflict)}`;
}

function whatOf(conflict: Conflict): string {
  if (conflict.kind === 'file') {
    const words = conflict.clashes.map(({ aspect, name, ours, theirs }) =>
      aspect === 'existence'
        ? `${ours} here, ${theirs} in the base`
        : `${aspect}${name === undefined ? '' : ` ${name}`}: ours ${ours}, theirs ${theirs}`,
    );
    return words.join('; ');
  }
  const { what, value, old, ours, theirs } = conflict;
  switch (what) {
    case 'key-deleted-below':
      return `${valueWords(value)}changed here, deleted in the base`;
    case 'key-deleted-above':
      return `${valueWords(value)}deleted here, changed in the base`;
    case 'options':
      return `class or link: ours ${ours ?? 'none'}, theirs ${theirs ?? 'none'}`;
    case 'value': {
      const sides = `ours ${dataWords(ours)}, theirs ${dataWords(theirs)}, before ${dataWords(old)}`;
      return `${valueWords(value)}${sides}`;
    }
  }
}

const valueWords = (value: string | undefined): string =>
  value === undefined ? '' : value === '' ? '(Default): ' : `${printable(JSON.stringify(value))}: `;

/** Bytes of a value that is no text which are shown. */
const SHOWN = 16;

/** Data of a registry file as a person reads it. */
function dataWords(data: string | undefined): string {
  if (data === undefined) return 'nothing';
  const { type, typeName, bytes, text } = decodeValue(data);
  if (typeName === 'REG_DWORD' && bytes.length === 4) {
    return `0x${bytes.readUInt32LE(0).toString(16).padStart(8, '0')}`;
  }
  const shown =
    text === undefined
      ? bytes.subarray(0, SHOWN).toString('hex') + (bytes.length > SHOWN ? '...' : '')
      : short(JSON.stringify(text));
  return type === 1 ? shown : `${typeName} ${shown}`;
}

const short = (text: string): string => (text.length > 60 ? `${text.slice(0, 56)}..."` : text);

/** Without what a terminal would take for a command. */
const printable = (text: string): string =>
  text.replace(
    /[\x00-\x1f\x7f-\x9f]/g,
    (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );

/** Whether a number, a path (`drive_c/...`, `C:\...`) or a key means a conflict: itself, or something above it. */
export function isMeant(conflict: Conflict, word: string): boolean {
  if (/^[0-9]+$/.test(word)) return conflict.id === Number(word);
  if (conflict.kind === 'file') {
    const path = word
      .replace(/^c:\\?/i, 'drive_c\\')
      .replaceAll('\\', '/')
      .replace(/\/+$/, '');
    return isAtOrBelow(fold(nameOf(conflict)), fold(path), '/');
  }
  const [pattern, root] = SHORT.find(([start]) => start.test(word)) ?? [/^/, ''];
  const key = fold(word.replace(pattern, () => root)).replace(/\\+$/, '');
  const name = fold(nameOf(conflict));
  if (isAtOrBelow(name, key, '\\')) return true;
  return conflict.value !== undefined && `${name}\\${fold(conflict.value)}` === key;
}

const isAtOrBelow = (name: string, above: string, separator: string): boolean =>
  above !== '' && (name === above || name.startsWith(above + separator));

/** For programs. */
export function conflictJson(conflict: Conflict): object {
  const { id, kind, layer, from, to, settled } = conflict;
  const common = { id, kind, name: nameOf(conflict), layer, from, to, settled };
  if (conflict.kind === 'file') {
    const { path, clashes } = conflict;
    const bytes = Buffer.from(path, 'latin1');
    const isText = Buffer.from(bytes.toString()).equals(bytes);
    return { ...common, ...(isText ? {} : { pathBytes: bytes.toString('base64') }), clashes };
  }
  const { hive, path, value, what, old, ours, theirs } = conflict;
  const data = { old: decodedJson(old), ours: decodedJson(ours), theirs: decodedJson(theirs) };
  const sides = what === 'options' ? { old, ours, theirs } : data;
  return { ...common, hive, path, value, what, ...sides };
}

function decodedJson(data: string | undefined): object | undefined {
  if (data === undefined) return undefined;
  const { typeName, bytes, text } = decodeValue(data);
  return { type: typeName, ...(text === undefined ? { hex: bytes.toString('hex') } : { text }) };
}
