// What the commands of named stacks share: which file and which stacks are meant.
// Used by up.ts, down.ts and stack-*.ts.
// Manual: stack-commands.ts.

import { searchHere } from '../named/find.js';
import { loadStacks, type Stack, type StackFile, stackNamed } from '../named/stacks.js';
import { missingDirectories } from '../named/up.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { remark } from './output.js';

/** The file that is meant. @throws MountError. */
export function fileOf(given: Arguments): Promise<StackFile> {
  return loadStacks(searchHere(given.value('file')));
}

/** The stacks that are named; those with a mount point for --all, the only one for nothing. */
export function stacksOf(given: Arguments, file: StackFile): Stack[] {
  const all = given.has('all');
  const names = [...new Set(given.operands)];
  if (all && names.length > 0) {
    throw new MountError('option', '--all: and names exclude each other: leave one out');
  }
  if (names.length > 0) return names.map((name) => stackNamed(file, name));
  const mountable = [...file.stacks.values()].filter(({ mount }) => mount !== undefined);
  if (all || mountable.length === 1) return mountable;
  const list = mountable.map(({ name }) => name).join(', ');
  throw new MountError(
    'option',
    mountable.length === 0
      ? `${file.path}: no stack has a mount: give one a mount point`
      : `no stack is named: name one of ${list}, or say --all`,
  );
}

/** Says what mount(8) will not make, as `varve up` does. */
export function remarkMissing(given: Arguments, stack: Stack): void {
  const missing = missingDirectories(stack, true);
  if (missing.length === 0) return;
  remark(given, `${stack.name}: ${missing.join(', ')}: missing: make it before it is mounted`);
}
