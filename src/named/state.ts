// Whether a named stack is mounted, and whether what is mounted is what the file says now.
// Called by `varve up`, `varve down`, `varve stack ls`; asks the supervisor and the mount table, never the mount.
// Paths are compared as they are on disk, options as they were understood.

import { mountAt, mountTable } from '../linux/mountinfo.js';
import { checkLayers, mountpointPath } from '../stack/check.js';
import { MountError } from '../stack/errors.js';
import type { KnownMount } from '../stack/mounts-known.js';
import { privilege } from '../stack/privilege.js';
import type { MountSpec } from '../stack/spec.js';
import { requestOf, type StackRequest } from './request.js';
import type { Stack, StackFile } from './stacks.js';

/**
 * - `up`: mounted, as the file says. - `differs`: mounted, but otherwise than the file says.
 * - `down`: not mounted. - `base`: it has no mount point, others build on it.
 * - `failed`: its server has failed, or its supervisor is gone. - `occupied`: something else is mounted there.
 */
export type State = 'up' | 'differs' | 'down' | 'base' | 'failed' | 'occupied';

export interface StackState {
  readonly state: State;
  /** Absolute, as the mount table has it. */
  readonly mountpoint?: string;
  /** For a person: how it differs, why it failed, what is there. */
  readonly why?: string;
  readonly mount?: KnownMount;
}

/** @param known as knownMounts() gives them. @param defaults as `varve mount` has them. */
export function stateOf(
  stack: Stack,
  file: StackFile,
  known: readonly KnownMount[],
  defaults: string,
): StackState {
  if (stack.mount === undefined) return { state: 'base' };
  const mountpoint = mountpointPath(stack.mount.path);
  const mount = known.findLast((other) => other.mountpoint === mountpoint);
  if (mount === undefined) {
    const entry = mountAt(mountpoint);
    if (entry === undefined) return { state: 'down', mountpoint };
    const why = `${entry.source} (${entry.type}) is mounted there`;
    return { state: 'occupied', mountpoint, why };
  }
  if (mount.state === 'failed') {
    const why = mount.status?.why ?? 'its server has failed';
    // Without an entry in the mount table only the record of it is left.
    return { state: 'failed', mountpoint, mount, why };
  }
  if (mount.layers === undefined || mount.state === 'lost') {
    return { state: 'failed', mountpoint, mount, why: 'its supervisor is gone' };
  }
  // Somebody is mounting it this moment.
  if (mount.entry === undefined) return { state: 'down', mountpoint };
  try {
    const differences = compare(requestOf(stack, file, defaults), mount, mountpoint);
    if (differences.length === 0) return { state: 'up', mountpoint, mount };
    return { state: 'differs', mountpoint, mount, why: differences.join('; ') };
  } catch (error) {
    if (!(error instanceof MountError)) throw error;
    // The file, or the disk, has changed so that it could not be mounted now.
    return { state: 'differs', mountpoint, mount, why: error.message };
  }
}

/** What the kernel's mount table tells. */
const TOLD = ['lowerdirs', 'datadirs', 'upperdir', 'workdir'] as const;

/** Where something is served does not matter, nor what a person sees of it only in the mount table. */
const PASSED_OVER = new Set(['mountpoint', 'fsname', 'subtype', 'trace', 'digests', 'composefs']);

/** @returns one half sentence a difference. */
function compare(request: StackRequest, mount: KnownMount, mountpoint: string): string[] {
  const wanted = wantedSpec(request, mountpoint);
  const running = mount.layers as Partial<MountSpec>;
  const keys: readonly (keyof MountSpec)[] =
    mount.status === undefined || request.kind === 'image'
      ? TOLD
      : (Object.keys(wanted) as (keyof MountSpec)[]).filter((key) => !PASSED_OVER.has(key));
  const differences = keys.flatMap((key) => {
    const [is, should] = [running[key], wanted[key]].map((value) => JSON.stringify(value));
    return is === should ? [] : [`${OPTION_OF[key] ?? key} is ${shown(is)}, not ${shown(should)}`];
  });
  const image = mount.mode !== undefined;
  if (image !== (request.kind === 'image')) {
    differences.unshift(image ? 'it is a composefs image' : 'it is no composefs image');
  }
  return differences;
}

/** The names that a person writes, where they are others. */
const OPTION_OF: Partial<Record<keyof MountSpec, string>> = {
  lowerdirs: 'lowerdir',
  datadirs: 'data',
  upperdir: 'upper',
  redirectDir: 'redirect_dir',
  nfsExport: 'nfs_export',
  readOnly: 'ro',
  allowOther: 'allow_other',
};

function shown(json: string | undefined): string {
  return json === undefined ? 'none' : json.replace(/^\[|\]$|"/g, '').replace(/,/g, ', ');
}

/** The stack as it would be mounted, with real paths; that it is mounted already is no obstacle. */
function wantedSpec(request: StackRequest, mountpoint: string): MountSpec {
  const options = request.kind === 'stack' ? request.options : request.parsed.options;
  const others = mountTable().filter((entry) => entry.mountpoint !== mountpoint);
  // Any directory will do as mount point.
  return checkLayers(options, '/proc', !privilege().full, '/', others);
}
