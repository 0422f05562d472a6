// Who uses an image now: processes by a lock on its file, kernel mounts that outlive them by a pin in the store.
// Asked by gc before anything is removed; mounts call holdImage(), holdStore() and pinImage().
// Follows: flock(2), which ends with the process; proc_pid_mountinfo(5); boot_id of proc_sys_kernel(5).

import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { O } from '../linux/constants.js';
import { mapMemory } from '../linux/memory.js';
import { parseMountInfo } from '../linux/mountinfo.js';
import { lockFile } from '../linux/peer.js';
import { isDigest } from './objects.js';

/** Below the store: one file for each mount that the kernel serves. */
const PINS = '.varve/pins';

/**
 * Keeps gc away from an image of a store, and from its objects, as long as `fd` or a duplicate of it is open in any process.
 * @param fd the image's file, opened for reading. @returns false when gc is taking it away, or has: it must not be used.
 */
export function holdImage(fd: number): boolean {
  mapMemory();
  if (lockFile(fd, true) < 0) return false;
  return fstatSync(fd).nlink > 0;
}

/**
 * Keeps gc away from a whole store: for an image that is not in it, whose objects nobody else knows.
 * @param path the store. @returns a descriptor to be kept open, undefined when gc is at work. @throws the error of open(2).
 */
export function holdStore(path: string): number | undefined {
  mapMemory();
  const fd = openSync(path, O.RDONLY | O.DIRECTORY);
  if (lockFile(fd, true) >= 0) return fd;
  closeSync(fd);
  return undefined;
}

/** A mount by which the kernel uses an image. */
export interface Pin {
  /** The image. */
  readonly digest: string;
  readonly mountpoint: string;
  /** Mount id in the mount namespace, and st_dev as mountinfo has it. */
  readonly mount: number;
  readonly device: string;
  /** Inode number of the mount namespace. */
  readonly namespace: string;
  readonly boot: string;
}

/**
 * Notes that the kernel has an image mounted: gc leaves it alone until that mount is gone from its namespace.
 * Call it while holdImage() still holds. @throws the error of node:fs when the store cannot be written.
 */
export function pinImage(store: string, digest: string, mountpoint: string): void {
  const entry = parseMountInfo(readFileSync('/proc/self/mountinfo', 'latin1')).findLast(
    (mount) => mount.mountpoint === mountpoint,
  );
  if (entry === undefined) throw new Error(`pin: nothing is mounted at ${mountpoint}`);
  const pin: Pin = {
    digest,
    mountpoint,
    mount: entry.id,
    device: entry.device,
    namespace: readlinkSync('/proc/self/ns/mnt'),
    boot: bootId(),
  };
  const folder = join(store, PINS);
  mkdirSync(folder, { recursive: true });
  const name = `${digest.slice(0, 16)}-${randomBytes(6).toString('hex')}`;
  const temporary = join(folder, `.varve-${name}`);
  writeFileSync(temporary, `${JSON.stringify(pin)}\n`, { flush: true });
  renameSync(temporary, join(folder, name));
}

/**
 * The pins of mounts that are there, or may be: a namespace that this user cannot look into counts as alive.
 * @param sweep removes the others.
 */
export function livePins(store: string, sweep: boolean): Pin[] {
  const folder = join(store, PINS);
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  const live: Pin[] = [];
  let namespaces: Namespaces | undefined;
  for (const name of names) {
    const path = join(folder, name);
    const pin = name.startsWith('.') ? undefined : readPin(path);
    if (pin !== undefined && pin.boot === bootId()) {
      namespaces ??= readNamespaces();
      if (mayBeMounted(pin, namespaces)) {
        live.push(pin);
        continue;
      }
    }
    if (sweep) rmSync(path, { force: true });
  }
  return live;
}

/** @returns undefined for what is no pin. */
function readPin(path: string): Pin | undefined {
  try {
    const pin = JSON.parse(readFileSync(path, 'utf8')) as Partial<Pin> | null;
    return typeof pin?.digest === 'string' && isDigest(pin.digest) ? (pin as Pin) : undefined;
  } catch {
    return undefined;
  }
}

const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();

/** Mount namespaces that have processes. */
interface Namespaces {
  /** A process of each. */
  readonly known: ReadonlyMap<string, string>;
  /** Some processes may not be looked at. */
  readonly hidden: boolean;
}

function readNamespaces(): Namespaces {
  const known = new Map([[readlinkSync('/proc/self/ns/mnt'), 'self']]);
  let hidden = false;
  for (const pid of readdirSync('/proc')) {
    if (!/^[0-9]+$/.test(pid)) continue;
    try {
      const namespace = readlinkSync(`/proc/${pid}/ns/mnt`);
      if (!known.has(namespace)) known.set(namespace, pid);
    } catch (error) {
      // ENOENT: it has ended.
      hidden ||= (error as NodeJS.ErrnoException).code === 'EACCES';
    }
  }
  return { known, hidden };
}

function mayBeMounted(pin: Pin, { known, hidden }: Namespaces): boolean {
  const pid = known.get(pin.namespace);
  if (pid === undefined) return hidden;
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/mountinfo`, 'latin1');
  } catch {
    return true;
  }
  return parseMountInfo(text).some(({ id, device }) => id === pin.mount && device === pin.device);
}
