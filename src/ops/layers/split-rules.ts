// Rules that say which layer an object of a tree belongs to: patterns of paths, kinds, sizes, owners and times.
// Read by `varve split`; split.ts asks for every object, parents first.
// Patterns are those of gitignore(5), as tree/exclude.ts reads them; the first rule that holds decides.

import { S } from '../../linux/constants.js';
import { MountError } from '../../stack/errors.js';
import { compileExcludes, type Excludes } from '../../tree/exclude.js';
import type { TreeNode } from '../../tree/tree.js';

/** A layer and when an object belongs to it. */
export interface Rule {
  readonly layer: string;
  /** Each alone suffices. */
  readonly lines: readonly Line[];
}

/** All of it must hold. */
interface Line {
  readonly globs: readonly Glob[];
  readonly tests: readonly ((node: TreeNode) => boolean)[];
}

interface Glob {
  /** Among the globs of all rules. */
  readonly index: number;
  readonly matches: Excludes;
  /** It must not match. */
  readonly not: boolean;
}

/** Layers, in the order of the rules; the last one takes the rest. */
export interface Rules {
  readonly layers: readonly string[];
  readonly rules: readonly Rule[];
  readonly globs: readonly Glob[];
}

/**
 * @param texts of `--rule NAME=PATTERN...`. @param file text of `--rules FILE`, and its name for messages.
 * @param rest name of the layer for what no rule names. @throws MountError of kind `option`.
 */
export function readRules(
  texts: readonly string[],
  file: { readonly text: string; readonly name: string } | undefined,
  rest: string,
): Rules {
  const reader = new Reader();
  for (const text of texts) {
    const equals = text.indexOf('=');
    const where = `--rule ${text}`;
    if (equals < 1) throw wrong(where, 'write NAME=PATTERN...');
    reader.line(text.slice(0, equals), text.slice(equals + 1), where);
  }
  if (file !== undefined) reader.file(file.text, file.name);
  return reader.finish(rest);
}

function wrong(where: string, what: string): MountError {
  return new MountError('option', `${where}: ${what}`);
}

class Reader {
  readonly #rules: { layer: string; lines: Line[] }[] = [];
  readonly #globs: Glob[] = [];

  file(text: string, name: string): void {
    let layer: string | undefined;
    text.split('\n').forEach((line, i) => {
      const where = `${name}: line ${i + 1}`;
      const trimmed = line.replace(/\r$/, '').trim();
      if (trimmed === '' || trimmed.startsWith('#')) return;
      const [, section] = /^\[(.*)\]$/.exec(trimmed) ?? [];
      // A set of characters is a pattern of one name, which stands in no line of its own before a section.
      if (section !== undefined) layer = section.trim();
      else if (layer === undefined) throw wrong(where, 'no layer yet: write [NAME] above it');
      else this.line(layer, trimmed, where);
    });
  }

