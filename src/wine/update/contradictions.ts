// What a new base contradicts in the layers that stand on it: both have changed the same, and the layer's side shows.
// Called by move.ts; the layers themselves stay as they are, for others stand on them as well.
// The same decisions as for a prefix's own changes: docs/rebase.md and docs/wine-registry.md.

import { type Below, readRegistryBelow } from '../prefix/below.js';
import { registryOf } from '../prefix/registry-source.js';
import { deltaOfFull } from '../registry/compose.js';
import type { RegistryDelta } from '../registry/delta.js';
import { type RegistryConflict, rebaseDelta } from '../registry/three-way.js';
import type { FileClash } from './rebase-files.js';
import { rebaseFiles } from './rebase-files.js';

export interface Contradictions {
  readonly files: readonly (FileClash & { readonly layer: string })[];
  readonly keys: readonly (RegistryConflict & { readonly layer: string })[];
}

/**
 * @param from, to topmost first, the base last: they differ in their base alone.
 * @throws MountError; SysError, TreeError and ErofsError for what cannot be read.
 */
export function contradictionsOf(from: readonly Below[], to: readonly Below[]): Contradictions {
  const files: (FileClash & { layer: string })[] = [];
  const keys: (RegistryConflict & { layer: string })[] = [];
  for (const [i, { label: layer, driveC }] of from.slice(0, -1).entries()) {
    const [old, now] = [from.slice(i + 1), to.slice(i + 1)];
    const rebased = rebaseFiles({ upper: driveC, from: old, to: now });
    rebased.close();
    files.push(...rebased.clashes.map((clash) => ({ ...clash, layer })));
    keys.push(...keysOf(from[i] as Below, old, now).map((conflict) => ({ ...conflict, layer })));
  }
  return { files, keys };
}

function keysOf(
  layer: Below,
  from: readonly Below[],
  to: readonly Below[],
): readonly RegistryConflict[] {
  const delta = deltaOf(layer);
  const [old, now] = [readRegistryBelow(from), readRegistryBelow(to)];
  if (delta === undefined || old === undefined || now === undefined) return [];
  return rebaseDelta(old, now, delta).conflicts;
}

function deltaOf({ label, registry }: Below): RegistryDelta | undefined {
  if (registry.kind === 'none') return undefined;
  return registry.kind === 'delta'
    ? registry.delta()
    : deltaOfFull(registryOf(label, registry.bytes));
}
