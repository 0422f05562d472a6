// The registry's side of a conflict that was decided for what lies below: the prefix's own changes without it, or with it.
// Called by resolve.ts; the result is put over everything below as always.
// A conflict of the prefix's own ends when the prefix says nothing there; of a layer, when the prefix says what the base says.

import { compose } from '../registry/compose.js';
import {
  EMPTY_DELTA,
  type HiveDelta,
  type KeyDelta,
  NOTHING,
  optionsOf,
  type RegistryDelta,
} from '../registry/delta.js';
import { fold, parentOf, type Registry } from '../registry/hive.js';
import type { KeyConflict } from './conflicts.js';

/**
 * @param delta what the prefix itself changes. @param under the registry below a layer.
 * @returns what it is to change from now on.
 */
export function takeKeys(
  delta: RegistryDelta,
  conflicts: readonly KeyConflict[],
  under: (layer: string) => Registry | undefined,
): RegistryDelta {
  let taken = delta;
  for (const conflict of conflicts) {
    const { hive, layer } = conflict;
    taken =
      layer === undefined
        ? { ...taken, [hive]: without(taken[hive], conflict) }
        : compose(taken, { ...EMPTY_DELTA, [hive]: asBelow(conflict, under(layer)) });
  }
  return taken;
}

/** The delta with nothing to say about what the conflict is about. */
function without(delta: HiveDelta, { path, value, what }: KeyConflict): HiveDelta {
  const kept = new Map(delta);
  const folded = fold(path);
  if (what === 'value' && value !== undefined) {
    const key = kept.get(folded);
    if (key === undefined) return delta;
    const [set, removed] = [new Map(key.set), new Map(key.removed)];
    set.delete(fold(value));
    removed.delete(fold(value));
    replace(kept, folded, { ...key, set, removed });
    return kept;
  }
  if (what === 'options') {
    const { options: _, ...rest } = kept.get(folded) ?? { path, set: NOTHING, removed: NOTHING };
    replace(kept, folded, rest);
  } else if (what === 'key-deleted-above') {
    for (let at: string | undefined = folded; at !== undefined; at = parentOf(at)) {
      const key = kept.get(at);
      if (key?.deleted === undefined) continue;
      const { deleted: _, ...rest } = key;
      replace(kept, at, rest);
      break;
    }
  } else {
    for (const at of kept.keys()) {
      if (at === folded || at.startsWith(`${folded}\\`)) kept.delete(at);
    }
  }
  return kept;
}

/** An entry that says nothing any more goes. */
function replace(delta: Map<string, KeyDelta>, folded: string, key: KeyDelta): void {
  const { set, removed, deleted, options } = key;
  const isIdle = set.size === 0 && removed.size === 0 && deleted === undefined;
  if (isIdle && options === undefined) delta.delete(folded);
  else delta.set(folded, key);
}

/** What a prefix has to change so that the base shows in spite of a layer. */
function asBelow(
  { hive, path, value, what, theirs }: KeyConflict,
  under: Registry | undefined,
): HiveDelta {
  const folded = fold(path);
  const entry = (fields: Partial<KeyDelta>): HiveDelta =>
    new Map([[folded, { path, set: NOTHING, removed: NOTHING, ...fields }]]);
  if (value !== undefined && what !== 'key-deleted-below') {
    const name = fold(value);
    return theirs === undefined
      ? entry({ removed: new Map([[name, value]]) })
      : entry({ set: new Map([[name, { name: value, data: theirs }]]) });
  }
  if (what === 'key-deleted-below') return entry({ deleted: true });
  const delta = new Map<string, KeyDelta>();
  for (const [at, key] of under?.[hive].keys ?? []) {
    if (at !== folded && !at.startsWith(`${folded}\\`)) continue;
    if (what === 'options' && at !== folded) continue;
    const options = optionsOf(key.options);
    const { stamp } = key;
    delta.set(at, {
      path: key.path,
      present: true,
      ...(stamp === '' ? {} : { stamp }),
      ...(options.length > 0 || what === 'options' ? { options } : {}),
      set: what === 'options' ? NOTHING : key.values,
      removed: NOTHING,
    });
  }
  return delta;
}
