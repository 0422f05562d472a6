// The stack that an apply works on: everything above the directory as one upper, and that directory as the lower.
// Called by `varve apply`; where several layers lie above it, they are merged in memory first.
// Directories below the one that is changed would show through it: then it is not the lowest, and nothing is done.

import { statSync } from 'node:fs';
import { MountError } from '../../stack/errors.js';
import { type Stack, stackOf } from '../../union/changes.js';
import { mergeLayers, viewTree } from '../layers/merge.js';
import { asStack, type NamedStack, type OpenLayers } from '../open-stack.js';

export interface ApplyStack {
  readonly stack: Stack;
  /** Layers above the directory that are no upper: they would hide what becomes of it, and stay as they are. */
  readonly between: readonly string[];
}

/** @throws MountError, TreeError. */
export function stackToApply(named: NamedStack, opened: OpenLayers, into: string): ApplyStack {
  const { lowerdirs, upperdir } = named.layers;
  const lowers = upperdir === undefined ? lowerdirs.slice(1) : lowerdirs;
  if (lowers.length <= 1) return { stack: asStack(opened), between: [] };
  const at = lowers.findIndex((lower) => isSame(lower, into));
  if (at < 0) {
    throw new MountError(
      'option',
      `--into ${into}: none of the ${lowers.length} lower layers: name the lowest, ${lowers.at(-1)}`,
    );
  }
  if (at < lowers.length - 1) {
    throw new MountError(
      'option',
      `--into ${into}: ${lowers.length - 1 - at} layers lie below it: name the lowest, or make one layer of those above by \`varve flatten --keep-whiteouts\``,
    );
  }
  const { layers, data, marks } = opened;
  const [lowest] = layers.slice(-1);
  if (lowest === undefined) throw new MountError('option', 'no layer is named');
  const merged = mergeLayers(layers.slice(0, -1), data, { ...opened, below: lowest });
  const upper = viewTree(merged, layers[0]?.label ?? '', marks);
  return { stack: stackOf([upper, lowest], data), between: lowers.slice(0, -1) };
}

function isSame(a: string, b: string): boolean {
  try {
    const [one, other] = [a, b].map((path) => statSync(path, { bigint: true }));
    return one?.dev === other?.dev && one?.ino === other?.ino;
  } catch {
    return false;
  }
}
