// What is known of one change, or of what lies in one directory.
// Made by files-view.ts whenever something is chosen; the lines of a text are diff-view.ts's.
// A fact that differs shows both sides; one that does not shows its value.

import type { Attributes, Item, NoLines } from '../page-data.js';
import { isMereWay, type TreeItem } from '../page-tree.js';
import { countText, modeText, STATUS_WORDS, sizeText } from '../page-words.js';
import { badge, bar, countsText } from './badge.js';
import { detailHead, type NodeEvents, nodeLink } from './detail-head.js';
import { diffView } from './diff-view.js';
import { el, visible } from './dom.js';

const NO_LINES: Readonly<Record<NoLines, string>> = {
  binary: 'The content is no text: its bytes differ.',
  large: 'The file is too large for its lines to be compared here.',
  elsewhere: 'The content is an object of a store, and was not read.',
  unreadable: 'The content could not be read when this page was made.',
  page: 'There was no room for its lines in this page: varve diff --patch has them.',
};

export function detailView(node: TreeItem, events: NodeEvents<TreeItem>): HTMLElement {
  const { item } = node;
  const parts: (HTMLElement | undefined)[] = [heading(node, events)];
  if (item !== undefined && !isMereWay(item)) {
    parts.push(sentence(item), factsTable(item));
    const { text, noLines } = item.extra;
    if (text !== undefined) parts.push(diffView(text));
    if (noLines !== undefined) parts.push(el('p', { class: 'note' }, NO_LINES[noLines]));
  }
  if (node.folder && node.shown.changes > 0) parts.push(contents(node, events));
  return el('article', { class: 'detail' }, ...parts);
}

function heading(node: TreeItem, events: NodeEvents<TreeItem>): HTMLElement {
  const { item } = node;
  const status = item === undefined || isMereWay(item) ? undefined : item.status;
  const words = { root: '/', separator: '/', status, copied: node.path || '/' };
  return detailHead(node, words, events);
}

const TYPE_WORDS: Readonly<Record<Item['type'], string>> = {
  file: 'file',
  directory: 'directory',
  symlink: 'symbolic link',
  device: 'device',
  fifo: 'FIFO',
  socket: 'socket',
};

/** What happened, in words. */
function sentence({ status, type, extra, what, stored, after }: Item): HTMLElement {
  const word = TYPE_WORDS[type];
  const text = el('p', { class: 'sentence' });
  const path = (of: string): HTMLElement => el('code', {}, visible(of));
  if (status === 'R') text.append('Renamed from ', path(extra.from ?? ''));
  else if (status === 'T') {
    text.append(
      `Was a ${extra.typeBefore ? TYPE_WORDS[extra.typeBefore] : 'file'}, is a ${word} now`,
    );
  } else if (status === '=' && after < 0 && type === 'device') {
    text.append('A whiteout that hides nothing');
  } else if (status === '=') {
    const but = what.includes('time') ? ' but for its time' : '';
    text.append(`Lies in the upper, and equals what is below${but}`);
  } else text.append(`${STATUS_WORDS[status]} ${word}`);
  if (status === 'M' || status === 'R') {
    const differs = what.filter((aspect) => aspect !== 'time');
    if (differs.length > 0) text.append(`: ${differs.join(', ')}`);
  }
  text.append('.');
  if (extra.link !== undefined) text.append(' Another name of ', path(extra.link), '.');
  if (extra.opaque === true) {
    text.append(
      status === 'A' || status === 'T'
        ? ' It hides whatever the layers below have there.'
        : ' It is opaque: nothing of the layers below shows through.',
    );
  }
  const isOnlyMetadata = type === 'file' && stored === 0 && after > 0;
  if (isOnlyMetadata && extra.link === undefined) {
    text.append(' The upper has only its metadata; the content comes from a layer below.');
  }
  return text;
}

interface Fact {
  readonly name: string;
  readonly before: string | undefined;
  readonly after: string | undefined;
}

