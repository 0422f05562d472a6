// The changes as a plain list, for browsers in which scripts are off.
// Written by html.ts between the head and the data.
// Very long lists end with how many more there are.

import type { ChangeEntry } from './document.js';
import { escapeHtml } from './html-escape.js';
import { isOwn, type KeysDocument } from './keys.js';
import { dataWords, valueName } from './keys-words.js';

/** Lines of each list. */
const LIMIT = 20_000;

export function* plainList(
  changes: readonly ChangeEntry[],
  keys: KeysDocument | undefined,
): Generator<string> {
  yield '<noscript>\n<p>This list is plain, as scripts are off here.</p>\n<pre class="plain">';
  yield* limited(fileLines(changes), 'varve diff --name-status lists them all');
  if (keys !== undefined) {
    yield '\n';
    yield* limited(keyLines(keys), '--name-status lists them all');
  }
  yield '</pre>\n</noscript>\n';
}

function* limited(all: Iterable<string>, where: string): Generator<string> {
  let lines = '';
  let n = 0;
  for (const line of all) {
    if (++n > LIMIT) continue;
    lines += line;
    if (lines.length < 65_536) continue;
    yield lines;
    lines = '';
  }
  yield lines;
  if (n > LIMIT) yield `… and ${n - LIMIT} more: ${where}\n`;
}

function* fileLines(changes: readonly ChangeEntry[]): Generator<string> {
  for (const { status, path, from } of changes) {
    if (status === '=') continue;
    const shown = path === '' ? '/' : path;
    yield `${status}  ${escapeHtml(from === undefined ? shown : `${from} → ${shown}`)}\n`;
  }
}

function* keyLines({ keys }: KeysDocument): Generator<string> {
  for (const key of keys) {
    if (isOwn(key) && key.noise === undefined) yield `${key.status}  ${escapeHtml(key.path)}\\\n`;
    for (const { name, status, noise, before, after } of key.values) {
      if (noise !== undefined) continue;
      const sides = [before, after].flatMap((data) =>
        data === undefined ? [] : [dataWords(data)],
      );
      const text = `${key.path}\\${valueName(name)} = ${sides.join(' → ')}`;
      yield `${status}  ${escapeHtml(text)}\n`;
    }
  }
}
