// Operations on open files: opening in all ways, reading, writing, sizes, holes, locks, mappings.
// One entry a kind; op.ts says what an entry is, world.ts holds the open descriptors.
// Follows: the man-pages of the calls.

import { AT, mapShared, O, show, stat, sys } from '../support/sys.js';
import { names, pattern } from './layers.js';
import type { Kind } from './op.js';
import { showBytes, showListing, showStat } from './tree.js';
import type { World } from './world.js';

const { RDONLY, WRONLY, RDWR, CREAT, EXCL, TRUNC, APPEND, DIRECTORY, NOFOLLOW, PATH } = O;

/** Flag combinations of open(2), each of them a case of its own. */
const openFlags = [
  ...[RDONLY, RDONLY, RDONLY, WRONLY, RDWR, RDWR, RDWR],
  ...[RDONLY | CREAT, WRONLY | CREAT, RDWR | CREAT, RDWR | CREAT, RDWR | CREAT],
  ...[RDWR | CREAT | EXCL, WRONLY | CREAT | EXCL, RDONLY | CREAT | EXCL],
  ...[WRONLY | TRUNC, RDWR | TRUNC, RDONLY | TRUNC, WRONLY | CREAT | TRUNC],
  ...[WRONLY | APPEND, RDWR | APPEND, RDWR | CREAT | APPEND, WRONLY | CREAT | TRUNC | APPEND],
  ...[RDONLY | NOFOLLOW, RDWR | NOFOLLOW, RDWR | CREAT | NOFOLLOW],
  ...[RDONLY | DIRECTORY, RDWR | DIRECTORY, RDONLY | DIRECTORY | NOFOLLOW],
  ...[PATH, PATH | NOFOLLOW, RDONLY | O.NOATIME],
];

/** Descriptor numbers differ between the worlds; any success is the same success. */
const ok = (result: number) => (result < 0 ? show(result) : 'ok');

const position = (fd: number) => `at ${show(sys.lseek(fd, 0, 1))}`;

function openInto(world: World, index: number, path: string, flags: number, mode: number): string {
  // Non-blocking: a fifo without a partner must not stop the campaign.
  const fd = sys.open(world.root, path, flags | O.NONBLOCK, mode);
  if (fd >= 0) world.put(index, fd, path, flags);
  return ok(fd);
}

