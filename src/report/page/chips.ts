// The chips of one tab: which kinds of changes are to be seen.
// Used by the filters of files and of keys; the chips stand in the page already, with their counts.
// A double click leaves one only, as in a legend of a chart.

import { byId } from './dom.js';
import { isPressed } from './search-box.js';

export class Chips {
  readonly #chips: readonly HTMLElement[];
  readonly #usual: (status: string) => boolean;

  /** @param usual what is on at first. */
  constructor(id: string, usual: (status: string) => boolean, changed: () => void) {
    this.#usual = usual;
    this.#chips = [...byId(id).querySelectorAll<HTMLElement>('.chip')];
    for (const chip of this.#chips) {
      chip.addEventListener('click', () => {
        set(chip, !isPressed(chip));
        changed();
      });
      chip.addEventListener('dblclick', () => {
        for (const each of this.#chips) set(each, each === chip);
        changed();
      });
    }
  }

  /** Those that are on. */
  read(): Set<string> {
    return new Set(this.#chips.filter(isPressed).map(statusOf));
  }

  clear(): void {
    for (const chip of this.#chips) set(chip, this.#usual(statusOf(chip)));
  }

  isClear(): boolean {
    return this.#chips.every((chip) => isPressed(chip) === this.#usual(statusOf(chip)));
  }

  toggle(status: string): void {
    for (const chip of this.#chips) if (statusOf(chip) === status) set(chip, !isPressed(chip));
  }

  /** Something that is hidden is to be seen. */
  show(status: string): void {
    for (const chip of this.#chips) if (statusOf(chip) === status) set(chip, true);
  }
}

function statusOf(chip: HTMLElement): string {
  return chip.dataset['status'] ?? '';
}

function set(chip: HTMLElement, isOn: boolean): void {
  chip.setAttribute('aria-pressed', String(isOn));
}
