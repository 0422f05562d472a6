// A mounted stack whose layers are to be exchanged while it is in use: which mount is meant, and whether that can be done.
// Called by commit and discard before anything is prepared.
// The kernel's own overlayfs has no such door: docs/commit.md.

import { MountError } from '../stack/errors.js';
import { locate } from '../stack/mounts-known.js';
import type { MountSpec } from '../stack/spec.js';

/** @param doing a verb for the messages. @throws MountError. */
export async function liveStack(path: string, doing: string): Promise<MountSpec> {
  const located = await locate(path);
  if (located === undefined || located.inside !== '') {
    throw new MountError(
      'absent',
      `${path}: not the mount point of a stack: \`varve status\` lists them`,
    );
  }
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
