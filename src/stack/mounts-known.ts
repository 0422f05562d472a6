// Everything that is known of varve's mounts: from the supervisor, and from the mount table where no supervisor is needed.
// Used by status, why and the completion of mount points.
// A kernel mount keeps its layers in the mount table; a server's mount is described by its supervisor.

import { resolve } from 'node:path';
import { type MountEntry, mountOf, mountTable } from '../linux/mountinfo.js';
import { findSupervisor } from '../supervisor/client.js';
import type { MountStatus } from '../supervisor/protocol.js';
import { mountpointPath } from './check.js';
import { MountError } from './errors.js';
import { digestOfImage } from './find-image.js';
import type { Mode } from './image-plan.js';
import { splitLayers, splitOptions, unescapeValue } from './option-text.js';
import { imageOfMount, isOurs, stackOfMount } from './ours.js';
import type { ComposefsSpec, MountSpec } from './spec.js';

/** What the layers of a mount are, wherever that is written down. */
export type Layers = Pick<
  MountSpec,
  'lowerdirs' | 'datadirs' | 'upperdir' | 'workdir' | 'userxattr' | 'whiteouts' | 'redirectDir'
> & {
  /** The one lower is a composefs image, whose marks are always trusted.*; the data-only layers are its objects. */
  readonly composefs?: Pick<ComposefsSpec, 'image' | 'digest'>;
};

export interface KnownMount {
  readonly mountpoint: string;
  readonly backend: 'fuse' | 'kernel';
  /** Of a composefs image. */
  readonly mode?: Mode;
  /** `lost`: it is mounted, but no supervisor knows its server. */
  readonly state: MountStatus['state'] | 'lost';
  /** undefined for a lost one. */
  readonly layers?: Layers;
  readonly entry?: MountEntry;
  readonly status?: MountStatus;
  /** Process id of the supervisor that gave the status. */
  readonly supervisor?: number;
}

/** All of them, in the order in which they were made. */
export async function knownMounts(): Promise<KnownMount[]> {
  const table = mountTable();
  const { mounts, supervisor } = await supervisedMounts();
  const known: KnownMount[] = [];
  for (const entry of table) {
    const status = mounts.find((s) => s.mountpoint === entry.mountpoint && stands(s));
    if (status !== undefined && isServed(entry)) known.push(served(status, supervisor, entry));
    else if (isOurs(entry) && isMine(entry)) known.push(fromTable(entry));
  }
  for (const status of mounts) {
    if (!known.some((mount) => mount.status === status)) known.push(served(status, supervisor));
  }
  return known;
}

/** Whether it should be in the mount table. */
function stands({ state, refuses }: MountStatus): boolean {
  return state !== 'failed' || refuses === true;
}

/** Whether a server answers for it: alone, or below the kernel's overlayfs. */
function isServed(entry: MountEntry): boolean {
  return entry.type.startsWith('fuse') || imageOfMount(entry) !== undefined;
}

/** Other users' servers are none of this user's business. */
function isMine(entry: MountEntry): boolean {
  const uid = /(?:^|,)user_id=(\d+)/.exec(entry.superOptions)?.[1];
  return uid === undefined || Number(uid) === process.geteuid?.();
}

interface Supervised {
  readonly mounts: readonly MountStatus[];
  readonly supervisor?: number;
}

async function supervisedMounts(): Promise<Supervised> {
  const supervisor = await findSupervisor();
  if (supervisor === undefined) return { mounts: [] };
  try {
    const reply = await supervisor.ask({ op: 'list' });
    return { mounts: reply.mounts ?? [], supervisor: reply.supervisor };
  } catch {
    return { mounts: [] };
  } finally {
    supervisor.close();
  }
}

const MODE_OF = { metadata: 'overlay', follow: 'follow' } as const;

