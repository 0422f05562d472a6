// What of the keys and values is to be seen: statuses, noise, types and a search over paths, names and data.
// Made by keys-view.ts, which applies the filter; chips.ts, search-box.ts and filter-parts.ts are parts of it.
// A link may lead to what is hidden: everything is then shown.

import { changesIn, type KeyStatus, type KeysSummary } from '../keys.js';
import type { KeyFilter } from '../keys-tree.js';
import { Chips } from './chips.js';
import { el } from './dom.js';
import { FilterParts } from './filter-parts.js';
import { SearchBox } from './search-box.js';

const NOISE = 'noise';

export class KeysFilter {
  readonly element: HTMLElement;
  readonly #search: SearchBox;
  readonly #type: HTMLSelectElement;
  readonly #chips: Chips;
  readonly #parts: FilterParts;
  readonly #summary: KeysSummary;
  readonly #changed: () => void;

  constructor(id: string, types: readonly string[], summary: KeysSummary, changed: () => void) {
    this.#summary = summary;
    this.#changed = changed;
    this.#search = new SearchBox(`search-${id}`, 'Filter keys, names and data', changed);
    this.#type = el(
      'select',
      { 'aria-label': 'Type of value', change: changed },
      el('option', { value: '' }, 'Any type'),
      ...[...types].sort().map((type) => el('option', { value: type }, type)),
    );
    this.#chips = new Chips(`chips-${id}`, (status) => status !== NOISE, changed);
    this.#parts = new FilterParts(this.#search, [this.#type], this.#chips, () => this.clear());
    this.element = this.#parts.element;
  }

  focus(): void {
    this.#search.focus();
  }

  clear(): void {
    this.#parts.clear();
    this.#changed();
  }

  toggleNoise(): void {
    this.#chips.toggle(NOISE);
    this.#changed();
  }

  /** Everything is to be seen, but for noise, unless that is meant. */
  showAll(noise: boolean): void {
    this.#parts.clear();
    if (noise) this.#chips.show(NOISE);
  }

  /** undefined: the expression is none, which the field then says. */
  read(): KeyFilter | undefined {
    const text = this.#parts.readText();
    if (text === undefined) return undefined;
    const on = this.#chips.read();
    const noise = on.delete(NOISE);
    const statuses = on as Set<KeyStatus>;
    return { statuses, noise, type: this.#type.value === '' ? undefined : this.#type.value, text };
  }

  say(shown: number): void {
    const noise = this.#chips.read().has(NOISE) ? this.#summary.noise : 0;
    this.#parts.say(shown, changesIn(this.#summary) + noise);
  }
}
