// What of the changes is to be seen: statuses, aspects, types, size and a search over the paths.
// Made by files-view.ts, which applies the filter; the chips of the statuses stand in the page already.
// Follows what it says: the number of changes that match is told to screen readers as it changes.

import { ASPECTS, type Item, STATUSES, type StatusLetter, TYPES } from '../page-data.js';
import { type Filter, pathFilter } from '../page-tree.js';
import { countText } from '../page-words.js';
import { byId, el } from './dom.js';

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
  readonly #search: HTMLInputElement;
  readonly #regexp: HTMLElement;
  readonly #aspect: HTMLSelectElement;
  readonly #type: HTMLSelectElement;
  readonly #size: HTMLSelectElement;
  readonly #count: HTMLElement;
  readonly #clear: HTMLElement;
  readonly #chips: readonly HTMLElement[];
  readonly #changed: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(changed: () => void) {
    this.#changed = changed;
    this.#search = el('input', {
      type: 'search',
      id: 'search',
      placeholder: 'Filter paths',
      'aria-label': 'Filter paths',
      'aria-keyshortcuts': '/',
      autocomplete: 'off',
      spellcheck: 'false',
      input: () => this.#soon(),
    });
    this.#regexp = el(
      'button',
      {
        type: 'button',
        class: 'toggle regexp',
        'aria-pressed': 'false',
        'aria-label': 'Regular expression',
        title: 'Regular expression',
        click: () => this.#toggle(this.#regexp),
      },
      '.*',
    );
    const select = (label: string, options: readonly (readonly [string | number, string])[]) =>
      el(
        'select',
        { 'aria-label': label, change: () => this.#changed() },
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
      el('div', { class: 'search' }, this.#search, this.#regexp),
      el('div', { class: 'selects' }, this.#aspect, this.#type, this.#size),
      el('div', { class: 'result' }, this.#count, this.#clear),
    );
    this.#chips = [...byId('chips').querySelectorAll<HTMLElement>('.chip')];
    for (const chip of this.#chips) {
      chip.addEventListener('click', () => this.#toggle(chip));
      // Only this one, as in a legend of a chart.
      chip.addEventListener('dblclick', () => {
        for (const each of this.#chips) each.setAttribute('aria-pressed', String(each === chip));
        this.#changed();
      });
    }
    this.#search.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || this.#search.value === '') return;
      event.stopPropagation();
      this.#search.value = '';
      this.#changed();
    });
  }

  focus(): void {
    this.#search.focus();
    this.#search.select();
  }

  clear(): void {
    this.#search.value = '';
    for (const select of [this.#aspect, this.#type, this.#size]) select.selectedIndex = 0;
    this.#regexp.setAttribute('aria-pressed', 'false');
    for (const chip of this.#chips) {
      chip.setAttribute('aria-pressed', String(chip.dataset['status'] !== '='));
    }
    this.#changed();
  }

  /** A node that the statuses hide is to be seen: switches its status on. */
  showStatus(status: StatusLetter): void {
    const chip = this.#chips.find((each) => each.dataset['status'] === status);
    chip?.setAttribute('aria-pressed', 'true');
  }

  /** undefined: the expression is none, which the field then says. */
  read(): Filter | undefined {
    const statuses = new Set<StatusLetter>();
    this.#chips.forEach((chip, i) => {
      if (isPressed(chip)) statuses.add(STATUSES[i] as StatusLetter);
    });
    try {
      const path = pathFilter(this.#search.value.trim(), isPressed(this.#regexp));
      this.#search.removeAttribute('aria-invalid');
      const type = this.#type.value === '' ? undefined : (this.#type.value as Item['type']);
      const aspects = Number(this.#aspect.value);
      return { statuses, aspects, type, size: Number(this.#size.value), path };
    } catch {
      this.#search.setAttribute('aria-invalid', 'true');
      this.#count.textContent = 'No regular expression';
      return undefined;
    }
  }

  /** @param of how many there are when nothing is filtered. */
  say(shown: number, of: number): void {
    this.#count.textContent =
      shown === of
        ? countText(of, 'change')
        : `${shown.toLocaleString('en')} of ${countText(of, 'change')}`;
    this.#clear.hidden = this.#isClear();
  }

  #isClear(): boolean {
    return (
      this.#search.value === '' &&
      [this.#aspect, this.#type, this.#size].every((select) => select.selectedIndex === 0) &&
      this.#chips.every((chip) => isPressed(chip) === (chip.dataset['status'] !== '='))
    );
  }

  #toggle(button: HTMLElement): void {
    button.setAttribute('aria-pressed', String(!isPressed(button)));
    this.#changed();
  }

  /** Typing goes on while a hundred thousand paths are looked through. */
  #soon(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#changed(), 120);
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

function isPressed(button: HTMLElement): boolean {
  return button.getAttribute('aria-pressed') === 'true';
}

function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
