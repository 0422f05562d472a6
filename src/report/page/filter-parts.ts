// What the filters of files and of keys have in common: the search, selects, chips, how many are shown, and the way back to all.
// Made by filter-bar.ts and keys-filter.ts, which know what the selects and the chips mean.
// The number of changes that match is told to screen readers as it changes.

import { countText } from '../page-words.js';
import type { Chips } from './chips.js';
import { el } from './dom.js';
import type { SearchBox } from './search-box.js';

export class FilterParts {
  readonly element: HTMLElement;
  readonly #search: SearchBox;
  readonly #selects: readonly HTMLSelectElement[];
  readonly #chips: Chips;
  readonly #count: HTMLElement;
  readonly #clear: HTMLElement;

  /** @param clear is asked for by a button. */
  constructor(
    search: SearchBox,
    selects: readonly HTMLSelectElement[],
    chips: Chips,
    clear: () => void,
  ) {
    this.#search = search;
    this.#selects = selects;
    this.#chips = chips;
    this.#count = el('span', { class: 'count', role: 'status' });
    this.#clear = el(
      'button',
      { type: 'button', class: 'toggle', hidden: true, click: clear },
      'Clear',
    );
    this.element = el(
      'div',
      { class: 'filters', role: 'search' },
      search.element,
      el('div', { class: 'selects' }, ...selects),
      el('div', { class: 'result' }, this.#count, this.#clear),
    );
  }

  clear(): void {
    this.#search.clear();
    for (const select of this.#selects) select.selectedIndex = 0;
    this.#chips.clear();
  }

  /** What the search looks for; undefined: the expression is none, which the field and the count then say. */
  readText(): ((text: string) => boolean) | undefined {
    const text = this.#search.read();
    if (text === undefined) this.#count.textContent = 'No regular expression';
    return text;
  }

  /** @param of how many there are when nothing is filtered. */
  say(shown: number, of: number): void {
    this.#count.textContent =
      shown === of
        ? countText(of, 'change')
        : `${shown.toLocaleString('en')} of ${countText(of, 'change')}`;
    this.#clear.hidden =
      this.#search.isClear() &&
      this.#selects.every((select) => select.selectedIndex === 0) &&
      this.#chips.isClear();
  }
}
