// Which stack `varve diff` looks at: that of a mount, of options, or of layers; and its changes.
// Called by diff.ts and diff-prune.ts; the layers stay open, for content is read when it is shown.
// Manual: diff-commands.ts.

import { stackMeant } from '../named/resolve.js';
import { asStack, findStack, type NamedStack, openLayers } from '../ops/open-stack.js';
import type { StackNames } from '../report/document.js';
import { MountError } from '../stack/errors.js';
import { type Located, locate } from '../stack/mounts-known.js';
import { isOurs } from '../stack/ours.js';
import { readChanges } from '../union/changes.js';
import type { Arguments } from './args.js';
import { type Compared, insidePath, splitOperands, withinPaths } from './diff-compared.js';
import { asMountError } from './image.js';

/** @throws MountError. */
export async function openCompared(given: Arguments): Promise<Compared> {
  const { named, paths } = await nameStack(given);
  const opened = openLayers(named);
  try {
    const stack = asStack(opened);
    const changes = withinPaths(readChanges(stack), paths);
    return { changes, names: namesOf(named), stack, close: () => opened.close() };
  } catch (error) {
    opened.close();
    throw asMountError(error, named.layers.upperdir ?? named.layers.lowerdirs[0] ?? '');
  }
}

export interface Named {
  readonly named: NamedStack;
  /** Paths of the union (latin1) that are asked for; none: all. */
  readonly paths: readonly string[];
}

/** The stack and the paths that a command line names. @throws MountError. */
export async function nameStack(given: Arguments): Promise<Named> {
  const [operands, paths] = splitOperands(given);
  const options = given.values('options');
  if (options.length > 0) {
    if (operands.length > 0) {
      throw new MountError(
        'option',
        `${operands[0]}: the stack is that of -o: write PATHs behind --, or leave -o out`,
      );
    }
    return {
      named: await findStack({ options, reads: true }),
      paths: paths.map((path) => insidePath(path)),
    };
  }
  const [first] = operands;
  const meant = operands.length === 1 ? await stackMeant(first as string) : { mount: first };
  if ('options' in meant) {
    return { named: await findStack(meant), paths: paths.map((path) => insidePath(path)) };
  }
  const located = operands.length > 1 ? undefined : await mountMeant(meant.mount);
  if (located !== undefined) {
    const { mountpoint } = located.mount;
    const named = await findStack({ mount: mountpoint });
    if (named.layers.upperdir === undefined) {
      throw new MountError(
        'option',
        `${mountpoint}: read-only, without an upper: name LAYERs to compare them`,
      );
    }
    const below = operands.length === 0 || located.inside === '' ? [] : [located.inside];
    return { named, paths: [...below, ...paths].map((path) => insidePath(path, mountpoint)) };
  }
  if (operands.length === 0) {
    throw new MountError(
      'option',
      'no stack is named: write a mount point, -o lowerdir=...,upperdir=..., or LAYERs',
    );
  }
  const named = await findStack({ layers: operands });
  return { named, paths: paths.map((path) => insidePath(path)) };
}

/** The mount that an operand names, or one of varve's that a path (by default this directory) lies in. */
async function mountMeant(operand: string | undefined): Promise<Located | undefined> {
  const located = await locate(operand ?? '.');
  const entry = located?.mount.entry;
  if (entry !== undefined && isOurs(entry)) return located;
  // What lies in another overlay may be a layer: the root directory of a container is one.
  return operand !== undefined && located?.inside === '' ? located : undefined;
}

function namesOf({ layers }: NamedStack): StackNames {
  const { upperdir, lowerdirs } = layers;
  if (upperdir !== undefined) return { upperdir, lowerdirs };
  const [first = '', ...rest] = lowerdirs;
  return { upperdir: first, lowerdirs: rest };
}
