// A row of the tree of keys: badge, name, how much has changed at and below it.
// Given by keys-view.ts to the tree view.
// A colour never stands alone: letters say the same.

import { hasOwn, type KeyNode } from '../keys-tree.js';
import { countText } from '../page-words.js';
import { badge, bar, countsText } from './badge.js';
import { el, visible } from './dom.js';
import type { TreeLooks } from './tree-view.js';

export const KEY_ROWS: TreeLooks<KeyNode> = {
  label: 'Changed keys',
  isStop: hasOwn,
  labelOf(node, label) {
    const { own, item, shown } = node;
    const word =
      own.key && item?.status === 'A'
        ? 'new key'
        : own.key && item?.status === 'D'
          ? 'deleted key'
          : 'key';
    return `${label}, ${word}, ${countText(shown.changes, 'change')}: ${countsText(shown)}`;
  },
  contentOf(node, label, canOpen) {
    const { item, own, shown } = node;
    return [
      el('span', { class: 'indent' }),
      el('span', { class: canOpen ? 'twisty' : 'twisty none' }),
      item !== undefined && hasOwn(node)
        ? badge(own.key ? item.status : 'M')
        : el('span', { class: 'folder-icon' }),
      el('span', { class: 'name' }, visible(label)),
      el('span', { class: 'tags' }, noiseTag(node)),
      el('span', { class: 'number' }, shown.changes.toLocaleString('en')),
      bar(shown),
    ];
  },
};

function noiseTag({ own, item }: KeyNode): HTMLElement | undefined {
  const isNoise =
    (own.key && item?.noise !== undefined) || own.values.some(({ noise }) => noise !== undefined);
  return isNoise ? el('span', { class: 'tag' }, 'noise') : undefined;
}
