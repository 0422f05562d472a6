// The text of varve.yaml to plain stacks, or to a list of what is wrong with it and where.
// First step of stacks.ts and of edit.ts; knows nothing of paths and of what stacks mean together.
// Follows YAML 1.2 with merge keys (<<), and schema.ts.

import type { ErrorObject, ValidateFunction } from 'ajv';
import type { Document, LineCounter, Node, Pair, YAMLMap } from 'yaml';
import { nearest } from '../stack/nearest.js';
import { stackSchema } from './schema.js';

/** Both count from 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

export interface Problem extends Position {
  /** "what: what to do". */
  readonly message: string;
}

/** One layer as written. */
export type RawLayer =
  | string
  | { readonly stack: string }
  | { readonly image: string; readonly store?: string | readonly string[] };

export type RawValue = string | number | boolean | null | readonly (string | number)[];

/** A stack as the schema lets it be; nothing is expanded. */
export interface RawStack {
  readonly description?: string;
  readonly base?: string;
  readonly layers?: readonly RawLayer[];
  readonly data?: readonly string[];
  readonly upper?: string;
  readonly workdir?: string;
  readonly mount?: string;
  readonly mode?: 'kernel' | 'overlay' | 'follow';
  readonly create?: boolean;
  readonly options?: Readonly<Record<string, RawValue>>;
}

/** Keys and indices from the root of the file. */
export type Place = readonly (string | number)[];

export interface ParsedStacks {
  readonly doc: Document;
  readonly stacks: ReadonlyMap<string, RawStack>;
  /** Where a value stands, or the nearest thing around it. */
  where(place: Place): Position;
}

export type Parsed = { readonly file: ParsedStacks } | { readonly problems: readonly Problem[] };

/** Bytes; a file of stacks has a few kilobytes; reading this many takes a second. */
export const LARGEST = 1 << 18;

/** How often what an alias repeats may be repeated. */
const MAX_ALIASES = 200;

/** Reads a file's bytes. */
export async function parseStacks(bytes: Uint8Array): Promise<Parsed> {
  const top = { line: 1, column: 1 };
  if (bytes.length > LARGEST) {
    return wrong(top, `larger than ${LARGEST >> 10} KiB: is this a file of stacks?`);
  }
  const text = decode(bytes);
  if (typeof text !== 'string') {
    return wrong(text, 'not UTF-8: save the file as UTF-8');
  }
  return parseText(text);
}

/** The same of text. */
export async function parseText(text: string): Promise<Parsed> {
  const { doc, counter } = await documentOf(text);
  const at = (offset: number): Position => {
    const { line, col } = counter.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  const mistakes = [...doc.errors, ...doc.warnings];
  if (mistakes.length > 0) {
    // What follows a first mistake in the form of a file is mostly its echo.
    const [first] = mistakes.sort((a, b) => a.pos[0] - b.pos[0]);
    const { code, message, pos } = first as (typeof mistakes)[number];
    return wrong(at(pos[0]), `${HINTS[code] ?? lower(message)}`);
  }
  const finder = new Finder(doc);
  const where = (place: Place): Position => at(finder.offset(place));
  let value: unknown;
  try {
    value = doc.toJS({ maxAliasCount: MAX_ALIASES }) ?? {};
  } catch (error) {
    return wrong(at(await culprit(doc, error)), aliasHint(error));
  }
  const validate = await validator();
  const problems = validate(value) ? [] : explain(validate.errors ?? [], value, where, finder, at);
  if (problems.length > 0) return { problems };
  const { stacks } = value as { stacks?: Record<string, RawStack> };
  return { file: { doc, stacks: new Map(Object.entries(stacks ?? {})), where } };
}

/** A YAML document with its comments, and the counter of its lines. */
async function documentOf(text: string): Promise<{ doc: Document; counter: LineCounter }> {
  const yaml = await import('yaml');
  const counter = new yaml.LineCounter();
  const doc = yaml.parseDocument(text, {
    merge: true,
    uniqueKeys: true,
    stringKeys: true,
    prettyErrors: false,
    resolveKnownTags: false,
    lineCounter: counter,
  });
  return { doc: doc as Document, counter };
}

/** What the library's words do not say: what to do. */
const HINTS: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: 'the same key twice: drop one of the two',
  MULTIPLE_DOCS: 'a second document begins here: a file holds one, without "---" in it',
  NON_STRING_KEY: 'a key must be text: put it in quotes',
  RESOURCE_EXHAUSTION: 'nested too deeply: is this a file of stacks?',
  TAB_AS_INDENT: 'a tab as indentation: take spaces',
  TAG_RESOLVE_FAILED: 'a tag (!...) means nothing here: drop it',
};

