// A registry file from its bytes. Keys are found at once; their values are read when somebody asks for them.
// Read at the start of every merge and comparison; write.ts gives the same bytes back for what nobody has changed.
// Follows: server/registry.c of Wine (load_keys, load_key, load_global_option), format `WINE REGISTRY Version 2`.

import { RegistryError } from './error.js';
import { endOfEscaped, unescapeText } from './escape.js';
import { fold, type Hive, type RegistryKey, type RegistryValue } from './hive.js';
import { goesOn, isBlank, Lines, readValue, requireDepth, startOf } from './lines.js';

const VERSION = 'WINE REGISTRY Version 2';

/**
 * Reads a registry file as Wine does. What Wine skips (comments, lines and keys it does not understand) is no data,
 * yet it is written back: with the whole file while nothing is changed, and inside of its key until that key is.
 * A key that stands twice is one key; the later values count.
 * @param like a file that is probably much the same: keys that stand in both alike are its own, and cost next to nothing
 * @throws RegistryError for a file that Wine refuses as a whole
 */
export function parseHive(bytes: Uint8Array, like?: Hive): Hive {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
  const header = readHeader(text);
  const keys = new Map<string, RegistryKey>();
  const blocks: Block[] = [];
  const known = new KnownBlocks((like && sources.get(like.keys)?.blocks) ?? []);
  const lines = new Lines(text, header.end);
  for (let at = header.end; at < text.length; ) {
    const block = known.at(text, at) ?? blockOf(text.slice(at, blockEnd(text, at, lines)));
    const start = at;
    known.pass(block);
    blocks.push(block);
    at += block.block.length;
    if (block.folded === undefined) continue;
    requireDepth(block.path, () => text.slice(0, start).split('\n').length);
    const before = keys.get(block.folded);
    keys.set(block.folded, before === undefined ? block : joined(before, block));
  }
  const hive: Hive = { header: header.lines, keys };
  sources.set(keys, { header: header.lines, text, blocks });
  return hive;
}

/** A key's part of a file, from the line that begins with its `[` up to the next one; or such a part that Wine makes no key of. */
type Block = FileKey | { readonly block: string; readonly folded: undefined };

function blockOf(block: string): Block {
  return keyOf(block) ?? { block, folded: undefined };
}

/** How far the place of a key is looked for, behind the one where it is expected. */
const AHEAD = 32;

/** Blocks of a file like this one, in its order: what stands the same in both is read once. */
class KnownBlocks {
  readonly #blocks: readonly Block[];
  #next = 0;

  constructor(blocks: readonly Block[]) {
    this.#blocks = blocks;
  }

