// A registry file as data: keys by path, their values, and everything else of the file, so that writing gives the same bytes.
// Made by parse.ts, written by write.ts; delta.ts compares two and changes one.
// Follows: server/registry.c of Wine (load_registry, save_subkeys), format `WINE REGISTRY Version 2`.

/** The three files of a prefix; `system` is HKLM, `user` is HKCU, `userdef` is HKU\.Default. */
export const HIVES = ['system', 'user', 'userdef'] as const;

export type HiveName = (typeof HIVES)[number];

/** File name of a hive in a prefix. */
export const fileOf = (hive: HiveName): string => `${hive}.reg`;

export interface RegistryValue {
  /** Unescaped, with its case; '' is the default value (`@`). */
  readonly name: string;
  /** What stands behind `=`, as written: latin1, continuation lines included, without the last line feed. */
  readonly data: string;
}

/**
 * Keys of a file read their values only when somebody asks (parse.ts), and remember their text: do not spread one
 * into another object, `values` and others would be missing. Make a new one of the four fields.
 */
export interface RegistryKey {
  /** Unescaped, with its case, parts separated by one backslash: `Software\Wine`; '' is the root of the hive. */
  readonly path: string;
  /** Last change: what stands behind `]`, as written, ` 1676758571`; '' where it is missing. */
  readonly stamp: string;
  /** Lines that begin with `#`, as written: `#time=1d...`, `#class="..."`, `#link`. */
  readonly options: readonly string[];
  /** By fold(name), in the order of the file. */
  readonly values: ReadonlyMap<string, RegistryValue>;
}

/** One file. Keys that are there only because of what lies below them may be missing: see hasKey(). */
export interface Hive {
  /** Lines before the first key, as written: version, comment, `#arch=win64`. */
  readonly header: readonly string[];
  /** By fold(path), in the order of the file. */
  readonly keys: ReadonlyMap<string, RegistryKey>;
}

/** The registry of one prefix, or what several layers give together. */
export type Registry = Readonly<Record<HiveName, Hive>>;

/**
 * A name or a path as they are compared: Wine's server folds single UTF-16 units to lower case, those only that have
 * a way back (so U+212A, the Kelvin sign, is no `k`). The length stays, so a place in the folded path is one in the path.
 */
export function fold(name: string): string {
  return isAscii(name) ? name.toLowerCase() : name.replace(/[^\0-\x7f]|[A-Z]+/g, foldPart);
}

const isAscii = (text: string) => !/[^\0-\x7f]/.test(text);

function foldPart(part: string): string {
  const lower = part.toLowerCase();
  if (lower.length !== part.length || part === '\u1e9e') return part;
  const upper = lower.toUpperCase();
  return upper.length > part.length || upper === part ? lower : part;
}

/** The folded path of the key above; undefined for the root. */
export function parentOf(folded: string): string | undefined {
  if (folded === '') return undefined;
  return folded.slice(0, Math.max(folded.lastIndexOf('\\'), 0));
}

const impliedOf = new WeakMap<ReadonlyMap<string, unknown>, Set<string>>();

/** Folded paths of all keys above those of `keys`; the root always. Computed once for a map, which nobody changes then. */
export function impliedKeys(keys: ReadonlyMap<string, unknown>): ReadonlySet<string> {
  const known = impliedOf.get(keys);
  if (known !== undefined) return known;
  const implied = new Set(['']);
  for (const folded of keys.keys()) {
    for (let at = parentOf(folded); at !== undefined && !implied.has(at); at = parentOf(at)) {
      implied.add(at);
    }
  }
  impliedOf.set(keys, implied);
  return implied;
}

/** Whether the key is there, itself or because one below it is. */
export function hasKey(hive: Hive, path: string): boolean {
  const folded = fold(path);
  return hive.keys.has(folded) || impliedKeys(hive.keys).has(folded);
}
