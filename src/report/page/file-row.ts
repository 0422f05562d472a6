// A row of the tree of files: badge, name, what differs beside the content, size or counts.
// Given by files-view.ts to the tree view.
// A colour never stands alone: letters and signs say the same.

import type { TreeItem } from '../page-tree.js';
import { countText, STATUS_WORDS, sizeText } from '../page-words.js';
import { badge, bar, countsText } from './badge.js';
import { el, visible } from './dom.js';
import type { TreeLooks } from './tree-view.js';

export const FILE_ROWS: TreeLooks<TreeItem> = {
  label: 'Changes',
  labelOf,
  contentOf,
  isStop: ({ folder }) => !folder,
};

/** What a screen reader says of a row. */
function labelOf(node: TreeItem, label: string): string {
  const { item, shown } = node;
  if (node.folder && shown.changes > 0 && node.children.length > 0) {
    return `${label}, directory, ${countText(shown.changes, 'change')}: ${countsText(shown)}`;
  }
  if (item === undefined) return label;
  const from = item.extra.from === undefined ? '' : ` from ${item.extra.from}`;
  const what = item.what.length > 0 ? `, ${item.what.join(', ')}` : '';
  return `${label}, ${STATUS_WORDS[item.status].toLowerCase()}${from}${what}`;
}

function contentOf(node: TreeItem, label: string, canOpen: boolean): (HTMLElement | undefined)[] {
  const { item, shown } = node;
  const hasChange = item !== undefined && shown.changes > 0 && item.status !== '=';
  const own = item !== undefined && (!node.folder || hasChange) ? item : undefined;
  const name = el('span', { class: 'name' }, visible(label));
  const from = own?.extra.from;
  if (from !== undefined && own?.status === 'R') {
    name.append(el('span', { class: 'from' }, ' ← ', visible(from)));
  }
  const target = own?.extra.target?.after ?? own?.extra.target?.before;
  if (target !== undefined) name.append(el('span', { class: 'target' }, ' → ', visible(target)));
  const tags = el('span', { class: 'tags' });
  for (const aspect of own?.what ?? []) {
    const isSaid = aspect === 'content' || (aspect === 'time' && own?.status !== '=');
    if (!isSaid) tags.append(el('span', { class: 'tag' }, aspect));
  }
  return [
    el('span', { class: 'indent' }),
    el('span', { class: canOpen ? 'twisty' : 'twisty none' }),
    own === undefined ? el('span', { class: 'folder-icon' }) : badge(own.status),
    name,
    tags,
    canOpen ? el('span', { class: 'number' }, shown.changes.toLocaleString('en')) : undefined,
    canOpen ? bar(shown) : own && sizeOf(own.before, own.after),
  ];
}

/** The size of what is new or gone, and by how much others have grown. */
function sizeOf(before: number, after: number): HTMLElement | undefined {
  if (before < 0 && after < 0) return undefined;
  if (before < 0) return el('span', { class: 'size grown' }, `+${sizeText(after)}`);
  if (after < 0) return el('span', { class: 'size shrunk' }, `−${sizeText(before)}`);
  const grown = after - before;
  if (grown === 0) return el('span', { class: 'size' }, sizeText(after));
  return el(
    'span',
    { class: grown > 0 ? 'size grown' : 'size shrunk' },
    `${grown > 0 ? '+' : '−'}${sizeText(Math.abs(grown))}`,
  );
}
