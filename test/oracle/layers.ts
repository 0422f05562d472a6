// Random layers as data, and their making on disk: the same steps build the same layer twice.
// Made by seed for campaign.ts; a step can be dropped when a failure is minimised.
// Follows: Documentation/filesystems/overlayfs.rst (whiteouts, opaque, redirect, xattr whiteouts).

import { AT, must, O, S, sys } from '../support/sys.js';
import type { Random } from './random.js';

/** One object of a layer. Steps are applied in order; what cannot be done is left out. */
export interface LayerStep {
  type: 'dir' | 'file' | 'symlink' | 'fifo' | 'socket' | 'chr' | 'link' | 'whiteout' | 'xwhiteout';
  path: string;
  /** Target of a symlink, or the path in the same layer that a link is made of. */
  to?: string;
  mode?: number;
  uid?: number;
  gid?: number;
  /** Bytes of a file, made from `seed`; a hole up to `hole` comes first. */
  size?: number;
  hole?: number;
  seed?: number;
  /** Value of trusted.overlay.opaque. */
  opaque?: 'y';
  redirect?: string;
  xattrs?: Record<string, string>;
  /** Seconds and nanoseconds. */
  mtime?: readonly [number, number];
}

/** Names that the campaign uses: few, so that layers and operations meet. One code unit a byte. */
export const names: readonly string[] = [
  ...['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'],
  '\xff\xfe',
  '\xc3\xbc',
  '.wh.a',
  'x:y,z',
  'sp ace',
  'back\\slash',
  'new\nline',
  '-dash',
];

const modes = [0o755, 0o777, 0o1777, 0o2775, 0o700, 0o750] as const;
const fileModes = [0o644, 0o600, 0o666, 0o755, 0o4755, 0o2755, 0o2644, 0o400, 0] as const;
const owners = [0, 0, 0, 1000, 1001] as const;
const sizes = [0, 1, 5, 100, 4095, 4096, 4097, 10_000, 70_000] as const;

/** A v2 security.capability value: cap_net_raw, permitted and effective. */
export const capability = '\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0';

/**
 * @param links whether files of a layer may have several names
 * @returns the layers, the lowest first
 */
export function makeLayers(random: Random, count: number, links: boolean): LayerStep[][] {
  const layers: LayerStep[][] = [];
  /** What the layers so far show; whiteouts may point at nothing as well. */
  const merged = new Map<string, LayerStep['type']>([['', 'dir']]);
  for (let i = 0; i < count; i++) layers.push(makeLayer(random, i > 0, links, merged));
  return layers;
}

function makeLayer(
  random: Random,
  above: boolean,
  links: boolean,
  merged: Map<string, LayerStep['type']>,
): LayerStep[] {
  const steps: LayerStep[] = [];
  const own = new Map<string, LayerStep['type']>([['', 'dir']]);
  const count = 8 + random.below(20);
  for (let i = 0; i < count; i++) {
    const kind = random.weighted([
      ['dir', 30],
      ['file', 40],
      ['symlink', 8],
      ['fifo', 2],
      ['socket', 1],
      ['chr', 2],
      ['link', links ? 8 : 0],
      ['whiteout', above ? 10 : 0],
      ['xwhiteout', above ? 3 : 0],
      ['renamed', above ? 4 : 0],
    ]);
    const folders = [...merged].filter(([path, type]) => type === 'dir' && depth(path) < 4);
    const parent = (random.pick(folders) as [string, string])[0];
    const taken = [...merged.keys()].filter((path) => path !== '' && parentOf(path) === parent);
    const name =
      taken.length > 0 && random.oneIn(2) ? baseOf(random.pick(taken)) : random.pick(names);
    add(kind, parent === '' ? name : `${parent}/${name}`);
  }
  return steps;

  function add(wanted: LayerStep['type'] | 'renamed', path: string): void {
    let kind = wanted;
    if (own.has(path) || !ensureParents(path)) return;
    if (kind === 'renamed') {
      addRenamed(path);
      return;
    }
    // A whiteout over nothing is listed by the kernel where only its layer shows, and in the way of rmdir(2).
    if ((kind === 'whiteout' || kind === 'xwhiteout') && !merged.has(path)) kind = 'file';
    // Only in the root, which is never removed: the kernel does not let go of a folder that has such a whiteout below,
    // though it shows nothing (ovl_check_empty_dir does not look whether an entry is one).
    if (kind === 'xwhiteout' && parentOf(path) !== '') kind = 'whiteout';
    if (kind === 'link') {
      const from = [...own].filter(([, type]) => type === 'file').map(([key]) => key);
      if (from.length === 0) return;
      push({ type: 'link', path, to: random.pick(from) });
      return;
    }
    push({ type: kind, path, ...attributes(kind) });
  }

  /** As a rename of a folder leaves it: a redirect to where it was and a whiteout there. */
  function addRenamed(path: string): void {
    const sources = [...merged].filter(
      ([from, type]) => type === 'dir' && from !== '' && !own.has(from) && !isBelow(path, from),
    );
    if (sources.length === 0) return;
    const from = (random.pick(sources) as [string, string])[0];
    if (!ensureParents(from)) return;
    push({ type: 'dir', path, ...attributes('dir'), opaque: undefined, redirect: `/${from}` });
    push({ type: 'whiteout', path: from });
  }

  function ensureParents(path: string): boolean {
    const parent = parentOf(path);
    if (own.has(parent)) return own.get(parent) === 'dir';
    if (!ensureParents(parent)) return false;
    push({ type: 'dir', path: parent, ...attributes('dir'), opaque: undefined });
    return true;
  }

  function push(step: LayerStep): void {
    steps.push(step);
    own.set(step.path, step.type);
    const hidden = step.type === 'whiteout' || step.type === 'xwhiteout';
    if (hidden || step.type !== 'dir' || step.opaque === 'y') {
      for (const path of merged.keys()) if (isBelow(path, step.path)) merged.delete(path);
    }
    if (!hidden) merged.set(step.path, step.type);
  }

  function attributes(type: LayerStep['type']): Partial<LayerStep> {
    const result: Partial<LayerStep> = {
      uid: random.pick(owners),
      gid: random.pick(owners),
      mtime: [1_000_000_000 + random.below(500_000_000), random.below(1_000_000_000)],
    };
    if (type === 'symlink') result.to = random.pick(['a', 'b', 'c/a', 'nowhere', './d', 'e/../a']);
    if (type === 'dir') {
      result.mode = random.pick(modes);
      if (above && random.oneIn(6)) result.opaque = 'y';
    } else result.mode = random.pick(fileModes);
    if (type === 'file') {
      result.size = random.pick(sizes);
      result.seed = random.below(1000);
      if (random.oneIn(8)) result.hole = 65_536 * (1 + random.below(4));
    }
    if ((type === 'file' || type === 'dir') && random.oneIn(4)) {
      result.xattrs = { [random.pick(['user.one', 'user.two', 'trusted.three'])]: 'value' };
      if (type === 'file' && random.oneIn(4)) result.xattrs['security.capability'] = capability;
    }
    return result;
  }
}

