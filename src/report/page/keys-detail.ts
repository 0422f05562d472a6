// The values of a key and of the keys below it: name, type, and what they hold on both sides.
// Made by keys-view.ts whenever something is chosen.
// A long list comes in portions, so that no registry makes the page slow.

import type { DataItem, KeyItem, ValueItem } from '../keys-page.js';
import { type KeyNode, shownKeys } from '../keys-tree.js';
import { numberWords, valueName } from '../keys-words.js';
import { countText, sizeText } from '../page-words.js';
import { badge, bar, countsText } from './badge.js';
import { detailHead, type NodeEvents, nodeLink } from './detail-head.js';
import { el, visible } from './dom.js';
import { type Mark, marked, marksBetween } from './marks.js';

/** Values that are shown at once. */
const PORTION = 400;

export function keysDetail(node: KeyNode, events: NodeEvents<KeyNode>): HTMLElement {
  const keys = shownKeys(node);
  const { shown } = node;
  const counts =
    shown.changes === 0
      ? el('p', { class: 'note' }, 'Nothing that the filter leaves.')
      : el('p', { class: 'counts' }, bar(shown), el('span', {}, countsText(shown)));
  return el(
    'article',
    { class: 'detail' },
    heading(node, events),
    counts,
    ...portions(keys, (key) => section(key, node, events)),
  );
}

function heading(node: KeyNode, events: NodeEvents<KeyNode>): HTMLElement {
  const status = node.own.key ? node.item?.status : undefined;
  const words = { root: 'All keys', separator: '\\', status, copied: node.path };
  return detailHead(node, words, events);
}

/** One key. @param top what is chosen: paths below it begin there. */
function section(node: KeyNode, top: KeyNode, events: NodeEvents<KeyNode>): HTMLElement {
  const item = node.item as KeyItem;
  const { own } = node;
  const parts: (HTMLElement | false)[] = [];
  if (node !== top) {
    const below = top.path === '' ? node.path : node.path.slice(top.path.length + 1);
    parts.push(
      el(
        'h3',
        { class: 'key' },
        badge(own.key ? item.status : 'M'),
        nodeLink(node, below, events, 'leaf'),
      ),
    );
  }
  // Beside a heading its badge says so.
  const words = own.key && (node === top || item.noise !== undefined) ? KEY_WORDS[item.status] : '';
  if (words !== '') {
    parts.push(el('p', { class: 'key-words' }, words, ...noiseTag(item.noise)));
  }
  if (own.key && item.options !== undefined) parts.push(options(item.options));
  if (own.values.length > 0) {
    parts.push(
      el(
        'table',
        { class: 'values' },
        el(
          'thead',
          {},
          el(
            'tr',
            {},
            ...['', 'Name', 'Type', 'Data'].map((text) => el('th', { scope: 'col' }, text)),
          ),
        ),
        el('tbody', {}, ...own.values.map(valueRow)),
      ),
    );
  }
  return el('section', { class: 'key-section' }, ...parts);
}

const KEY_WORDS = {
  A: 'New key.',
  M: '',
  D: 'The key is gone.',
} as const;

function noiseTag(noise: string | undefined): HTMLElement[] {
  return noise === undefined ? [] : [el('span', { class: 'tag', title: 'Noise' }, noise)];
}

function options({ before = [], after = [] }: NonNullable<KeyItem['options']>): HTMLElement {
  const gone = before.filter((line) => !after.includes(line));
  const come = after.filter((line) => !before.includes(line));
  return el(
    'div',
    { class: 'data key-options' },
    ...gone.map((line) => el('div', { class: 'was' }, visible(line))),
    ...come.map((line) => el('div', { class: 'is' }, visible(line))),
  );
}

function valueRow(value: ValueItem): HTMLElement {
  const { name, status, noise, before, after } = value;
  const types = [before?.type, after?.type].filter(
    (type, i, all) => type && all.indexOf(type) === i,
  );
  return el(
    'tr',
    {},
    el('td', {}, badge(status)),
    el(
      'td',
      { class: name === '' ? 'value-name default' : 'value-name' },
      visible(valueName(name)),
      ...noiseTag(noise),
    ),
    el('td', { class: 'value-type' }, types.join(' → ')),
    el('td', { class: 'data' }, ...dataSides(before, after)),
  );
}

function dataSides(before: DataItem | undefined, after: DataItem | undefined): HTMLElement[] {
  const was = before && rowsOf(before);
  const is = after && rowsOf(after);
  return [
    ...(before && was !== undefined ? [side(before, was, 'was', is)] : []),
    ...(after && is !== undefined ? [side(after, is, 'is', was)] : []),
  ];
}

/** @param other rows of the other side: what they have not is marked. */
function side(
  data: DataItem,
  rows: readonly string[],
  style: string,
  other: readonly string[] | undefined,
): HTMLElement {
  const element = el('div', { class: style });
  const [only = ''] = rows;
  if (data.size === 0 || (rows.length === 1 && only === '')) {
    element.append(el('span', { class: 'absent' }, 'empty'));
  } else if (rows.length === 1 && (other === undefined || other.length === 1)) {
    element.append(marked(only, marksBetween(only, other?.[0] ?? '')?.[0]));
  } else {
    const known = other && new Set(other);
    for (const row of rows) {
      const mark: Mark | undefined =
        known === undefined || known.has(row) ? undefined : [0, row.length];
      element.append(el('div', {}, marked(row, mark)));
    }
  }
  if (data.isCut) {
    element.append(el('span', { class: 'absent' }, ` … (${sizeText(data.size)} in all)`));
  }
  return element;
}

/** Data as rows of text. */
function rowsOf(data: DataItem): readonly string[] {
  const { text, lines, number, bytes } = data;
  if (text !== undefined) return [text];
  if (lines !== undefined) return lines;
  if (number !== undefined) return [numberWords(number, data.size)];
  return hexDump(bytes ?? '');
}

/** Eight bytes a line, as regedit has them, as characters too. */
function hexDump(digits: string): string[] {
  const rows: string[] = [];
  for (let at = 0; at < digits.length; at += 16) {
    const row = digits.slice(at, at + 16).match(/../g) ?? [];
    const text = row.map((byte) => {
      const code = Number.parseInt(byte, 16);
      return code >= 0x20 && code < 0x7f ? String.fromCharCode(code) : '.';
    });
    rows.push(`${row.join(' ').padEnd(23)}  ${text.join('')}`);
  }
  return rows;
}

/** Sections until about PORTION values are there, and a button for more. */
function portions(keys: readonly KeyNode[], make: (key: KeyNode) => HTMLElement): HTMLElement[] {
  let at = 0;
  const next = (): HTMLElement[] => {
    const made: HTMLElement[] = [];
    for (let values = 0; at < keys.length && values < PORTION; at++) {
      const key = keys[at] as KeyNode;
      values += 1 + key.own.values.length;
      made.push(make(key));
    }
    return made;
  };
  const shown = next();
  if (at >= keys.length) return shown;
  const text = (): string => `Show more of ${countText(keys.length - at, 'further key')}`;
  const more = el('button', { type: 'button', class: 'more' }, text());
  more.addEventListener('click', () => {
    more.before(...next());
    if (at >= keys.length) more.remove();
    else more.textContent = text();
  });
  return [...shown, more];
}
