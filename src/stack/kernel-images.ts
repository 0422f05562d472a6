// Images for the kernel's overlayfs: each is mounted for a moment, so that the overlay can take it as a layer.
// Used by kernel-mount.ts. The overlay keeps what it needs of the mounts; they are detached before this returns.
// Follows: fs/erofs/super.c (block devices; files since Linux 6.12; `device=`), mount(2), open(2) on O_TMPFILE.

import {
  closeSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { LayerFolder } from '../lazy/layer-folder.js';
import { AT, MNT, MS, O } from '../linux/constants.js';
import { check, E, errnoName } from '../linux/errno.js';
import { openAt } from '../linux/files.js';
import { attachLoop, type LoopDevice } from '../linux/loop.js';
import { mapMemory } from '../linux/memory.js';
import { mount, umount2 } from '../linux/mount.js';
import { lockFile } from '../linux/peer.js';
import { KernelRefusal } from './errors.js';
import { type DigestedFiles, requireDigest } from './image-digest.js';
import { devicesOfImages, isCompressed, isImage } from './images.js';
import { putPath } from './open-dirs.js';

/** Of the folders in which images are mounted for a moment. */
const PREFIX = 'images-';
/**
 * KiB that the kernel reads ahead, and around a fault, in a layer that is not complete: about a chunk, for each chunk that is
 * touched is fetched. 4096 saves three of four events of a sequential read and fetches megabytes around each page that is run.
 */
const LAZY_READAHEAD = 128;
/** Milliseconds in which a folder without a lock is left alone. */
const YOUNG = 10_000;

/** How the messages of a kernel mount name what was asked for, and what else there is. */
export interface Asked {
  /** `backend=kernel` */
  readonly what: string;
  /** `--backend=fuse` */
  readonly instead: string;
}

/** How images are mounted. */
interface ImageMounting {
  /** Where. */
  readonly folder: string;
  readonly asked: Asked;
  /** Folders of lazy layers whose blobs the loader has marked. */
  readonly loaded: ReadonlySet<string>;
}

/**
 * Calls `work` with the lowerdirs as directories: images are mounted meanwhile.
 * @throws KernelRefusal of kind `permission` for an image that the kernel shall not trust, `layer` for one that it refuses.
 */
export function withMountedImages(
  files: DigestedFiles,
  how: ImageMounting,
  work: (directories: readonly string[]) => void,
): void {
  const { lowerdirs, digests } = files;
  if (!lowerdirs.some(isImage)) {
    work(lowerdirs);
    return;
  }
  const devices = devicesOfImages(files);
  const { folder } = how;
  sweep(folder);
  const base = mkdtempSync(join(folder, PREFIX));
  const lock = openSync(base, 'r');
  lockFile(lock);
  const mounted: string[] = [];
  try {
    const directories = lowerdirs.map((path, i) => {
      if (!isImage(path)) return path;
      const directory = join(base, String(i));
      mkdirSync(directory);
      mounted.push(directory);
      const lazy = LayerFolder.ofImage(path);
      if (lazy?.isComplete === false) {
        mountLazy(lazy, directory, how);
      } else {
        mountErofs(path, devices.get(path) ?? [], digestsFor(lazy, digests), directory, how.asked);
        if (lazy !== undefined) requireComplete(lazy, how.asked);
      }
      return directory;
    });
    work(directories);
  } finally {
    for (const directory of mounted) {
      umount2(directory, MNT.DETACH);
      rmdirSync(directory);
    }
    rmdirSync(base);
    closeSync(lock);
  }
}

/** Now that the kernel has it open: `varve evict` takes the word away first, and then looks whether anybody has (load/evict.ts). */
function requireComplete(layer: LayerFolder, asked: Asked): void {
  if (layer.isComplete) return;
  throw new KernelRefusal(
    'busy',
    `${asked.what}: ${layer.path}: its content was taken back just now: take ${asked.instead}, or mount it again`,
  );
}

/** A layer whose id is named has been compared as a whole (layer-digest.ts): its files have digests of their own. */
function digestsFor(layer: LayerFolder | undefined, digests: readonly string[]): readonly string[] {
  return layer !== undefined && digests.includes(layer.read().id) ? [] : digests;
}

/** Removes what a killed process left: folders that nobody holds a lock on any more, and the images mounted in them. */
function sweep(folder: string): void {
  for (const name of readdirSync(folder)) {
    if (!name.startsWith(PREFIX)) continue;
    const base = join(folder, name);
    let fd = -1;
    try {
      fd = openSync(base, 'r');
      // A folder is locked right after it was made.
      if (Date.now() - fstatSync(fd).mtimeMs < YOUNG || lockFile(fd) < 0) continue;
      for (const inside of readdirSync(base)) {
        umount2(join(base, inside), MNT.DETACH);
        rmdirSync(join(base, inside));
      }
      rmdirSync(base);
    } catch {
      // Somebody else was faster.
    } finally {
      if (fd >= 0) closeSync(fd);
    }
  }
}

/**
 * Mounts a layer whose content is not all here. From files: a loop device would read ahead of those who wait, in a thread of its
 * own, and keep what it has read.
 */
function mountLazy(layer: LayerFolder, directory: string, { asked, loaded }: ImageMounting): void {
  if (!loaded.has(layer.path)) {
    throw new KernelRefusal(
      'layer',
      `${asked.what}: ${layer.path}: not all of this layer is here, and the kernel would read zeros: take ${asked.instead}`,
    );
  }
  const meta = openTrusted(layer.meta, [], asked);
  // Opened after it was marked: what the kernel opens by this name, too, waits for what is not here.
  const blob = openTrusted(layer.blob, [], asked);
  try {
    const before = new Set(erofsQueues());
    const source = `/proc/self/fd/${meta}`;
    const flags = MS.RDONLY | MS.NODEV | MS.NOSUID;
    const r = mount(source, directory, 'erofs', flags, `device=/proc/self/fd/${blob}`);
    if (r < 0) {
      throw new KernelRefusal(
        'layer',
        `${asked.what}: ${layer.path}: the kernel cannot mount this layer from files (${errnoName(r)}: dmesg has the reason): take ${asked.instead}`,
      );
    }
    const fresh = erofsQueues().filter((name) => !before.has(name));
    // Another one may have been mounted meanwhile: whose is whose cannot be told.
    if (fresh.length === 1) setQueueReadahead(fresh[0] as string, LAZY_READAHEAD);
  } finally {
    closeSync(meta);
    closeSync(blob);
  }
}

const QUEUES = '/sys/class/bdi';

/** Of EROFS mounted from files, by the kernel's running number. */
function erofsQueues(): string[] {
  try {
    return readdirSync(QUEUES).filter((name) => name.startsWith('erofs-'));
  } catch {
    return [];
  }
}

function setQueueReadahead(name: string, kib: number): void {
  try {
    writeFileSync(`${QUEUES}/${name}/read_ahead_kb`, String(kib));
  } catch {
    // /sys is not mounted, or not to be written to: the default of 128 KiB stays.
  }
}

/** Mounts one image, read-only. */
function mountErofs(
  path: string,
  devices: readonly string[],
  digests: readonly string[],
  directory: string,
  asked: Asked,
): void {
  const files = [path, ...devices];
  const fds: number[] = [];
  const loops: LoopDevice[] = [];
  try {
    for (const file of files) fds.push(openTrusted(file, digests, asked));
    if (isReadFaster(path, fds) && mountFrom(fds.map(byDescriptor), directory) >= 0) return;
    const r = mountFrom(
      fds.map((fd, i) => blockDevice(fd, files[i] as string, loops)),
      directory,
    );
    if (r >= 0) return;
    const why = r === -E.NODEV ? 'it has no EROFS' : `${errnoName(r)}: dmesg has the reason`;
    throw new KernelRefusal(
      'layer',
      `${asked.what}: ${path}: the kernel cannot mount this image (${why}): take ${asked.instead}`,
    );
  } finally {
    // The mount keeps what it has.
    for (const loop of loops) loop.close();
    for (const fd of fds) closeSync(fd);
  }
}

/** @returns 0 or -errno. */
function mountFrom(paths: readonly string[], directory: string): number {
  const [main, ...further] = paths as [string, ...string[]];
  const options = further.map((path) => `device=${path}`).join(',');
  return mount(main, directory, 'erofs', MS.RDONLY | MS.NODEV | MS.NOSUID, options);
}

/** The name may be another file's by now. */
const byDescriptor = (fd: number): string => `/proc/self/fd/${fd}`;

/**
 * Whether an image is read faster from its files than through loop devices, by kernels that can (6.12): a cold tree in 0.6 of
 * the time. Compressed ones are not: their metadata, in pieces between the content, takes 1.7 times as long (docs/decisions).
 */
function isReadFaster(path: string, fds: readonly number[]): boolean {
  const [major = 0, minor = 0] = release().split('.', 2).map(Number);
  if (major < 6 || (major === 6 && minor < 12)) return false;
  return !isCompressed(path) && fds.every((fd) => fstatSync(fd).isFile());
}

/** A block device as it is, a file as a loop device, or by itself where there is none (in a container). */
function blockDevice(fd: number, path: string, loops: LoopDevice[]): string {
  if (fstatSync(fd).isBlockDevice()) return path;
  try {
    const loop = attachLoop(byDescriptor(fd));
    loops.push(loop);
    return loop.path;
  } catch {
    return byDescriptor(fd);
  }
}

/**
 * The kernel parses an image with its own rights: it gets only bytes that nobody else could have written, or whose digest
 * the user named, and then a copy, which nobody else can write to any more.
 * @returns a descriptor.
 */
function openTrusted(path: string, digests: readonly string[], asked: Asked): number {
  const fd = openSync(path, 'r');
  let copy = -1;
  try {
    const stat = fstatSync(fd);
    // A group that may write to disks is as good as root.
    const isClosed = stat.isBlockDevice() || (stat.mode & 0o022) === 0;
    const isOwn = stat.uid === (process.geteuid?.() ?? 0) && isClosed;
    if (!isOwn && digests.length === 0) {
      throw new KernelRefusal(
        'permission',
        `${asked.what}: ${path}: others could have written this image, and the kernel would trust it: take ${asked.instead}, make it your own (chown, chmod go-w), or name its digest (-o digest=...)`,
      );
    }
    if (!isOwn) copy = temporaryFile();
    if (digests.length > 0) requireDigest(fd, path, digests, isOwn ? undefined : copy);
  } catch (error) {
    closeSync(fd);
    if (copy >= 0) closeSync(copy);
    throw error;
  }
  if (copy < 0) return fd;
  closeSync(fd);
  return copy;
}

/** A file without a name, for what may be large: it is gone with its last user, whatever happens. */
function temporaryFile(): number {
  const folder = process.env['TMPDIR'] ?? '/var/tmp';
  mapMemory();
  return check(openAt(AT.FDCWD, putPath(folder), O.RDWR | O.TMPFILE, 0o600), 'open', folder);
}