  /** The known block that stands in `text` at `at`; undefined: another one does. */
  at(text: string, at: number): Block | undefined {
    const block = this.#blocks[this.#next];
    // Where the last one ends, the end of its file has said.
    if (block === undefined || this.#next + 1 === this.#blocks.length) return undefined;
    if (!text.startsWith(block.block, at)) return undefined;
    const end = at + block.block.length;
    KEY_START.lastIndex = end;
    // What goes on behind its line is for the lines that follow to say.
    return KEY_START.test(text) && !endsWithBackslash(text, end - 1) ? block : undefined;
  }

  /** Goes on behind a block of the new file, if it is known. */
  pass({ folded }: Block): void {
    if (folded === undefined) return;
    const last = Math.min(this.#next + AHEAD, this.#blocks.length);
    for (let i = this.#next; i < last; i++) {
      if (this.#blocks[i].folded !== folded) continue;
      this.#next = i + 1;
      return;
    }
  }
}

/** What a hive was read from, by its keys: whoever changes something makes a new map. */
const sources = new WeakMap<
  ReadonlyMap<string, RegistryKey>,
  { readonly header: readonly string[]; readonly text: string; readonly blocks: readonly Block[] }
>();

/** The text (latin1) that a hive was read from, while it is the same; else undefined. */
export function sourceOf(hive: Hive): string | undefined {
  const source = sources.get(hive.keys);
  return source !== undefined && source.header === hive.header ? source.text : undefined;
}

/** The text (latin1) of a key that is as a file has it, without the last line feed; else undefined. */
export function textOf(key: RegistryKey): string | undefined {
  return key instanceof FileKey ? key.text() : undefined;
}

/** Whether two keys of files say the same, letter for letter, their times aside; undefined where that takes a closer look. */
export function sameText(one: RegistryKey, other: RegistryKey): true | undefined {
  if (one === other) return true;
  if (!(one instanceof FileKey && other instanceof FileKey)) return undefined;
  return one.isLike(other) ? true : undefined;
}

function readHeader(text: string): { lines: string[]; end: number } {
  const lines = new Lines(text);
  const header: string[] = [];
  for (let line = lines.next(), at = 0; line !== undefined; at = lines.at, line = lines.next()) {
    const start = startOf(line);
    if (lines.number === 1 && line !== VERSION) break;
    if (line[start] === '[') return { lines: withoutLastBlanks(header), end: at };
    if (line.startsWith('#arch=', start) && !/^#arch=win(?:32|64)$/.test(line.slice(start))) {
      throw new RegistryError(lines.number, `unknown architecture ${line.slice(start + 6)}`);
    }
    header.push(line);
  }
  if (header.length === 0)
    throw new RegistryError(1, `no registry file: it begins with ${VERSION}`);
  return { lines: withoutLastBlanks(header), end: text.length };
}

function withoutLastBlanks(lines: string[]): string[] {
  while (lines.length > 0 && startOf(lines[lines.length - 1]) === lines[lines.length - 1].length) {
    lines.pop();
  }
  return lines;
}

/** Where lines begin a key, blanks before the bracket included. */
const KEY_LINE = /\n[\t\v\f\r ]*\[/g;
const KEY_START = /[\t\v\f\r ]*\[/y;

/** Where the block that begins at `from` ends. @param lines stands at `from`, or before it where nobody asked for lines. */
function blockEnd(text: string, from: number, lines: Lines): number {
  lines.at = from;
  for (let at = from; ; ) {
    KEY_LINE.lastIndex = at;
    // Not exec(): its result is an array, one for each of nine thousand keys.
    if (!KEY_LINE.test(text)) return text.length;
    const found = text.lastIndexOf('\n', KEY_LINE.lastIndex - 1);
    at = found + 1;
    if (endsWithBackslash(text, found) && isTaken(lines, at)) continue;
    return at;
  }
}

function endsWithBackslash(text: string, end: number): boolean {
  while (end > 0 && text[end - 1] !== '\n' && isBlank(text.charCodeAt(end - 1))) end--;
  return text.charCodeAt(end - 1) === 0x5c;
}

/** Whether the line at `at` belongs to a value that begins before it; reads on from where it stood last. */
function isTaken(lines: Lines, at: number): boolean {
  while (lines.at < at) {
    const line = lines.next();
    if (line !== undefined && goesOn(line)) readValue(line, lines);
  }
  return lines.at > at;
}

function keyOf(block: string): FileKey | undefined {
  const feed = block.indexOf('\n');
  const from = startOf(block) + 1;
  const end = endOfEscaped(block, from, ']');
  if (end === -1 || (feed !== -1 && end > feed)) return undefined;
  const written = block.slice(from, end);
  if (PLAIN_PATH.test(written)) {
    const path = written.replaceAll('\\\\', '\\');
    return new FileKey(path, path.toLowerCase(), block, end + 1, feed);
  }
  const path = pathOf(written);
  return path === undefined ? undefined : new FileKey(path, fold(path), block, end + 1, feed);
}

const PLAIN_PATH = /^(?:[^\\\x80-\xff]+(?:\\\\[^\\\x80-\xff]+)*)?$/;

/** Backslashes in a row are one, and the last counts for nothing; Wine makes no key of a path that begins with one. */
function pathOf(written: string): string | undefined {
  const path = unescapeText(written);
  return path[0] === '\\' ? undefined : path.replace(/\\+/g, '\\').replace(/\\$/, '');
}

class FileKey implements RegistryKey {
  readonly path: string;
  readonly folded: string;
  /** Its text, up to the next key. */
  readonly block: string;
  /** Where the stamp begins. */
  readonly #after: number;
  /** Where the head line ends; -1 where the block is this line alone. */
  readonly #feed: number;
  #values: ReadonlyMap<string, RegistryValue> | undefined;
  #options: readonly string[] | undefined;

  constructor(path: string, folded: string, block: string, after: number, feed: number) {
    this.path = path;
    this.folded = folded;
    this.block = block;
    this.#after = after;
    this.#feed = feed;
  }

  get stamp(): string {
    const end = this.#feed === -1 ? this.block.length : this.#feed;
    return withoutReturns(this.block.slice(this.#after, end));
  }

  get values(): ReadonlyMap<string, RegistryValue> {
    if (this.#values === undefined) this.#read();
    return this.#values!;
  }

  get options(): readonly string[] {
    if (this.#options === undefined) this.#read();
    return this.#options!;
  }

  text(): string {
    let end = this.block.length;
    while (end > 0 && isLineEnd(this.block.charCodeAt(end - 1))) end--;
    return this.block.slice(0, end);
  }

  /** Whether both have the same text; that of the head line and the time counts for nothing. */
  isLike(other: FileKey): boolean {
    return this.block === other.block || this.#body() === other.#body();
  }

  #body(): string {
    if (this.#feed === -1) return '';
    let from = this.#feed + 1;
    if (this.block.startsWith('#time=', from)) {
      const feed = this.block.indexOf('\n', from);
      from = feed === -1 ? this.block.length : feed + 1;
    }
    let end = this.block.length;
    while (end > from && isLineEnd(this.block.charCodeAt(end - 1))) end--;
    return this.block.slice(from, end);
  }

  #read(): void {
    const values = new Map<string, RegistryValue>();
    const options: string[] = [];
    const lines = new Lines(this.block, this.#feed === -1 ? this.block.length : this.#feed + 1);
    for (let line = lines.next(); line !== undefined; line = lines.next()) {
      const start = startOf(line);
      if (line[start] === '#') options.push(withoutReturns(line.slice(start)));
      else if (line[start] === '"' || line[start] === '@') {
        const value = readValue(line, lines);
        if (value === undefined) continue;
        const folded = fold(value.name);
        const before = values.get(folded);
        values.set(folded, before === undefined ? value : { name: before.name, data: value.data });
      }
    }
    this.#values = values;
    this.#options = options;
  }
}

/** More than one before a line feed are left of editors; a delta's lines have none. */
const withoutReturns = (text: string) => text.replace(/\r+$/, '');

const isLineEnd = (code: number) => code === 0x0a || code === 0x0d;

/** Two places of one key in a file. */
function joined(first: RegistryKey, second: RegistryKey): RegistryKey {
  const values = new Map(first.values);
  for (const [folded, value] of second.values) {
    values.set(folded, { name: values.get(folded)?.name ?? value.name, data: value.data });
  }
  return {
    path: first.path,
    stamp: first.stamp,
    options: [...first.options, ...second.options.filter((line) => !line.startsWith('#time='))],
    values,
  };
}
