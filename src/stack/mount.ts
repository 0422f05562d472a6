// Mounts a stack: checks its layers, plans the backend, and hands the work to the kernel or to the supervisor.
// Called by the three command lines (varve mount, varve-overlayfs, mount.fuse.varve); returns when the mount answers.
// Loads FFI only for the kernel backend: the FUSE path does everything privileged in the supervisor.

import { LayerFolder } from '../lazy/layer-folder.js';
import { DEFAULT_POLICY } from '../lazy/protocol.js';
import type { FuseMount } from '../linux/mount.js';
import { askForLoader, askSupervisor, type Supervisor } from '../supervisor/client.js';
import { makeRuntime } from '../supervisor/folder.js';
import type { MountRequest, MountStatus, Reply } from '../supervisor/protocol.js';
import { checkLayers } from './check.js';
import { MountError } from './errors.js';
import { incompleteLayersOf, isImage } from './images.js';
import { loaderEnvironment, loaderProgram } from './loader-program.js';
import type { MountOptions } from './option-table.js';
import { sourceOfStack } from './ours.js';
import { type Plan, planMount } from './plan.js';
import { privilege } from './privilege.js';
import { serverProgram } from './server-program.js';
import type { MountSpec } from './spec.js';

/** A mount that stands. */
export interface Mounted {
  readonly spec: MountSpec;
  readonly plan: Plan;
  /** With the FUSE backend: the open connection and what is known of the server. */
  readonly served?: { readonly supervisor: Supervisor; readonly status: MountStatus };
}

/** @throws MountError; then nothing is mounted. */
export async function mountStack(
  options: MountOptions,
  mountpoint: string,
  backend: MountOptions['backend'] = options.backend,
): Promise<Mounted> {
  const rights = privilege();
  const spec = checkLayers(options, mountpoint, !rights.full);
  const plan = planMount(options, spec, rights, backend);
  if (spec.digests.length > 0) {
    await (await import('./layer-digest.js')).requireLayerDigests(spec);
  }
  if (plan.backend === 'kernel') {
    try {
      await viaKernel(spec, options.verity);
      return { spec, plan };
    } catch (error) {
      // The wish was only to lose nothing; FUSE does the same.
      if (backend === 'kernel' || !(error instanceof MountError)) throw error;
      return viaServer(spec, { backend: 'fuse', reason: `the kernel refuses (${error.message})` });
    }
  }
  return viaServer(spec, plan);
}

async function viaKernel(spec: MountSpec, verity: MountOptions['verity']): Promise<void> {
  const { BACKEND_KERNEL, mountByKernel } = await import('./kernel-mount.js');
  const { folder } = makeRuntime(process.env, process.geteuid?.() ?? 0);
  const source = spec.lowerdirs.some(isImage) ? sourceOfStack(spec.lowerdirs) : 'varve';
  const how = { verity, folder, source, asked: BACKEND_KERNEL } as const;
  if (!needsLoader(spec)) return mountByKernel(spec, how);
  const { mountLazyByKernel } = await import('./lazy-kernel.js');
  const policy = spec.load ?? DEFAULT_POLICY;
  return mountLazyByKernel(spec, { ...how, policy, loader: loaderProgram() });
}

/** Layers of an image store have been compared. */
function withoutLayers(spec: MountSpec): MountSpec {
  const isOther = (path: string): boolean => LayerFolder.ofImage(path) === undefined;
  const [lowerdirs, datadirs] = [spec.lowerdirs, spec.datadirs].map((list) => list.filter(isOther));
  return { ...spec, lowerdirs: lowerdirs as string[], datadirs: datadirs as string[] };
}

/** What may be asked of the supervisor besides a mount as it always is. */
export type Further = Pick<MountRequest, 'cover' | 'namespace'>;

/**
 * Has a server of varve's serve the spec.
 * @param env of the supervisor and the server, where they are started.
 * @throws MountError.
 */
export async function viaServer(
  spec: MountSpec,
  plan: Plan,
  further: Further = {},
  env: NodeJS.ProcessEnv = process.env,
): Promise<Mounted> {
  if (spec.digests.length > 0)
    (await import('./image-digest.js')).requireDigests(withoutLayers(spec));
  const mount: FuseMount = {
    mountpoint: spec.mountpoint,
    fsname: spec.fsname,
    subtype: spec.subtype,
    readOnly: spec.readOnly,
    nosuid: spec.nosuid,
    nodev: spec.nodev,
    noexec: spec.noexec,
    noatime: spec.noatime,
    allowOther: spec.allowOther,
    defaultPermissions: spec.defaultPermissions,
    ...(spec.context === undefined ? {} : { context: spec.context }),
  };
  if (needsLoader(spec)) {
    throwRefusal(
      await askForLoader(
        { op: 'load', program: loaderProgram(), env: loaderEnvironment(env) },
        env,
      ),
    );
  }
  const request = { op: 'mount', mount, program: serverProgram(), spec, ...further } as const;
  const { supervisor, reply } = await askSupervisor(request, env);
  const status = reply.mounts?.[0];
  if (status === undefined) {
    // An open connection would keep a command line that failed from ending.
    supervisor.close();
    throwRefusal(reply);
    throw new MountError('server', 'the supervisor answered without a mount');
  }
  return { spec, plan, served: { supervisor, status } };
}

/** Whether a layer of an image store is not complete, or may come that is not. */
export function needsLoader(spec: MountSpec): boolean {
  if (spec.layerStore !== undefined) return true;
  if (spec.composefs !== undefined) return false;
  return incompleteLayersOf(spec).length > 0;
}

/** @throws MountError when the reply is a refusal. */
export function throwRefusal(reply: Reply): void {
  if (reply.error !== undefined) throw new MountError(reply.error.kind, reply.error.message);
}
