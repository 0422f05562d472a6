// The mount table of this process as records.
// Read by supervisor/ (is our mount still there?), stack/check.ts (who uses a work directory), umount, status and doctor.
// Follows proc_pid_mountinfo(5).

import { readFileSync } from 'node:fs';

export interface MountEntry {
  readonly id: number;
  readonly parent: number;
  /** `major:minor` of st_dev. */
  readonly device: string;
  /** The directory of the filesystem that is mounted there. */
  readonly root: string;
  readonly mountpoint: string;
  readonly options: string;
  /** `fuse.varve`, `overlay`, `ext4`... */
  readonly type: string;
  readonly source: string;
  /** Options of the superblock. */
  readonly superOptions: string;
}

/** Space, tab, newline and backslash stand as octal in the table. */
function decode(field: string): string {
  return field.includes('\\')
    ? Buffer.from(
        field.replace(/\\([0-7]{3})/g, (_, octal) =>
          String.fromCharCode(Number.parseInt(octal, 8)),
        ),
        'latin1',
      ).toString()
    : Buffer.from(field, 'latin1').toString();
}

/** Reads mountinfo text. Lines that are cut short are passed over. */
export function parseMountInfo(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const [left, right] = line.split(' - ');
    if (left === undefined || right === undefined) continue;
    const [id, parent, device, root, mountpoint, options] = left.split(' ');
    const [type, source, superOptions] = right.split(' ');
    if (mountpoint === undefined || source === undefined) continue;
    entries.push({
      id: Number(id),
      parent: Number(parent),
      device: device ?? '',
      root: decode(root ?? '/'),
      mountpoint: decode(mountpoint),
      options: options ?? '',
      type: type ?? '',
      source: decode(source),
      superOptions: decode(superOptions ?? ''),
    });
  }
  return entries;
}

/** The mounts that this process sees, in the order in which they were made. */
export function mountTable(): MountEntry[] {
  return parseMountInfo(readFileSync('/proc/self/mountinfo', 'latin1'));
}

/** The mount on top at exactly `path`, if one is mounted there. */
export function mountAt(
  path: string,
  table: readonly MountEntry[] = mountTable(),
): MountEntry | undefined {
  return table.findLast((entry) => entry.mountpoint === path);
}

/** The mount that holds `path` (absolute, without symlinks). */
export function mountOf(
  path: string,
  table: readonly MountEntry[] = mountTable(),
): MountEntry | undefined {
  let best: MountEntry | undefined;
  for (const entry of table) {
    const m = entry.mountpoint;
    const holds = m === '/' || path === m || path.startsWith(`${m}/`);
    if (holds && (best === undefined || m.length >= best.mountpoint.length)) best = entry;
  }
  return best;
}
