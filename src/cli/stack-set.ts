// `varve stack set`: other keys of a named stack, and nothing else of the file.
// Run by main.ts; named/write.ts writes.
// Manual: stack-commands.ts.

import { dirname, resolve } from 'node:path';
import { findStackFile, searchHere } from '../named/find.js';
import { loadStacks, type Stack, stackNamed } from '../named/stacks.js';
import { changeStacks, pathsOfLayers, updateStack } from '../named/write.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, remark } from './output.js';
import { type Keys, keysOf, ORDER } from './stack-keys.js';

export async function run(given: Arguments): Promise<number> {
  const name = given.operands[0] as string;
  const search = searchHere(given.value('file'));
  const path = findStackFile(search) ?? (await loadStacks(search)).path;
  const keys = keysOf(given, dirname(path));
  const unset = given.values('unset');
  const push = given.values('push').map((layer) => resolve(layer));
  const drop = given.values('drop').map((layer) => resolve(layer));
  if (Object.keys(keys).length + unset.length + push.length + drop.length === 0) {
    throw new MountError('option', `${name}: nothing to set: see --help for what can be`);
  }
  if (Object.keys(keys).length + unset.length > 0) await setKeys(path, name, keys, unset);
  if (push.length + drop.length > 0) {
    await updateStack(path, name, (stack) => ({ lowers: [...push, ...without(stack, drop)] }));
  }
  if (given.has('json')) print(given, { file: path, name }, () => '');
  else remark(given, `${name} is changed in ${path}`);
  return EXIT.ok;
}

async function setKeys(
  path: string,
  name: string,
  { options, ...keys }: Keys,
  unset: readonly string[],
): Promise<void> {
  await changeStacks(path, process.env, (draft, file) => {
    stackNamed(file, name);
    for (const [key, value] of Object.entries(keys)) draft.set(name, key, value);
    for (const [option, value] of Object.entries((options ?? {}) as Record<string, string>)) {
      draft.setOption(name, option, value);
    }
    for (const key of unset) {
      const option = /^options\.(.+)$/.exec(key)?.[1];
      if (option !== undefined) draft.setOption(name, option, undefined);
      else if (ORDER.includes(key)) draft.set(name, key, undefined);
      else {
        const known = `${ORDER.join(', ')}, options.NAME`;
        throw new MountError('option', `--unset=${key}: no such key: one of ${known}`);
      }
    }
  });
}

/** The paths of a stack's layers without some of them. @throws MountError where one is none of its layers. */
function without(stack: Stack, drop: readonly string[]): string[] {
  const paths = pathsOfLayers(stack);
  for (const path of drop) {
    const at = paths.indexOf(path);
    if (at < 0)
      throw new MountError(
        'absent',
        `${stack.name}: ${path}: is no layer of it: see \`varve stack show ${stack.name}\``,
      );
    paths.splice(at, 1);
  }
  return paths;
}
