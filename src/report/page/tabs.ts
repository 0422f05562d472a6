// Which tab is to be seen: its panel, its chips, its place in the address.
// Made by main.ts; the buttons stand in the page already, where there is more than one tab.
// Follows the tabs pattern of the ARIA Authoring Practices 1.2.

import { byId } from './dom.js';

export interface Tab {
  readonly id: string;
  /** `#registry/HKEY_CURRENT_USER`; files begin with `#/`. */
  hash(): string;
}

/** @param show called whenever another one is to be seen, and at once for the first. @returns which one is. */
export function tabs<T extends Tab>(all: readonly T[], show: (tab: T) => void): () => T {
  const buttons = [...document.querySelectorAll<HTMLElement>('#tabs .tab')];
  const sections = [...document.querySelectorAll<HTMLElement>('.summary[data-tab]')];
  let current = all[tabOf(all, location.hash) ?? 0] as T;
  const choose = (tab: T): void => {
    current = tab;
    all.forEach(({ id }, i) => {
      const isShown = id === tab.id;
      byId(`panel-${id}`).hidden = !isShown;
      const button = buttons[i];
      button?.setAttribute('aria-selected', String(isShown));
      if (button !== undefined) button.tabIndex = isShown ? 0 : -1;
    });
    for (const section of sections) section.hidden = section.dataset['tab'] !== tab.id;
    show(tab);
  };
  const go = (index: number): void => {
    const tab = all[index];
    if (tab === undefined) return;
    choose(tab);
    history.replaceState(null, '', tab.hash());
  };
  if (buttons.length > 1) {
    for (const { id } of all) {
      const panel = byId(`panel-${id}`);
      panel.setAttribute('role', 'tabpanel');
      panel.setAttribute('aria-labelledby', `tab-${id}`);
    }
  }
  buttons.forEach((button, i) => {
    button.addEventListener('click', () => go(i));
    button.addEventListener('keydown', (event) => {
      const steps: Record<string, number> = {
        ArrowRight: i + 1,
        ArrowLeft: i - 1,
        Home: 0,
        End: -1,
      };
      const to = steps[event.key];
      if (to === undefined) return;
      const index = (to + buttons.length) % buttons.length;
      go(index);
      buttons[index]?.focus();
      event.preventDefault();
    });
  });
  addEventListener('hashchange', () => {
    const index = tabOf(all, location.hash);
    if (index !== undefined && all[index] !== current) choose(all[index] as T);
  });
  choose(current);
  return () => current;
}

/** undefined: the address names none. */
function tabOf(all: readonly Tab[], hash: string): number | undefined {
  const index = all.findIndex(({ id }) =>
    id === 'files' ? hash.startsWith('#/') : hash.startsWith(`#${id}/`),
  );
  return index < 0 ? undefined : index;
}
