// Unmounts one mount of varve's: writes out, detaches, waits for the server, and stores what lies in the upper.
// Called by every command that takes a mount down. A stuck mount never blocks the supervisor: it is unmounted here.
// Follows umount2(2), syncfs(2), fusermount3(1).

import { closeSync, existsSync, openSync } from 'node:fs';
import { check, E, errnoName, SysError } from '../linux/errno.js';
import { syncAll, syncfs } from '../linux/files.js';
import { mapMemory } from '../linux/memory.js';
import { unmountFuse } from '../linux/mount.js';
import { mountAt } from '../linux/mountinfo.js';
import { findSupervisor } from '../supervisor/client.js';
import { mountpointPath } from './check.js';
import { MountError } from './errors.js';
import { throwRefusal } from './mount.js';
import { imageOfMount, isOurs } from './ours.js';
import type { MountSpec } from './spec.js';

/** Milliseconds after which umount looks why a server has not ended. */
const PATIENCE = 500;

/** Milliseconds after which it is believed to go on somewhere else. */
const LONG_PATIENCE = 15_000;

export interface Unmounted {
  /** Absolute. */
  readonly mountpoint: string;
  /** Another mount namespace still has it, so its server goes on and its upper stays in use. */
  readonly heldElsewhere?: true;
}

/**
 * Unmounts one mount of this program, or clears the record of a failed one.
 * @throws MountError.
 */
export async function unmount(
  path: string,
  how: { readonly lazy: boolean; readonly force: boolean },
): Promise<Unmounted> {
  const mountpoint = mountpointPath(path);
  const supervisor = await findSupervisor();
  try {
    const entry = mountAt(mountpoint);
    const record = (await supervisor?.ask({ op: 'status', mountpoint }))?.mounts?.[0];
    if (entry === undefined && record?.state === 'failed' && supervisor !== undefined) {
      throwRefusal(await supervisor.ask({ op: 'umount', mountpoint, force: false }));
      return { mountpoint };
    }
    // What is on top may be another mount than the one that the supervisor knows.
    const isServed =
      entry !== undefined && (entry.type.startsWith('fuse') || imageOfMount(entry) !== undefined);
    const known = isServed ? record : undefined;
    if (entry === undefined || (known === undefined && !isOurs(entry))) {
      throw new MountError('absent', `${mountpoint}: not a varve mount: see \`varve status\``);
    }
    if (how.force && supervisor !== undefined && known !== undefined) {
      throwRefusal(await supervisor.ask({ op: 'umount', mountpoint, force: true }));
      await supervisor.ask({ op: 'wait', mountpoint });
      return { mountpoint };
    }
    mapMemory();
    // A failed server's successor would answer EIO.
    if (!how.lazy && known?.state !== 'failed') writeOut(mountpoint);
    detach(mountpoint, how.lazy);
    if (how.lazy) return { mountpoint };
    const ended =
      known === undefined ? undefined : supervisor?.ask({ op: 'wait', mountpoint }).catch(() => {});
    const held = await isHeldElsewhere(entry.device, ended);
    storeUpper(known?.spec as MountSpec | undefined);
    return { mountpoint, ...(held ? { heldElsewhere: true } : {}) };
  } finally {
    supervisor?.close();
  }
}

/**
 * Waits for a server's end, unless it will not come: a mount that was copied into another mount namespace (as every
 * container has one) lives there on, and the connection with it. Else the connection is gone once umount2(2) returns.
 */
async function isHeldElsewhere(
  device: string,
  ended: Promise<unknown> | undefined,
): Promise<boolean> {
  if (await settles(ended, PATIENCE)) return false;
  if (existsSync(`/sys/fs/fuse/connections/${device.replace(/^0:/, '')}`)) return true;
  // Where fusectl is not mounted nothing tells the two cases apart but time.
  return !(await settles(ended, LONG_PATIENCE));
}

/** Whether a promise settles within so many milliseconds. */
async function settles(promise: Promise<unknown> | undefined, patience: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, patience, 'late');
  });
  const first = await Promise.race([promise, late]);
  clearTimeout(timer);
  return first !== 'late';
}

/** Pages that wait in the cache go to the server before the mount does. A dead server has none to wait for. */
function writeOut(mountpoint: string): void {
  let fd: number;
  try {
    fd = openSync(mountpoint, 'r');
  } catch {
    return;
  }
  try {
    const r = syncfs(fd);
    if (r < 0 && r !== -E.NOTCONN)
      throw new MountError('server', `${mountpoint}: syncing failed: ${errnoName(r)}`);
  } finally {
    closeSync(fd);
  }
}

function detach(mountpoint: string, lazy: boolean): void {
  try {
    unmountFuse(mountpoint, lazy);
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    if (error.errno === E.BUSY) {
      throw new MountError(
        'busy',
        `${mountpoint}: in use: close what is open there (fuser -m ${mountpoint} tells), or use -l`,
      );
    }
    const said = error.cause instanceof Error ? error.cause.message : errnoName(error.errno);
    throw new MountError(
      error.errno === E.INVAL ? 'absent' : 'permission',
      `${mountpoint}: cannot be unmounted: ${said}`,
    );
  }
}

/** What the server wrote to the upper's filesystem is on disk when this returns. */
function storeUpper(spec: MountSpec | undefined): void {
  if (spec?.upperdir === undefined || spec.readOnly || spec.volatile || !spec.fsync) return;
  let fd: number;
  try {
    fd = openSync(spec.upperdir, 'r');
  } catch {
    // It has got another name since: every filesystem, then.
    syncAll();
    return;
  }
  try {
    check(syncfs(fd), 'syncfs', spec.upperdir);
  } finally {
    closeSync(fd);
  }
}
