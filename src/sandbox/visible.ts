// Which mounts a path can lead to: those that no other mount covers.
// Read by sandbox/covers.ts, which decides what a sandbox shows in their place.
// Follows proc_pid_mountinfo(5): a mount on top of another one has that as its parent.

import type { MountEntry } from '../linux/mountinfo.js';

/** The mounts that lookups reach, a mount before those below it. Each mount point is there once. */
export function visibleMounts(table: readonly MountEntry[]): MountEntry[] {
  const ids = new Set(table.map((entry) => entry.id));
  const root = table.find((entry) => entry.mountpoint === '/' && !ids.has(entry.parent));
  const first = root ?? table.find((entry) => entry.mountpoint === '/');
  const found: MountEntry[] = [];
  const walk = (mount: MountEntry): void => {
    const children = table.filter((entry) => entry.parent === mount.id && entry !== mount);
    const over = children.find((child) => child.mountpoint === mount.mountpoint);
    if (over !== undefined) {
      walk(over);
      return;
    }
    found.push(mount);
    for (const child of children) {
      // Whoever was mounted later at a directory above is no parent of it, and hides it.
      const hidden = children.some((other) => isBelow(child.mountpoint, other.mountpoint));
      if (!hidden) walk(child);
    }
  };
  if (first !== undefined) walk(first);
  return found.sort((a, b) => (a.mountpoint < b.mountpoint ? -1 : 1));
}

/** Whether `path` lies in `folder` and is not it. Both absolute. */
export function isBelow(path: string, folder: string): boolean {
  return folder === '/' ? path !== '/' : path.startsWith(`${folder}/`);
}

export function isIn(path: string, folder: string): boolean {
  return path === folder || isBelow(path, folder);
}
