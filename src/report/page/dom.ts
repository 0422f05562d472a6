// Elements in one call, and text that shows what it hides.
// Used by every view of the page.
// Nothing here or elsewhere in the page parses HTML: names and contents only ever become text nodes.

import { escapeHidden, HIDDEN } from '../page-words.js';

type Child = Node | string | number | undefined | false;

/** Attributes by name (`class`, `aria-label`); `true` sets an empty one, undefined and false none; functions are listeners. */
type Props = Readonly<
  Record<string, string | number | boolean | undefined | ((event: never) => void)>
>;

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name, value as EventListener);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  for (const child of children) {
    if (child !== undefined && child !== false) element.append(child as Node | string);
  }
  return element;
}

/** Text in which hidden and direction-changing characters stand as escapes of another colour. */
export function visible(text: string): DocumentFragment {
  const fragment = document.createDocumentFragment();
  let at = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > at) fragment.append(text.slice(at, match.index));
    fragment.append(el('span', { class: 'hidden-char' }, escapeHidden(match[0])));
    at = match.index + match[0].length;
  }
  if (at < text.length) fragment.append(text.slice(at));
  return fragment;
}

/** The element with this id, which html.ts has put into the page. */
export function byId(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
}

/** What a browser may refuse to a page from a file is not worth an error. */
export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(`varve-${key}`, value);
  } catch {
    // Private windows and file: pages of some browsers.
  }
}

export function remembered(key: string): string | undefined {
  try {
    return localStorage.getItem(`varve-${key}`) ?? undefined;
  } catch {
    return undefined;
  }
}