  line(layer: string, text: string, where: string): void {
    if (!/^[A-Za-z0-9_][A-Za-z0-9_.+-]*$/.test(layer)) {
      throw wrong(where, `layer ${JSON.stringify(layer)}: letters, digits and _ . + - make a name`);
    }
    const globs: Glob[] = [];
    const tests: Line['tests'][number][] = [];
    for (const word of words(text)) {
      const test = condition(word, where);
      if (test === undefined) globs.push(this.#glob(word, where));
      else tests.push(test);
    }
    if (globs.length + tests.length === 0) throw wrong(where, 'says nothing: write a pattern');
    const last = this.#rules.at(-1);
    const line = { globs, tests };
    // Further lines of one layer are alternatives, unless another one has come between.
    if (last?.layer === layer) last.lines.push(line);
    else this.#rules.push({ layer, lines: [line] });
  }

  finish(rest: string): Rules {
    if (this.#rules.length === 0) {
      throw wrong('split', 'no rules: write --rule NAME=PATTERN or --rules FILE');
    }
    const layers = [...new Set([...this.#rules.map(({ layer }) => layer), rest])];
    return { layers, rules: this.#rules, globs: this.#globs };
  }

  #glob(word: string, where: string): Glob {
    const not = word.startsWith('!');
    let matches: Excludes | undefined;
    try {
      matches = compileExcludes({ globs: [not ? word.slice(1) : word] });
    } catch (error) {
      throw wrong(where, (error as Error).message.replace(/^exclude /, ''));
    }
    const glob = { index: this.#globs.length, matches: matches as Excludes, not };
    this.#globs.push(glob);
    return glob;
  }
}

/** Separated by spaces; a space behind a backslash belongs to the word. */
function words(text: string): string[] {
  return text.match(/(?:\\.|[^\s\\])+/gs) ?? [];
}

const TYPES: Readonly<Record<string, readonly number[]>> = {
  file: [S.IFREG],
  directory: [S.IFDIR],
  symlink: [S.IFLNK],
  device: [S.IFCHR, S.IFBLK],
  fifo: [S.IFIFO],
  socket: [S.IFSOCK],
};

const UNITS = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 } as const;

/** `size>1M`, `type=symlink`, `uid=0`, `gid=0`, `newer=2024-01-01`, `older=SECONDS`. undefined: it is a pattern. */
function condition(word: string, where: string): ((node: TreeNode) => boolean) | undefined {
  const [, key, sign, value = ''] =
    /^(size|type|uid|gid|newer|older)([<>]=?|=)(.*)$/s.exec(word) ?? [];
  if (key === undefined || sign === undefined) return undefined;
  if ((key === 'size') === (sign === '=')) {
    const form = key === 'size' ? 'size>BYTES or size<BYTES' : `${key}=VALUE`;
    throw wrong(where, `${word}: write ${form}`);
  }
  switch (key) {
    case 'size': {
      const bytes = bytesOf(value, word, where);
      const isFile = (node: TreeNode): boolean => (node.mode & S.IFMT) === S.IFREG;
      if (sign === '>') return (node) => isFile(node) && node.size > bytes;
      if (sign === '>=') return (node) => isFile(node) && node.size >= bytes;
      if (sign === '<') return (node) => isFile(node) && node.size < bytes;
      return (node) => isFile(node) && node.size <= bytes;
    }
    case 'type': {
      const types = TYPES[value];
      if (types === undefined)
        throw wrong(where, `${word}: one of ${Object.keys(TYPES).join(', ')}`);
      return (node) => types.includes(node.mode & S.IFMT);
    }
    case 'uid':
    case 'gid': {
      if (!/^\d+$/.test(value)) throw wrong(where, `${word}: must be a number`);
      return (node) => node[key] === Number(value);
    }
    default: {
      const seconds = secondsOf(value, word, where);
      return key === 'newer' ? (node) => node.mtime > seconds : (node) => node.mtime < seconds;
    }
  }
}

function bytesOf(value: string, word: string, where: string): number {
  const [, digits, unit = ''] = /^(\d+)([kmgt]?)(?:i?b)?$/i.exec(value) ?? [];
  if (digits === undefined)
    throw wrong(where, `${word}: must be a number of bytes, as 4096 or 10M`);
  return Number(digits) * UNITS[unit.toLowerCase() as keyof typeof UNITS];
}

function secondsOf(value: string, word: string, where: string): number {
  if (/^-?\d+$/.test(value) && value.length !== 4) return Number(value);
  const time = /^\d{4}/.test(value) ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(time)) {
    throw wrong(where, `${word}: must be a date as 2024-01-31, or seconds since 1970`);
  }
  return time / 1000;
}

/** What a directory's patterns have matched: that holds for all that is in it. */
export type Matched = readonly boolean[];

/** @param path latin1, without a leading slash. @param above of the directory that it is in. */
export function match(
  { globs }: Rules,
  path: string,
  isDirectory: boolean,
  above?: Matched,
): Matched {
  return globs.map(({ matches }, i) => above?.[i] === true || matches(path, isDirectory));
}

/** The layer of an object. */
export function layerOf({ rules, layers }: Rules, node: TreeNode, matched: Matched): string {
  const holds = ({ globs, tests }: Line): boolean =>
    globs.every(({ index, not }) => matched[index] !== not) && tests.every((test) => test(node));
  const rule = rules.find(({ lines }) => lines.some(holds));
  return rule?.layer ?? (layers.at(-1) as string);
}
