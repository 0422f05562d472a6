// Opens the layers that a spec names and makes the filesystem of them: the overlay, or one image alone.
// Called once by stack/server.ts before the session starts.
// Layer rules follow Documentation/filesystems/overlayfs.rst; the workdir's folders fs/overlayfs/super.c.

import { passthroughPermitted } from '../fuse/server.js';
import { ImageFileSystem } from '../imagefs/image-filesystem.js';
import { DirectoryLayer, setFdLimit } from '../layer/directory.js';
import { ErofsLayer } from '../layer/erofs.js';
import type { Layer } from '../layer/layer.js';
import type { LoaderClient } from '../lazy/client.js';
import { AT, MAGIC, O } from '../linux/constants.js';
import { check, E, errnoName } from '../linux/errno.js';
import {
  close,
  fsync,
  mkdirAt,
  openAt,
  Statx,
  statAt,
  statBuffer,
  statFd,
} from '../linux/files.js';
import { mapMemory, scratch, u32 } from '../linux/memory.js';
import { CAP, hasCapability, raiseFileLimit } from '../linux/process.js';
import type { IdMap, OverlayConfig } from '../overlay/config.js';
import { OverlayFileSystem } from '../overlay/filesystem.js';
import { heightAt } from '../overlay/heights.js';
import { keysOf, type Space } from '../overlay/numbers.js';
import { askForChange, inherited, isSuccessor, keep } from '../supervisor/orders.js';
import type { FileSystem } from '../vfs/filesystem.js';
import { LAYER_KEYS } from '../vfs/layout.js';
import { claimUpper } from './claim.js';
import { openComposefs } from './composefs-open.js';
import { withoutLower } from './detach.js';
import { MountError } from './errors.js';
import { finishInterrupted } from './freeze.js';
import { identityOf } from './identity.js';
import { openImage } from './image-open.js';
import { devicesOfImages, isImage } from './images.js';
import type { DropChange } from './layer-change.js';
import { openLayerStore } from './layer-store-open.js';
import { openLower, openUpperSide, putPath, type UpperSide } from './open-dirs.js';
import { overrideStatOf } from './override-stat.js';
import type { IdRange, MountSpec } from './spec.js';

// Scratch of this thread that no system call wrapper uses: a file handle.
const HANDLE_AT = 0x23000;

/** File descriptors left for open files when layer directories take theirs. */
const FD_SHARE = 4;

/**
 * Opens the layers, claims the upper, prepares the workdir. A successor has the descriptors of its predecessor, and names
 * no path again: the mount point may cover a layer, a folder may have been renamed.
 * @param loading waits for content of layers that are not complete.
 * @throws MountError of kind `layer` when a layer cannot be opened or the workdir cannot be prepared, `busy` when another
 * live mount uses the upper.
 */
export function openFileSystem(spec: MountSpec, loading?: LoaderClient): FileSystem {
  if (spec.composefs !== undefined) return openComposefs(spec.composefs, spec.acl);
  if (spec.layerStore !== undefined) return openLayerStore(spec.layerStore, loading);
  return spec.raw ? openImageAlone(spec, loading) : openOverlay(spec, loading);
}

/** The filesystem of one image, as it is. */
function openImageAlone(spec: MountSpec, loading: LoaderClient | undefined): FileSystem {
  const path = spec.lowerdirs[0] as string;
  const devices = isSuccessor() ? inheritedDevices('image') : devicesOfImages(spec).get(path);
  const serving = { keepAs: 'image', loading };
  const { image, close } = openImage(path, devices, undefined, serving);
  const trusted = passthroughPermitted();
  return new ImageFileSystem({ image, label: path, log: toLog, close, trusted });
}

const toLog = (line: string): void => console.error(`varve: ${line}`);

