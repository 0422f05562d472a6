// Mounts of the kernel whose layers are not complete and are loaded by nobody: what is missing reads as zeros there.
// Looked for by `varve status`, `mount` and `images --verify`. It takes the death of supervisor, loader and holder at once (docs/lazy-kernel.md).
// The mount table tells of layers, the loader for which mounts it has them.

import { readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { incompleteLayersOf } from './images.js';
import { loaderStatus } from './loader-status.js';
import { knownMounts, type Layers } from './mounts-known.js';

/** An heir may be about to be there: looks, and milliseconds between two. */
const LOOKS = 8;
const PAUSE = 250;

/** What is said of such a mount, behind its path. */
export const UNHELD =
  'layers are not complete, and nobody loads them: what is missing reads as zeros. Unmount it, then mount it again';

/** Mount points. @param concerns which mounts to look at. @throws MountError of kind `server`. */
export async function unheldMounts(
  concerns: (mountpoint: string, layers: Layers) => boolean,
): Promise<string[]> {
  const all = await knownMounts();
  const paths = new Set(all.map(({ mountpoint }) => mountpoint));
  let found = all.filter(
    ({ mountpoint, layers }) => layers !== undefined && concerns(mountpoint, layers),
  );
  for (let look = 1; ; look++) {
    found = found.filter(
      ({ backend, layers }) =>
        backend === 'kernel' && layers !== undefined && incompleteLayersOf(layers).length > 0,
    );
    if (found.length === 0) return [];
    const loaded = (await loaderStatus({}))?.layers ?? [];
    const locked = lockedInodes();
    found = found.filter(({ mountpoint, layers }) =>
      incompleteLayersOf(layers as Layers).some((folder) => {
        const ours = loaded.find((layer) => layer.folder === folder.path);
        // Of another supervisor's loader it is not known what for.
        if (ours === undefined) return !locked.has(inodeOf(folder.lock));
        // Of a mount that was moved the loader knows the place at which it was made.
        return ours.mountpoints.every((place) => place !== mountpoint && paths.has(place));
      }),
    );
    if (found.length === 0 || look === LOOKS) return found.map(({ mountpoint }) => mountpoint);
    await sleep(PAUSE);
  }
}

/** Inode numbers of files that somebody has locked by flock(2): a loader has the lock of each of its layers. */
function lockedInodes(): ReadonlySet<string> {
  const lines = readFileSync('/proc/locks', 'latin1').split('\n');
  return new Set(
    lines.flatMap((line) => / FLOCK .* [0-9a-f]+:[0-9a-f]+:(\d+) /.exec(line)?.[1] ?? []),
  );
}

/** The device is left out: btrfs has others for its files than for its locks. */
const inodeOf = (path: string): string =>
  String(statSync(path, { bigint: true, throwIfNoEntry: false })?.ino);
