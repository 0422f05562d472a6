// Which panel is seen where there is room for one only: a group of buttons, above the panels.
// Used by files-view.ts and keys-view.ts; narrow.css shows the group and hides the other panels.
// On a wide screen all panels are seen, and nobody sees the buttons.

import { el } from './dom.js';

export class PanelSwitch<P extends string> {
  readonly element: HTMLElement;
  readonly #panels: HTMLElement;
  readonly #buttons: ReadonlyMap<P, HTMLElement>;

  /** @param names of the panels and what the buttons say; the first one is seen at first. */
  constructor(panels: HTMLElement, names: readonly (readonly [P, string])[]) {
    this.#panels = panels;
    this.#buttons = new Map(
      names.map(([panel, label], i) => [
        panel,
        el(
          'button',
          {
            type: 'button',
            class: 'toggle',
            'data-panel': panel,
            'aria-pressed': String(i === 0),
            click: () => this.show(panel),
          },
          label,
        ),
      ]),
    );
    this.element = el(
      'div',
      { class: 'switch', role: 'group', 'aria-label': 'Panel' },
      ...this.#buttons.values(),
    );
  }

  show(panel: P): void {
    this.#panels.dataset['panel'] = panel;
    for (const [name, button] of this.#buttons) {
      button.setAttribute('aria-pressed', String(name === panel));
    }
  }
}
