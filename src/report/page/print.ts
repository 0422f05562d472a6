// The page on paper: the changes as a list, with what the screen shows of one of them behind it.
// The list is made when printing begins and goes when it ends.
// Paper cannot be scrolled: a very long list ends with how many more there are.

import type { ValueItem } from '../keys-page.js';
import type { KeyNode } from '../keys-tree.js';
import { dataWords, valueName } from '../keys-words.js';
import type { Item } from '../page-data.js';
import { countText, sizeText } from '../page-words.js';
import { el, visible } from './dom.js';

const LIMIT = 5000;

type Cell = string | DocumentFragment;

/** What a tab has to print; rows are made as far as they are wanted. */
export interface PaperList {
  readonly heads: readonly string[];
  readonly rows: Iterable<readonly Cell[]>;
}

/** @param shown the list of the tab that is open, when printing begins. */
export function printsAsList(shown: () => PaperList): void {
  let list: HTMLElement | undefined;
  addEventListener('beforeprint', () => {
    list?.remove();
    const { heads, rows } = shown();
    const body = el('tbody');
    let n = 0;
    for (const cells of rows) {
      if (++n > LIMIT) continue;
      body.append(el('tr', {}, ...cells.map((cell) => el('td', {}, cell))));
    }
    list = el(
      'section',
      { class: 'on-paper' },
      el(
        'table',
        {},
        el('thead', {}, el('tr', {}, ...heads.map((text) => el('th', {}, text)))),
        body,
      ),
      n > LIMIT && el('p', {}, `… and ${countText(n - LIMIT, 'more change')}`),
    );
    document.body.append(list);
  });
  addEventListener('afterprint', () => {
    list?.remove();
    list = undefined;
  });
}

export function paperFiles(items: readonly Item[]): PaperList {
  return { heads: ['', 'Path', 'Differs', 'Size'], rows: fileRows(items) };
}

function* fileRows(items: readonly Item[]): Generator<readonly Cell[]> {
  for (const { status, path, extra, before, after, what } of items) {
    const name = visible(path || '/');
    if (extra.from !== undefined) name.append(' ← ', visible(extra.from));
    const differs = what.filter((aspect) => aspect !== 'time' || status === '=').join(', ');
    const size = after >= 0 ? sizeText(after) : before >= 0 ? sizeText(before) : '';
    yield [status, name, differs, size];
  }
}

export function paperKeys(nodes: readonly KeyNode[]): PaperList {
  return { heads: ['', 'Key', 'Value', 'Data'], rows: keyRows(nodes) };
}

function* keyRows(nodes: readonly KeyNode[]): Generator<readonly Cell[]> {
  for (const { path, item, own } of nodes) {
    if (own.key && item !== undefined) yield [item.status, visible(path), '', ''];
    for (const { name, status, before, after } of own.values) {
      yield [status, visible(path), visible(valueName(name)), visible(dataText(before, after))];
    }
  }
}

function dataText(before: ValueItem['before'], after: ValueItem['after']): string {
  return [before, after]
    .flatMap((data) => (data === undefined ? [] : [dataWords(data)]))
    .join(' → ');
}