function openOverlay(spec: MountSpec, loading?: LoaderClient): FileSystem {
  if (spec.readOnly && spec.upperdir !== undefined) {
    // Read-only with an upper: it is one more layer to read, the topmost.
    const { upperdir, workdir: _, ...rest } = spec;
    return openOverlay({ ...rest, lowerdirs: [upperdir, ...spec.lowerdirs] }, loading);
  }
  setFdLimit(Math.max(64, Math.floor(raiseFileLimit() / FD_SHARE)));
  const full = hasCapability(CAP.SYS_ADMIN);
  const numbered: Numbered[] = [];
  const { lowers, dataLayers } = openLowers(spec, full, numbered, loading);
  let upper: DirectoryLayer | undefined;
  let folders: { work: number; index: number } | undefined;
  if (spec.upperdir !== undefined) {
    const side = inheritedUpperSide() ?? openUpperSide(spec, full);
    if (!isSuccessor()) claimUpper(spec, side.upper, side.workdir);
    upper = layerOf(
      spec.upperdir,
      0,
      keep('upper', () => side.upper),
      numbered,
    );
    identify(spec, numbered);
    folders = inheritedFolders() ?? prepareWorkdir(spec, side, lowers, upper.key);
  } else {
    identify(spec, numbered);
  }
  const work = { workFd: folders?.work ?? -1, indexFd: folders?.index ?? -1 };
  return new OverlayFileSystem(configOf(spec, { upper, lowers, dataLayers, ...work }));
}

/**
 * The overlay of a spec for looking at it, while it is mounted or not: nothing is claimed, prepared or written.
 * @throws MountError of kind `layer` when a layer cannot be opened.
 */
export function openToRead(spec: MountSpec): OverlayConfig {
  mapMemory();
  const full = hasCapability(CAP.SYS_ADMIN);
  const numbered: Numbered[] = [];
  const { lowers, dataLayers } = openLowers(spec, full, numbered);
  const upperPath = spec.upperdir as string;
  const upper = layerOf(upperPath, 0, openLower(upperPath, full), numbered);
  identify(spec, numbered);
  const index = `${spec.workdir}/index`;
  const indexed = spec.index && lowers.every(hasHandles);
  const fd = indexed ? openAt(AT.FDCWD, putPath(index), O.RDONLY | O.DIRECTORY) : -1;
  if (fd < 0 && indexed && fd !== -E.NOENT) {
    throw new MountError('layer', `workdir: ${index}: cannot be opened (${errnoName(fd)})`);
  }
  return configOf(spec, { upper, lowers, dataLayers, workFd: -1, indexFd: Math.max(fd, -1) });
}

/** The layers that are only read, topmost first. A successor takes what its predecessor opened. */
function openLowers(
  spec: MountSpec,
  full: boolean,
  numbered: Numbered[],
  loading?: LoaderClient,
): { readonly lowers: Layer[]; readonly dataLayers: Layer[] } {
  const devices = isSuccessor() ? undefined : devicesOfImages(spec);
  const open = (path: string, index: number): Layer => {
    if (isSuccessor() ? wasImage(index) : isImage(path)) {
      const further =
        devices === undefined ? inheritedDevices(`layer ${index}`) : devices.get(path);
      return imageLayer(path, further, index, numbered, spec.userxattr, loading);
    }
    const root = keep(`layer ${index}`, () => openLower(path, full));
    return layerOf(path, index, root, numbered);
  };
  const lowers = spec.lowerdirs.map((path, i) => open(path, i + 1));
  const dataLayers = spec.datadirs.map((path, i) => open(path, lowers.length + 1 + i));
  return { lowers, dataLayers };
}

type Parts = Pick<OverlayConfig, 'upper' | 'lowers' | 'dataLayers' | 'workFd' | 'indexFd'>;

function configOf(spec: MountSpec, parts: Parts): OverlayConfig {
  return {
    ...parts,
    redirectFollow: spec.redirectDir !== 'nofollow',
    redirectCreate: spec.redirectDir === 'on',
    metacopy: spec.metacopy,
    userxattr: spec.userxattr,
    aufsWhiteouts: spec.whiteouts === 'aufs',
    sync: !spec.volatile && spec.fsync && syncMatters(parts.upper),
    fsync: !spec.volatile && spec.fsync,
    xattrs: spec.xattrs,
    staticNlink: spec.staticNlink,
    ino32: spec.ino32,
    uids: idMap(spec.uidMapping),
    gids: idMap(spec.gidMapping),
    squashUid: spec.squashUid,
    squashGid: spec.squashGid,
    privileged: hasCapability(CAP.CHOWN),
    passthrough: true,
    nfsExport: spec.nfsExport,
    gone: spec.gone ?? [],
    detaching: detachingOf(spec),
    overrideStat: overrideStatOf(spec.xattrPermissions),
  };
}

