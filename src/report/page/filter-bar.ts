// What of the changes is to be seen: statuses, aspects, types, size and a search over the paths.
// Made by files-view.ts, which applies the filter; chips.ts and search-box.ts are parts of it.
// Follows what it says: the number of changes that match is told to screen readers as it changes.

import { ASPECTS, type Item, type StatusLetter, TYPES } from '../page-data.js';
import type { Filter } from '../page-tree.js';
import { countText } from '../page-words.js';
import { Chips } from './chips.js';
import { el } from './dom.js';
import { SearchBox } from './search-box.js';

const SIZES: readonly (readonly [number, string])[] = [
  [0, 'Any size'],
  [1024, '≥ 1 KiB'],
  [100 * 1024, '≥ 100 KiB'],
  [1024 * 1024, '≥ 1 MiB'],
  [10 * 1024 * 1024, '≥ 10 MiB'],
  [100 * 1024 * 1024, '≥ 100 MiB'],
];

export class FilterBar {
  readonly element: HTMLElement;
  readonly #search: SearchBox;
  readonly #aspect: HTMLSelectElement;
  readonly #type: HTMLSelectElement;
  readonly #size: HTMLSelectElement;
  readonly #count: HTMLElement;
  readonly #clear: HTMLElement;
  readonly #chips: Chips;
  readonly #changed: () => void;

  constructor(changed: () => void) {
    this.#changed = changed;
    this.#search = new SearchBox('search', 'Filter paths', changed);
    const select = (label: string, options: readonly (readonly [string | number, string])[]) =>
      el(
        'select',
        { 'aria-label': label, change: changed },
        ...options.map(([value, text]) => el('option', { value }, text)),
      );
    this.#aspect = select('What differs', [
      [0, 'Any difference'],
      ...ASPECTS.map((aspect, i) => [1 << i, `${capital(aspect)} differs`] as const),
    ]);
    this.#type = select('Type', [
      ['', 'Any type'],
      ...TYPES.map((type) => [type, PLURALS[type]] as const),
    ]);
    this.#size = select('Size', SIZES);
    this.#count = el('span', { class: 'count', role: 'status' });
    this.#clear = el(
      'button',
      { type: 'button', class: 'toggle', hidden: true, click: () => this.clear() },
      'Clear',
    );
    this.element = el(
      'div',
      { class: 'filters', role: 'search' },
      this.#search.element,
      el('div', { class: 'selects' }, this.#aspect, this.#type, this.#size),
      el('div', { class: 'result' }, this.#count, this.#clear),
    );
    this.#chips = new Chips('chips', (status) => status !== '=', changed);
  }

  focus(): void {
    this.#search.focus();
  }

  clear(): void {
    this.#search.clear();
    for (const select of [this.#aspect, this.#type, this.#size]) select.selectedIndex = 0;
    this.#chips.clear();
    this.#changed();
  }

  /** A node that the statuses hide is to be seen: switches its status on. */
  showStatus(status: StatusLetter): void {
    this.#chips.show(status);
  }

  /** undefined: the expression is none, which the field then says. */
  read(): Filter | undefined {
    const path = this.#search.read();
    if (path === undefined) {
      this.#count.textContent = 'No regular expression';
      return undefined;
    }
    const statuses = this.#chips.read() as Set<StatusLetter>;
    const type = this.#type.value === '' ? undefined : (this.#type.value as Item['type']);
    const aspects = Number(this.#aspect.value);
    return { statuses, aspects, type, size: Number(this.#size.value), path };
  }

  /** @param of how many there are when nothing is filtered. */
  say(shown: number, of: number): void {
    this.#count.textContent =
      shown === of
        ? countText(of, 'change')
        : `${shown.toLocaleString('en')} of ${countText(of, 'change')}`;
    const isClear =
      this.#search.isClear() &&
      [this.#aspect, this.#type, this.#size].every((select) => select.selectedIndex === 0) &&
      this.#chips.isClear();
    this.#clear.hidden = isClear;
  }
}

const PLURALS: Readonly<Record<Item['type'], string>> = {
  file: 'Files',
  directory: 'Directories',
  symlink: 'Symbolic links',
  device: 'Devices',
  fifo: 'FIFOs',
  socket: 'Sockets',
};

function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
