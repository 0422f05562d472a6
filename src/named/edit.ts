// Changes of varve.yaml as text: comments, order, anchors and the form of all lines that are not concerned stay.
// Called by write.ts, which has the file locked and publishes the result.
// The document is changed as YAML and written out; only the lines that this changes are taken into the old text.

import type { Document, Node, Pair, YAMLMap, YAMLSeq } from 'yaml';

type Yaml = typeof import('yaml');

/** What a key of a stack may be set to; undefined takes it away. */
type Plain = string | boolean | null | readonly unknown[] | Readonly<Record<string, unknown>>;

/** The file while it is changed. */
export class Draft {
  private readonly doc: Document;
  private readonly yaml: Yaml;
  private readonly text: string;

  /** @param text what the document was read from. */
  constructor(doc: Document, yaml: Yaml, text: string) {
    this.doc = doc;
    this.yaml = yaml;
    this.text = text;
  }

  has(name: string): boolean {
    return this.stacks().has(name);
  }

  /** Adds a stack, or takes the place of the one that has the name. */
  put(name: string, keys: Readonly<Record<string, Plain>>): void {
    this.stacks().set(name, this.doc.createNode(keys));
  }

  remove(name: string): void {
    this.stacks().delete(name);
  }

  rename(name: string, to: string): void {
    const pair = this.pair(this.stacks(), name);
    const key = pair?.key;
    if (this.yaml.isScalar(key)) key.value = to;
    for (const { value } of this.stacks().items as Pair[]) {
      if (!this.yaml.isMap(value)) continue;
      if (value.get('base') === name) value.set('base', to);
      const layers = value.get('layers');
      for (const layer of this.yaml.isSeq(layers) ? layers.items : []) {
        if (this.yaml.isMap(layer) && layer.get('stack') === name) layer.set('stack', to);
      }
    }
  }

  /** Sets or takes away one key of a stack. */
  set(name: string, key: string, value: Plain | undefined): void {
    const stack = this.stack(name);
    if (value === undefined) stack.delete(key);
    else this.replace(stack, key, value);
  }

  /** Sets or takes away one option. */
  setOption(name: string, option: string, value: Plain | undefined): void {
    const stack = this.stack(name);
    const options = this.own(stack, 'options');
    const map = this.yaml.isMap(options) ? options : (this.doc.createNode({}) as YAMLMap);
    if (value === undefined) map.delete(option);
    else this.replace(map, option, value);
    stack.set('options', map);
  }

  private replace(map: YAMLMap, key: string, value: Plain): void {
    const old = this.pair(map, key)?.value;
    const node = this.doc.createNode(value) as Node;
    if (this.yaml.isScalar(old) && this.yaml.isScalar(node)) handOn(old, node);
    map.set(key, node);
  }

  /**
   * Makes the list of a stack's own layers (or data-only ones) another one.
   * @param layers each an index of the list as it is, which stays as it is written, or a new text.
   */
  setList(name: string, key: 'layers' | 'data', layers: readonly (number | string)[]): void {
    const stack = this.stack(name);
    const list = this.own(stack, key);
    if (!this.yaml.isSeq(list)) {
      stack.set(key, this.doc.createNode(layers));
      return;
    }
    const old = [...list.items] as Node[];
    const used = new Set(layers.filter((layer) => typeof layer === 'number'));
    list.items = layers.map((layer, i) => {
      if (typeof layer === 'number') return old[layer] as Node;
      const there = old[i];
      const scalar = this.doc.createNode(layer) as Node;
      // What is replaced in its place hands its comments on.
      if (there !== undefined && !used.has(i) && layers.length === old.length) {
        handOn(there, scalar);
      }
      return scalar;
    });
    this.commentOfFirst(this.pair(stack, key), list, old);
  }