/** What the server that has filled the upper asks for: a successor without the layer (change-layers.ts). */
function detachingOf(spec: MountSpec): OverlayConfig['detaching'] {
  if (spec.detaching === undefined) return undefined;
  const { next, index } = withoutLower(spec, spec.detaching.place);
  const how: DropChange = { kind: 'drop', index };
  return { index, done: () => askForChange({ reason: 'detach', spec: next, how }) };
}

/** On tmpfs nothing survives a crash, so nothing has to be synced before it is published. */
function syncMatters(upper: Layer | undefined): boolean {
  return upper !== undefined && upper.magic !== MAGIC.TMPFS;
}

/** A layer, and what its inode numbers are to be made of. */
interface Numbered {
  readonly layer: DirectoryLayer | ErofsLayer;
  readonly space: Space;
}

/** What layers are called in inode numbers and in origin marks: known when all of them are open. */
function identify(spec: MountSpec, numbered: readonly Numbered[]): void {
  setKeys(numbered, spec.gone ?? []);
  // As in the kernel: of several filesystems the marks have to tell which one they mean.
  const isOne = new Set(numbered.map(({ space }) => nameOf(space))).size === 1;
  if (spec.uuid === 'off' && isOne) for (const { layer } of numbered) layer.uuid = NO_UUID;
}

const NO_UUID = new Uint8Array(16);

/** The upper first, then from the bottom: of filesystems that are copies of each other, one that joins on top changes nothing. */
function setKeys(numbered: readonly Numbered[], gone: readonly number[]): void {
  const rank = ({ layer }: Numbered): number => (layer.index === 0 ? Infinity : layer.index);
  const inOrder = [...numbered].sort((a, b) => rank(b) - rank(a));
  const keys = keysOf(inOrder.map(({ space }) => space));
  // By height: a layer that joins on top changes nobody's.
  const top = Math.max(...numbered.map(({ layer }) => layer.index));
  const wordOf = ({ index }: Layer): number => (LAYER_KEYS >>> 2) + heightAt(top + 1 - index, gone);
  // A predecessor's keys stay: what a filesystem is called may not be found out any more, when it was unmounted meanwhile.
  const known = new Map<string, number>();
  for (const { layer, space } of inOrder) {
    const key = u32[wordOf(layer)] as number;
    if (key !== 0) known.set(nameOf(space), key);
  }
  for (const [i, { layer, space }] of inOrder.entries()) {
    const at = wordOf(layer);
    if (u32[at] === 0) u32[at] = known.get(nameOf(space)) ?? (keys[i] as number);
    layer.key = u32[at] as number;
  }
}

/** Of two layers on one filesystem it is the same. */
function nameOf({ identity, place }: Space): string {
  return `${Buffer.from(identity).toString('hex')} ${place}`;
}

/** Makes a layer of an opened directory. */
function layerOf(path: string, index: number, root: number, numbered: Numbered[]): DirectoryLayer {
  check(statFd(root), 'statx', path);
  const s = statBuffer() >>> 2;
  const device = `${u32[s + (Statx.dev_major >>> 2)]}:${u32[s + (Statx.dev_minor >>> 2)]}`;
  const real = openAt(root, putPath('.'), O.RDONLY | O.DIRECTORY);
  const space = identityOf(root, real, device);
  if (real >= 0) close(real);
  const { uuid, magic } = space;
  const layer = new DirectoryLayer({ index, label: path, rootFd: root, uuid, magic });
  numbered.push({ layer, space });
  return layer;
}

/** Opens an EROFS image. */
function imageLayer(
  path: string,
  devices: readonly string[] | undefined,
  index: number,
  numbered: Numbered[],
  userxattr: boolean,
  loading: LoaderClient | undefined,
): ErofsLayer {
  const serving = { keepAs: `layer ${index}`, loading };
  const { image, identity, wide, late, hasTrustedMarks, close } = openImage(
    path,
    devices,
    undefined,
    serving,
  );
  const showsTrustedAsUser = userxattr && hasTrustedMarks;
  const what = { index, label: path, image, log: toLog, close, late };
  const layer = new ErofsLayer({ ...what, showsTrustedAsUser });
  // An image that is there twice is two filesystems.
  numbered.push({ layer, space: { identity, wide, place: `image ${index}` } });
  return layer;
}

