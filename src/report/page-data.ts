// What the HTML page is given: the document in a form that 100,000 changes fit in, and text diffs, each apart.
// Written by html.ts into the page, read there by page/main.ts: pure code, for both.
// Paths are front-coded: a row says how much of the path before it starts its own.

import type {
  ChangeEntry,
  DiffDocument,
  ObjectType,
  Sides,
  StackNames,
  Summary,
  XattrChange,
} from './document.js';
import type { KeysDocument } from './keys.js';
import { type KeysTab, keysTab } from './keys-page.js';

export const STATUSES = ['A', 'M', 'D', 'R', 'T', '='] as const;
export type StatusLetter = (typeof STATUSES)[number];

export const TYPES: readonly ObjectType[] = [
  'file',
  'directory',
  'symlink',
  'device',
  'fifo',
  'socket',
];

/** Bit i of `what` in a row. */
export const ASPECTS = ['content', 'mode', 'owner', 'xattr', 'time'] as const;
export type AspectName = (typeof ASPECTS)[number];

/** Why a change of content has no lines. `page`: there was no room for it. */
export type NoLines = 'binary' | 'large' | 'elsewhere' | 'unreadable' | 'page';

/** Lines of one change; the text itself stands in a script element of its own, `text-ID`. */
export interface TextRef {
  readonly id: number;
  readonly added: number;
  readonly removed: number;
}

/** [start, lines, start, lines, lines with their marks]: a Hunk without its names. */
export type HunkRow = readonly [number, number, number, number, readonly string[]];

export interface TextBody {
  readonly hunks: readonly HunkRow[];
  /** The bytes are no UTF-8 and shown as Latin-1. */
  readonly latin1?: true;
  /** Lines that were left out behind these. */
  readonly more?: number;
}

/** What most changes have nothing of. */
export interface RowExtra {
  readonly from?: string;
  readonly typeBefore?: ObjectType;
  readonly time?: Sides<string>;
  readonly target?: Sides<string>;
  readonly device?: Sides<string>;
  readonly xattrs?: readonly XattrChange[];
  readonly link?: string;
  readonly opaque?: boolean;
  readonly pathBytes?: string;
  readonly text?: TextRef;
  readonly noLines?: NoLines;
}

/**
 * [characters shared with the path before, the rest of the path, status, type, aspects as bits, bytes in the upper,
 * attributes, size before, size after, extra]. Statuses, types and attributes by position; -1 for a size that there is not.
 */
export type Row = readonly [
  number,
  string,
  number,
  number,
  number,
  number,
  number,
  number,
  number,
  RowExtra?,
];

/** Mode and owner on both sides, `` where the object was not there. */
export type Attributes = readonly [string, string, string, string];

export interface FilesTab {
  readonly kind: 'files';
  readonly id: string;
  readonly title: string;
  readonly attributes: readonly Attributes[];
  readonly rows: readonly Row[];
}

/** Another kind of tab is another member here and another renderer in page/main.ts. */
export type PageTab = FilesTab | KeysTab;

export interface PageData {
  readonly version: 1;
  readonly stack: StackNames;
  readonly summary: Summary;
  readonly tabs: readonly PageTab[];
}

/** What is known of the text of a change, by its position in the document. */
export type TextOfChange = TextRef | NoLines;

/** What a page has beside the files, or in their place. */
export interface KeysPart {
  /** Of the tab: `Registry`. */
  readonly title: string;
  /** Noise included. */
  readonly document: KeysDocument;
  /** Files were not compared: they have no tab. */
  readonly alone?: boolean;
}

export function pageData(
  document: DiffDocument,
  texts: ReadonlyMap<number, TextOfChange>,
  keys?: KeysPart,
): PageData {
  const { stack, summary } = document;
  const tabs: PageTab[] = [];
  if (keys?.alone !== true) tabs.push(filesTab(document, texts));
  if (keys !== undefined) {
    tabs.push(keysTab(keys.document, keys.title.toLowerCase(), keys.title));
  }
  return { version: 1, stack, summary, tabs };
}

