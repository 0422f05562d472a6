// `varve stack add`: one more named stack in varve.yaml, which is made where there is none.
// Run by main.ts; named/write.ts writes.
// Manual: stack-commands.ts.

import { dirname, resolve } from 'node:path';
import { findStackFile, searchHere } from '../named/find.js';
import { changeStacks } from '../named/write.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, remark } from './output.js';
import { keysOf } from './stack-keys.js';

export async function run(given: Arguments): Promise<number> {
  const name = given.operands[0] as string;
  const path = findStackFile(searchHere(given.value('file'))) ?? resolve('varve.yaml');
  const keys = keysOf(given, dirname(path));
  const replace = given.has('replace');
  await changeStacks(path, process.env, (draft) => {
    if (draft.has(name) && !replace) {
      throw new MountError(
        'busy',
        `${name}: ${path} has it already: change it with \`varve stack set\`, or say --replace`,
      );
    }
    draft.put(name, keys);
  });
  if (given.has('json')) print(given, { file: path, name }, () => '');
  else remark(given, `${name} is in ${path}`);
  return EXIT.ok;
}
