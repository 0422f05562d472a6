// The boot filesystem as a storage-init sees it: how a path below /boot is called from the root of its filesystem.
// Used by install.ts for what the mini-initramfs and loader entries name.
// Follows: proc_pid_mountinfo(5) (the field `root`), blkid(8).

import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import { type MountEntry, mountOf } from '../../linux/mountinfo.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import { runTool } from '../run-tool.js';

export interface BootPlace {
  /** Absolute, without symlinks. */
  readonly folder: string;
  /** What stands before a path below the folder, from the root of the filesystem; empty where the folder is that root. */
  readonly prefix: string;
  /** The device that is mounted; undefined: none is known (an overlay, a tmpfs). */
  readonly device: string | undefined;
  readonly type: string | undefined;
}

/** @throws MountError of kind `absent`. */
export function bootPlace(path: string): BootPlace {
  let folder: string;
  try {
    folder = realpathSync(path);
  } catch (error) {
    throw new MountError(
      'absent',
      `${path}: ${reasonOf(error)}: mount the boot filesystem, or name it by --boot`,
    );
  }
  const mount = mountOf(folder);
  const inside = mount === undefined ? folder : folder.slice(mount.mountpoint.length);
  const prefix = join('/', mount?.root ?? '/', inside);
  return {
    folder,
    prefix: prefix === '/' ? '' : prefix,
    device: deviceOf(mount),
    type: deviceOf(mount) === undefined ? undefined : mount?.type,
  };
}

function deviceOf(mount: MountEntry | undefined): string | undefined {
  return mount?.source.startsWith('/dev/') ? mount.source : undefined;
}

/** What blkid says about a device; empty where it says nothing. */
export async function tagsOf(device: string): Promise<Readonly<Record<string, string>>> {
  const { stdout } = await runTool('blkid', ['-o', 'export', device], { expected: [2] });
  const tags: Record<string, string> = {};
  for (const line of stdout.toString().split('\n')) {
    const at = line.indexOf('=');
    // blkid writes a space as `\ `.
    if (at > 0) tags[line.slice(0, at)] = line.slice(at + 1).replace(/\\(.)/g, '$1');
  }
  return tags;
}

/**
 * Whether the storage-init will look where the images are put.
 * @returns why not; undefined: it will, or nobody can tell.
 */
export async function otherDevice(bootfs: string, place: BootPlace): Promise<string | undefined> {
  if (place.device === undefined || bootfs === 'initrd') return undefined;
  if (bootfs.startsWith('/dev/')) {
    return realpathOf(bootfs) === realpathOf(place.device)
      ? undefined
      : `${place.folder} lies on ${place.device}`;
  }
  const [key = '', value = ''] = bootfs.split('=');
  const tags = await tagsOf(place.device);
  const found = tags[key];
  if (found === undefined && Object.keys(tags).length === 0) return undefined;
  return found === value
    ? undefined
    : `${place.folder} lies on ${place.device}, ${found === undefined ? `which has no ${key}` : `${key}=${found}`}`;
}

function realpathOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** `UUID=...` of the filesystem that has the folder. @throws MountError of kind `option` where it has none. */
export async function bootfsOfPlace(place: BootPlace): Promise<string> {
  const uuid = place.device === undefined ? undefined : (await tagsOf(place.device))['UUID'];
  if (uuid !== undefined) return `UUID=${uuid}`;
  throw new MountError(
    'option',
    `bootfs auto: ${place.folder}: its filesystem has no UUID that could be found: name it by --bootfs`,
  );
}
