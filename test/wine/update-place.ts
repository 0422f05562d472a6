// Two versions of a small base, made by hand, and a prefix on the first: what the tests of updates begin with.
// Used by update*.test.ts; a library of its own, without Wine.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readContent } from '../../src/tree/read-content.js';
import { walk } from '../../src/tree/tree.js';
import { addBase } from '../../src/wine/library/base.js';
import { createPrefix } from '../../src/wine/library/create.js';
import { openWholePrefix } from '../../src/wine/library/whole-prefix.js';
import { resolveBelow } from '../../src/wine/prefix/below.js';
import { findWine, type WineBuild } from '../../src/wine/prefix/build.js';
import { materialise } from '../../src/wine/prefix/materialise.js';
import { type PrefixRecord, readRecord } from '../../src/wine/prefix/record.js';
import { parseHive } from '../../src/wine/registry/parse.js';
import { makeVersion } from '../../src/wine/update/new-version.js';
import { stubWine } from './stub-wine.js';

export type Keys = Readonly<Record<string, Readonly<Record<string, string>>>>;
export type Files = Readonly<Record<string, string>>;

/** Of a hive: key to values, as data of a registry file. */
export function hiveText(keys: Keys): string {
  const blocks = Object.entries(keys).map(([path, values]) => {
    const lines = Object.entries(values).map(([name, data]) => `"${name}"=${data}\n`);
    return `[${path.replaceAll('\\', '\\\\')}] 1700000000\n#time=1da1a2b3c4d5e6f\n${lines.join('')}`;
  });
  const head = 'WINE REGISTRY Version 2\n;; All keys relative to \\\\Machine\n\n#arch=win64\n';
  return [head, ...blocks].join('\n');
}

/** As wineserver does: whole, by a rename. */
export function writeHive(folder: string, hive: string, keys: Keys): void {
  const path = join(folder, `${hive}.reg`);
  writeFileSync(`${path}.tmp`, hiveText(keys));
  renameSync(`${path}.tmp`, path);
}

export function writeFiles(folder: string, files: Files): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
}

export const OLD_KEYS: Keys = {
  'Software\\App': {
    Kept: '"base"',
    Theirs: '"base"',
    Ours: '"base"',
    Both: '"base"',
    Same: '"base"',
  },
  'Software\\Gone': { x: '"base"' },
  'Software\\Left': { x: '"base"' },
};

export const NEW_KEYS: Keys = {
  'Software\\App': {
    Kept: '"base"',
    Theirs: '"new"',
    Ours: '"base"',
    Both: '"new"',
    Same: '"agreed"',
  },
  'Software\\Left': { x: '"new"' },
  'Software\\New': { x: '"new"' },
};

export const OLD_FILES: Files = {
  'windows/kept.dll': 'base',
  'windows/theirs.dll': 'base',
  'windows/ours.ini': 'base',
  'windows/both.ini': 'base',
  'windows/same.ini': 'base',
  'windows/gone.ini': 'base',
  'windows/left.ini': 'base',
};

export const NEW_FILES: Files = {
  'windows/kept.dll': 'base',
  'windows/theirs.dll': 'new',
  'windows/ours.ini': 'base',
  'windows/both.ini': 'new version',
  'windows/same.ini': 'agreed',
  'windows/left.ini': 'new',
  'windows/new.dll': 'new',
};

export interface UpdatePlace {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  readonly wine: WineBuild;
  /** A plain prefix. */
  plain(name: string, files: Files, keys: Keys): string;
  /** A prefix that follows the base, with the layers; it has run once. */
  create(name: string, layers?: readonly string[]): Promise<string>;
  /** The next version of the base, out of a plain prefix. */
  update(from: string): Promise<string>;
}

/** @param files, keys of the first version of the base `default`. */
export async function updatePlace(
  folder: string,
  files: Files = OLD_FILES,
  keys: Keys = OLD_KEYS,
): Promise<UpdatePlace> {
  const env = { ...process.env, VARVE_WINE_DIR: join(folder, 'wine') };
  const wine = findWine(stubWine(folder), env);
  const plain: UpdatePlace['plain'] = (name, content, system) => {
    const prefix = join(folder, name);
    writeFiles(join(prefix, 'drive_c'), content);
    writeHive(prefix, 'system', system);
    writeHive(prefix, 'user', {});
    writeHive(prefix, 'userdef', {});
    return prefix;
  };
  const from = plain('v1', files, keys);
  await addBase({ name: 'default', from, wine: () => wine, env });
  return {
    folder,
    env,
    wine,
    plain,
    create: async (prefix, layers = []) => {
      const made = await createPrefix({ prefix, base: 'default', layers, env });
      await start(made.folder, env);
      return made.folder;
    },
    update: async (source) =>
      (await makeVersion({ name: 'default', from: source, wine: () => wine, env })).to,
  };
}

/** What the start of a session does to the registry. */
export async function start(prefix: string, env: NodeJS.ProcessEnv): Promise<void> {
  materialise(prefix, await resolveBelow(recordOf(prefix), env));
}

export function recordOf(prefix: string): PrefixRecord {
  const record = readRecord(prefix);
  assert.ok(record);
  return record;
}

/** Values of a prefix's registry, `Key\Name` to data; `Key` alone for one without values. */
export function keysOf(prefix: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const { path, values } of parseHive(
    readFileSync(join(prefix, 'system.reg')),
  ).keys.values()) {
    if (values.size === 0) found[path] = '';
    for (const { name, data } of values.values()) found[`${path}\\${name}`] = data;
  }
  return found;
}

/** Changes of a prefix's own, as a session would have left them: undefined takes a value, or a key, away. */
export function changeKeys(
  prefix: string,
  changes: Readonly<Record<string, Readonly<Record<string, string | undefined>> | undefined>>,
): void {
  const { keys } = parseHive(readFileSync(join(prefix, 'system.reg')));
  const all: Record<string, Record<string, string>> = {};
  for (const { path, values } of keys.values()) {
    all[path] = Object.fromEntries([...values.values()].map(({ name, data }) => [name, data]));
  }
  for (const [path, values] of Object.entries(changes)) {
    if (values === undefined) {
      delete all[path];
      continue;
    }
    const key = { ...all[path] };
    for (const [name, data] of Object.entries(values)) {
      if (data === undefined) delete key[name];
      else key[name] = data;
    }
    all[path] = key;
  }
  writeHive(prefix, 'system', all);
}

/** Files of a prefix's own, below drive_c. */
export function writeOwn(prefix: string, files: Files): void {
  writeFiles(join(prefix, 'drive_c'), files);
}

/** Every file that a prefix shows. */
export async function filesOf(
  place: Pick<UpdatePlace, 'env'>,
  prefix: string,
): Promise<Record<string, string>> {
  const form = await openWholePrefix(prefix, place.env);
  const found: Record<string, string> = {};
  try {
    walk(form.root, (path, node) => {
      if (node.entries === undefined && !path.startsWith('/.wine/')) {
        found[path.slice(1)] = readContent(node).toString();
      }
    });
  } finally {
    form.close();
  }
  return found;
}
