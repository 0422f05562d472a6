// Operations on names: making, removing, renaming, linking, listing and looking.
// One entry a kind; op.ts says what an entry is.
// Follows: the man-pages of the calls.

import { AT, O, readdir, S, show, stat, sys } from '../support/sys.js';
import { baseOf, names, parentOf } from './layers.js';
import type { Choices, Kind } from './op.js';
import { printable, showBytes, showListing, showStat } from './tree.js';
import type { World } from './world.js';

const NOREPLACE = 1;
const EXCHANGE = 2;

function showOf(w: World, path: string, flags: number): string {
  const st = stat(w.root, path, flags);
  return typeof st === 'number' ? show(st) : showStat(st);
}

function mknod(type: number, dev = 0): Kind {
  return {
    weight: 3,
    make: (c) => ({ path: c.fresh(), mode: c.mode() }),
    run: (w, a) => show(sys.mknod(w.root, a.path, type | a.mode, dev)),
  };
}

function rename(weight: number, flags: number, make: Kind['make']): Kind {
  return { weight, make, run: (w, a) => show(sys.rename(w.root, a.path, a.to, flags)) };
}

/** Text that is too long for a name, or just not. */
const long = (c: Choices) => {
  const folder = parentOf(c.fresh());
  const name = 'n'.repeat(c.random.pick([254, 255, 256]));
  return folder === '' ? name : `${folder}/${name}`;
};