function aliasHint(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const name = /^Unresolved alias .*: (.*)$/s.exec(text)?.[1];
  if (name !== undefined) return `*${name}: no anchor &${name} stands before it: add one`;
  if (/^Merge/.test(text)) return '"<<" takes a mapping, or a list of mappings: write *NAME there';
  if (/alias/i.test(text)) return 'its aliases (*NAME) grow without measure: write them out';
  return lower(text);
}

/** Offset of the alias or merge that cannot be followed; 0 where it is none in particular. */
async function culprit(doc: Document, error: unknown): Promise<number> {
  const { isAlias, isScalar, visit } = await import('yaml');
  const isMerge = /^Merge/.test(error instanceof Error ? error.message : '');
  let offset: number | undefined;
  visit(doc, {
    Alias: (_, node) => {
      if (!isMerge && node.resolve(doc) === undefined) offset ??= node.range?.[0];
    },
    Pair: (_, pair) => {
      const value = isAlias(pair.value) ? pair.value.resolve(doc) : pair.value;
      if (isMerge && keyText(pair) === '<<' && isScalar(value)) offset ??= startOf(pair.value);
    },
  });
  return offset ?? 0;
}

const lower = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);

const wrong = (at: Position, message: string): Parsed => ({ problems: [{ ...at, message }] });

/** @returns where the first byte stands that is no UTF-8. */
function decode(bytes: Uint8Array): string | Position {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  try {
    return decoder.decode(bytes);
  } catch {
    // What is decoded leniently differs from the bytes first where they are wrong.
    const lenient = Buffer.from(Buffer.from(bytes).toString('utf8'));
    let i = 0;
    while (i < bytes.length && lenient[i] === bytes[i]) i++;
    const before = Buffer.from(bytes.subarray(0, i)).toString('utf8').split('\n');
    return { line: before.length, column: (before.at(-1) ?? '').length + 1 };
  }
}

let compiled: ValidateFunction | undefined;

async function validator(): Promise<ValidateFunction> {
  if (compiled !== undefined) return compiled;
  const { Ajv } = await import('ajv');
  // The schema is checked against its own schema by a test; here that would cost 0.1 s.
  const ajv = new Ajv({
    allErrors: true,
    meta: false,
    validateSchema: false,
    allowUnionTypes: true,
    verbose: true,
  });
  compiled = ajv.compile(stackSchema());
  return compiled;
}

/** Finds the nodes that values come from, through aliases and merges. */
class Finder {
  private readonly doc: Document;
  /** The pairs of the mappings that were looked into, by their keys. */
  private readonly pairs = new WeakMap<object, Map<unknown, Pair>>();

  constructor(doc: Document) {
    this.doc = doc;
  }

  /** Offset of the value at a place, or of the innermost one around it that there is. */
  offset(place: Place): number {
    let node: unknown = this.doc.contents;
    let best = startOf(node) ?? 0;
    for (const step of place) {
      const pair = this.child(node, step);
      if (pair === undefined) break;
      // Where nothing stands behind a key, the key is what a person looks for.
      const start = (isBlank(pair.value) ? undefined : startOf(pair.value)) ?? startOf(pair.key);
      if (start !== undefined) best = start;
      node = pair.value;
    }
    return best;
  }

  /** Offset of a key of the mapping at a place. */
  keyOffset(place: Place, key: string): number {
    let node: unknown = this.doc.contents;
    for (const step of place) node = this.child(node, step)?.value;
    return startOf(this.child(node, key)?.key) ?? this.offset(place);
  }

  /** @param depth of merges that may still be followed: they may go round. */
  private child(
    node: unknown,
    step: string | number,
    depth = 20,
  ): { key?: unknown; value: unknown } | undefined {
    const real = this.resolved(node);
    const items = (real as { items?: unknown[] } | undefined)?.items;
    if (items === undefined) return undefined;
    if (typeof step === 'number') {
      return items[step] === undefined ? undefined : { value: items[step] };
    }
    const pairs = this.pairsOf(real as YAMLMap);
    const own = pairs.get(step);
    if (own !== undefined || depth === 0) return own;
    const merge = pairs.get('<<');
    if (merge !== undefined) {
      const from = this.resolved(merge.value);
      const list = isSequence(from) ? from.items : [from];
      for (const item of list) {
        const found = this.child(item, step, depth - 1);
        if (found !== undefined) return found;
      }
    }
    return undefined;
  }

  private pairsOf(map: YAMLMap): Map<unknown, Pair> {
    const known = this.pairs.get(map);
    if (known !== undefined) return known;
    const pairs = new Map((map.items as Pair[]).map((pair) => [keyText(pair), pair]));
    this.pairs.set(map, pairs);
    return pairs;
  }

  private resolved(node: unknown): unknown {
    const alias = node as { source?: string; resolve?: (doc: Document) => unknown } | undefined;
    return typeof alias?.resolve === 'function' ? alias.resolve(this.doc) : node;
  }
}

const keyText = (pair: Pair): unknown => (pair.key as { value?: unknown } | null)?.value;

const startOf = (node: unknown): number | undefined => (node as Node | null)?.range?.[0];

