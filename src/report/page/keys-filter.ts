// What of the keys and values is to be seen: statuses, noise, types and a search over paths, names and data.
// Made by keys-view.ts, which applies the filter.
// The number of changes that match is told to screen readers as it changes.

import { changesIn, type KeyStatus, type KeysSummary } from '../keys.js';
import type { KeyFilter } from '../keys-tree.js';
import { countText } from '../page-words.js';
import { Chips } from './chips.js';
import { el } from './dom.js';
import { SearchBox } from './search-box.js';

const NOISE = 'noise';

export class KeysFilter {
  readonly element: HTMLElement;
  readonly #search: SearchBox;
  readonly #type: HTMLSelectElement;
  readonly #count: HTMLElement;
  readonly #clear: HTMLElement;
  readonly #chips: Chips;
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
      el('div', { class: 'selects' }, this.#type),
      el('div', { class: 'result' }, this.#count, this.#clear),
    );
    this.#chips = new Chips(`chips-${id}`, (status) => status !== NOISE, changed);
  }

  focus(): void {
    this.#search.focus();
  }

  clear(): void {
    this.#search.clear();
    this.#type.selectedIndex = 0;
    this.#chips.clear();
    this.#changed();
  }

  toggleNoise(): void {
    this.#chips.toggle(NOISE);
    this.#changed();
  }

  /** Everything is to be seen, but for noise, unless that is meant. */
  showAll(noise: boolean): void {
    this.#search.clear();
    this.#type.selectedIndex = 0;
    this.#chips.clear();
    if (noise) this.#chips.show(NOISE);
  }

  /** undefined: the expression is none, which the field then says. */
  read(): KeyFilter | undefined {
    const text = this.#search.read();
    if (text === undefined) {
      this.#count.textContent = 'No regular expression';
      return undefined;
    }
    const on = this.#chips.read();
    const noise = on.delete(NOISE);
    const statuses = on as Set<KeyStatus>;
    return { statuses, noise, type: this.#type.value === '' ? undefined : this.#type.value, text };
  }

  say(shown: number): void {
    const noise = this.#chips.read().has(NOISE) ? this.#summary.noise : 0;
    const of = changesIn(this.#summary) + noise;
    this.#count.textContent =
      shown === of
        ? countText(of, 'change')
        : `${shown.toLocaleString('en')} of ${countText(of, 'change')}`;
    this.#clear.hidden =
      this.#search.isClear() && this.#type.selectedIndex === 0 && this.#chips.isClear();
  }
}
