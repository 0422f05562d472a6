// What a prefix had changed of its own, and a newer base now has just so: it is no longer the prefix's own change.
// Noted when a prefix moves on, so that it is the prefix's own again when it goes back to the base that it came from.
// P/.varve/agreed.json; the way back is taken by move.ts.

import { join } from 'node:path';
import { MountError } from '../../stack/errors.js';
import { pathsOf } from '../prefix/places.js';
import { readIfThere } from '../prefix/registry-source.js';
import type { HiveDelta, KeyDelta, RegistryDelta } from '../registry/delta.js';
import { parseDelta, writeDelta } from '../registry/delta-text.js';
import { HIVES } from '../registry/hive.js';
import type { AgreedFile } from './rebase-files.js';

export const AGREED_FILE = 'agreed.json';

/** Of one move. */
export interface Agreed {
  /** `NAME@N`: the base that the prefix left, and the one that has the same. */
  readonly from: string;
  readonly to: string;
  readonly registry: RegistryDelta;
  readonly files: readonly AgreedFile[];
}

interface Stored {
  readonly version: 1;
  readonly agreed: readonly (Omit<Agreed, 'registry'> & { readonly registry: string })[];
}

/** @throws MountError of kind `layer`. */
export function readAgreed(folder: string): Agreed[] {
  const path = join(pathsOf(folder).state, AGREED_FILE);
  const bytes = readIfThere(path);
  if (bytes === undefined) return [];
  try {
    const { agreed } = JSON.parse(bytes.toString()) as Stored;
    return agreed.map((one) => ({
      ...one,
      registry: parseDelta(Buffer.from(one.registry, 'latin1')),
    }));
  } catch (error) {
    const message = `${path}: is damaged: remove it; what the base has as well is not put back then`;
    throw new MountError('layer', message, { cause: error });
  }
}

export function agreedText(agreed: readonly Agreed[]): string {
  const stored: Stored = {
    version: 1,
    agreed: agreed.map((one) => ({
      ...one,
      registry: writeDelta(one.registry).toString('latin1'),
    })),
  };
  return `${JSON.stringify(stored, undefined, 1)}\n`;
}

/** What of `before` is in `after` no more, and not for a conflict: what was found below. */
export function leftOut(before: RegistryDelta, after: RegistryDelta): RegistryDelta {
  const hives = HIVES.map((hive) => [hive, leftOutOf(before[hive], after[hive])]);
  return Object.fromEntries(hives) as unknown as RegistryDelta;
}

function leftOutOf(before: HiveDelta, after: HiveDelta): HiveDelta {
  const left = new Map<string, KeyDelta>();
  for (const [folded, key] of before) {
    const kept = after.get(folded);
    if (kept === undefined) {
      left.set(folded, key);
      continue;
    }
    const set = new Map([...key.set].filter(([name]) => !kept.set.has(name)));
    const removed = new Map([...key.removed].filter(([name]) => !kept.removed.has(name)));
    const { deleted, options, ...rest } = key;
    const gone = deleted === true && kept.deleted === undefined;
    const lost = options !== undefined && kept.options === undefined;
    if (set.size === 0 && removed.size === 0 && !gone && !lost) continue;
    left.set(folded, {
      ...rest,
      ...(gone ? { deleted } : {}),
      ...(lost ? { options } : {}),
      set,
      removed,
    });
  }
  return left;
}
