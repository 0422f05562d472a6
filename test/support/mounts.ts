// Finds and takes down what is mounted below a folder, a FUSE mount whose server hangs included.
// Used by test/support/temp.ts after each test and by test/run.ts after each file.
// Format: proc(5), /proc/PID/mountinfo; abort: Documentation/filesystems/fuse.rst, control filesystem.

import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';

export interface MountLine {
  /** Unescaped; names with bytes that are no UTF-8 are not told apart. */
  target: string;
  fstype: string;
  source: string;
  /** Minor device number; for FUSE (major 0) it is also the connection's name in fusectl. */
  minor: number;
}

/** Rows of a mountinfo text in its order, so that a mount comes after what it covers. */
export function parseMountinfo(text: string): MountLine[] {
  const rows: MountLine[] = [];
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const fields = line.split(' ');
    const dash = fields.indexOf('-', 6);
    rows.push({
      target: unescapeOctal(fields[4]),
      fstype: fields[dash + 1],
      source: unescapeOctal(fields[dash + 2]),
      minor: Number(fields[2].split(':')[1]),
    });
  }
  return rows;
}

/** What is mounted at or below a folder, the last mounted first: the order to unmount in. */
export function mountsBelow(
  folder: string,
  mountinfo: string = readFileSync('/proc/self/mountinfo', 'utf8'),
): MountLine[] {
  return parseMountinfo(mountinfo)
    .filter(({ target }) => target === folder || target.startsWith(`${folder}/`))
    .reverse();
}

/**
 * Detaches everything at or below a folder. A FUSE connection is aborted first: that frees every
 * process which waits for it, and nothing here looks at a mount point, which could wait as well.
 *
 * @returns what was still mounted, for the report
 * @throws Error when something stays mounted: deleting the folder would then delete through it
 */
export function detachBelow(folder: string): MountLine[] {
  const found = mountsBelow(folder);
  for (const mount of found) {
    if (mount.fstype.startsWith('fuse')) abortConnection(mount.minor);
    if (run('umount', ['--lazy', '--no-canonicalize', mount.target])) continue;
    run('fusermount3', ['-u', '-z', '-q', '--', mount.target]);
  }
  const left = found.length === 0 ? [] : mountsBelow(folder);
  if (left.length > 0) {
    throw new Error(`cannot unmount ${left.map(({ target }) => target).join(', ')}`);
  }
  return found;
}

/** Ends a FUSE connection: all its requests, also those to come, fail. Needs its owner or root. */
export function abortConnection(minor: number): void {
  try {
    writeFileSync(`/sys/fs/fuse/connections/${minor}/abort`, '1');
  } catch {
    // Already gone, or fusectl is not mounted: the lazy unmount still detaches it.
  }
}

function run(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore', timeout: 20_000 }).status === 0;
}

/** The kernel writes space, tab, newline and backslash as three octal digits. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
