// `varve stack unit`: the unit of systemd that mounts a named stack, on stdout.
// Run by main.ts; named/unit.ts writes the text.
// Manual: stack-commands.ts.

import { imageAlone } from '../named/request.js';
import { stackNamed } from '../named/stacks.js';
import { mountUnit, serviceUnit, type Unit } from '../named/unit.js';
import { mountOfStack } from '../named/up.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print } from './output.js';
import { launcher } from './setup.js';
import { fileOf, remarkMissing } from './stack.js';

export async function run(given: Arguments): Promise<number> {
  const file = await fileOf(given);
  const stack = stackNamed(file, given.operands[0] as string);
  mountOfStack(stack, file);
  const user = given.has('user');
  // A user's own systemd may not mount; and mount(8) knows no modes of images.
  const service = user || given.has('service') || imageAlone(stack) !== undefined;
  const unit: Unit = service ? serviceUnit(stack, file, launcher(), user) : mountUnit(stack, file);
  if (!service) remarkMissing(given, stack);
  if (given.has('name')) {
    process.stdout.write(`${unit.file}\n`);
    return EXIT.ok;
  }
  print(given, unit, () => unit.text);
  return EXIT.ok;
}
