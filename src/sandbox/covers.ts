// What a sandbox shows at each place of the file tree: overlays that take writes, overlays that take none, or something else.
// Called by ops/try; pure: the machine is a parameter. Carried out by new-root.ts.
// Kernel overlayfs takes no directory as a layer that has locked mounts below it (clone_private_mount(), fs/namespace.c);
// in a user namespace all mounts are locked: there such a directory is made anew and what is in it is covered one by one.

import type { MountEntry } from '../linux/mountinfo.js';
import { isBelow, isIn, visibleMounts } from './visible.js';

/**
 * write: an overlay whose upper is kept. read: an overlay without an upper; sockets and fifos in it are nobody's.
 * scratch: an overlay whose upper is forgotten. tmp: an empty tmpfs. frame: a directory made anew, to be filled by others.
 * link, file: what is in a frame: a symlink made anew, a file shown as it is.
 */
export type CoverKind = 'write' | 'read' | 'scratch' | 'tmp' | 'frame' | 'link' | 'file';

/** Paths are absolute, free of symlinks, bytes as latin1. */
export interface Cover {
  readonly kind: CoverKind;
  readonly path: string;
  /** Of a link. */
  readonly target?: string;
  readonly noexec?: boolean;
  /** Of a frame: what is written there directly is forgotten, where else it is refused. */
  readonly scratch?: boolean;
}

export type Kind = 'directory' | 'symlink' | 'file' | 'other';

/** What has to be known of the machine. */
export interface Machine {
  readonly mounts: readonly MountEntry[];
  /** Names and kinds in a directory; undefined where it may not be read. */
  list(path: string): readonly { name: string; kind: Kind }[] | undefined;
  kindOf(path: string): Kind | undefined;
  readlink(path: string): string;
}

export interface Wish {
  /** Directories that take writes. undefined: everything. Absolute, without symlinks. */
  readonly writable: readonly string[] | undefined;
  /** Of directories that must be made anew: those that take writes all the same. */
  readonly scratch: readonly string[];
  /** The mounts are locked together: not root of the initial user namespace. */
  readonly locked: boolean;
  /** Becomes an empty tmpfs: the runtime folder of the user. */
  readonly runtime?: string;
}

/** Shown by other means: see kernel-files.ts and devices.ts. */
export const SYSTEM_FOLDERS: readonly string[] = ['/proc', '/sys', '/dev'];
const RUN = '/run';

/** Filesystems that the kernel itself fills: nothing to be written to them is data. */
const PSEUDO = new Set([
  ...['proc', 'sysfs', 'devtmpfs', 'devpts', 'cgroup', 'cgroup2', 'securityfs', 'debugfs'],
  ...['tracefs', 'pstore', 'bpf', 'configfs', 'fusectl', 'mqueue', 'hugetlbfs', 'autofs'],
  ...['binfmt_misc', 'rpc_pipefs', 'nsfs', 'efivarfs', 'selinuxfs', 'nfsd', 'resctrl'],
]);

const inSystem = (path: string): boolean => SYSTEM_FOLDERS.some((folder) => isIn(path, folder));

/** The mounts in paths as bytes. */
function byteMounts(machine: Machine): MountEntry[] {
  return visibleMounts(machine.mounts).map((entry) => ({
    ...entry,
    mountpoint: Buffer.from(entry.mountpoint).toString('latin1'),
  }));
}

/** @returns covers, a directory before what is in it. */
export function planCovers(machine: Machine, wish: Wish): Cover[] {
  const mounts = byteMounts(machine);
  const covers = wish.locked
    ? lockedCovers(machine, wish, mounts)
    : mountCovers(machine, wish, mounts);
  const writable = (wish.writable ?? []).flatMap((path): Cover[] => {
    // Above the file tree that it is in; and what is mounted below it is written to as well.
    const inside = mounts.filter((entry) => isBelow(entry.mountpoint, path) && isData(entry));
    const below = wish.locked ? [] : inside.map((entry) => ofMount('write', entry));
    return [ofMount('write', { ...mountOf(mounts, path), mountpoint: path }), ...below];
  });
  const all = [...covers.filter((c) => !writable.some((w) => w.path === c.path)), ...writable];
  if (wish.runtime !== undefined) all.push({ kind: 'tmp', path: wish.runtime });
  // Stable: what was planned later for the same place comes later.
  return all.sort((a, b) => depth(a.path) - depth(b.path));
}

