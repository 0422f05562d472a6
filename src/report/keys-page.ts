// Changed keys in the form that the HTML page is given, and as the page works with them.
// Written by html.ts into the page, read there by page/keys-view.ts: pure code, for both.
// Paths are front-coded as those of files; long data is cut, and says so.

import type { KeyChange, KeyData, KeyStatus, KeysDocument, KeysSummary } from './keys.js';

export const KEY_STATUSES: readonly KeyStatus[] = ['A', 'M', 'D'];

/** [type, form, bytes, content, cut]: form 0 text, 1 lines, 2 number, 3 hexadecimal digits; 0 in place of a side that there is not. */
export type DataRow =
  | readonly [number, 0 | 3, number, string, 1?]
  | readonly [number, 1, number, readonly string[], 1?]
  | readonly [number, 2, number, number];

/** [name, status, noise by position or -1, before, after]. */
export type ValueRow = readonly [string, number, number, DataRow | 0, DataRow | 0];

/** [characters shared with the path before, the rest, status, noise by position or -1, values, options before, after]. */
export type KeyRow = readonly [
  number,
  string,
  number,
  number,
  readonly ValueRow[],
  (readonly string[])?,
  (readonly string[])?,
];

export interface KeysTab {
  readonly kind: 'keys';
  readonly id: string;
  readonly title: string;
  readonly summary: KeysSummary;
  readonly types: readonly string[];
  readonly noises: readonly string[];
  readonly rows: readonly KeyRow[];
}

/** Characters of one side of a value, and what is left of it once the page is full. */
const EACH = 4096;
const LEAST = 80;
/** Characters of all data. */
const TOTAL = 6 * 1024 * 1024;

/** @param document with noise, which the page hides and shows itself. */
export function keysTab(document: KeysDocument, id: string, title: string): KeysTab {
  const types = new Numbered();
  const noises = new Numbered();
  let room = TOTAL;
  let previous = '';
  const side = (data: KeyData | undefined): DataRow | 0 => {
    if (data === undefined) return 0;
    const row = dataRow(data, types.of(data.type), room > 0 ? EACH : LEAST);
    room -= typeof row[3] === 'number' ? 8 : row[3].length;
    return row;
  };
  const rows = document.keys.map(({ path, status, noise, values, options }): KeyRow => {
    const shared = sharedLength(previous, path);
    previous = path;
    const row = [
      shared,
      path.slice(shared),
      KEY_STATUSES.indexOf(status),
      noises.of(noise),
      values.map(
        (value): ValueRow => [
          value.name,
          KEY_STATUSES.indexOf(value.status),
          noises.of(value.noise),
          side(value.before),
          side(value.after),
        ],
      ),
    ] as const;
    return options === undefined ? row : [...row, options.before ?? [], options.after ?? []];
  });
  return {
    kind: 'keys',
    id,
    title,
    summary: document.summary,
    types: types.names,
    noises: noises.names,
    rows,
  };
}

class Numbered {
  readonly names: string[] = [];
  readonly #numbers = new Map<string, number>();

  of(name: string | undefined): number {
    if (name === undefined) return -1;
    let number = this.#numbers.get(name);
    if (number === undefined) {
      number = this.names.push(name) - 1;
      this.#numbers.set(name, number);
    }
    return number;
  }
}

function sharedLength(a: string, b: string): number {
  const limit = Math.min(a.length, b.length);
  let n = 0;
  while (n < limit && a.charCodeAt(n) === b.charCodeAt(n)) n++;
  return n;
}

function dataRow(
  { size, text, lines, number, bytes }: KeyData,
  type: number,
  limit: number,
): DataRow {
  if (number !== undefined) return [type, 2, size, number];
  if (lines !== undefined) {
    let room = limit;
    const shown = lines.flatMap((line) => {
      if (room <= 0) return [];
      const part = line.slice(0, room);
      room -= part.length + 1;
      return [part];
    });
    const isWhole = shown.length === lines.length && room >= -1;
    return isWhole ? [type, 1, size, shown] : [type, 1, size, shown, 1];
  }
  const form = text === undefined ? 3 : 0;
  const content = text ?? bytes ?? '';
  if (content.length <= limit) return [type, form, size, content];
  return [type, form, size, content.slice(0, limit), 1];
}

/** One side of a value; `isCut`: the page has the beginning only. */
export interface DataItem extends KeyData {
  readonly isCut: boolean;
}

export interface ValueItem {
  readonly name: string;
  readonly status: KeyStatus;
  readonly noise: string | undefined;
  readonly before: DataItem | undefined;
  readonly after: DataItem | undefined;
}

/** One key as the page works with it. */
export interface KeyItem extends Omit<KeyChange, 'values' | 'noise'> {
  readonly index: number;
  readonly noise: string | undefined;
  readonly values: readonly ValueItem[];
}

export function keyItemsOf({ rows, types, noises }: KeysTab): KeyItem[] {
  let path = '';
  const status = (n: number): KeyStatus => KEY_STATUSES[n] as KeyStatus;
  const side = (row: DataRow | 0): DataItem | undefined => {
    if (row === 0) return undefined;
    const [type, form, size, content, cut] = row;
    const common = { type: types[type] as string, size, isCut: cut === 1 };
    if (form === 2) return { ...common, number: content };
    if (form === 1) return { ...common, lines: content };
    return form === 0 ? { ...common, text: content } : { ...common, bytes: content };
  };
  return rows.map((row, index): KeyItem => {
    const [shared, rest, own, noise, values, before, after] = row;
    path = path.slice(0, shared) + rest;
    return {
      index,
      path,
      status: status(own),
      noise: noises[noise],
      ...(before === undefined ? {} : { options: { before, after: after ?? [] } }),
      values: values.map(([name, letter, why, was, is]) => ({
        name,
        status: status(letter),
        noise: noises[why],
        before: side(was),
        after: side(is),
      })),
    };
  });
}