function served(status: MountStatus, supervisor?: number, entry?: MountEntry): KnownMount {
  const spec = status.spec as MountSpec;
  return {
    mountpoint: status.mountpoint,
    backend: 'fuse',
    state: status.state,
    layers: spec,
    mode: spec.composefs === undefined ? undefined : MODE_OF[spec.composefs.serve],
    entry,
    status,
    supervisor,
  };
}

function fromTable(entry: MountEntry): KnownMount {
  const { mountpoint } = entry;
  if (entry.type !== 'overlay') return { mountpoint, backend: 'fuse', state: 'lost', entry };
  const layers = layersOf(entry);
  // Nobody else mounts an image's metadata below an overlayfs.
  if (layers.composefs !== undefined && layers.userxattr) {
    return { mountpoint, backend: 'fuse', mode: 'overlay', state: 'lost', layers, entry };
  }
  const mode = layers.composefs === undefined ? undefined : 'kernel';
  return { mountpoint, backend: 'kernel', mode, state: 'mounted', layers, entry };
}

/** Layers of a kernel overlay, from its options in the mount table. */
export function layersOf(entry: MountEntry): Layers {
  const lowerdirs: string[] = [];
  const datadirs: string[] = [];
  const single = new Map<string, string>();
  for (const { name, value } of splitOptions(entry.superOptions)) {
    if (value === undefined) single.set(name, '');
    else if (name === 'lowerdir') {
      const list = splitLayers(value);
      if (typeof list !== 'string') {
        lowerdirs.push(...list.lowers);
        datadirs.push(...list.data);
      }
    } else if (name === 'lowerdir+') lowerdirs.push(unescapeValue(value));
    else if (name === 'datadir+') datadirs.push(unescapeValue(value));
    else single.set(name, unescapeValue(value));
  }
  const redirect = single.get('redirect_dir');
  const image = imageOfMount(entry);
  return {
    // The image was mounted elsewhere for a moment; what is named there is gone.
    lowerdirs: image === undefined ? (stackOfMount(entry) ?? lowerdirs) : [image],
    datadirs,
    upperdir: single.get('upperdir'),
    workdir: single.get('workdir'),
    userxattr: single.has('userxattr'),
    whiteouts: 'kernel',
    ...(image === undefined ? {} : { composefs: { image, digest: digestOfImage(image) } }),
    redirectDir:
      redirect === 'on' || redirect === 'off' || redirect === 'nofollow' ? redirect : 'follow',
  };
}

/** A path and the stacked mount that holds it. */
export interface Located {
  readonly mount: KnownMount;
  readonly layers: Layers;
  /** Path inside the mount; empty for its root. */
  readonly inside: string;
}

/**
 * Finds the mount of a path, varve's or any kernel overlay. The mount itself is not touched.
 * @returns undefined when the path lies in none. @throws MountError for an empty path: a variable that is not set would
 * otherwise mean the working directory.
 */
export async function locate(path: string): Promise<Located | undefined> {
  if (path === '') {
    throw new MountError('option', 'an empty argument: name a mount point or a path in one');
  }
  const known = await knownMounts();
  const table = mountTable();
  for (const absolute of [resolve(path), mountpointPath(path)]) {
    const entry = mountOf(absolute, table);
    if (entry === undefined) continue;
    const mount =
      known.find((m) => m.entry?.id === entry.id) ??
      (entry.type === 'overlay' ? fromTable(entry) : undefined);
    if (mount?.layers === undefined) continue;
    const inside = absolute.slice(entry.mountpoint === '/' ? 0 : entry.mountpoint.length);
    return { mount, layers: mount.layers, inside: inside.replace(/^\/+|\/+$/g, '') };
  }
  return undefined;
}

/** As locate(), of a mount point: not of a path below one. @throws MountError, of kind `absent` where it is none. */
export async function locateMount(path: string): Promise<Located> {
  const located = await locate(path);
  if (located?.inside === '') return located;
  throw new MountError(
    'absent',
    `${path}: not the mount point of a stack: \`varve status\` lists them`,
  );
}