  /** The comment before a list's first item belongs to the list; above a new first item it would be about that. */
  private commentOfFirst(pair: Pair | undefined, list: YAMLSeq, old: readonly Node[]): void {
    const [first] = old;
    const { commentBefore } = list;
    if (first === undefined || typeof commentBefore !== 'string') return;
    if (list.items[0] === first || !list.items.includes(first) || list.flow === true) return;
    // What stands on the line of the key is about the list.
    const end = (pair?.key as Node | undefined)?.range?.[1] ?? 0;
    const line = this.text.slice(end, this.text.indexOf('\n', end));
    const lines = commentBefore.split('\n');
    const about = lines.splice(0, line.includes('#') ? 1 : 0);
    if (lines.length > 0) first.commentBefore = lines.join('\n');
    list.commentBefore = about.length > 0 ? about.join('\n') : undefined;
  }

  /** The mapping of all stacks, made where there is none. */
  private stacks(): YAMLMap {
    const { doc, yaml } = this;
    if (!yaml.isMap(doc.contents)) {
      const made = doc.createNode({ stacks: {} }) as YAMLMap;
      doc.contents = made as never;
    }
    const root = doc.contents as unknown as YAMLMap;
    const found = this.own(root, 'stacks');
    if (yaml.isMap(found)) {
      if (found.items.length === 0) found.flow = false;
      return found;
    }
    const made = doc.createNode({}) as YAMLMap;
    root.set('stacks', made);
    return made;
  }

  private stack(name: string): YAMLMap {
    const value = this.own(this.stacks(), name);
    if (this.yaml.isMap(value)) return value;
    const made = this.doc.createNode({}) as YAMLMap;
    this.stacks().set(name, made);
    return made;
  }

  /**
   * A value that may be changed. What stands behind an alias is written out: others use it as well.
   */
  private own(map: YAMLMap, key: string): unknown {
    const value = this.pair(map, key)?.value;
    const { doc, yaml } = this;
    const shared = yaml.isAlias(value) || (value as Node | undefined) === undefined;
    if (!shared) return value;
    const resolved = yaml.isAlias(value) ? value.resolve(doc) : this.merged(map, key);
    if (resolved === undefined) return undefined;
    const copy = doc.createNode((resolved as Node).toJS(doc)) as YAMLMap;
    copy.flow = (resolved as YAMLMap).flow;
    map.set(key, copy);
    return copy;
  }

  /** What a merge key (<<) gives. */
  private merged(map: YAMLMap, key: string): Node | undefined {
    const { doc, yaml } = this;
    for (const { key: word, value } of map.items as Pair<Node, Node>[]) {
      if (!yaml.isScalar(word) || (word.value as unknown) !== '<<') continue;
      const from = yaml.isAlias(value) ? value.resolve(doc) : value;
      for (const item of yaml.isSeq(from) ? from.items : [from]) {
        const source = yaml.isAlias(item) ? item.resolve(doc) : item;
        const found = yaml.isMap(source) ? source.get(key, true) : undefined;
        if (found !== undefined) return found as unknown as Node;
      }
    }
    return undefined;
  }

  private pair(map: YAMLMap, key: string): Pair | undefined {
    return (map.items as Pair[]).find(
      (pair) => this.yaml.isScalar(pair.key) && pair.key.value === key,
    );
  }
}

/** What a person has written about a value is about the one in its place, too. */
function handOn(old: Node, fresh: Node): void {
  fresh.commentBefore = old.commentBefore;
  fresh.comment = old.comment;
  fresh.spaceBefore = old.spaceBefore;
}

/** @param text a file without mistakes. @returns the text as it is to be. */
export async function editStacks(text: string, edit: (draft: Draft) => void): Promise<string> {
  const yaml = await import('yaml');
  const bom = text.startsWith('\uFEFF') ? '\uFEFF' : '';
  const body = text.slice(bom.length);
  // Lines that end otherwise than the rest come out as the rest does, where anything is changed.
  const crlf = /\r\n/.test(body);
  const plain = crlf ? body.replace(/\r\n/g, '\n') : body;
  const style = styleOf(plain);
  const before = write(parse(plain, yaml), style);
  const doc = parse(plain, yaml);
  edit(new Draft(doc, yaml, plain));
  const after = write(doc, style);
  if (after === before) return text;
  const taken = takeOver(plain, before, after);
  const result = taken !== undefined && means(taken, after, yaml) ? taken : after;
  return bom + (crlf ? result.replace(/\n/g, '\r\n') : result);
}

