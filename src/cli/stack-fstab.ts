// `varve stack fstab`: the line of fstab(5) that mounts a named stack, on stdout.
// Run by main.ts; named/fstab.ts writes the text.
// Manual: stack-commands.ts.

import { fstabLine } from '../named/fstab.js';
import { imageAlone } from '../named/request.js';
import { errorAt, stackNamed } from '../named/stacks.js';
import { mountOfStack } from '../named/up.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { fileOf, remarkMissing } from './stack.js';

export async function run(given: Arguments): Promise<number> {
  const file = await fileOf(given);
  const stack = stackNamed(file, given.operands[0] as string);
  mountOfStack(stack, file);
  if (imageAlone(stack) !== undefined) {
    const message = `${stack.name}: the mount of a composefs image has no form in fstab: take \`varve stack unit ${stack.name}\``;
    throw errorAt(file, stack.at, 'option', message);
  }
  remarkMissing(given, stack);
  process.stdout.write(`${fstabLine(stack, file, given.values('options'))}\n`);
  return EXIT.ok;
}