function isBlank(node: unknown): boolean {
  const range = (node as Node | null)?.range;
  return range !== undefined && range !== null && range[0] === range[1];
}

/** A list, which has items that are no pairs. */
function isSequence(node: unknown): node is { items: unknown[] } {
  const items = (node as YAMLMap | undefined)?.items;
  return Array.isArray(items) && (items.length === 0 || !('key' in (items[0] as object)));
}

/** The validator's errors as sentences, in the order of the file. */
function explain(
  errors: readonly ErrorObject[],
  root: unknown,
  where: (place: Place) => Position,
  finder: Finder,
  at: (offset: number) => Position,
): Problem[] {
  const problems = errors.flatMap((error): Problem[] => {
    const place = placeOf(error.instancePath, root);
    const name = spell(place);
    const sentence = say(error, name);
    if (sentence === undefined) return [];
    const key = keyOf(error);
    const position = key === undefined ? where(place) : at(finder.keyOffset(place, key));
    return [{ ...position, message: sentence }];
  });
  return problems.sort((a, b) => a.line - b.line || a.column - b.column);
}

/** The key that an error is about, where it is about one. */
function keyOf({ keyword, params }: ErrorObject): string | undefined {
  if (keyword === 'additionalProperties') return params['additionalProperty'];
  return keyword === 'propertyNames' ? params['propertyName'] : undefined;
}

const NO_NAME =
  'is no name: letters, digits and _ . - inside, up to 100, beginning with a letter or digit';

function say(error: ErrorObject, name: string): string | undefined {
  const { keyword, params, data, parentSchema } = error;
  const here = name === '' ? '' : `${name}: `;
  switch (keyword) {
    case 'additionalProperties': {
      const key = String(params['additionalProperty']);
      const known = Object.keys((parentSchema as { properties?: object }).properties ?? {});
      return `${here}unknown key ${quoted(key)}: ${advise(key, known)}`;
    }
    case 'propertyNames':
      return `${here}${quoted(params['propertyName'])} ${NO_NAME}`;
    case 'pattern':
      // Of a key it has been said already.
      if ('propertyName' in error && error.propertyName !== undefined) return undefined;
      return `${here}${quoted(data)} ${NO_NAME}`;
    case 'type':
      return `${here}${typeText(params['type'], data)}`;
    case 'enum':
      return `${here}${quoted(data)}: must be one of ${enumText(params['allowedValues'])}`;
    case 'const':
      return `${here}${quoted(data)}: must be ${JSON.stringify(params['allowedValue'])}`;
    case 'minLength':
    case 'minItems':
    case 'minProperties':
      return `${here}is empty: write something, or leave it out`;
    default:
      return `${here}${error.message}`;
  }
}

/** A value for a message. */
function quoted(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= 60 ? text : `${text.slice(0, 60)}...`;
}

function advise(key: string, known: readonly string[]): string {
  const meant = nearest(key, known);
  if (meant !== undefined) return `did you mean ${meant}?`;
  const shown = known.length > 16 ? `see \`varve help mount\`` : `one of ${known.join(', ')}`;
  return shown;
}

const WORDS: Readonly<Record<string, string>> = {
  string: 'text',
  array: 'a list (- ITEM)',
  object: 'a mapping (KEY: VALUE)',
  boolean: 'true or false',
  number: 'a number',
};

function typeText(type: string | readonly string[], data: unknown): string {
  const types = (typeof type === 'string' ? [type] : type).filter((t) => t !== 'null');
  const must = types.map((t) => WORDS[t] ?? t).join(' or ');
  const scalar = typeof data === 'number' || typeof data === 'boolean';
  const got = data === null ? 'nothing' : scalar ? String(data) : kindOf(data);
  const quotes = scalar && types.includes('string') ? ': put it in quotes' : '';
  return `must be ${must}, not ${got}${quotes}`;
}

function kindOf(data: unknown): string {
  if (typeof data === 'string') return `text (${quoted(data)})`;
  return Array.isArray(data) ? 'a list' : 'a mapping';
}

/** Numbers and their text are one value to a person, and so are true and on. */
function enumText(allowed: readonly unknown[]): string {
  return [...new Set(allowed.map(String))].join(', ');
}

/** A JSON pointer as keys and indices. */
function placeOf(pointer: string, root: unknown): Place {
  let value = root;
  return pointer
    .split('/')
    .slice(1)
    .map((part) => {
      const key = part.replace(/~1/g, '/').replace(/~0/g, '~');
      const step = Array.isArray(value) ? Number(key) : key;
      value = (value as Record<string | number, unknown> | undefined)?.[step];
      return step;
    });
}

/** `stacks.web.layers[0]`. */
function spell(place: Place): string {
  return place
    .map((step, i) => (typeof step === 'number' ? `[${step}]` : i === 0 ? step : `.${step}`))
    .join('');
}
