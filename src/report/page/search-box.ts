// A field for words or a regular expression, and what it looks for.
// Used by the filters of files and of keys.
// Says nothing while somebody is typing: a hundred thousand paths are looked through.

import { pathFilter } from '../page-tree.js';
import { el } from './dom.js';

export class SearchBox {
  readonly element: HTMLElement;
  readonly #search: HTMLInputElement;
  readonly #regexp: HTMLElement;
  readonly #changed: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(id: string, label: string, changed: () => void) {
    this.#changed = changed;
    this.#search = el('input', {
      type: 'search',
      id,
      placeholder: label,
      'aria-label': label,
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
        click: () => {
          toggle(this.#regexp);
          this.#changed();
        },
      },
      '.*',
    );
    this.element = el('div', { class: 'search' }, this.#search, this.#regexp);
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
    this.#regexp.setAttribute('aria-pressed', 'false');
  }

  isClear(): boolean {
    return this.#search.value === '';
  }

  /** undefined: the expression is none, which the field then shows. */
  read(): ((text: string) => boolean) | undefined {
    try {
      const filter = pathFilter(this.#search.value.trim(), isPressed(this.#regexp));
      this.#search.removeAttribute('aria-invalid');
      return filter;
    } catch {
      this.#search.setAttribute('aria-invalid', 'true');
      return undefined;
    }
  }

  #soon(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#changed(), 120);
  }
}

export function isPressed(button: HTMLElement): boolean {
  return button.getAttribute('aria-pressed') === 'true';
}

function toggle(button: HTMLElement): void {
  button.setAttribute('aria-pressed', String(!isPressed(button)));
}
