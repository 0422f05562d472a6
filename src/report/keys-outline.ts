// Changed keys as a tree for people: what happened to each key and value, and what a value held and holds.
// Printed by `varve wine diff` beside the tree of files, in the same colours.
// A deleted key is one line, whatever it had.

import {
  isOwn,
  type KeyChange,
  type KeysDocument,
  type KeysSummary,
  type ValueChange,
} from './keys.js';
import { countWords, dataWords, valueName } from './keys-words.js';
import type { OutlineOptions } from './outline.js';
import { drawn, layOut, makeTwig, type OutlineLine, type Twig, twigOf } from './outline-lines.js';
import { type Paint, painter, plain } from './words.js';

/** A key, with what went with it, or one of its values. */
type Entry =
  | { readonly key: KeyChange; gone: { keys: number; values: number } }
  | { readonly value: ValueChange };

const SEPARATOR = '\\';

/** @returns lines, each ended; empty when there is nothing. */
export function keysOutline({ keys }: KeysDocument, options: OutlineOptions = {}): string {
  const paint = painter(options.colours === true);
  const lines: OutlineLine[] = [];
  for (const { twig, stem } of drawn(grow(keys), SEPARATOR)) lines.push(lineOf(twig, stem, paint));
  return layOut(lines, paint, { ...options, align: 'left' });
}

function grow(keys: readonly KeyChange[]): Twig<Entry> {
  const root = makeTwig<Entry>('');
  let gone: { path: string; entry: { keys: number; values: number } } | undefined;
  for (const key of keys) {
    if (gone !== undefined && key.path.startsWith(gone.path)) {
      gone.entry.keys++;
      gone.entry.values += key.values.length;
      continue;
    }
    let at = root;
    for (const name of key.path.split(SEPARATOR)) at = twigOf(at, name, name.toLowerCase());
    const entry = { key, gone: { keys: 0, values: key.values.length } };
    at.entry = entry;
    gone = key.status === 'D' ? { path: `${key.path}${SEPARATOR}`, entry: entry.gone } : undefined;
    if (gone !== undefined) continue;
    // No key has a backslash in its name.
    for (const value of key.values) twigOf(at, value.name, `\\${value.name}`).entry = { value };
  }
  return root;
}

function lineOf({ entry, name }: Twig<Entry>, stem: string, paint: Paint): OutlineLine {
  const dim = paint('dim', stem);
  const line = (left: string, text: string, column = '', words = ''): OutlineLine => ({
    left: `${dim}${left}`,
    width: stem.length + text.length,
    column,
    words,
  });
  if (entry === undefined) {
    const text = plain(`${name}${SEPARATOR}`);
    return line(text, text);
  }
  if ('value' in entry) {
    const { status, noise } = entry.value;
    const text = `${status} ${plain(valueName(name))}`;
    const [type, words] = valueWords(entry.value);
    return line(paint(status, text), text, type, `${words}${noiseWords(noise)}`);
  }
  const { key, gone } = entry;
  const shown = plain(`${name}${SEPARATOR}`);
  if (!isOwn(key)) return line(shown, shown, '', '');
  const text = `${key.status} ${shown}`;
  const words = key.status === 'D' ? goneWords(gone) : optionWords(key);
  return line(paint(key.status, text), text, '', `${words}${noiseWords(key.noise)}`.trimStart());
}

function noiseWords(noise: string | undefined): string {
  return noise === undefined ? '' : `  (noise: ${noise})`;
}

function goneWords({ keys, values }: { keys: number; values: number }): string {
  const counted = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? '' : 's'}`;
  const parts = [keys > 0 ? counted(keys, 'key') : '', values > 0 ? counted(values, 'value') : ''];
  const words = parts.filter((part) => part !== '').join(' and ');
  return words === '' ? '' : `with ${words}`;
}

function optionWords({ options }: KeyChange): string {
  if (options === undefined) return '';
  const { before = [], after = [] } = options;
  const gone = before.filter((one) => !after.includes(one)).map((one) => `-${plain(one)}`);
  const come = after.filter((one) => !before.includes(one)).map((one) => `+${plain(one)}`);
  return [...gone, ...come].join(' ');
}

function valueWords({ before, after }: ValueChange): [type: string, words: string] {
  const sides = [before, after].flatMap((data) => (data === undefined ? [] : [data]));
  const types = [...new Set(sides.map(({ type }) => type))];
  return [types.join(' → '), sides.map((data) => plain(dataWords(data))).join(' → ')];
}

/** The last line: `12 keys added; 40 values: 38 added, 2 modified; 5 of noise: --noise lists them`. */
export function keysSummaryLine(summary: KeysSummary, noiseShown: boolean): string {
  const words = countWords(summary) || 'no changes';
  const { noise } = summary;
  if (noise === 0) return words;
  return `${words}; ${noise} of noise${noiseShown ? '' : `: --noise lists ${noise === 1 ? 'it' : 'them'}`}`;
}
