// Takes one lower out of a mounted stack: a server copies up what is seen through it, then a successor goes on without it.
// Called by cli/detach.ts. All of the work is the server's (overlay/fill.ts), which asks for the last step itself: whoever waits
// here may leave. docs/detach.md.

import { realpathSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { E, errnoName } from '../../linux/errno.js';
import { detachingLower, notDetaching } from '../../stack/detach.js';
import { MountError } from '../../stack/errors.js';
import { throwRefusal } from '../../stack/mount.js';
import { locateMount } from '../../stack/mounts-known.js';
import type { MountSpec } from '../../stack/spec.js';
import { type FillProgress, lastOfFill, readFill } from '../../stack/status.js';
import { findSupervisor, type Supervisor } from '../../supervisor/client.js';
import type { MountStatus } from '../../supervisor/protocol.js';
import { changeLive } from '../commit/live-change.js';

/** Layers that a mount may have had in its life: the keys of their inode numbers are kept (vfs/layout.ts). */
const HEIGHTS = 1000;

/** Milliseconds between two looks. */
const PAUSE = 50;

/** A lower of a mounted stack. */
export interface Lower {
  readonly spec: MountSpec;
  readonly path: string;
  /** Counted from the bottom of the lowers, from 1. */
  readonly place: number;
}

/**
 * The lower that is meant: by its number, 1 is the topmost, or by its path.
 * @param mount path of a mount point. @throws MountError where it cannot be detached.
 */
export async function lowerOf(mount: string, which: string): Promise<Lower> {
  const spec = await detachableStack(mount);
  const { lowerdirs, datadirs, mountpoint } = spec;
  const at = positionOf(spec, which);
  if (at === undefined) {
    if (datadirs.includes(realPath(which))) {
      throw new MountError(
        'option',
        `${which}: is a data-only layer of ${mountpoint}, which cannot be detached: unmount it`,
      );
    }
    const have = lowerdirs.map((path, i) => `${i + 1}: ${path}`).join(', ') || 'none';
    throw new MountError(
      'absent',
      `${which}: not a lower of ${mountpoint}: name one by number or path (${have})`,
    );
  }
  const place = lowerdirs.length - at;
  const path = lowerdirs[at] as string;
  const { detaching } = spec;
  if (detaching !== undefined && detaching.place !== place) {
    const message = `${mountpoint}: ${detaching.lower} is being detached: wait for it, or end that by --cancel`;
    throw new MountError('busy', message);
  }
  return { spec, path, place };
}

function positionOf({ lowerdirs }: MountSpec, which: string): number | undefined {
  const byPath = lowerdirs.indexOf(realPath(which));
  if (byPath >= 0) return byPath;
  const n = /^[0-9]{1,4}$/.test(which) ? Number(which) : 0;
  return n >= 1 && n <= lowerdirs.length ? n - 1 : undefined;
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** The spec of a mount whose layers may be exchanged. @throws MountError. */
async function detachableStack(path: string): Promise<MountSpec> {
  const { mountpoint, backend, status, state } = (await locateMount(path)).mount;
  const no = (why: string): MountError => new MountError('option', `${mountpoint}: ${why}`);
  if (backend === 'kernel') {
    throw no(
      'the kernel serves it, whose layers cannot be exchanged: mount it with --backend=fuse',
    );
  }
  if (status === undefined || state !== 'mounted') {
    throw new MountError('server', `${mountpoint}: is ${state}: unmount it, then mount it again`);
  }
  const spec = status.spec as MountSpec;
  if (spec.upperdir === undefined || spec.readOnly || spec.composefs !== undefined) {
    throw no('is read-only: there is no upper that could take what a lower has');
  }
  if (spec.nfsExport) {
    throw no('is mounted with nfs_export=on, whose handles name layers: mount it without');
  }
  if (spec.whiteouts === 'aufs') {
    throw no('has whiteouts in aufs form, with which no layer can be detached: mount it without');
  }
  const { lowerdirs, datadirs, gone = [] } = spec;
  if (lowerdirs.length + datadirs.length + gone.length >= HEIGHTS) {
    throw no('has had too many layers: unmount it, then mount it again');
  }
  return spec;
}

/** Begins, unless it goes on already. @throws MountError. */
export async function beginDetach({ spec, place }: Lower): Promise<void> {
  const { mountpoint } = spec;
  if (spec.detaching !== undefined) {
    const supervisor = await supervisorOf(mountpoint);
    try {
      const { pid } = await statusOf(supervisor, mountpoint);
      if (readFill(pid)?.state !== 'failed') return;
    } finally {
      supervisor.close();
    }
  }
  await changeLive(mountpoint, 'detach', detachingLower(spec, place), { kind: 'respec' });
}

/** What was copied stays. @throws MountError. */
export async function cancelDetach({ spec }: Lower): Promise<void> {
  if (spec.detaching === undefined) {
    throw new MountError('absent', `${spec.mountpoint}: nothing is being detached`);
  }
  await changeLive(spec.mountpoint, 'detach cancelled', notDetaching(spec), { kind: 'respec' });
}

export interface Detached {
  /** What the mount has now. */
  readonly lowerdirs: readonly string[];
  readonly datadirs: readonly string[];
  /** How long nobody answered at the last step. */
  readonly stallMilliseconds: number;
  readonly progress: FillProgress | undefined;
}

/** Waits until the lower is gone. @throws MountError when that is given up; the mount is then as it was. */
export async function awaitDetach(
  lower: Lower,
  onProgress: (progress: FillProgress) => void,
): Promise<Detached> {
  const { mountpoint } = lower.spec;
  const supervisor = await supervisorOf(mountpoint);
  try {
    for (;;) {
      const status = await statusOf(supervisor, mountpoint);
      const spec = status.spec as MountSpec;
      const stallMilliseconds = status.lastRestart?.stallMilliseconds;
      // The next server may be on its way.
      if (spec.detaching === undefined && stallMilliseconds !== undefined) {
        if (spec.lowerdirs.includes(lower.path)) {
          throw new MountError('server', `${lower.path}: its detaching was cancelled`);
        }
        const { lowerdirs, datadirs } = spec;
        return { lowerdirs, datadirs, stallMilliseconds, progress: readFill(status.pid) };
      }
      const now = readFill(status.pid);
      if (now?.state === 'failed') throw await givenUp(lower, spec, status, now);
      if (now !== undefined) onProgress(now);
      await sleep(PAUSE);
    }
  } finally {
    supervisor.close();
  }
}

async function givenUp(
  { path }: Lower,
  spec: MountSpec,
  { log }: MountStatus,
  { error }: FillProgress,
): Promise<MountError> {
  await changeLive(spec.mountpoint, 'detach given up', notDetaching(spec), { kind: 'respec' });
  const where = lastOfFill(log);
  const at = where === undefined ? '' : ` at ${where}`;
  const still = 'the mount goes on as before';
  if (error === E.NOSPC || error === E.DQUOT) {
    return new MountError(
      'layer',
      `${spec.upperdir}: no space left${at}: ${still}, what was copied stays: make room, then detach ${path} again`,
    );
  }
  if (error === E.BUSY) {
    return new MountError(
      'busy',
      `${spec.mountpoint}: directories are renamed faster than they can be looked at: ${still}: try again`,
    );
  }
  return new MountError(
    'layer',
    `${path}: cannot be copied${at} (${errnoName(error)}): ${still}: see its log, ${log}`,
  );
}

async function supervisorOf(mountpoint: string): Promise<Supervisor> {
  const supervisor = await findSupervisor();
  if (supervisor !== undefined) return supervisor;
  throw new MountError('server', `${mountpoint}: its supervisor is gone: unmount it first`);
}

async function statusOf(supervisor: Supervisor, mountpoint: string): Promise<MountStatus> {
  const reply = await supervisor.ask({ op: 'status', mountpoint });
  throwRefusal(reply);
  const [status] = reply.mounts ?? [];
  if (status !== undefined && status.state === 'mounted') return status;
  throw new MountError(
    'server',
    `${mountpoint}: ${status?.why ?? 'was unmounted meanwhile'}: its lower was not detached`,
  );
}
