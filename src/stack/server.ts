// The process that serves one mount: opens the layers, receives /dev/fuse, answers requests until the mount is gone.
// Started by the supervisor (supervisor/mounts.ts), one process a mount; exits with 0 when it was unmounted.
// Order: orders, claim of the upper, layers, then the mount, so that a mount point may cover one of its own layers.

import { passthroughPermitted, serve } from '../fuse/server.js';
import { SysError } from '../linux/errno.js';
import { awaitMount, reportError, reportReady, takeOrders } from '../supervisor/orders.js';
import { claimUpper } from './claim.js';
import { MountError } from './errors.js';
import { openOverlay } from './open.js';
import type { MountSpec } from './spec.js';

/** Exit codes seen by the supervisor; 0 is an ordinary unmount. */
const EXIT = { unmounted: 0, failed: 1, aborted: 3 } as const;

function openAll(spec: MountSpec): ReturnType<typeof openOverlay> | undefined {
  try {
    claimUpper(spec);
    return openOverlay(spec);
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
  const spec = takeOrders().spec as MountSpec;
  const filesystem = openAll(spec);
  if (filesystem === undefined) return EXIT.failed;
  const reason = serve(filesystem, {
    fd: awaitMount(),
    timeout: spec.timeout,
    passthrough: true,
    writeback: spec.writeback ?? !passthroughPermitted(),
    acl: spec.acl,
    trace: spec.trace,
    onReady: reportReady,
  });
  if (reason === 'unmounted') return EXIT.unmounted;
  console.error(`serving ended: ${reason}`);
  return reason === 'aborted' ? EXIT.aborted : EXIT.failed;
}

process.exit(main());
