// `varve stack show`: one named stack with everything filled in, or the command that would mount it.
// Run by main.ts.
// Manual: stack-commands.ts.

import { standsOn } from '../named/order.js';
import { imageAlone, optionText } from '../named/request.js';
import { type NamedLayer, type Stack, type StackFile, stackNamed } from '../named/stacks.js';
import { type StackState, stateOf } from '../named/state.js';
import { knownMounts } from '../stack/mounts-known.js';
import { escapePath } from '../stack/option-text.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { defaultOptions } from './mounting.js';
import { print, table } from './output.js';
import { fileOf } from './stack.js';

export async function run(given: Arguments): Promise<number> {
  const file = await fileOf(given);
  const stack = stackNamed(file, given.operands[0] as string);
  if (given.has('command')) {
    process.stdout.write(`${commandLine(stack, file)}\n`);
    return EXIT.ok;
  }
  const state = stateOf(stack, file, await knownMounts(), defaultOptions());
  print(given, facts(stack, file, state), () => text(stack, file, state));
  return EXIT.ok;
}

function facts(stack: Stack, file: StackFile, { state, why }: StackState): object {
  const { name, description, bases, layers, own, data, upper, workdir, mount, mode } = stack;
  return {
    name,
    description,
    file: file.path,
    line: stack.at.line,
    state,
    why,
    bases,
    layers: layers.map(({ at: _, ...layer }, i) => ({ ...layer, own: i < own })),
    data: data.map(({ path }) => path),
    upper: upper?.path,
    workdir: workdir?.path,
    mount: mount?.path,
    mode,
    create: stack.create,
    options: stack.options,
    standsOn: standsOn(stack, file).map((other) => other.name),
  };
}

function text(stack: Stack, file: StackFile, { state, why }: StackState): string {
  const rows: string[][] = [];
  const row = (word: string, value: string | undefined): void => {
    if (value !== undefined && value !== '') rows.push([word, value]);
  };
  row('mount', stack.mount?.path);
  row('upper', stack.upper?.path);
  row('workdir', stack.workdir?.path);
  stack.layers.forEach((layer, i) => {
    row(`layer ${i + 1}`, `${spell(layer)}${i < stack.own ? '' : ' (of the base)'}`);
  });
  stack.data.forEach(({ path }, i) => {
    row(`data ${i + 1}`, path);
  });
  row('base', stack.bases.join(', '));
  row(
    'stands on',
    standsOn(stack, file)
      .map(({ name }) => name)
      .join(', '),
  );
  row('mode', stack.mode);
  row('options', stack.options.join(', '));
  row('file', `${file.path}:${stack.at.line}`);
  const about = stack.description === undefined ? '' : `, ${stack.description}`;
  const reason = why === undefined ? [] : [`  ${why}`];
  return [`${stack.name}: ${state}${about}`, ...reason, table(rows, '  ')].join('\n');
}

function spell(layer: NamedLayer): string {
  switch (layer.kind) {
    case 'path':
      return layer.path;
    case 'stack':
      return `${layer.path}, the mount of ${layer.name}`;
    case 'image':
      return `image ${layer.image} of ${layer.stores.join(', ')}`;
  }
}

/** What a person would type instead of `varve up`. */
function commandLine(stack: Stack, file: StackFile): string {
  const where = stack.mount === undefined ? 'MOUNTPOINT' : quoted(stack.mount.path);
  const image = imageAlone(stack);
  if (image === undefined) return `varve mount -o ${quoted(optionText(stack, file))} ${where}`;
  const { upper, workdir } = stack;
  const options = [
    ...(upper === undefined || workdir === undefined
      ? []
      : [`upperdir=${escapePath(upper.path)}`, `workdir=${escapePath(workdir.path)}`]),
    ...stack.options,
  ];
  return [
    'varve mount',
    `--image ${quoted(image.image)}`,
    ...image.stores.map((store) => `--store ${quoted(store)}`),
    ...(stack.mode === undefined ? [] : [`--mode ${stack.mode}`]),
    ...(options.length === 0 ? [] : [`-o ${quoted(options.join(','))}`]),
    where,
  ].join(' ');
}

/** For sh(1). */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replace(/'/g, "'\\''")}'`;
}