export const dataKinds: Record<string, Kind> = {
  open: {
    weight: 60,
    make: (c) => ({
      slot: c.freeSlot(),
      path: c.random.oneIn(3) ? c.target() : c.existing('fffld'),
      flags: c.random.pick(openFlags),
      mode: c.mode(),
    }),
    run: (w, a) => openInto(w, a.slot, a.path, a.flags, a.mode),
  },
  'open-tmpfile': {
    weight: 6,
    make: (c) => ({
      slot: c.freeSlot(),
      path: c.existing('d'),
      flags: c.random.pick([O.TMPFILE | RDWR, O.TMPFILE | WRONLY, O.TMPFILE | RDWR | EXCL]),
      mode: c.mode(),
    }),
    run: (w, a) => openInto(w, a.slot, a.path, a.flags, a.mode),
  },
  'link-fd': {
    weight: 8,
    make: (c) => ({ slot: c.writable(), to: c.fresh() }),
    run: (w, a) => show(sys.linkFd(w.fd(a.slot), w.root, a.to)),
  },
  close: {
    weight: 15,
    make: (c) => ({ slot: c.slot() }),
    run: (w, a) => show(w.close(a.slot)),
  },
  read: {
    weight: 15,
    make: (c) => ({ slot: c.file(), length: c.length() }),
    run: (w, a) => {
      if (w.slots[a.slot]?.directory) return 'a folder';
      const own = w.fd(a.slot);
      return w.reading(a.slot, (fd) => {
        // A folder that was read to its end may be at a position that read(2) refuses before it looks what it reads.
        if (w.slots[a.slot]?.directory) return typeof sys.read(fd, a.length);
        if (fd === own) return `${showBytes(sys.read(fd, a.length))} ${position(fd)}`;
        const from = sys.lseek(own, 0, 1);
        const bytes = from < 0 ? sys.read(own, a.length) : sys.pread(fd, a.length, from);
        if (typeof bytes !== 'number') sys.lseek(own, bytes.length, 1);
        return `${showBytes(bytes)} ${position(own)}`;
      });
    },
  },
  pread: {
    weight: 15,
    make: (c) => ({ slot: c.file(), length: c.length(), at: c.size() }),
    run: (w, a) => w.reading(a.slot, (fd) => showBytes(sys.pread(fd, a.length, a.at))),
  },
  write: {
    weight: 25,
    make: (c) => ({ slot: c.writable(), length: c.length(), seed: c.seed() }),
    run: (w, a) => {
      const fd = w.fd(a.slot);
      const written = sys.write(fd, pattern(a.seed, a.length));
      // The position in a folder means nothing.
      return written < 0 ? show(written) : `${written} ${position(fd)}`;
    },
  },
  pwrite: {
    weight: 25,
    make: (c) => ({ slot: c.writable(), length: c.length(), seed: c.seed(), at: c.size() }),
    run: (w, a) => show(sys.pwrite(w.fd(a.slot), pattern(a.seed, a.length), a.at)),
  },
  'mmap-write': {
    weight: 8,
    make: (c) => ({ slot: c.writable(), length: c.length(), seed: c.seed(), at: c.size() }),
    run: (w, a) => {
      const fd = w.fd(a.slot);
      const st = stat(fd, '');
      if (typeof st === 'number') return show(st);
      // Beyond the end of the file is a bus error.
      const end = Math.min(st.size, a.at + a.length);
      if (end <= a.at) return 'outside';
      const mapping = mapShared(fd, end, true);
      if (typeof mapping === 'number') return show(mapping);
      mapping.bytes.set(pattern(a.seed, end - a.at), a.at);
      const synced = mapping.sync();
      mapping.unmap();
      return `${end - a.at} ${show(synced)}`;
    },
  },
  'mmap-read': {
    weight: 5,
    make: (c) => ({ slot: c.file(), length: c.length(), at: c.size() }),
    run: (w, a) =>
      w.reading(a.slot, (fd) => {
        const st = stat(fd, '');
        if (typeof st === 'number') return show(st);
        const end = Math.min(st.size, a.at + a.length);
        if (end <= a.at) return 'outside';
        const mapping = mapShared(fd, end, false);
        if (typeof mapping === 'number') return show(mapping);
        const bytes = Buffer.from(mapping.bytes.subarray(a.at, end));
        mapping.unmap();
        return showBytes(bytes);
      }),
  },
  ftruncate: {
    weight: 15,
    make: (c) => ({ slot: c.writable(), size: c.size() }),
    run: (w, a) => show(sys.ftruncate(w.fd(a.slot), a.size)),
  },
  'ftruncate-large': {
    weight: 1,
    make: (c) => ({ slot: c.writable(), size: c.random.pick([6 * 2 ** 30 + 1, 2 ** 32]) }),
    run: (w, a) => show(sys.ftruncate(w.fd(a.slot), a.size)),
  },
  fallocate: {
    weight: 15,
    make: (c) => ({
      slot: c.writable(),
      // Plain, KEEP_SIZE, PUNCH_HOLE, PUNCH_HOLE alone (refused), ZERO_RANGE with and without.
      flags: c.random.pick([0, 1, 3, 2, 0x10, 0x11]),
      at: c.size(),
      length: c.length(),
    }),
    run: (w, a) => show(sys.fallocate(w.fd(a.slot), a.flags, a.at, a.length)),
  },
  'seek-data': {
    weight: 8,
    make: (c) => ({ slot: c.file(), at: c.size() }),
    run: (w, a) => {
      // In a folder positions are the filesystem's own business.
      if (w.slots[a.slot]?.directory) return 'a folder';
      return w.reading(a.slot, (fd) => seekData(fd, a.at));
    },
  },
  'seek-hole': {
    weight: 8,
    make: (c) => ({ slot: c.file(), at: c.size() }),
    run: (w, a) => {
      if (w.slots[a.slot]?.directory) return 'a folder';
      return w.reading(a.slot, (fd) => {
        const before = sys.lseek(fd, 0, 1);
        const found = sys.lseek(fd, a.at, 4);
        if (before >= 0) sys.lseek(fd, before, 0);
        return ok(found);
      });
    },
  },
  lseek: {
    weight: 8,
    make: (c) => ({ slot: c.slot(), at: c.size(), flags: c.random.pick([0, 0, 1]) }),
    run: (w, a) => {
      const slot = w.slots[a.slot];
      // Positions in a folder are the filesystem's own business, but for the beginning.
      return show(
        sys.lseek(w.fd(a.slot), slot?.directory ? 0 : a.at, slot?.directory ? 0 : a.flags),
      );
    },
  },
  fsync: {
    weight: 5,
    make: (c) => ({ slot: c.slot() }),
    run: (w, a) => show(sys.fsync(w.fd(a.slot))),
  },
  fdatasync: {
    weight: 3,
    make: (c) => ({ slot: c.slot() }),
    run: (w, a) => show(sys.fdatasync(w.fd(a.slot))),
  },
  syncfs: { weight: 1, make: () => ({}), run: (w) => show(sys.syncfs(w.root)) },
  fstat: {
    weight: 15,
    make: (c) => ({ slot: c.slot() }),
    run: (w, a) => {
      const st = stat(w.fd(a.slot), '');
      return typeof st === 'number' ? show(st) : showStat(st);
    },
  },
  'copy-file-range': {
    weight: 10,
    make: (c) => ({
      slot: c.file(),
      other: c.writable(),
      at: c.size(),
      size: c.size(),
      length: c.length(),
    }),
    run: (w, a) =>
      w.reading(a.slot, (fd) => {
        const to = w.fd(a.other);
        const copied = sys.copyFileRange(fd, a.at, to, a.size, a.length);
        if (show(copied) !== 'EXDEV') return show(copied);
        // Layers on two filesystems: FUSE copies through the page cache then, the kernel's overlay leaves it to the caller.
        const bytes = sys.pread(fd, a.length, a.at);
        return show(typeof bytes === 'number' ? bytes : sys.pwrite(to, bytes, a.size));
      }),
  },
  sendfile: {
    weight: 4,
    make: (c) => ({ slot: c.file(), other: c.writable(), at: c.size(), length: c.length() }),
    run: (w, a) => {
      // Pages are handed over, not copied: what a file gives to itself may be overwritten before it arrives.
      const from = stat(w.fd(a.slot), '');
      const to = stat(w.fd(a.other), '');
      if (typeof from !== 'number' && typeof to !== 'number' && from.ino === to.ino)
        return 'itself';
      return w.reading(a.slot, (fd) => show(sys.sendfile(w.fd(a.other), fd, a.at, a.length)));
    },
  },
  'readdir-fd': {
    weight: 6,
    make: (c) => ({ slot: c.slot(({ directory }) => directory) }),
    run: (w, a) => showListing(w.fd(a.slot)),
  },
  /** Inside a folder that may have been renamed or removed since it was opened. */
  'create-at-fd': {
    weight: 6,
    make: (c) => ({
      slot: c.slot(({ directory }) => directory),
      to: c.random.pick(names),
      mode: c.mode(),
    }),
    run: (w, a) => {
      const fd = sys.open(w.fd(a.slot), a.to, WRONLY | CREAT | EXCL, a.mode);
      if (fd >= 0) sys.close(fd);
      return ok(fd);
    },
  },
  'mkdir-at-fd': {
    weight: 3,
    make: (c) => ({
      slot: c.slot(({ directory }) => directory),
      to: c.random.pick(names),
      mode: c.mode(),
    }),
    run: (w, a) => show(sys.mkdir(w.fd(a.slot), a.to, a.mode)),
  },
  flock: {
    weight: 4,
    // LOCK_SH, LOCK_EX and LOCK_UN, never waiting.
    make: (c) => ({ slot: c.slot(), flags: c.random.pick([1, 2, 8]) | 4 }),
    run: (w, a) => show(sys.flock(w.fd(a.slot), a.flags)),
  },
  'ofd-lock': {
    weight: 4,
    make: (c) => ({
      slot: c.file(),
      flags: c.random.pick([0, 1, 2]),
      at: c.size(),
      length: c.length(),
    }),
    run: (w, a) => show(sys.ofdLock(w.fd(a.slot), a.flags, a.at, a.length)),
  },
  /** Through a name, as most programs write. */
  'write-file': {
    weight: 30,
    make: (c) => ({
      path: c.random.oneIn(2) ? c.existing('fl') : c.target(),
      flags: c.random.pick([CREAT | TRUNC, CREAT, APPEND, CREAT | EXCL, 0]),
      mode: c.mode(),
      length: c.length(),
      seed: c.seed(),
    }),
    run: (w, a) => {
      const fd = sys.open(w.root, a.path, WRONLY | O.NONBLOCK | a.flags, a.mode);
      if (fd < 0) return show(fd);
      const written = sys.write(fd, pattern(a.seed, a.length));
      return `${show(written)} ${show(sys.close(fd))}`;
    },
  },
  'read-file': {
    weight: 20,
    make: (c) => ({ path: c.existing('fl') }),
    run: (w, a) => {
      const fd = sys.open(w.root, a.path, RDONLY | O.NONBLOCK);
      if (fd < 0) return show(fd);
      const bytes = sys.pread(fd, 65_536, 0);
      sys.close(fd);
      return showBytes(bytes);
    },
  },
  /** A new file beside the old one, then over it: how editors save. */
  'replace-file': {
    weight: 8,
    make: (c) => ({ path: c.existing('f'), length: c.length(), seed: c.seed(), mode: c.mode() }),
    run: (w, a) => {
      const next = `${a.path}~`;
      const fd = sys.open(w.root, next, WRONLY | CREAT | EXCL, a.mode);
      if (fd < 0) return show(fd);
      const written = show(sys.write(fd, pattern(a.seed, a.length)));
      const synced = show(sys.fsync(fd));
      sys.close(fd);
      const renamed = sys.rename(w.root, next, a.path);
      if (renamed < 0) sys.unlink(w.root, next);
      return `${written} ${synced} ${show(renamed)}`;
    },
  },
  /** Reads, removes and writes on through the descriptor. */
  'unlink-open': {
    weight: 6,
    make: (c) => ({ path: c.existing('f'), length: c.length(), seed: c.seed(), at: c.size() }),
    run: (w, a) => {
      const fd = sys.open(w.root, a.path, RDWR | O.NONBLOCK);
      const unlinked = sys.unlink(w.root, a.path);
      if (fd < 0) return `${show(fd)} ${show(unlinked)}`;
      const parts = [show(unlinked), show(sys.pwrite(fd, pattern(a.seed, a.length), a.at))];
      parts.push(showBytes(sys.pread(fd, 65_536, 0)), show(sys.fchmod(fd, 0o640)));
      const st = stat(fd, '');
      parts.push(typeof st === 'number' ? show(st) : showStat(st), show(sys.ftruncate(fd, 3)));
      sys.close(fd);
      return parts.join(' ');
    },
  },
  /** One inode from open to copy-up: neither its number nor its device may change. */
  'copy-up-identity': {
    weight: 8,
    make: (c) => ({ path: c.existing('f') }),
    run: (w, a) => {
      const before = stat(w.root, a.path, AT.SYMLINK_NOFOLLOW);
      const fd = sys.open(w.root, a.path, RDWR | NOFOLLOW | O.NONBLOCK);
      const after = stat(w.root, a.path, AT.SYMLINK_NOFOLLOW);
      if (fd >= 0) sys.close(fd);
      if (typeof before === 'number' || typeof after === 'number') return ok(fd);
      const same = before.ino === after.ino && before.dev === after.dev;
      return `${ok(fd)} ${same ? 'same inode' : 'another inode'}`;
    },
  },
};

/** The data found must be where a file's first byte that is not zero is, or before it. */
function seekData(fd: number, at: number): string {
  const before = sys.lseek(fd, 0, 1);
  const end = sys.lseek(fd, 0, 2);
  const found = sys.lseek(fd, at, 3);
  if (before >= 0) sys.lseek(fd, before, 0);
  if (at >= end) return show(found);
  const until = Math.min(found < 0 ? end : found, at + 65_536);
  const skipped = sys.pread(fd, Math.max(0, until - at), at);
  if (typeof skipped === 'number') return 'unreadable';
  return skipped.every((byte) => byte === 0) ? 'ok' : 'skips data';
}