function factsTable(item: Item): HTMLElement {
  const { extra, before, after, stored, attributes } = item;
  const [modeBefore, ownerBefore, modeAfter, ownerAfter]: Attributes = attributes;
  const size = (n: number): string | undefined =>
    n < 0 ? undefined : n < 1024 ? sizeText(n) : `${sizeText(n)} (${n.toLocaleString('en')} bytes)`;
  const mode = (octal: string): string | undefined =>
    octal === '' ? undefined : `${octal} ${modeText(octal)}`;
  const facts: Fact[] = [
    { name: 'Size', before: size(before), after: size(after) },
    { name: 'Mode', before: mode(modeBefore), after: mode(modeAfter) },
    { name: 'Owner', before: ownerBefore || undefined, after: ownerAfter || undefined },
    { name: 'Time', before: timeText(extra.time?.before), after: timeText(extra.time?.after) },
    { name: 'Target', before: extra.target?.before, after: extra.target?.after },
    { name: 'Device', before: extra.device?.before, after: extra.device?.after },
  ];
  for (const { name, before: was, after: is } of extra.xattrs ?? []) {
    facts.push({ name, before: xattrText(was), after: xattrText(is) });
  }
  const rows = facts
    .filter((fact) => fact.before !== undefined || fact.after !== undefined)
    .map((fact) => factRow(item, fact));
  if (item.type === 'file' && item.status !== 'D') {
    const text = stored === 0 ? 'nothing' : sizeText(stored);
    rows.push(
      el('tr', {}, el('th', { scope: 'row' }, 'In the upper'), el('td', { colspan: 2 }, text)),
    );
  }
  if (extra.pathBytes !== undefined) {
    rows.push(
      el(
        'tr',
        {},
        el('th', { scope: 'row' }, 'Path'),
        el('td', { colspan: 2 }, 'No UTF-8; in base64 ', el('code', {}, extra.pathBytes)),
      ),
    );
  }
  return el('table', { class: 'facts-table' }, el('tbody', {}, ...rows));
}

/** ISO 8601 with fewer letters: `2026-01-31 12:00:00 UTC`; nanoseconds where there are any. */
function timeText(iso: string | undefined): string | undefined {
  return iso?.replace(/\.?0*Z$/, ' UTC').replace('T', ' ');
}

function factRow(item: Item, { name, before, after }: Fact): HTMLElement {
  const head = el('th', { scope: 'row' }, visible(name));
  const isOneSided = item.status === 'A' || item.status === 'D';
  if (isOneSided || before === after) {
    return el('tr', {}, head, el('td', { colspan: 2 }, visible(after ?? before ?? '')));
  }
  const side = (value: string | undefined, style: string): HTMLElement =>
    el(
      'td',
      { class: style },
      value === undefined ? el('span', { class: 'absent' }, 'none') : visible(value),
    );
  return el('tr', { class: 'differs' }, head, side(before, 'was'), side(after, 'is'));
}

/** A value as text where it is printable, else as hexadecimal digits. */
function xattrText(base64: string | undefined): string | undefined {
  if (base64 === undefined) return undefined;
  const isCut = base64.endsWith('…');
  const bytes = atob(isCut ? base64.slice(0, -1) : base64);
  const end = isCut ? ' …' : '';
  if (bytes === '') return '(empty)';
  if (/^[\x20-\x7e]+\0?$/.test(bytes)) return `"${bytes.replace('\0', '\\0')}"${end}`;
  const hex = Array.from(bytes, (byte) => byte.charCodeAt(0).toString(16).padStart(2, '0'));
  return `0x${hex.join('')}${end}`;
}

/** Entries of the two lists of a directory. */
const LIST = 12;

function contents(node: TreeItem, events: NodeEvents<TreeItem>): HTMLElement {
  const leaves = leavesOf(node);
  const largest = [...leaves]
    .filter(({ shown }) => shown.stored > 0)
    .sort((a, b) => b.shown.stored - a.shown.stored)
    .slice(0, LIST);
  const most = largest[0]?.shown.stored ?? 1;
  const rows = largest.map((leaf) => {
    const share = el('i', { class: `share ${leaf.item ? `s-${leaf.item.status}` : ''}` });
    share.style.width = `${Math.max(1, (100 * leaf.shown.stored) / most)}%`;
    const name = node.path === '' ? leaf.path : leaf.path.slice(node.path.length + 1);
    return el(
      'li',
      {},
      leaf.item && badge(leaf.item.status),
      nodeLink(leaf, name, events, 'leaf'),
      el('span', { class: 'size' }, sizeText(leaf.shown.stored)),
      el('span', { class: 'share-track' }, share),
    );
  });
  const { shown } = node;
  return el(
    'section',
    { class: 'contents' },
    el('p', { class: 'counts' }, bar(shown), el('span', {}, countsText(shown))),
    el(
      'p',
      { class: 'counts-total' },
      `${countText(shown.changes, 'change')}, ${sizeText(shown.stored)} in the upper`,
    ),
    rows.length > 0 && el('h3', {}, rows.length < LIST ? 'By size' : `The ${LIST} largest`),
    rows.length > 0 && el('ol', { class: 'largest' }, ...rows),
  );
}

function leavesOf(node: TreeItem): TreeItem[] {
  const leaves: TreeItem[] = [];
  const queue = [node];
  for (let n = queue.pop(); n !== undefined; n = queue.pop()) {
    if (n.shown.changes === 0) continue;
    if (n.children.length === 0) leaves.push(n);
    else queue.push(...n.children);
  }
  return leaves;
}
