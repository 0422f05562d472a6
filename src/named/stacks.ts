// Named stacks: what varve.yaml says of each, with bases followed, variables filled in and paths absolute.
// Used by up, down, status, `varve stack` and resolveStack(); looks at no layer, only at the file.
// The format: schema.ts, docs/stacks.md.

import { dirname, resolve } from 'node:path';
import { MountError } from '../stack/errors.js';
import type { Mode } from '../stack/image-plan.js';
import { nearest } from '../stack/nearest.js';
import { escapePath } from '../stack/option-text.js';
import { parseOptions } from '../stack/options.js';
import { type Expanded, expandPath, expandVariables, type Surroundings } from './expand.js';
import { findStackFile, homeOf, readStackFile, type Search } from './find.js';
import {
  type ParsedStacks,
  type Place,
  type Position,
  type Problem,
  parseStacks,
  type RawLayer,
  type RawStack,
  type RawValue,
} from './parse.js';
import { STACK_OPTIONS } from './schema.js';

/** A path, and where the file says so. */
export interface NamedPath {
  /** Absolute. */
  readonly path: string;
  readonly at: Position;
}

/** One layer. */
export type NamedLayer = { readonly at: Position } & (
  | { readonly kind: 'path'; readonly path: string }
  /** What the stack shows at its mount point. */
  | { readonly kind: 'stack'; readonly name: string; readonly path: string }
  /** As findImage() takes it; a path is absolute. */
  | { readonly kind: 'image'; readonly image: string; readonly stores: readonly string[] }
);

/** How many stacks may build on one another. */
const MOST_BASES = 100;

/** A stack, ready to be mounted. */
export interface Stack {
  readonly name: string;
  readonly at: Position;
  readonly description?: string;
  /** The stacks that it builds on, the nearest first. */
  readonly bases: readonly string[];
  /** Topmost first: its own, then those of its bases. */
  readonly layers: readonly NamedLayer[];
  /** How many of the layers are its own. */
  readonly own: number;
  readonly data: readonly NamedPath[];
  readonly ownData: number;
  readonly upper?: NamedPath;
  readonly workdir?: NamedPath;
  /** Nobody named the work directory: it is varve's to make. */
  readonly workdirIsOurs: boolean;
  readonly mount?: NamedPath;
  readonly mode?: Mode;
  readonly create: boolean;
  /** As after -o, one each, escaped. */
  readonly options: readonly string[];
}

export interface StackFile {
  /** Absolute. */
  readonly path: string;
  /** Where its relative paths start. */
  readonly folder: string;
  /** In the order of the file. */
  readonly stacks: ReadonlyMap<string, Stack>;
}

/** A file that cannot be used: every problem, the first as message. */
export class StackFileError extends MountError {
  readonly problems: readonly Problem[];

  constructor(path: string, problems: readonly Problem[]) {
    const [first, ...rest] = problems.map((problem) => spellProblem(path, problem));
    const more = rest.length === 0 ? '' : ` (and ${rest.length} more: \`varve stack check\`)`;
    super('option', `${first}${more}`);
    this.name = 'StackFileError';
    this.problems = problems;
  }
}

