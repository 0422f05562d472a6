// `varve umount`: writes out, unmounts, waits for the server, and stores what lies in the upper.
// Run by main.ts. It unmounts by itself, so that a stuck mount never blocks the supervisor.
// Follows umount2(2), syncfs(2), fusermount3(1).

import { closeSync, openSync } from 'node:fs';
import { check, E, errnoName, SysError } from '../linux/errno.js';
import { syncfs } from '../linux/files.js';
import { mapMemory } from '../linux/memory.js';
import { unmountFuse } from '../linux/mount.js';
import { mountAt } from '../linux/mountinfo.js';
import { mountpointPath } from '../stack/check.js';
import { MountError } from '../stack/errors.js';
import { throwRefusal } from '../stack/mount.js';
import { isOurs } from '../stack/ours.js';
import type { MountSpec } from '../stack/spec.js';
import { findSupervisor } from '../supervisor/client.js';
import type { Arguments } from './args.js';
import { EXIT, exitCodeOf, lineOf } from './exit-codes.js';
import { print, remark } from './output.js';

export async function run(given: Arguments): Promise<number> {
  let code: number = EXIT.ok;
  const done: { mountpoint: string; error?: string }[] = [];
  for (const operand of given.operands) {
    try {
      const mountpoint = await unmount(operand, {
        lazy: given.has('lazy'),
        force: given.has('force'),
      });
      done.push({ mountpoint });
      if (!given.has('json')) remark(given, `${mountpoint} is unmounted`);
    } catch (error) {
      code = exitCodeOf(error);
      done.push({ mountpoint: operand, error: lineOf(error) });
      if (!given.has('json')) process.stderr.write(`varve: ${lineOf(error)}\n`);
    }
  }
  if (given.has('json')) print(given, done, () => '');
  return code;
}

/**
 * Unmounts one mount of this program, or clears the record of a failed one.
 * @returns its absolute path. @throws MountError.
 */
export async function unmount(
  path: string,
  how: { readonly lazy: boolean; readonly force: boolean },
): Promise<string> {
  const mountpoint = mountpointPath(path);
  const supervisor = await findSupervisor();
  try {
    const known = (await supervisor?.ask({ op: 'status', mountpoint }))?.mounts?.[0];
    const entry = mountAt(mountpoint);
    if (entry === undefined || (known === undefined && !isOurs(entry))) {
      throw new MountError('absent', `${mountpoint}: not a varve mount: see \`varve status\``);
    }
    if (how.force && supervisor !== undefined && known !== undefined) {
      throwRefusal(await supervisor.ask({ op: 'umount', mountpoint, force: true }));
      await supervisor.ask({ op: 'wait', mountpoint });
      return mountpoint;
    }
    mapMemory();
    if (!how.lazy) writeOut(mountpoint);
    detach(mountpoint, how.lazy);
    if (!how.lazy) {
      await supervisor?.ask({ op: 'wait', mountpoint }).catch(() => {});
      storeUpper(known?.spec as MountSpec | undefined);
    }
    return mountpoint;
  } finally {
    supervisor?.close();
  }
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
  const fd = openSync(spec.upperdir, 'r');
  try {
    check(syncfs(fd), 'syncfs', spec.upperdir);
  } finally {
    closeSync(fd);
  }
}
