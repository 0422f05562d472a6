// What of the changes is to be seen: statuses, aspects, types, size and a search over the paths.
// Made by files-view.ts, which applies the filter; chips.ts, search-box.ts and filter-parts.ts are parts of it.
// A link may lead to what is hidden: its status is then switched on.

import { ASPECTS, type Item, type StatusLetter, TYPES } from '../page-data.js';
import type { Filter } from '../page-tree.js';
import { Chips } from './chips.js';
import { el } from './dom.js';
import { FilterParts } from './filter-parts.js';
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
  readonly #chips: Chips;
  readonly #parts: FilterParts;
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
    this.#chips = new Chips('chips', (status) => status !== '=', changed);
    const selects = [this.#aspect, this.#type, this.#size];
    this.#parts = new FilterParts(this.#search, selects, this.#chips, () => this.clear());
    this.element = this.#parts.element;
  }

  focus(): void {
    this.#search.focus();
  }

  clear(): void {
    this.#parts.clear();
    this.#changed();
  }

  /** A node that the statuses hide is to be seen: switches its status on. */
  showStatus(status: StatusLetter): void {
    this.#chips.show(status);
  }

  /** undefined: the expression is none, which the field then says. */
  read(): Filter | undefined {
    const path = this.#parts.readText();
    if (path === undefined) return undefined;
    const statuses = this.#chips.read() as Set<StatusLetter>;
    const type = this.#type.value === '' ? undefined : (this.#type.value as Item['type']);
    const aspects = Number(this.#aspect.value);
    return { statuses, aspects, type, size: Number(this.#size.value), path };
  }

  /** @param of how many there are when nothing is filtered. */
  say(shown: number, of: number): void {
    this.#parts.say(shown, of);
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
