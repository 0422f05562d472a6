// Freezes the upper of a mount that is in use: asks its supervisor for a server that does it, as often as files are in the way.
// Called by commit.ts. Large files that are in use are copied here first, while everybody goes on.
// What the server does: stack/change-layers.ts.

import { setTimeout as sleep } from 'node:timers/promises';
import { AT, O } from '../../linux/constants.js';
import { copyFile } from '../../linux/copy.js';
import { check, E, SysError } from '../../linux/errno.js';
import { close, fsync, syncfs } from '../../linux/files.js';
import { look, openName, openPath, renameName, setTimes, unlinkName } from '../../linux/named.js';
import { MountError } from '../../stack/errors.js';
import type { ChangeTold } from '../../stack/layer-change.js';
import type { MountSpec } from '../../stack/spec.js';
import { changeLive } from './live-change.js';

export interface LiveFrozen extends ChangeTold {
  /** How long nobody answered; of all attempts the longest. */
  readonly stallMilliseconds: number;
}

/** Attempts before it is given up: each finds files that were opened since the last. */
const ATTEMPTS = 5;

/** Reads of a file until one finds it unchanged. */
const COPIES = 3;

/** Milliseconds between two looks at a file that is being written. */
const PAUSE = 20;

/**
 * @param next what is served afterwards. @param frozen absolute path of the empty directory that takes the upper's place.
 * @throws MountError; then nothing was changed.
 */
export async function freezeLive(
  spec: MountSpec,
  next: MountSpec,
  frozen: string,
): Promise<LiveFrozen> {
  flushMount(spec.mountpoint);
  let stall = 0;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const how = { kind: 'freeze', frozen } as const;
    const { told, wanted, stallMilliseconds } = await changeLive(
      spec.mountpoint,
      'commit',
      next,
      how,
    );
    stall = Math.max(stall, stallMilliseconds);
    if (wanted.length === 0) return { ...told, stallMilliseconds: stall };
    for (const { path, copy } of wanted) await copyBefore(spec, path, copy);
  }
  throw new MountError(
    'busy',
    `${spec.mountpoint}: large files are opened faster than they can be copied: try again when less is written`,
  );
}

/** What the kernel holds for files of the mount is written down, so that little is left for later. */
function flushMount(mountpoint: string): void {
  const fd = openName(AT.FDCWD, Buffer.from(mountpoint).toString('latin1'), O.RDONLY | O.DIRECTORY);
  if (fd < 0) return;
  syncfs(fd);
  close(fd);
}

/** Copies a file in use to its place in the work directory, with the time that it had; best when it rests for a moment. */
async function copyBefore(spec: MountSpec, path: string, copy: string): Promise<void> {
  const upper = openFolder(spec.upperdir as string);
  const work = openFolder(`${spec.workdir}/work`);
  try {
    for (let i = 0; i < COPIES; i++) {
      if (copyOnce(upper, path, work, copy)) return;
      await sleep(PAUSE);
    }
  } finally {
    close(upper);
    close(work);
  }
}

function openFolder(path: string): number {
  const fd = openName(AT.FDCWD, Buffer.from(path).toString('latin1'), O.RDONLY | O.DIRECTORY);
  return check(fd, 'open', path);
}

/** @returns whether it is gone, or rested meanwhile. */
function copyOnce(upper: number, path: string, work: number, copy: string): boolean {
  const from = openPath(upper, path, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  if (from === undefined) return true;
  const temp = `#commit-${process.pid}`;
  try {
    // What is written through a mapping gives the file a new time only once its pages are clean.
    fsync(from);
    const before = look(from, '');
    unlinkName(work, temp);
    const to = check(openName(work, temp, O.RDWR | O.CREAT | O.EXCL, 0o600), 'create', temp);
    try {
      if (before === undefined) throw new SysError('stat', E.NOENT, path);
      check(copyFile(from, to, before.size, true), 'copy', path);
      setTimes(to, before);
    } finally {
      close(to);
    }
    check(renameName(work, temp, work, copy), 'rename', copy);
    const after = look(from, '');
    return after?.mtime === before.mtime && after.size === before.size;
  } catch (error) {
    unlinkName(work, temp);
    throw error;
  } finally {
    close(from);
  }
}
