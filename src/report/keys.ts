// Changes of a tree of keys and typed values (a registry) as one document: what JSON, text and the page show.
// Filled by whoever knows the keys (wine/diff); this room knows only that there are keys and values.
// Version 1 of its form, described in docs/wine-diff.md. Everything is Unicode.

import type { Sides } from './document.js';

/** A added, M modified, D deleted. */
export type KeyStatus = 'A' | 'M' | 'D';

/** What a value holds; of the optional fields those that its type has. */
export interface KeyData {
  /** `REG_SZ`; of unknown ones the number: `0x00000012`. */
  readonly type: string;
  /** Bytes. */
  readonly size: number;
  /** Of strings. */
  readonly text?: string;
  /** Of several strings. */
  readonly lines?: readonly string[];
  /** Of numbers that JSON holds exactly. */
  readonly number?: number;
  /** Hexadecimal digits; of everything that is nothing of the above. */
  readonly bytes?: string;
}

export interface ValueChange extends Sides<KeyData> {
  /** `` is the default value of a key. */
  readonly name: string;
  readonly status: KeyStatus;
  /** Why it is no change that anybody made, where it is none. */
  readonly noise?: string;
}

export interface KeyChange {
  /** Parts separated by a backslash, the root first: `HKEY_CURRENT_USER\Software\Wine`. */
  readonly path: string;
  /** Of the key itself; M: it was there, and something of it is another now. */
  readonly status: KeyStatus;
  readonly noise?: string;
  /** Its class, whether it is a link: `#class="..."`, where they differ. */
  readonly options?: Sides<readonly string[]>;
  readonly values: readonly ValueChange[];
}

export interface KeyCounts {
  readonly added: number;
  readonly modified: number;
  readonly deleted: number;
}

export interface KeysSummary {
  /** `modified` are those that were there and whose class or link is another; values count apart. */
  readonly keys: KeyCounts;
  readonly values: KeyCounts;
  /** Keys and values that are noise; the other counts are without it. */
  readonly noise: number;
}

export interface KeysDocument {
  readonly version: 1;
  readonly summary: KeysSummary;
  /** In the order of the tree: a key before what lies below it. */
  readonly keys: readonly KeyChange[];
}

/** @param noise whether it stays in the list; it is counted in any case. */
export function keysDocument(all: readonly KeyChange[], noise: boolean): KeysDocument {
  return { version: 1, summary: summaryOf(all), keys: noise ? all : withoutNoise(all) };
}

function summaryOf(all: readonly KeyChange[]): KeysSummary {
  const keys = { A: 0, M: 0, D: 0 };
  const values = { A: 0, M: 0, D: 0 };
  let noise = 0;
  for (const key of all) {
    if (isOwn(key)) {
      if (key.noise === undefined) keys[key.status]++;
      else noise++;
    }
    for (const value of key.values) {
      if (value.noise === undefined) values[value.status]++;
      else noise++;
    }
  }
  return { keys: countsOf(keys), values: countsOf(values), noise };
}

/** Whether the key itself is a change, not its values alone. */
export function isOwn(key: Pick<KeyChange, 'status' | 'options'>): boolean {
  return key.status !== 'M' || key.options !== undefined;
}

function countsOf({ A, M, D }: Record<KeyStatus, number>): KeyCounts {
  return { added: A, modified: M, deleted: D };
}

/** Everything that is a change, and the keys in which there is one. */
function withoutNoise(all: readonly KeyChange[]): KeyChange[] {
  return all.flatMap((key) => {
    const values = key.values.filter(({ noise }) => noise === undefined);
    const isKept = values.length > 0 || (isOwn(key) && key.noise === undefined);
    if (!isKept) return [];
    return [values.length === key.values.length ? key : { ...key, values }];
  });
}

/** How many changes there are, noise apart. */
export function changesIn({ keys, values }: KeysSummary): number {
  return (
    keys.added + keys.modified + keys.deleted + values.added + values.modified + values.deleted
  );
}
