// Where a frozen upper goes: the directory that was asked for, or one beside the upper when that is on another mount.
// Called by commit.ts before the freeze; makes the empty directory that is to take the upper's place.
// rename(2) goes from no mount to another, also of one filesystem.

import { lstatSync, mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { AT, O } from '../../linux/constants.js';
import { E, errnoName } from '../../linux/errno.js';
import { close } from '../../linux/files.js';
import { openName, renameName } from '../../linux/named.js';
import { MountError, reasonOf } from '../../stack/errors.js';

export interface FrozenPlace {
  /** Absolute. */
  readonly path: string;
  /** Takes the directory away again if it is still empty. */
  abandon(): void;
}

/** @throws MountError where the upper cannot be renamed at all. */
export function requireMovable(upper: string): void {
  let crosses: boolean;
  try {
    crosses = lstatSync(upper).dev !== lstatSync(dirname(upper)).dev;
  } catch (error) {
    throw new MountError('layer', `upperdir: ${upper}: ${reasonOf(error)}`);
  }
  if (!crosses) return;
  throw new MountError(
    'layer',
    `upperdir: ${upper}: is the root of its filesystem, which cannot become a layer by a rename: put the upper into a directory of it`,
  );
}

/** Whether what is in one directory can be renamed into the other. @throws MountError. */
export function onOneMount(a: string, b: string): boolean {
  const open = (path: string): number => {
    const fd = openName(AT.FDCWD, Buffer.from(path).toString('latin1'), O.PATH | O.DIRECTORY);
    if (fd >= 0) return fd;
    throw new MountError('layer', `${path}: cannot be opened (${errnoName(fd)})`);
  };
  const [from, to] = [open(a), open(b)];
  const none = `.varve-none-${process.pid}`;
  const r = renameName(from, none, to, none);
  close(from);
  close(to);
  return r !== -E.XDEV;
}

/** @param wanted the directory that was asked for, if it can be one. @throws MountError. */
export function makeFrozenPlace(upper: string, wanted: string | undefined): FrozenPlace {
  const path = wanted ?? besideUpper(upper);
  let made = false;
  try {
    mkdirSync(path, { mode: 0o700 });
    made = true;
  } catch (error) {
    // An empty one will do.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
      throw new MountError('layer', `${path}: ${reasonOf(error)}`);
    }
  }
  return {
    path,
    abandon: () => {
      try {
        if (made) rmdirSync(path);
      } catch {
        // It is a layer by now.
      }
    },
  };
}

/** `UPPER.frozen-N`, the first that is not there, or was left empty by a commit that did not come further. */
function besideUpper(upper: string): string {
  for (let n = 1; ; n++) {
    const path = `${dirname(upper)}/${basename(upper)}.frozen-${n}`;
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return path;
    if (stat.isDirectory() && readdirSync(path).length === 0) return path;
  }
}
