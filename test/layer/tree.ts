// A small file tree as data and its making on disk: what a layer holds before a test looks at it.
// Used by the layer suite (test/layer/suite.ts) and by test/overlay and test/crash. Needs root for owners and devices.
// Names are byte strings, one code unit a byte; paths may be longer than PATH_MAX.

import { AT, must, O, S, sys } from '../support/sys.js';

export interface Entry {
  type: 'dir' | 'file' | 'symlink' | 'fifo' | 'chr' | 'link' | 'whiteout';
  mode?: number;
  uid?: number;
  gid?: number;
  /** Content of a file; target of a symlink or a link (a path from the tree's root). */
  data?: string | Buffer;
  /** Final size of a file, when `data` does not fill it. */
  size?: number;
  xattrs?: Readonly<Record<string, string>>;
  /** Seconds and nanoseconds, of mtime and atime. */
  mtime?: readonly [number, number];
}

/** By path, parents before children; a parent that is not named is a plain directory. */
export type Tree = Readonly<Record<string, Entry>>;

export const dir = (more: Partial<Entry> = {}): Entry => ({ type: 'dir', ...more });
export const file = (data: string | Buffer = '', more: Partial<Entry> = {}): Entry => ({
  type: 'file',
  data,
  ...more,
});
export const whiteout: Entry = { type: 'whiteout' };

/** Fills the existing folder at `path`. */
export function makeTree(path: string, tree: Tree): void {
  const root = must(sys.open(AT.FDCWD, path, O.DIRECTORY));
  try {
    const entries = Object.entries(tree);
    for (const [name, entry] of entries) {
      within(root, name, true, (folder, base) => makeEntry(root, folder, base, entry));
    }
    for (const [name, { mtime }] of entries.reverse()) {
      if (mtime === undefined) continue;
      within(root, name, false, (folder, base) =>
        must(sys.utimens(folder, base, [mtime, mtime], AT.SYMLINK_NOFOLLOW)),
      );
    }
  } finally {
    sys.close(root);
  }
}

/** Calls `use` with a descriptor of the folder that holds `path`, however long that is, and the last name. */
export function within<T>(
  root: number,
  path: string,
  make: boolean,
  use: (folder: number, name: string) => T,
): T {
  const parts = path.split('/');
  const name = parts.pop() as string;
  let at = root;
  try {
    for (const part of parts) {
      if (make) sys.mkdir(at, part, 0o755);
      const next = must(sys.open(at, part, O.PATH | O.DIRECTORY));
      if (at !== root) sys.close(at);
      at = next;
    }
    return use(at, name);
  } finally {
    if (at !== root) sys.close(at);
  }
}

function makeEntry(root: number, folder: number, name: string, entry: Entry): void {
  const { type, data = '', mode } = entry;
  switch (type) {
    case 'dir':
      sys.mkdir(folder, name, 0o755);
      break;
    case 'symlink':
      must(sys.symlink(String(data), folder, name));
      break;
    case 'fifo':
      must(sys.mknod(folder, name, S.IFIFO | 0o644));
      break;
    case 'chr':
      must(sys.mknod(folder, name, S.IFCHR | 0o666, 0x103));
      break;
    case 'whiteout':
      must(sys.mknod(folder, name, S.IFCHR, 0));
      return;
    case 'link':
      within(root, String(data), false, (from, old) => {
        const fd = must(sys.open(from, old, O.PATH | O.NOFOLLOW));
        must(sys.linkFd(fd, folder, name));
        sys.close(fd);
      });
      return;
    case 'file': {
      const fd = must(sys.open(folder, name, O.WRONLY | O.CREAT | O.TRUNC, 0o644));
      const bytes = typeof data === 'string' ? Buffer.from(data, 'latin1') : data;
      for (let at = 0; at < bytes.length; ) at += must(sys.pwrite(fd, bytes.subarray(at), at));
      if (entry.size !== undefined) must(sys.ftruncate(fd, entry.size));
      sys.close(fd);
    }
  }
  if (entry.uid !== undefined || entry.gid !== undefined) {
    must(sys.chown(folder, name, entry.uid ?? -1, entry.gid ?? -1, AT.SYMLINK_NOFOLLOW));
  }
  if (mode !== undefined) must(sys.chmod(folder, name, mode));
  for (const [key, value] of Object.entries(entry.xattrs ?? {})) {
    must(sys.setxattr(folder, name, key, Buffer.from(value, 'latin1')));
  }
}