export const nameKinds: Record<string, Kind> = {
  mkdir: {
    weight: 25,
    make: (c) => ({ path: c.target(), mode: c.mode() }),
    run: (w, a) => show(sys.mkdir(w.root, a.path, a.mode)),
  },
  rmdir: {
    weight: 18,
    make: (c) => ({ path: c.random.oneIn(4) ? c.any() : c.existing('d') }),
    run: (w, a) => show(sys.rmdir(w.root, a.path)),
  },
  unlink: {
    weight: 22,
    make: (c) => ({ path: c.random.oneIn(6) ? c.any() : c.existing('flo') }),
    run: (w, a) => show(sys.unlink(w.root, a.path)),
  },
  'rename-file': rename(22, 0, (c) => ({ path: c.existing('flo'), to: c.target() })),
  'rename-over': rename(10, 0, (c) => ({ path: c.existing(), to: c.existing() })),
  'rename-dir': rename(22, 0, (c) => ({ path: c.existing('d'), to: c.target() })),
  'rename-dir-over': rename(8, 0, (c) => ({ path: c.existing('d'), to: c.existing('d') })),
  'rename-any': rename(6, 0, (c) => ({ path: c.any(), to: c.any() })),
  'rename-noreplace': rename(8, NOREPLACE, (c) => ({ path: c.existing(), to: c.target() })),
  'rename-exchange': rename(10, EXCHANGE, (c) => ({ path: c.existing(), to: c.existing() })),
  'rename-bad-flags': rename(1, NOREPLACE | EXCHANGE, (c) => ({ path: c.any(), to: c.any() })),
  link: {
    weight: 18,
    make: (c) => ({ path: c.existing('fffflo'), to: c.target() }),
    run: (w, a) => show(sys.link(w.root, a.path, a.to)),
  },
  'link-follow': {
    weight: 3,
    make: (c) => ({ path: c.existing('l'), to: c.fresh() }),
    run: (w, a) => show(sys.link(w.root, a.path, a.to, AT.SYMLINK_FOLLOW)),
  },
  symlink: {
    weight: 10,
    make: (c) => ({
      path: c.target(),
      value: c.random.pick(['a', 'b/c', './d', 'none', '\xff/a']),
    }),
    run: (w, a) => show(sys.symlink(a.value, w.root, a.path)),
  },
  mkfifo: mknod(S.IFIFO),
  'mknod-socket': mknod(S.IFSOCK),
  'mknod-chr': mknod(S.IFCHR, 0x103),
  'mknod-blk': mknod(S.IFBLK, 0x701),
  'mknod-file': mknod(S.IFREG),
  /** What a whiteout looks like may not be made through the mount. */
  'mknod-whiteout': mknod(S.IFCHR, 0),
  stat: {
    weight: 30,
    make: (c) => ({ path: c.any() }),
    run: (w, a) => showOf(w, a.path, 0),
  },
  lstat: {
    weight: 30,
    make: (c) => ({ path: c.any() }),
    run: (w, a) => showOf(w, a.path, AT.SYMLINK_NOFOLLOW),
  },
  readlink: {
    weight: 8,
    make: (c) => ({ path: c.random.oneIn(4) ? c.any() : c.existing('l') }),
    run: (w, a) => showBytes(sys.readlink(w.root, a.path)),
  },
  access: {
    weight: 12,
    make: (c) => ({ path: c.any(), mode: c.random.below(8) }),
    run: (w, a) => show(sys.access(w.root, a.path, a.mode)),
  },
  readdir: {
    weight: 15,
    make: (c) => ({ path: c.random.oneIn(5) ? '.' : c.existing('d') }),
    run: (w, a) => {
      const fd = sys.open(w.root, a.path, O.DIRECTORY);
      if (fd < 0) return show(fd);
      const listing = showListing(fd);
      sys.close(fd);
      return listing;
    },
  },
  /** The second half of a folder is read after something in it has gone. */
  'readdir-while-unlinking': {
    weight: 3,
    make: (c) => ({ path: c.existing('d') }),
    run: (w, a) => {
      const dir = sys.open(w.root, a.path, O.DIRECTORY);
      if (dir < 0) return show(dir);
      const entries = readdir(dir);
      sys.close(dir);
      if (typeof entries === 'number') return show(entries);
      const files = entries.filter(({ type }) => type === 8).map(({ name }) => name);
      const results = files.sort().map((name) => show(sys.unlink(w.root, `${a.path}/${name}`)));
      return results.join(' ');
    },
  },
  statfs: {
    weight: 2,
    make: () => ({}),
    run: (w) => {
      const info = sys.statfs(w.root);
      return typeof info === 'number' ? show(info) : `${info.bsize} ${info.namelen}`;
    },
  },
  'long-mkdir': {
    weight: 2,
    make: (c) => ({ path: long(c), mode: 0o755 }),
    run: (w, a) => show(sys.mkdir(w.root, a.path, a.mode)),
  },
  'long-rename': {
    weight: 2,
    make: (c) => ({ path: c.existing(), to: long(c) }),
    run: (w, a) => show(sys.rename(w.root, a.path, a.to)),
  },
  'long-lookup': {
    weight: 2,
    make: (c) => ({ path: long(c) }),
    run: (w, a) => showOf(w, a.path, 0),
  },
  /** A path of more than PATH_MAX bytes, made and written by descriptors. */
  'deep-tree': {
    weight: 1,
    make: (c) => ({ path: c.fresh(), length: c.random.pick([5, 22]) }),
    run: (w, a) => {
      let dir = sys.open(w.root, '.', O.DIRECTORY);
      let result = 0;
      for (let i = 0; i < a.length && result >= 0; i++) {
        const name = i === 0 ? a.path : `${'deep'.repeat(50)}${i}`;
        result = sys.mkdir(dir, name, 0o755);
        const next = sys.open(dir, name, O.DIRECTORY);
        if (next < 0) break;
        sys.close(dir);
        dir = next;
      }
      const fd = sys.open(dir, 'bottom', O.WRONLY | O.CREAT, 0o644);
      if (fd >= 0) sys.close(fd);
      sys.close(dir);
      return `${show(result)} ${fd < 0 ? show(fd) : 'ok'}`;
    },
  },
  'remove-tree': {
    weight: 3,
    make: (c) => ({ path: c.existing('d') }),
    run: (w, a) => removeTree(w.root, a.path),
  },
  /** A fresh folder over the place of a removed one must not show what was below. */
  'recreate-dir': {
    weight: 6,
    make: (c) => ({ path: c.existing('d'), mode: c.mode() }),
    run: (w, a) => {
      const removed = removeTree(w.root, a.path);
      const made = show(sys.mkdir(w.root, a.path, a.mode));
      const fd = sys.open(w.root, a.path, O.DIRECTORY);
      if (fd < 0) return `${removed} ${made} ${show(fd)}`;
      const listing = showListing(fd);
      sys.close(fd);
      return `${removed} ${made} ${listing}`;
    },
  },
  'mkdir-p': {
    weight: 5,
    make: (c) => ({ path: `${c.fresh()}/${c.random.pick(names)}`, mode: c.mode() }),
    run: (w, a) => {
      const parts = a.path.split('/');
      const made = parts.map((_, i) => sys.mkdir(w.root, parts.slice(0, i + 1).join('/'), a.mode));
      return made.map(show).join(' ');
    },
  },
};

/** Like rm -r; the errno of the first thing that stays. */
function removeTree(dir: number, path: string): string {
  const st = stat(dir, path, AT.SYMLINK_NOFOLLOW);
  if (typeof st === 'number') return show(st);
  if ((st.mode & S.IFMT) !== S.IFDIR) return show(sys.unlink(dir, path));
  const fd = sys.open(dir, path, O.DIRECTORY | O.NOFOLLOW);
  if (fd < 0) return show(fd);
  const entries = readdir(fd);
  let failed: string | undefined;
  if (typeof entries === 'number') failed = show(entries);
  else {
    for (const { name } of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (name === '.' || name === '..' || failed !== undefined) continue;
      const result = removeTree(fd, name);
      if (result !== '0') failed = `${printable(baseOf(name))}: ${result}`;
    }
  }
  sys.close(fd);
  return failed ?? show(sys.rmdir(dir, path));
}
