// The stack whose upper is to be frozen or emptied: of a mount that is in use, or one that is described by options.
// Called by commit and discard before anything is prepared.
// The kernel's own overlayfs has no such door: docs/commit.md.

import { checkLayers } from '../../stack/check.js';
import { MountError } from '../../stack/errors.js';
import { locateMount } from '../../stack/mounts-known.js';
import { parseOptions } from '../../stack/options.js';
import { privilege } from '../../stack/privilege.js';
import type { MountSpec } from '../../stack/spec.js';

export interface WritableStack {
  readonly spec: MountSpec;
  /** A server has it mounted. */
  readonly live: boolean;
}

/** @param request a mount point, or values of -o. @param doing a verb for the messages. @throws MountError. */
export async function writableStack(
  request: { readonly mount?: string; readonly options?: readonly string[] },
  doing: string,
): Promise<WritableStack> {
  if (request.mount !== undefined) {
    return { spec: await liveStack(request.mount, doing), live: true };
  }
  const parsed = parseOptions([...(request.options ?? [])], { defaults: '' });
  if (parsed.upperdir === undefined) {
    throw new MountError('option', `upperdir: missing: there is nothing to ${doing}`);
  }
  // Any directory will do as mount point: nothing is mounted.
  return { spec: checkLayers(parsed, '/proc', !privilege().full), live: false };
}

async function liveStack(path: string, doing: string): Promise<MountSpec> {
  const located = await locateMount(path);
  const { mountpoint, backend, status, state } = located.mount;
  const { upperdir } = located.layers;
  if (upperdir === undefined) {
    throw new MountError('option', `${mountpoint}: has no upper: there is nothing to ${doing}`);
  }
  if (backend === 'kernel' || located.layers.composefs !== undefined) {
    throw new MountError(
      'option',
      `${mountpoint}: the kernel serves it, whose layers cannot be exchanged: unmount it, then ${doing} with -o`,
    );
  }
  if (status === undefined || state !== 'mounted') {
    throw new MountError('server', `${mountpoint}: is ${state}: unmount it, then ${doing} with -o`);
  }
  const spec = status.spec as MountSpec;
  if (spec.readOnly) {
    throw new MountError(
      'option',
      `${mountpoint}: is mounted read-only: unmount it, then ${doing} with -o`,
    );
  }
  if (spec.nfsExport) {
    throw new MountError(
      'option',
      `${mountpoint}: is mounted with nfs_export=on, whose handles name layers: unmount it, then ${doing} with -o`,
    );
  }
  if (`${upperdir}/`.startsWith(`${mountpoint}/`)) {
    throw new MountError(
      'layer',
      `upperdir: ${upperdir}: is hidden by the mount itself: unmount it, then ${doing} with -o`,
    );
  }
  return spec;
}
