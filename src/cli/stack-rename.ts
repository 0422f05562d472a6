// `varve stack rename`: another name for a stack, wherever the file names it.
// Run by main.ts; named/write.ts writes.
// Manual: stack-commands.ts.

import { searchHere } from '../named/find.js';
import { loadStacks, stackNamed } from '../named/stacks.js';
import { changeStacks } from '../named/write.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, remark } from './output.js';

export async function run(given: Arguments): Promise<number> {
  const [name, to] = given.operands as [string, string];
  const { path } = await loadStacks(searchHere(given.value('file')));
  await changeStacks(path, process.env, (draft, file) => {
    stackNamed(file, name);
    if (file.stacks.has(to))
      throw new MountError('busy', `${to}: ${path} has it already: take another name`);
    draft.rename(name, to);
  });
  if (given.has('json')) print(given, { file: path, name: to, before: name }, () => '');
  else remark(given, `${name} is called ${to} in ${path}`);
  return EXIT.ok;
}