/** `FILE:LINE:COLUMN: what: what to do`. */
export function spellProblem(path: string, { line, column, message }: Problem): string {
  // What a file holds must not speak to the terminal.
  const shown = message.replace(
    /[\0-\x1f\x7f-\x9f]/g,
    (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
  return `${path}:${line}:${column}: ${shown}`;
}

/** An error about something that the file says. */
export function errorAt(
  file: Pick<StackFile, 'path'>,
  at: Position,
  kind: MountError['kind'],
  message: string,
): MountError {
  return new MountError(kind, spellProblem(file.path, { ...at, message }));
}

/**
 * The file that is meant, read. @throws MountError: `absent` when there is none, StackFileError when it is wrong.
 */
export async function loadStacks(search: Search): Promise<StackFile> {
  const path = findStackFile(search);
  if (path === undefined) {
    throw new MountError(
      'absent',
      'no varve.yaml here, above, in ~/.config/varve or /etc/varve: name one with --file, or make one with `varve stack add`',
    );
  }
  return readStacks(path, search.env);
}

/** @param path absolute. @throws MountError. */
export async function readStacks(path: string, env: NodeJS.ProcessEnv): Promise<StackFile> {
  return stacksOf(readStackFile(path), path, env);
}

/** @param path absolute: what messages call the bytes, and where their relative paths start. */
export async function stacksOf(
  bytes: Uint8Array,
  path: string,
  env: NodeJS.ProcessEnv,
): Promise<StackFile> {
  const parsed = await parseStacks(bytes);
  if ('problems' in parsed) throw new StackFileError(path, parsed.problems);
  const folder = dirname(path);
  const reader = new Reader(parsed.file, { folder, env, home: homeOf(env) });
  const stacks = reader.all();
  if (reader.problems.length > 0) {
    const problems = [...reader.problems].sort((a, b) => a.line - b.line || a.column - b.column);
    throw new StackFileError(path, problems);
  }
  return { path, folder, stacks };
}

/** The stack of a name. @throws MountError of kind `absent`, with a suggestion. */
export function stackNamed(file: StackFile, name: string): Stack {
  const stack = file.stacks.get(name);
  if (stack !== undefined) return stack;
  throw new MountError(
    'absent',
    `${name}: no such stack in ${file.path}: ${suggest(name, file.stacks.keys())}`,
  );
}

function suggest(name: string, known: Iterable<string>): string {
  const names = [...known];
  const meant = nearest(name, names);
  if (meant !== undefined) return `did you mean ${meant}?`;
  if (names.length === 0) return 'it has none';
  return names.length > 20 ? '`varve stack ls` lists them' : `it has ${names.join(', ')}`;
}

/** Makes stacks of what was parsed, and collects what is wrong. */
class Reader {
  readonly problems: Problem[] = [];
  private readonly parsed: ParsedStacks;
  private readonly around: Surroundings & { readonly folder: string };
  private readonly done = new Map<string, Stack>();
  /** Bases that are being followed. */
  private readonly under: string[] = [];

  constructor(parsed: ParsedStacks, around: Surroundings & { readonly folder: string }) {
    this.parsed = parsed;
    this.around = around;
  }

  all(): Map<string, Stack> {
    const stacks = new Map<string, Stack>();
    for (const name of this.parsed.stacks.keys()) stacks.set(name, this.stack(name));
    this.refuseShared(stacks);
    return stacks;
  }

  private wrong(place: Place, message: string): void {
    this.problems.push({ ...this.parsed.where(place), message });
  }

  private stack(name: string): Stack {
    const known = this.done.get(name);
    if (known !== undefined) return known;
    const raw = this.parsed.stacks.get(name) as RawStack;
    const root = ['stacks', name];
    this.under.push(name);
    const base = this.base(raw, root);
    this.under.pop();

    const own = (raw.layers ?? []).flatMap((layer, i) => this.layer(layer, [...root, 'layers', i]));
    const data = (raw.data ?? []).flatMap((path, i) => this.path(path, [...root, 'data', i]));
    const upper = this.optional(raw.upper, [...root, 'upper']);
    const named = this.optional(raw.workdir, [...root, 'workdir']);
    if (named !== undefined && upper === undefined && raw.upper === undefined) {
      this.wrong(
        [...root, 'workdir'],
        'workdir: means something with an upper only: name an upper',
      );
    }
    const workdir = named ?? (upper && { path: `${upper.path}.work`, at: upper.at });
    const mount = this.optional(raw.mount, [...root, 'mount']);
    const layers = [...own, ...(base?.layers ?? [])];
    // What is wrong with a layer, or with the base, has been said.
    const none = (raw.layers ?? []).length === 0 && (raw.base === undefined || base !== undefined);
    if (mount !== undefined && layers.length === 0 && none) {
      this.wrong([...root, 'mount'], `${name}: it has no layer to show: name one under layers`);
    }
    const stack: Stack = {
      name,
      at: this.parsed.where(root),
      description: raw.description,
      bases: base === undefined ? [] : [base.name, ...base.bases],
      layers,
      own: own.length,
      data: [...data, ...(base?.data ?? [])],
      ownData: data.length,
      upper,
      workdir,
      workdirIsOurs: named === undefined && workdir !== undefined,
      mount,
      mode: raw.mode ?? base?.mode,
      create: raw.create ?? base?.create ?? false,
      options: this.options(raw, base, root),
    };
    this.refuseMode(stack, raw, root);
    this.done.set(name, stack);
    return stack;
  }

  private base(raw: RawStack, root: Place): Stack | undefined {
    const { base } = raw;
    if (base === undefined) return undefined;
    const place = [...root, 'base'];
    if (!this.parsed.stacks.has(base)) {
      this.wrong(place, `base: no stack ${base}: ${suggest(base, this.parsed.stacks.keys())}`);
      return undefined;
    }
    if (this.under.includes(base)) {
      const way = [...this.under.slice(this.under.indexOf(base)), base].join(' on ');
      this.wrong(place, `base: ${way}: builds on itself: cut the circle`);
      return undefined;
    }
    if (this.under.length > MOST_BASES) {
      this.wrong(place, `base: the ${MOST_BASES}th one below another: name the layers instead`);
      return undefined;
    }
    return this.stack(base);
  }

  private layer(raw: RawLayer, place: Place): NamedLayer[] {
    const at = this.parsed.where(place);
    if (typeof raw === 'string') {
      return this.path(raw, place).map(({ path }) => ({ kind: 'path', path, at }));
    }
    if ('stack' in raw && !('image' in raw)) return this.layerOfStack(raw.stack, place, at);
    if (!('image' in raw) || 'stack' in raw) {
      this.wrong(
        place,
        'a layer is a path, {stack: NAME} or {image: IMAGE, store: DIR}: write one',
      );
      return [];
    }
    const image = this.image(raw.image, place);
    const named = typeof raw.store === 'string' ? [raw.store] : (raw.store ?? []);
    if (named.length === 0) {
      this.wrong(place, 'the content of an image lies in a store: name it with store');
      return [];
    }
    const stores = named.flatMap((store, i) =>
      this.path(store, [...place, 'store', ...(typeof raw.store === 'string' ? [] : [i])]),
    );
    if (image === undefined) return [];
    return [{ kind: 'image', image, stores: stores.map(({ path }) => path), at }];
  }

  private layerOfStack(name: string, place: Place, at: Position): NamedLayer[] {
    const other = this.parsed.stacks.get(name);
    const wrong = (message: string): NamedLayer[] => {
      this.wrong([...place, 'stack'], message);
      return [];
    };
    if (other === undefined) {
      return wrong(`stack: no stack ${name}: ${suggest(name, this.parsed.stacks.keys())}`);
    }
    if (other.mount === undefined) {
      return wrong(`stack: ${name} has no mount: name one there, or build on it with base`);
    }
    const mount = this.expand(other.mount, expandPath);
    // What is wrong with it is said where it stands.
    return 'wrong' in mount
      ? []
      : [{ kind: 'stack', name, path: resolve(this.around.folder, mount.text), at }];
  }

  /** A name of a store stays; what begins as a path does becomes one. */
  private image(text: string, place: Place): string | undefined {
    if (!/^(?:[~/]|\.\.?\/|\$)/.test(text)) return text;
    return this.path(text, [...place, 'image'])[0]?.path;
  }

  private optional(text: string | undefined, place: Place): NamedPath | undefined {
    return text === undefined ? undefined : this.path(text, place)[0];
  }

  /** One path, or none when something is wrong with it. */
  private path(text: string, place: Place): NamedPath[] {
    const expanded = this.expand(text, expandPath);
    if ('wrong' in expanded) {
      this.wrong(place, expanded.wrong);
      return [];
    }
    if (expanded.text === '' || expanded.text.includes('\0')) {
      const what = expanded.text === '' ? 'is empty once its variables are filled in' : 'has a NUL';
      this.wrong(place, `${JSON.stringify(text)} ${what}: name a path`);
      return [];
    }
    const path = resolve(this.around.folder, expanded.text);
    return [{ path, at: this.parsed.where(place) }];
  }

  private expand(text: string, how: (text: string, around: Surroundings) => Expanded): Expanded {
    return how(text, this.around);
  }

  /** Those of the base first, so that a later one overrules an earlier one. */
  private options(raw: RawStack, base: Stack | undefined, root: Place): string[] {
    const named = Object.entries(raw.options ?? {});
    const names = new Set(named.map(([name]) => name));
    const kept = (base?.options ?? []).filter((text) => !names.has(nameOf(text)));
    const own = named.flatMap(([name, value]) =>
      this.option(name, value, [...root, 'options', name]),
    );
    return [...kept, ...own];
  }

  private option(name: string, value: RawValue, place: Place): string[] {
    const form = STACK_OPTIONS.find((option) => option.name === name)?.value;
    const values = Array.isArray(value) ? value : [value];
    return values.flatMap((one: RawValue) => {
      if (form === undefined) return one === false ? [] : [name];
      const text = spellValue(one, form);
      const expanded = this.expand(text, expandVariables);
      if ('wrong' in expanded) {
        this.wrong(place, expanded.wrong);
        return [];
      }
      const written =
        name === 'device' ? resolve(this.around.folder, expanded.text) : expanded.text;
      const option = `${name}=${escapePath(written)}`;
      try {
        parseOptions(['lowerdir=/,metacopy=on', option], { defaults: '' });
      } catch (error) {
        if (!(error instanceof MountError)) throw error;
        // What contradicts another option is found where they are together.
        if (error.message.startsWith(`option ${name}=`)) this.wrong(place, error.message);
      }
      return [option];
    });
  }

  private refuseMode({ mode, layers, data }: Stack, raw: RawStack, root: Place): void {
    const alone = layers.length === 1 && layers[0]?.kind === 'image' && data.length === 0;
    if (mode === undefined || alone || raw.layers === undefined) return;
    this.wrong(
      [...root, 'mode'],
      `mode: ${mode}: is of a stack whose one layer is {image: ...}: leave it out`,
    );
  }

  /** Two stacks at one place, or with one upper, can never both be up. */
  private refuseShared(stacks: ReadonlyMap<string, Stack>): void {
    const seen = new Map<string, string>();
    for (const stack of stacks.values()) {
      let shared = false;
      for (const key of ['mount', 'upper', 'workdir'] as const) {
        const path = stack[key]?.path;
        if (path === undefined || (key === 'workdir' && stack.workdirIsOurs && shared)) continue;
        const other = seen.get(`${key === 'mount'} ${path}`);
        if (other !== undefined) {
          shared = key === 'upper';
          const what = key === 'mount' ? 'mount point' : 'directory';
          const message = `${key}: ${path}: is the ${what} of ${other} too: take another one`;
          this.wrong(['stacks', stack.name, key], message);
        }
        seen.set(`${key === 'mount'} ${path}`, stack.name);
      }
    }
  }
}

const nameOf = (option: string): string => option.replace(/=.*$/s, '');

function spellValue(value: RawValue, form: string): string {
  if (value === true || value === false) {
    if (form === '0|1') return value ? '1' : '0';
    return value ? 'on' : 'off';
  }
  return String(value);
}