function filesTab(document: DiffDocument, texts: ReadonlyMap<number, TextOfChange>): FilesTab {
  const attributes: Attributes[] = [];
  const numbers = new Map<string, number>();
  let previous = '';
  const rows = document.changes.map((entry, index): Row => {
    const { mode, owner } = entry;
    const four: Attributes = [
      mode?.before ?? '',
      owner?.before?.join(':') ?? '',
      mode?.after ?? '',
      owner?.after?.join(':') ?? '',
    ];
    const key = four.join(' ');
    let number = numbers.get(key);
    if (number === undefined) {
      number = attributes.push(four) - 1;
      numbers.set(key, number);
    }
    const shared = sharedLength(previous, entry.path);
    previous = entry.path;
    const extra = extraOf(entry, texts.get(index));
    const row = [
      shared,
      entry.path.slice(shared),
      STATUSES.indexOf(entry.status),
      TYPES.indexOf(entry.type),
      entry.what.reduce((bits, aspect) => bits | (1 << ASPECTS.indexOf(aspect)), 0),
      entry.bytesInUpper,
      number,
      entry.size?.before ?? -1,
      entry.size?.after ?? -1,
    ] as const;
    return extra === undefined ? row : [...row, extra];
  });
  return { kind: 'files', id: 'files', title: 'Files', attributes, rows };
}

function sharedLength(a: string, b: string): number {
  const limit = Math.min(a.length, b.length);
  let n = 0;
  while (n < limit && a.charCodeAt(n) === b.charCodeAt(n)) n++;
  return n;
}

/** Base64 digits of an attribute's value that travel with the page. */
const XATTR_LIMIT = 1024;

function extraOf(entry: ChangeEntry, text: TextOfChange | undefined): RowExtra | undefined {
  const { from, typeBefore, time, target, device, link, opaque, pathBytes } = entry;
  const cut = (value: string | undefined): string | undefined =>
    value !== undefined && value.length > XATTR_LIMIT ? `${value.slice(0, XATTR_LIMIT)}…` : value;
  const xattrs = entry.xattrs?.map(({ name, before, after }) => ({
    name,
    before: cut(before),
    after: cut(after),
  }));
  const all = { from, typeBefore, time, target, device, xattrs, link, opaque, pathBytes };
  const found: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(all)) if (value !== undefined) found[key] = value;
  if (typeof text === 'string') found['noLines'] = text;
  else if (text !== undefined) found['text'] = text;
  return Object.keys(found).length === 0 ? undefined : found;
}

/** One change as the page works with it. */
export interface Item {
  readonly index: number;
  readonly path: string;
  readonly status: StatusLetter;
  readonly type: ObjectType;
  readonly what: readonly AspectName[];
  readonly bits: number;
  readonly stored: number;
  /** Bytes of a file; -1: there is none on that side. */
  readonly before: number;
  readonly after: number;
  readonly attributes: Attributes;
  readonly extra: RowExtra;
}

const NOTHING: RowExtra = {};

export function itemsOf(tab: FilesTab): Item[] {
  let path = '';
  const aspects = new Map<number, readonly AspectName[]>();
  return tab.rows.map((row, index) => {
    const [shared, rest, status, type, bits, stored, attributes, before, after, extra] = row;
    path = path.slice(0, shared) + rest;
    let what = aspects.get(bits);
    if (what === undefined) {
      what = ASPECTS.filter((_, bit) => (bits & (1 << bit)) !== 0);
      aspects.set(bits, what);
    }
    return {
      index,
      path,
      status: STATUSES[status] as StatusLetter,
      type: TYPES[type] as ObjectType,
      what,
      bits,
      stored,
      before,
      after,
      attributes: tab.attributes[attributes] as Attributes,
      extra: extra ?? NOTHING,
    };
  });
}
