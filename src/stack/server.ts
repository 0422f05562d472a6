// The process that serves one mount: opens the layers, receives /dev/fuse, answers requests until the mount is gone.
// Started by the supervisor (supervisor/mounts.ts), one process a mount; exits with 0 when it was unmounted.
// A successor is given what its predecessor had opened and negotiated. Order: orders, claim of the upper, layers, then the mount, so that a mount point may cover one of its own layers.

import { type ExitReason, passthroughPermitted, type ServeOptions, serve } from '../fuse/server.js';
import type { Session } from '../fuse/session.js';
import { performVerify } from '../imagefs/verify-job.js';
import { SysError } from '../linux/errno.js';
import { setReadahead } from '../linux/mount.js';
import { exitNow } from '../linux/process.js';
import {
  awaitMount,
  hearOrders,
  reportAborted,
  reportEnded,
  reportError,
  reportReady,
  takeOrders,
} from '../supervisor/orders.js';
import { SERVER_FDS, type ServerOrders, type StackChange } from '../supervisor/protocol.js';
import { Counter, get } from '../vfs/counters.js';
import type { FileSystem } from '../vfs/filesystem.js';
import { LAYOUT_VERSION } from '../vfs/layout.js';
import { changeLayers, prepareChange } from './change-layers.js';
import { MountError } from './errors.js';
import { LAZY_BACKGROUND, loadingOf, readaheadOf } from './loading.js';
import { openFileSystem } from './open.js';
import type { MountSpec } from './spec.js';

type Loading = ReturnType<typeof loadingOf>;

/** What worker threads of a server do that verifies objects. */
function verifyingWork(): ServeOptions['work'] {
  return {
    script: new URL('./composefs-worker.js', import.meta.url),
    perform: performVerify,
  };
}

function openAll(spec: MountSpec, loading: Loading): FileSystem | undefined {
  try {
    return openFileSystem(spec, loading);
  } catch (error) {
    const kind = error instanceof MountError ? error.kind : 'layer';
    const known = error instanceof MountError || error instanceof SysError;
    // What was not foreseen leaves its stack in the log.
    if (!known) console.error(error);
    reportError({ kind, message: error instanceof Error ? error.message : String(error) });
    return undefined;
  }
}

function main(): number {
  process.umask(0);
  const orders = takeOrders(LAYOUT_VERSION, prepared);
  // Another supervisor was faster, and starts a server of its own.
  if (orders === undefined) return 1;
  if (isForeign(orders)) return 1;
  const spec = specOf(orders);
  const loading = loadingOf(spec, (line) => console.error(`varve: ${line}`));
  const filesystem = openAll(spec, loading);
  if (filesystem === undefined) return 1;
  const successor = orders.successor !== undefined;
  const reason = serve(filesystem, {
    fd: awaitMount(),
    timeout: spec.timeout,
    passthrough: true,
    writeback: spec.writeback ?? !passthroughPermitted(),
    acl: spec.acl,
    exported: spec.nfsExport,
    trace: spec.trace,
    work: spec.composefs?.serve === 'follow' ? verifyingWork() : undefined,
    rehearse: process.env['VARVE_REHEARSE'] !== 'off',
    succeeded: filesystem.succeed !== undefined,
    session: orders.successor?.session as Session | undefined,
    successor,
    killed: orders.successor?.killed,
    watch: loading,
    maxBackground: loading === undefined ? undefined : LAZY_BACKGROUND,
    wakeFd: SERVER_FDS.orders,
    onWake: hearOrders,
    onReady: (session, recovery) => {
      if (!successor) setReadahead(spec.mountpoint, readaheadOf(loading));
      reportReady(session, recovery);
    },
  });
  return tellEnd(reason, spec.mountpoint);
}

/** Opens what a change of the layers needs; where that is not to be had, this server is none. */
function prepared(change: StackChange): ReadonlyMap<string, number> {
  try {
    return prepareChange(change);
  } catch (error) {
    reportError({
      kind: error instanceof MountError ? error.kind : 'layer',
      message: error instanceof Error ? error.message : String(error),
    });
    return exitNow(1);
  }
}

/** What to serve: a successor may have to make a change of it first. */
function specOf({ spec, successor }: ServerOrders): MountSpec {
  const change = successor?.change;
  return change === undefined ? (spec as MountSpec) : changeLayers(spec as MountSpec, change);
}

/** An arena that a program of another version has made: its tables mean something else. */
function isForeign({ successor }: ServerOrders): boolean {
  const found = successor === undefined ? LAYOUT_VERSION : get(Counter.layout);
  if (found === LAYOUT_VERSION) return false;
  const message = `the installed version keeps other tables (${LAYOUT_VERSION}) than the server before (${found}), and cannot take over from it`;
  reportError({ kind: 'server', message }, true);
  return true;
}

/** @returns the exit status. */
function tellEnd(reason: ExitReason, mountpoint: string): number {
  switch (reason) {
    case 'unmounted':
    case 'left':
      reportEnded();
      return 0;
    case 'aborted':
      reportAborted(`${mountpoint}: its connection was aborted`);
      return 1;
    default:
      reportError({
        kind: 'server',
        message: `${mountpoint}: /dev/fuse could not be read any more`,
      });
      return 1;
  }
}

// Not process.exit(): the layers' filesystems are to be free as soon as the mount is gone.
exitNow(main());
