// `varve stack ls`: the named stacks and what became of them.
// Run by main.ts; named/state.ts looks.
// Manual: stack-commands.ts.

import { standsOn } from '../named/order.js';
import { stateOf } from '../named/state.js';
import { knownMounts } from '../stack/mounts-known.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { defaultOptions } from './mounting.js';
import { print, table } from './output.js';
import { fileOf } from './stack.js';

export async function run(given: Arguments): Promise<number> {
  const file = await fileOf(given);
  const stacks = [...file.stacks.values()];
  if (given.has('quiet')) {
    process.stdout.write(stacks.map(({ name }) => `${name}\n`).join(''));
    return EXIT.ok;
  }
  const known = await knownMounts();
  const rows = stacks.map((stack) => {
    const { state, mountpoint, why } = stateOf(stack, file, known, defaultOptions());
    const { name, description, layers, upper, at } = stack;
    return {
      name,
      description,
      state,
      why,
      mountpoint: mountpoint ?? stack.mount?.path,
      layers: layers.length,
      writable: upper !== undefined,
      base: stack.bases[0],
      standsOn: standsOn(stack, file).map((other) => other.name),
      line: at.line,
    };
  });
  print(given, { file: file.path, stacks: rows }, () => {
    if (rows.length === 0) return `${file.path}: no stacks.`;
    const lines = rows.map((row) => [
      row.name,
      row.state,
      row.mountpoint ?? '-',
      row.writable ? `${row.layers}+1` : String(row.layers),
      row.description ?? '',
    ]);
    const whys = rows.flatMap(({ name, why }) => (why === undefined ? [] : `${name}: ${why}`));
    return [table([['NAME', 'STATE', 'MOUNT', 'LAYERS', ''], ...lines]), ...whys].join('\n');
  });
  return EXIT.ok;
}
