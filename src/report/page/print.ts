// The page on paper: the changes as a list, with what the screen shows of one of them behind it.
// The list is made when printing begins and goes when it ends.
// Paper cannot be scrolled: a very long list ends with how many more there are.

import type { Item } from '../page-data.js';
import { countText, sizeText } from '../page-words.js';
import { el, visible } from './dom.js';

const LIMIT = 5000;

/** @param shown what the filter leaves, when printing begins. */
export function printsAsList(shown: () => readonly Item[]): void {
  let list: HTMLElement | undefined;
  addEventListener('beforeprint', () => {
    list?.remove();
    const items = shown();
    const rows = items.slice(0, LIMIT).map((item) => {
      const { status, path, extra, before, after, what } = item;
      const name = el('td', {}, visible(path || '/'));
      if (extra.from !== undefined) name.append(' ← ', visible(extra.from));
      const size = after >= 0 ? sizeText(after) : before >= 0 ? sizeText(before) : '';
      return el(
        'tr',
        {},
        el('td', {}, status),
        name,
        el('td', {}, what.filter((aspect) => aspect !== 'time' || status === '=').join(', ')),
        el('td', {}, size),
      );
    });
    list = el(
      'section',
      { class: 'on-paper' },
      el(
        'table',
        {},
        el(
          'thead',
          {},
          el('tr', {}, ...['', 'Path', 'Differs', 'Size'].map((text) => el('th', {}, text))),
        ),
        el('tbody', {}, ...rows),
      ),
      items.length > LIMIT &&
        el('p', {}, `… and ${countText(items.length - LIMIT, 'more change')}`),
    );
    document.body.append(list);
  });
  addEventListener('afterprint', () => {
    list?.remove();
    list = undefined;
  });
}
