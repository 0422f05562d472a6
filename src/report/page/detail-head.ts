// The head of the details: status, the path with a link for each step of it, and a button that copies it.
// Used by detail-view.ts and keys-detail.ts, whose lists have the same links.
// A click chooses a node in this page; with a key held it is the browser's, which may open a tab.

import type { StatusLetter } from '../page-data.js';
import type { Branch } from '../tree-rows.js';
import { badge } from './badge.js';
import { el, visible } from './dom.js';

export interface NodeEvents<N> {
  select(node: N): void;
  /** The link that leads to a node. */
  hash(node: N): string;
}

/** How one kind of tree names its paths. */
interface Words {
  /** What stands for the path of the root. */
  readonly root: string;
  readonly separator: string;
  /** Of the node itself; undefined: it is no change. */
  readonly status: StatusLetter | undefined;
  /** For the clipboard; empty: there is nothing to copy. */
  readonly copied: string;
}

export function detailHead<N extends Branch<N>>(
  node: N,
  { root, separator, status, copied }: Words,
  events: NodeEvents<N>,
): HTMLElement {
  const way: N[] = [];
  for (let n: N | undefined = node; n?.parent !== undefined; n = n.parent) way.unshift(n);
  const path = el('h2', { class: 'path' });
  if (way.length === 0) path.append(root);
  way.forEach((step, i) => {
    if (i > 0) path.append(separator, el('wbr'));
    path.append(
      i === way.length - 1
        ? el('span', { class: 'last' }, visible(step.name))
        : nodeLink(step, step.name, events, 'step'),
    );
  });
  return el(
    'div',
    { class: 'detail-head' },
    status === undefined ? el('span', { class: 'folder-icon large' }) : badge(status),
    path,
    copied !== '' && copyButton(copied),
  );
}

export function nodeLink<N>(
  node: N,
  text: string,
  events: NodeEvents<N>,
  style: string,
): HTMLElement {
  return el(
    'a',
    {
      class: style,
      href: events.hash(node),
      click: (event: MouseEvent) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        events.select(node);
      },
    },
    visible(text),
  );
}

function copyButton(text: string): HTMLElement {
  const copy = el(
    'button',
    { type: 'button', class: 'icon-button', title: 'Copy the path' },
    'Copy',
  );
  copy.addEventListener('click', () => {
    navigator.clipboard?.writeText(text).then(
      () => {
        copy.textContent = 'Copied';
        setTimeout(() => {
          copy.textContent = 'Copy';
        }, 1500);
      },
      () => {},
    );
  });
  return copy;
}
