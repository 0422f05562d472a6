// Kernel mounts of layers whose content is not all here: the loader marks their blobs, then EROFS and overlayfs are mounted.
// Called by stack/mount.ts when the plan says so. Nothing of varve is in the path; readers wait for the loader by fanotify(7).
// Needs pre-content events (Linux 6.14) and CAP_SYS_ADMIN in the initial user namespace.

import { type Announced, AnnounceError, announceUse } from '../lazy/announce.js';
import type { LoadPolicy } from '../lazy/protocol.js';
import { askSupervisor } from '../supervisor/client.js';
import { KernelRefusal, MountError } from './errors.js';
import { incompleteLayersOf } from './images.js';
import { type KernelMount, mountByKernel } from './kernel-mount.js';
import { loaderEnvironment, loaderProgram } from './loader-program.js';
import type { MountSpec } from './spec.js';

export interface LazyKernelMount extends KernelMount {
  readonly policy: LoadPolicy;
  /** Arguments of node that start a loader; absent: that of this installation. */
  readonly loader?: readonly string[];
}

/**
 * Mounts. Layers that are complete by now are mounted all the same.
 * @throws KernelRefusal when a blob's filesystem has no pre-content events, the kernel or the loader refuses.
 */
export async function mountLazyByKernel(spec: MountSpec, how: LazyKernelMount): Promise<void> {
  const announced = await announce(spec, how);
  try {
    mountByKernel(spec, { ...how, loaded: announced?.loaded });
  } finally {
    announced?.end();
  }
}

async function announce(spec: MountSpec, how: LazyKernelMount): Promise<Announced | undefined> {
  const folders = incompleteLayersOf(spec).map(({ path }) => path);
  if (folders.length === 0) return undefined;
  const program = how.loader ?? loaderProgram();
  const env = loaderEnvironment();
  const { supervisor, reply } = await askSupervisor({ op: 'load', program, env, byKernel: true });
  try {
    if (reply.error !== undefined) throw new MountError(reply.error.kind, reply.error.message);
    const socket = reply.loader?.socket;
    if (socket === undefined) throw new AnnounceError('the supervisor knows of none');
    const { mountpoint } = spec;
    return await announceUse(socket, folders, { mountpoint, policy: how.policy, way: 'kernel' });
  } catch (error) {
    if (!(error instanceof AnnounceError)) throw error;
    throw new KernelRefusal(
      'layer',
      `${how.asked.what}: the loader refuses: ${error.message}: take ${how.asked.instead}`,
    );
  } finally {
    supervisor.close();
  }
}