const depth = (path: string): number => (path === '/' ? 0 : path.split('/').length - 1);

const isData = (entry: MountEntry): boolean =>
  !PSEUDO.has(entry.type) && !inSystem(entry.mountpoint) && !isBelow(entry.mountpoint, RUN);

/** Where the real place is read-only the overlay is, too. */
function ofMount(kind: 'write' | 'read' | 'scratch', entry: MountEntry): Cover {
  const options = entry.options.split(',');
  const readOnly = options.includes('ro') || entry.superOptions.split(',').includes('ro');
  return {
    kind: kind === 'write' && readOnly ? 'read' : kind,
    path: entry.mountpoint,
    ...(options.includes('noexec') ? { noexec: true } : {}),
  };
}

function mountOf(mounts: readonly MountEntry[], path: string): MountEntry {
  return mounts.findLast((entry) => isIn(path, entry.mountpoint)) as MountEntry;
}

/** Root: a cover for each mount. */
function mountCovers(machine: Machine, { writable }: Wish, mounts: readonly MountEntry[]): Cover[] {
  const kind = writable === undefined ? 'write' : 'read';
  const covers = mounts.filter(isData).map((entry): Cover => {
    if (entry.mountpoint === RUN) return ofMount('scratch', entry);
    const file = machine.kindOf(entry.mountpoint) !== 'directory';
    return file ? { kind: 'file', path: entry.mountpoint } : ofMount(kind, entry);
  });
  const hasRun = covers.some((cover) => cover.path === RUN);
  if (!hasRun && machine.kindOf(RUN) === 'directory') covers.push({ kind: 'scratch', path: RUN });
  return covers;
}

/** In a user namespace: a cover for each of the largest trees without a mount in them. */
function lockedCovers(
  machine: Machine,
  wish: Pick<Wish, 'writable' | 'scratch'>,
  mounts: readonly MountEntry[],
  top = '/',
): Cover[] {
  const kind = wish.writable === undefined ? 'write' : 'read';
  const covers: Cover[] = [];
  const add = (path: string): void => {
    if (path !== '/' && inSystem(path)) return;
    const here = mountOf(mounts, path);
    if (!mounts.some((entry) => isBelow(entry.mountpoint, path))) {
      const data = isIn(path, RUN) ? 'read' : kind;
      covers.push(ofMount(data, { ...here, mountpoint: path }));
      return;
    }
    const scratch = wish.scratch.includes(path);
    covers.push({ kind: 'frame', path, ...(scratch ? { scratch } : {}) });
    for (const { name, kind: found } of machine.list(path) ?? []) {
      const inside = path === '/' ? `/${name}` : `${path}/${name}`;
      if (found === 'directory') add(inside);
      else if (found === 'file') covers.push({ kind: 'file', path: inside });
      else if (found === 'symlink') {
        covers.push({ kind: 'link', path: inside, target: machine.readlink(inside) });
      }
    }
  };
  add(top);
  return covers;
}

/**
 * What takes the place of a cover of a user namespace when something has been mounted below it since the plan was made: the
 * kernel takes no overlay of it then, and a bind would show its sockets. Nothing in it takes writes.
 * @param place where the sandbox itself has mounts. @returns undefined: nothing is mounted there.
 */
export function coversAround(machine: Machine, path: string, place: string): Cover[] | undefined {
  const mounts = byteMounts(machine).filter((entry) => !isIn(entry.mountpoint, place));
  if (!mounts.some((entry) => isBelow(entry.mountpoint, path))) return undefined;
  return lockedCovers(machine, { writable: [], scratch: [] }, mounts, path);
}

/** What is mounted below a directory that a user namespace therefore cannot overlay; undefined: nothing is. */
export function mountBelow(machine: Machine, path: string): string | undefined {
  return byteMounts(machine).find((entry) => isBelow(entry.mountpoint, path))?.mountpoint;
}
