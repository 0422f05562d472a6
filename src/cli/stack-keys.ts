// The flags of `varve stack add` and `set` as keys of varve.yaml.
// Used by stack-add.ts and stack-set.ts; paths start at the current folder here, and at the file's folder there.
// The keys: named/schema.ts.

import { resolve } from 'node:path';
import { LISTS, STACK_OPTIONS } from '../named/schema.js';
import { spellPath } from '../named/write.js';
import { MountError } from '../stack/errors.js';
import { nearest } from '../stack/nearest.js';
import { splitLayers, splitOptions, unescapeValue } from '../stack/option-text.js';
import type { Arguments } from './args.js';

/** As edit.ts takes them. */
export type Keys = Record<string, string | boolean | unknown[] | Record<string, unknown>>;

/** The keys of a stack in the order in which a new one has them. */
export const ORDER: readonly string[] = [
  'description',
  'base',
  'layers',
  'data',
  'upper',
  'workdir',
  'mount',
  'mode',
  'create',
  'options',
];

/** What the flags say; keys that no flag is about are absent. @throws MountError of kind `option`. */
export function keysOf(given: Arguments, folder: string): Keys {
  const spell = (path: string): string => spellOperand(path, folder);
  const keys: Keys = {};
  const single = (key: string, value: string | undefined): void => {
    if (value === '')
      throw new MountError('option', `--${key}: is empty: write something, or leave it out`);
    if (value !== undefined) keys[key] = value;
  };
  single('description', given.value('description'));
  single('base', given.value('base'));
  const lowers: (string | object)[] = given
    .values('layer')
    .map((text) => layerOf(text, given, spell));
  const data = given.values('data').map(spell);
  const options: Record<string, unknown> = {};
  for (const text of given.values('options')) {
    for (const { name, value } of splitOptions(text)) {
      const plain = value === undefined ? undefined : unescapeValue(value);
      switch (name) {
        case 'lowerdir': {
          const list = splitLayers(value ?? '');
          if (typeof list === 'string')
            throw new MountError('option', `option lowerdir=${value}: ${list}`);
          lowers.push(...list.lowers.map(spell));
          data.push(...list.data.map(spell));
          break;
        }
        case 'lowerdir+':
          lowers.push(spell(plain ?? ''));
          break;
        case 'datadir+':
          data.push(spell(plain ?? ''));
          break;
        case 'upperdir':
        case 'workdir':
          single(name === 'upperdir' ? 'upper' : 'workdir', spell(plain ?? ''));
          break;
        default:
          noteOption(options, name, plain, spell);
      }
    }
  }
  if (lowers.length > 0) keys['layers'] = lowers;
  if (data.length > 0) keys['data'] = data;
  for (const key of ['upper', 'workdir', 'mount']) {
    const path = given.value(key);
    if (path !== undefined) single(key, path === '' ? '' : spell(path));
  }
  single('mode', given.value('mode'));
  if (given.has('create')) keys['create'] = true;
  if (Object.keys(options).length > 0) keys['options'] = options;
  return Object.fromEntries(
    ORDER.flatMap((key) => (key in keys ? [[key, keys[key]]] : [])),
  ) as Keys;
}

/** `stack:NAME`, `image:IMAGE`, or a path. */
export function layerOf(
  text: string,
  given: Arguments,
  spell: (path: string) => string,
): string | object {
  if (text.startsWith('stack:')) return { stack: text.slice('stack:'.length) };
  if (!text.startsWith('image:')) return spell(text);
  const image = text.slice('image:'.length);
  const stores = given.values('store').map(spell);
  if (stores.length === 0) {
    throw new MountError(
      'option',
      `--layer ${text}: the content of an image lies in a store: name it with --store`,
    );
  }
  // A name of the store has no dot or slash in front.
  const path = /^(?:\/|\.\.?\/)/.test(image);
  const spelled = path ? spell(image) : image;
  return {
    image: path && !/^[~/$]/.test(spelled) ? `./${spelled.replace(/^\.\//, '')}` : spelled,
    store: stores.length === 1 ? stores[0] : stores,
  };
}

/** What stands on the command line as it goes into the file: what varve is to fill in itself stays. */
function spellOperand(path: string, folder: string): string {
  if (path === '') throw new MountError('option', 'an empty path: write one, or leave it out');
  if (path === '~' || path.startsWith('~/') || path.includes('${')) return path;
  return spellPath(resolve(path), folder);
}

function noteOption(
  options: Record<string, unknown>,
  name: string,
  value: string | undefined,
  spell: (path: string) => string,
): void {
  const record = STACK_OPTIONS.find((option) => option.name === name);
  if (record === undefined) {
    const meant = nearest(
      name,
      STACK_OPTIONS.map((option) => option.name),
    );
    const advice = meant === undefined ? 'see `varve help mount`' : `did you mean ${meant}?`;
    throw new MountError('option', `unknown option: ${name}: ${advice}`);
  }
  if (record.value === undefined || value === undefined) {
    options[name] = true;
    return;
  }
  const spelled = name === 'device' ? spell(value) : value.replace(/\$/g, '$$$$');
  const before = options[name];
  if (!LISTS.has(name) || before === undefined) options[name] = spelled;
  else options[name] = [...(Array.isArray(before) ? before : [before]), spelled];
}