/** Makes a layer in an empty folder, as root. */
export function buildLayer(folder: string, steps: readonly LayerStep[]): void {
  const root = must(sys.open(AT.FDCWD, folder, O.DIRECTORY));
  sys.umask(0);
  const made = steps.filter((step) => buildStep(root, step));
  // Last, children before parents: making a child changes its folder's time.
  must(
    sys.utimens(root, '.', [
      [1_000_000_000, 0],
      [1_000_000_000, 0],
    ]),
  );
  for (const step of made.reverse()) {
    const time = step.mtime ?? ([1_100_000_000, 0] as const);
    if (step.type !== 'link') must(sys.utimens(root, step.path, [time, time], 0x100));
  }
  must(
    sys.utimens(root, '.', [
      [1_000_000_000, 0],
      [1_000_000_000, 0],
    ]),
  );
  sys.close(root);
}

function buildStep(root: number, step: LayerStep): boolean {
  const { path, mode = 0o755 } = step;
  if (!makeObject(root, step)) return false;
  if (step.type === 'whiteout' || step.type === 'link') return true;
  if (step.type === 'xwhiteout') {
    must(sys.setxattr(root, path, 'trusted.overlay.whiteout', Buffer.from('y')));
    // Tells the kernel that such files count: in this layer, and in its root.
    must(sys.setxattr(root, parentOf(path), 'trusted.overlay.opaque', Buffer.from('x')));
    return true;
  }
  must(sys.chown(root, path, step.uid ?? 0, step.gid ?? 0, AT.SYMLINK_NOFOLLOW));
  if (step.type !== 'symlink') must(sys.chmod(root, path, mode));
  for (const [key, value] of Object.entries(step.xattrs ?? {})) {
    must(sys.setxattr(root, path, key, Buffer.from(value, 'latin1')));
  }
  if (step.opaque !== undefined) {
    must(sys.setxattr(root, path, 'trusted.overlay.opaque', Buffer.from(step.opaque)));
  }
  if (step.redirect !== undefined) {
    const value = Buffer.from(step.redirect, 'latin1');
    must(sys.setxattr(root, path, 'trusted.overlay.redirect', value));
  }
  return true;
}

function makeObject(root: number, step: LayerStep): boolean {
  const { path, to = '' } = step;
  switch (step.type) {
    case 'dir':
      return sys.mkdir(root, path, 0o755) >= 0;
    case 'symlink':
      return sys.symlink(to, root, path) >= 0;
    case 'link':
      return sys.link(root, to, path) >= 0;
    case 'fifo':
      return sys.mknod(root, path, S.IFIFO | 0o644) >= 0;
    case 'socket':
      return sys.mknod(root, path, S.IFSOCK | 0o644) >= 0;
    case 'chr':
      return sys.mknod(root, path, S.IFCHR | 0o666, 0x103) >= 0;
    case 'whiteout':
      return sys.mknod(root, path, S.IFCHR, 0) >= 0;
    default: {
      const fd = sys.open(root, path, O.WRONLY | O.CREAT | O.EXCL, 0o644);
      if (fd < 0) return false;
      const { size = 0, hole = 0, seed = 0 } = step;
      if (step.type === 'file') {
        must(sys.ftruncate(fd, hole));
        must(sys.pwrite(fd, pattern(seed, size), hole));
      }
      sys.close(fd);
      return true;
    }
  }
}

/** Bytes that tell where they come from: no two seeds or offsets look alike. */
export function pattern(seed: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (seed * 31 + i * 7 + (i >>> 8) * 13 + 1) & 0xff;
  return bytes;
}

export const parentOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf('/')));
export const baseOf = (path: string) => path.slice(path.lastIndexOf('/') + 1);
export const depth = (path: string) => (path === '' ? 0 : path.split('/').length);

/** Also true for the folder itself. */
export function isBelow(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}