const parse = (text: string, yaml: Yaml): Document =>
  yaml.parseDocument(text, { merge: true, stringKeys: true, logLevel: 'silent' }) as Document;

interface Style {
  readonly indent: number;
  readonly indentSeq: boolean;
}

function write(doc: Document, { indent, indentSeq }: Style): string {
  return doc.toString({ lineWidth: 0, indent, indentSeq, verifyAliasOrder: false });
}

/** How the file is indented. */
function styleOf(text: string): Style {
  const steps = /^[^\s#-][^\n]*:[^\S\n]*(?:#[^\n]*)?\r?\n(?:\s*(?:#[^\n]*)?\n)*( +)[^\s#-]/m.exec(
    text,
  );
  const indent = Math.min(Math.max(steps?.[1]?.length ?? 2, 1), 8);
  const list = /^( *)[^\s#-][^\n]*:[^\S\n]*(?:#[^\n]*)?\r?\n(?:\s*(?:#[^\n]*)?\n)*( *)- /m.exec(
    text,
  );
  return { indent, indentSeq: list === null || (list[2] ?? '').length > (list[1] ?? '').length };
}

/**
 * The text, with the lines that differ between `before` and `after` (both written anew) in the place of its own.
 * What is written anew has other blanks and line breaks, but the same characters in the same order: they tell the place.
 * @returns undefined where something else differs.
 */
function takeOver(text: string, before: string, after: string): string | undefined {
  const ended = text.endsWith('\n') || text === '' ? text : `${text}\n`;
  const places = [...ended.matchAll(/\S/g)].map(({ index }) => index);
  const [plain, fresh] = [before.split('\n'), after.split('\n')];
  if (ended.replace(/\s+/g, '') !== before.replace(/\s+/g, '')) return undefined;
  // How many characters stand before each line that was written anew.
  const counts = [0];
  for (const line of plain)
    counts.push((counts.at(-1) as number) + line.replace(/\s+/g, '').length);
  const lineStart = (k: number): number => {
    const place = places[k];
    return place === undefined ? ended.length : ended.lastIndexOf('\n', place) + 1;
  };
  const lineEnd = (k: number): number => (k < 0 ? 0 : ended.indexOf('\n', places[k]) + 1);
  // Whether a line of the old text begins with this character.
  const begins = (k: number): boolean => lineEnd(k - 1) <= lineStart(k);
  let head = 0;
  while (head < plain.length && plain[head] === fresh[head]) head++;
  while (head > 0 && !begins(counts[head] as number)) head--;
  let tail = 0;
  const most = Math.min(plain.length, fresh.length) - head;
  while (tail < most && plain.at(-1 - tail) === fresh.at(-1 - tail)) tail++;
  while (tail > 0 && !begins(counts[plain.length - tail] as number)) tail--;
  const [first, last] = [counts[head] as number, counts[plain.length - tail] as number];
  // Blank lines were written only once, if there were several: they stay outside of what is replaced.
  const from = plain[head - 1] === '' ? lineStart(first) : lineEnd(first - 1);
  const to = tail > 0 && plain[plain.length - tail] === '' ? lineEnd(last - 1) : lineStart(last);
  const changed = fresh.slice(head, fresh.length - tail).map((line) => `${line}\n`);
  const joined = ended.slice(0, from) + changed.join('') + ended.slice(Math.max(from, to));
  return ended === text ? joined : joined.replace(/\n$/, '');
}

/** Whether two texts are the same to a reader: values, and comments. */
function means(text: string, other: string, yaml: Yaml): boolean {
  const [a, b] = [text, other].map((t) => {
    const doc = parse(t, yaml);
    if (doc.errors.length > 0) return Symbol('wrong');
    return JSON.stringify([doc.toJS({ maxAliasCount: -1 }), commentsOf(doc, yaml)]);
  });
  return a === b;
}

function commentsOf(doc: Document, yaml: Yaml): string[] {
  const found: (string | null | undefined)[] = [doc.commentBefore, doc.comment];
  yaml.visit(doc, {
    Node: (_, node) => {
      found.push(node.commentBefore, node.comment);
    },
  });
  return found
    .flatMap((text) => (text ?? '').split('\n'))
    .filter((line) => line.trim() !== '')
    .sort();
}
