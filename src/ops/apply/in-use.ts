// Whether live mounts have a directory as a layer: what they show would change behind their back.
// Called by apply.ts before it changes anything. Asks the supervisor and the mount table; touches no mount.
// Documentation/filesystems/overlayfs.rst, "Changes to underlying filesystems": the behaviour is undefined.

import { mountTable } from '../../linux/mountinfo.js';
import { MountError } from '../../stack/errors.js';
import { knownMounts, type Layers, layersOf } from '../../stack/mounts-known.js';
import type { Change } from '../../union/change.js';

interface Use {
  readonly mountpoint: string;
  readonly layers: Pick<Layers, 'lowerdirs' | 'datadirs' | 'upperdir'>;
}

async function liveStacks(): Promise<Use[]> {
  const uses: Use[] = [];
  for (const { mountpoint, layers, state } of await knownMounts()) {
    if (layers !== undefined && state !== 'failed') uses.push({ mountpoint, layers });
  }
  for (const entry of mountTable()) {
    if (entry.type !== 'overlay') continue;
    uses.push({ mountpoint: entry.mountpoint, layers: layersOf(entry) });
  }
  return uses;
}

const isIn = (path: string, directory: string): boolean =>
  path === directory || directory === '/' || path.startsWith(`${directory}/`);

/**
 * @param target absolute, without symlinks. @param changes what is to be done there. @param upper what is emptied.
 * @throws MountError `busy`.
 */
export async function requireUnused(
  target: string,
  changes: readonly Change[],
  upper: string | undefined,
): Promise<void> {
  for (const { mountpoint, layers } of await liveStacks()) {
    const { lowerdirs, datadirs, upperdir } = layers;
    const all = [...lowerdirs, ...datadirs, ...(upperdir === undefined ? [] : [upperdir])];
    const used = all.find((layer) => isIn(target, layer) || touches(target, layer, changes));
    if (used !== undefined) {
      throw new MountError(
        'busy',
        `${target}: ${used} is a layer of the mount on ${mountpoint}: unmount that first`,
      );
    }
    if (upper !== undefined && upperdir === upper) {
      throw new MountError(
        'busy',
        `upperdir: ${upper}: in use by the mount on ${mountpoint}: unmount that first, or write --keep and let it be`,
      );
    }
  }
}

/**
 * What is mounted below the target is not part of it: it would be carried away with the directory that it is in.
 * @throws MountError `busy`.
 */
export function requireNoMounts(target: string, changes: readonly Change[]): void {
  const found = mountTable().find(
    ({ mountpoint }) => mountpoint !== target && touches(target, mountpoint, changes),
  );
  if (found === undefined) return;
  throw new MountError(
    'busy',
    `${target}: something is mounted on ${found.mountpoint}, where the upper has changes: unmount that first`,
  );
}

/** Whether a change concerns a directory that lies below the target. */
function touches(target: string, layer: string, changes: readonly Change[]): boolean {
  if (!isIn(layer, target)) return false;
  const inside = layer.slice(target === '/' ? 1 : target.length + 1);
  const path = Buffer.from(inside).toString('latin1');
  return changes.some((change) => {
    if (change.status === '=') return false;
    const isBelow =
      isIn(change.path, path) || (change.from !== undefined && isIn(change.from, path));
    const isGone = change.status === 'D' || change.status === 'T' || change.status === 'R';
    return isBelow || (isGone && isIn(path, change.from ?? change.path));
  });
}
