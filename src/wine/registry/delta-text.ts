// A delta as a file, `registry.delta`: lines as in Wine's registry files, with marks for what is deleted.
// Written into a layer when it is made, read whenever a stack's registry is put together.
// Follows: docs/wine-registry.md, version 1. Equal deltas give equal bytes.

import { rankOf } from './apply.js';
import type { KeyDelta, RegistryDelta } from './delta.js';
import { RegistryError } from './error.js';
import { endOfEscaped, unescapeText } from './escape.js';
import { fold, HIVES, type HiveName, type RegistryValue } from './hive.js';
import { Lines, nameOf, readValue, requireDepth } from './lines.js';
import { decodeValue, encodeValue } from './value.js';
import { keyLine, valueHead } from './write.js';

const VERSION = 'VARVE REGISTRY DELTA 1';

export function writeDelta(delta: RegistryDelta): Buffer {
  const lines = [VERSION];
  for (const hive of HIVES) {
    if (delta[hive].size === 0) continue;
    lines.push('', `hive ${hive}`);
    for (const entry of inOrder(delta[hive], rankOf)) lines.push('', ...entryLines(entry));
  }
  return Buffer.from(`${lines.join('\n')}\n`, 'latin1');
}

/** @throws RegistryError for a line that it does not know */
export function parseDelta(bytes: Uint8Array): RegistryDelta {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
  // A last line whose LF is missing ends as the others do.
  const lines = new Lines(text.replace(/\r$/, ''));
  const version = lines.next();
  if (version !== VERSION) throw new RegistryError(1, versionMessage(version));
  const delta = { system: new Map(), user: new Map(), userdef: new Map() };
  let hive: Map<string, KeyDelta> | undefined;
  let entry: Draft | undefined;
  for (let line = lines.next(); line !== undefined; line = lines.next()) {
    if (line === '' || line[0] === ';') continue;
    if (line.startsWith('hive ')) {
      hive = delta[hiveNamed(line.slice(5), lines.number)];
      entry = undefined;
    } else if (/^[-+]?\[/.test(line)) {
      if (hive === undefined) throw new RegistryError(lines.number, 'a key before any `hive` line');
      entry = readKeyLine(line, lines.number, hive);
    } else if (entry === undefined || !readContent(line, lines, entry)) {
      throw new RegistryError(lines.number, `not understood: ${line.slice(0, 60)}`);
    }
  }
  return delta;
}

function versionMessage(line: string | undefined): string {
  return line?.startsWith('VARVE REGISTRY DELTA ')
    ? `${line}: this version reads 1; it was written by a newer one`
    : `no registry delta: it begins with ${VERSION}`;
}

function hiveNamed(name: string, line: number): HiveName {
  if ((HIVES as readonly string[]).includes(name)) return name as HiveName;
  throw new RegistryError(line, `no such hive: ${name} (there are ${HIVES.join(', ')})`);
}

function entryLines(entry: KeyDelta): string[] {
  const lines: string[] = [];
  if (entry.deleted) lines.push(`-${keyLine(entry.path, '')}`);
  const content = contentLines(entry);
  if (entry.present || content.length > 0 || entry.stamp !== undefined || lines.length === 0) {
    const mark = entry.present ? '+' : '';
    lines.push(mark + keyLine(entry.path, entry.stamp ?? ''), ...content);
  }
  return lines;
}

function contentLines(entry: KeyDelta): string[] {
  const lines: string[] = [];
  if (entry.options?.length === 0) lines.push('#');
  else if (entry.options !== undefined) lines.push(...entry.options);
  const values = new Map<string, string>();
  for (const [folded, name] of entry.removed) values.set(folded, `${valueHead(name)}-`);
  for (const [folded, value] of entry.set) {
    values.set(folded, valueHead(value.name) + plainData(value));
  }
  return [...lines, ...inOrder(values, (folded) => folded)];
}

/** The data; in Wine's own form where a reader of lines would take it for something else. */
function plainData({ name, data }: RegistryValue): string {
  if (data !== '' && data[0] !== '-' && !data.includes('\r')) return data;
  const { type, bytes } = decodeValue(data);
  return encodeValue(type, bytes, name);
}

function inOrder<T>(map: ReadonlyMap<string, T>, rank: (folded: string) => string): T[] {
  return [...map]
    .map(([folded, item]) => ({ rank: rank(folded), item }))
    .sort((a, b) => (a.rank < b.rank ? -1 : 1))
    .map(({ item }) => item);
}

/** An entry that is being read: its maps are still filled. */
interface Draft extends KeyDelta {
  deleted?: true;
  present?: true;
  stamp?: string;
  options?: string[];
  readonly set: Map<string, RegistryValue>;
  readonly removed: Map<string, string>;
}

function readKeyLine(line: string, number: number, hive: Map<string, KeyDelta>): Draft {
  const mark = line[0] === '[' ? '' : line[0];
  const from = mark.length + 1;
  const end = endOfEscaped(line, from, ']');
  if (end === -1) throw new RegistryError(number, `a key without its ]: ${line.slice(0, 60)}`);
  const path = unescapeText(line.slice(from, end));
  if (mark === '-' && path === '') throw new RegistryError(number, 'a hive cannot be deleted: -[]');
  requireDepth(path, () => number);
  const folded = fold(path);
  const before = hive.get(folded) as Draft | undefined;
  if (before !== undefined && (mark === '-' || before.deleted === undefined)) {
    throw new RegistryError(number, `a key for the second time: ${path}`);
  }
  const entry: Draft = before ?? { path, set: new Map(), removed: new Map() };
  const stamp = line.slice(end + 1);
  if (mark === '-') entry.deleted = true;
  else if (mark === '+') entry.present = true;
  if (stamp !== '') entry.stamp = stamp;
  hive.set(folded, entry);
  return entry;
}

function readContent(line: string, lines: Lines, entry: Draft): boolean {
  if (line[0] === '#') {
    entry.options ??= [];
    if (line !== '#') entry.options.push(line);
    return true;
  }
  const head = nameOf(line);
  if (head === undefined) return false;
  const folded = fold(head.name);
  if (line.slice(head.data) === '-') {
    entry.removed.set(folded, head.name);
    return true;
  }
  const value = readValue(line, lines);
  if (value === undefined || value.data === '') return false;
  entry.set.set(folded, value);
  return true;
}
