// The buttons of the page's head: light or dark, and the keys that work.
// Made by main.ts once for all tabs.
// Letters as keys can be switched off, for those who speak to their browser (WCAG 2.1, 2.1.4).

import { byId, el, remember, remembered } from './dom.js';

const THEMES = ['auto', 'light', 'dark'] as const;

export interface Shortcut {
  readonly key: string;
  readonly does: string;
  readonly run: () => void;
}

/** Keys of the parts that have focus: told in the help, handled by the parts. */
const ELSEWHERE: readonly (readonly [string, string])[] = [
  ['↑ ↓', 'Tree: the row above, below'],
  ['→ ←', 'Tree: open or go in; close or go out'],
  ['*', 'Tree: open all directories beside this one'],
  ['Enter', 'Tree and map: go to the details'],
  ['arrows', 'Map: the area in that direction'],
  ['+ −', 'Map: into the directory, out of it (also Backspace, Esc)'],
  ['Tab', 'From the tree to the map to the details'],
];

/** @param current those that work now. @param all those of all tabs, for the help. */
export function tools(current: () => readonly Shortcut[], all: readonly Shortcut[]): void {
  const theme = el('button', { type: 'button', class: 'icon-button', id: 'theme' });
  const show = (name: string): void => {
    document.documentElement.dataset['theme'] = name;
    theme.textContent = name === 'auto' ? 'Auto' : name === 'dark' ? 'Dark' : 'Light';
    theme.setAttribute('aria-label', `Colours: ${name}`);
    theme.title = 'Colours: as the system has them, light, dark';
  };
  const known = THEMES.find((name) => name === remembered('theme')) ?? 'auto';
  show(known);
  theme.addEventListener('click', () => {
    const now = document.documentElement.dataset['theme'];
    const next = now === 'auto' ? 'light' : now === 'light' ? 'dark' : 'auto';
    remember('theme', next);
    show(next);
  });
  const letters = el('input', { type: 'checkbox', id: 'letters' });
  letters.checked = remembered('letters') !== 'off';
  letters.addEventListener('change', () => remember('letters', letters.checked ? 'on' : 'off'));
  const does = new Map<string, Set<string>>();
  for (const shortcut of all) {
    does.set(shortcut.key, (does.get(shortcut.key) ?? new Set()).add(shortcut.does));
  }
  const letterRows = [...does].map(([key, texts]) => [key, [...texts].join(' · ')] as const);
  const rows = [...letterRows, ...ELSEWHERE];
  const dialog = el(
    'dialog',
    { class: 'help', 'aria-labelledby': 'help-title' },
    el('h2', { id: 'help-title' }, 'Keys'),
    el(
      'dl',
      {},
      ...rows.map(([key, text]) =>
        el('div', {}, el('dt', {}, el('kbd', {}, key)), el('dd', {}, text)),
      ),
    ),
    el('label', { class: 'letters' }, letters, ' Single letters work as keys'),
    el('form', { method: 'dialog' }, el('button', { class: 'toggle', autofocus: true }, 'Close')),
  );
  const help = el(
    'button',
    {
      type: 'button',
      class: 'icon-button',
      'aria-keyshortcuts': '?',
      'aria-label': 'Keys',
      title: 'Keys (?)',
      click: () => dialog.showModal(),
    },
    '?',
  );
  byId('tools').append(theme, help, dialog);
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close();
  });
  addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    const target = event.target as HTMLElement;
    if (target.closest('input, select, textarea') !== null) return;
    if (/^[a-z]$/i.test(event.key) && !letters.checked) return;
    if (event.key === '?') dialog.showModal();
    else {
      const shortcut = current().find(({ key }) => key === event.key);
      if (shortcut === undefined) return;
      shortcut.run();
    }
    event.preventDefault();
  });
}