/** Whether a predecessor's layer was an image. Looking at its path might be a request to this very server. */
function wasImage(index: number): boolean {
  return inherited(`layer ${index} file 0`) !== undefined;
}

/** The further devices that a predecessor's image had, by name; their descriptors are there. */
function inheritedDevices(keepAs: string): string[] {
  const names: string[] = [];
  while (inherited(`${keepAs} file ${names.length + 1}`) !== undefined) {
    names.push(`further device ${names.length + 1}`);
  }
  return names;
}

/** What a predecessor opened; its work directory itself is not needed any more. */
function inheritedUpperSide(): UpperSide | undefined {
  const upper = inherited('upper');
  return upper === undefined ? undefined : { upper, workdir: -1 };
}

/** What a predecessor prepared. A volatile upper is as clean as its mount: only a new mount asks. */
function inheritedFolders(): { work: number; index: number } | undefined {
  const work = inherited('work');
  return work === undefined ? undefined : { work, index: inherited('index') ?? -1 };
}

/** Prepares `work` (the overlay empties it of what an interrupted operation left) and `index`. */
function prepareWorkdir(
  spec: MountSpec,
  { upper, workdir }: UpperSide,
  lowers: readonly Layer[],
  key: number,
): { work: number; index: number } {
  const path = spec.workdir as string;
  if (statAt(workdir, putPath('work/incompat/volatile')) >= 0) {
    throw new MountError(
      'layer',
      `upperdir: ${spec.upperdir}: was mounted volatile before and may be incomplete since a crash: discard it, or, if there was none, remove ${path}/work/incompat`,
    );
  }
  if (statAt(workdir, putPath('work/incompat/rebase')) >= 0) {
    throw new MountError(
      'layer',
      `upperdir: ${spec.upperdir}: a rebase of it was interrupted: finish it with \`varve rebase --resume -o upperdir=${spec.upperdir},workdir=${path}\``,
    );
  }
  const work = keep('work', () => folder(workdir, 'work', path));
  if (spec.volatile) {
    folder(work, 'incompat', path);
    // On disk before anything else is: what a crash takes away includes what programs believe to be synced.
    const mark = folder(work, 'incompat/volatile', path);
    check(fsync(mark), 'fsync', `${path}/work/incompat/volatile`);
    close(mark);
  }
  const indexed = spec.index && lowers.length > 0 && lowers.every(hasHandles);
  const index = indexed ? keep('index', () => folder(workdir, 'index', path)) : -1;
  close(workdir);
  const prefix = spec.userxattr ? 'user.overlay.' : 'trusted.overlay.';
  const privileged = hasCapability(CAP.CHOWN);
  finishInterrupted({ work, index, prefix, key, privileged }, upper);
  return { work, index };
}

function folder(parent: number, name: string, path: string): number {
  const made = mkdirAt(parent, putPath(name), 0o700);
  // Not O_PATH: syncfs(2) is called on it.
  const fd = openAt(parent, putPath(name), O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
  if (fd < 0) {
    const reason = errnoName(made < 0 && made !== -E.EXIST ? made : fd);
    throw new MountError('layer', `workdir: ${path}/${name}: cannot be made (${reason})`);
  }
  return fd;
}

/** Whether the layer's filesystem gives file handles, which the index is keyed by. */
function hasHandles(layer: Layer): boolean {
  return layer.handle(layer.root, putPath(''), scratch + HANDLE_AT) > 0;
}

/** A mapping of ids, or undefined when there is none; ids outside of it are shown as the overflow id. */
function idMap(ranges: readonly IdRange[]): IdMap | undefined {
  if (ranges.length === 0) return undefined;
  const OVERFLOW = 65534;
  return {
    show(id) {
      const r = ranges.find((range) => id >= range.outside && id < range.outside + range.count);
      return r === undefined ? OVERFLOW : r.inside + (id - r.outside);
    },
    store(id) {
      const r = ranges.find((range) => id >= range.inside && id < range.inside + range.count);
      return r === undefined ? OVERFLOW : r.outside + (id - r.inside);
    },
  };
}
