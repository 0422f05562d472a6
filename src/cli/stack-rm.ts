// `varve stack rm`: takes named stacks out of varve.yaml; no layer and no mount is touched.
// Run by main.ts; named/write.ts writes.
// Manual: stack-commands.ts.

import { searchHere } from '../named/find.js';
import { loadStacks, type StackFile, stackNamed } from '../named/stacks.js';
import { stateOf } from '../named/state.js';
import { changeStacks } from '../named/write.js';
import { MountError } from '../stack/errors.js';
import { knownMounts } from '../stack/mounts-known.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { defaultOptions } from './mounting.js';
import { print, remark } from './output.js';

export async function run(given: Arguments): Promise<number> {
  const names = [...new Set(given.operands)];
  const { path } = await loadStacks(searchHere(given.value('file')));
  const known = given.has('force') ? [] : await knownMounts();
  await changeStacks(path, process.env, (draft, file) => {
    for (const name of names) {
      const { state, mountpoint } = stateOf(stackNamed(file, name), file, known, defaultOptions());
      if (state !== 'base' && state !== 'down' && state !== 'occupied' && !given.has('force')) {
        const advice = `\`varve down ${name}\` first, or say --force`;
        throw new MountError('busy', `${name}: is up at ${mountpoint}: ${advice}`);
      }
      refuseNeeded(name, names, file);
      draft.remove(name);
    }
  });
  if (given.has('json')) print(given, { file: path, removed: names }, () => '');
  else remark(given, `${names.join(', ')}: no longer in ${path}`);
  return EXIT.ok;
}

/** @throws MountError where another stack names it. */
function refuseNeeded(name: string, leaving: readonly string[], file: StackFile): void {
  for (const stack of file.stacks.values()) {
    if (leaving.includes(stack.name)) continue;
    const base = stack.bases.includes(name);
    if (!base && !stack.layers.some((layer) => layer.kind === 'stack' && layer.name === name))
      continue;
    const how = base ? 'builds on it' : 'has it as a layer';
    throw new MountError('busy', `${name}: ${stack.name} ${how}: remove or change that first`);
  }
}
