// A filesystem in memory: the smallest complete implementation of the waist, as an example and for protocol tests.
// Served by test/fuse/serve-memfs.ts in a process of its own. Some names misbehave on purpose, see Trouble.
// Semantics follow tmpfs where they matter to a test; permissions are the kernel's (default_permissions).

import { closeSync, openSync } from 'node:fs';
import { S } from '../../src/linux/constants.js';
import { E } from '../../src/linux/errno.js';
import { cstrlen, getBytes, putBytes, putU64, u8, u32 } from '../../src/linux/memory.js';
import { ATTR_SIZE, Attr, ENTRY_SIZE, Entry, Kstatfs } from '../../src/vfs/attr.js';
import {
  ABSENT,
  type DirSink,
  type FileSystem,
  type Host,
  JOB,
  OPEN,
  type OpenReply,
  PARKED,
  type Request,
  SETATTR,
  type SetAttr,
} from '../../src/vfs/filesystem.js';

interface Child {
  readonly node: Node;
  readonly cookie: number;
}

class Node {
  readonly id: number;
  mode: number;
  uid: number;
  gid: number;
  rdev = 0;
  nlink = 1;
  size = 0;
  data = new Uint8Array(0);
  target = '';
  readonly children = new Map<string, Child>();
  readonly xattrs = new Map<string, Uint8Array>();
  parent: Node | undefined;
  lookups = 0;
  times: [atime: [number, number], mtime: [number, number], ctime: [number, number]];

  constructor(id: number, mode: number, uid: number, gid: number) {
    this.id = id;
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
    const now = nowParts();
    this.times = [now, now, now];
  }

  get isDir(): boolean {
    return (this.mode & S.IFMT) === S.IFDIR;
  }
}

function nowParts(): [number, number] {
  const ms = Date.now();
  return [Math.floor(ms / 1000), (ms % 1000) * 1e6];
}

/** What a test asks this filesystem to do wrongly or slowly, by the name in a LOOKUP, OPEN or FSYNC. */
export const Trouble = {
  /** LOOKUP throws. */
  throws: 'throws',
  /** LOOKUP returns NaN. */
  nothing: 'returns-nothing',
  /** OPEN waits until a copy of `slowFrom` to `slowTo` by a worker is done, then is handled again. */
  deferred: 'deferred',
  /** FSYNC of a name that begins so is a worker's job that copies `slowFrom` to `slowTo`. */
  slowSync: 'slow-sync',
} as const;

/** Attributes that, set on the root, do something to the file that their value names. */
export const Command = {
  /** Its content grows by 100 bytes, and nobody tells the kernel. */
  grow: 'user.grow',
  /** The kernel is told that its attributes changed. */
  invalAttributes: 'user.inval-attributes',
  /** The kernel is told that its content changed. */
  invalContent: 'user.inval-content',
  /** It appears or disappears, and nobody tells the kernel. */
  toggle: 'user.toggle',
  /** The kernel is told that its name changed. */
  invalName: 'user.inval-name',
  /** It disappears, and the kernel and whoever watches it are told. */
  remove: 'user.remove',
} as const;

export interface MemoryOptions {
  /** Files whose copying takes as long as the test wants; opened at the start. */
  readonly slowFrom?: string;
  readonly slowTo?: string;
  readonly slowSize?: number;
  /** Directories have no handles, where the kernel can do without. */
  readonly noOpendir?: boolean;
  /** A file that is opened for passthrough of every OPEN. */
  readonly backing?: string;
  readonly log?: (line: string) => void;
}

const ROOT = 1;

export class MemoryFileSystem implements FileSystem {
  readonly nodes = new Map<number, Node>();
  readonly root: Node;
  readonly handles = new Map<number, { node: Node; backingId: number; fd: number }>();
  host: Host | undefined;
  stopped = false;
  #nextNode = 2;
  #nextHandle = 1;
  #cookie = 3;
  #copied = false;
  #slowFrom = -1;
  #slowTo = -1;
  readonly #options: MemoryOptions;

  constructor(options: MemoryOptions = {}) {
    this.#options = options;
    this.root = new Node(ROOT, S.IFDIR | 0o755, process.geteuid?.() ?? 0, process.getegid?.() ?? 0);
    this.root.nlink = 2;
    this.nodes.set(ROOT, this.root);
  }

  start(host: Host): void {
    this.host = host;
    const { slowFrom, slowTo } = this.#options;
    if (slowFrom !== undefined) this.#slowFrom = openSync(slowFrom, 'r');
    if (slowTo !== undefined) this.#slowTo = openSync(slowTo, 'w');
  }

  stop(): void {
    this.stopped = true;
  }

  /** Adds a file without asking the kernel. */
  add(name: string, content: string, mode = 0o644): void {
    const node = this.#node(S.IFREG | mode, 0, 0);
    node.data = Buffer.from(content);
    node.size = node.data.length;
    this.#link(this.root, name, node);
  }

  /** Nodes the kernel still holds, the root aside: [id, lookups]. */
  held(): [number, number][] {
    return [...this.nodes.values()]
      .filter((node) => node.id !== ROOT && node.lookups > 0)
      .map((node) => [node.id, node.lookups]);
  }

  #node(mode: number, uid: number, gid: number): Node {
    const node = new Node(this.#nextNode++, mode, uid, gid);
    if (node.isDir) node.nlink = 2;
    this.nodes.set(node.id, node);
    return node;
  }

  #of(r: Request): Node {
    const node = this.nodes.get(r.nodeLo);
    if (node === undefined) throw new Error(`no node ${r.nodeLo}`);
    return node;
  }

  #link(parent: Node, name: string, node: Node): void {
    parent.children.set(name, { node, cookie: this.#cookie++ });
    if (node.isDir) {
      parent.nlink++;
      node.parent = parent;
    }
    parent.times = [parent.times[0], nowParts(), nowParts()];
  }

  #unlink(parent: Node, name: string, node: Node): void {
    parent.children.delete(name);
    if (node.isDir) {
      parent.nlink--;
      node.nlink = 0;
    } else node.nlink--;
    parent.times = [parent.times[0], nowParts(), nowParts()];
    this.#drop(node);
  }

  #drop(node: Node): void {
    if (node.lookups === 0 && node.nlink === 0) this.nodes.delete(node.id);
  }

  #attr(node: Node, out: number): number {
    u32.fill(0, out >>> 2, (out + ATTR_SIZE) >>> 2);
    putU64(out + Attr.ino, node.id);
    putU64(out + Attr.size, node.size);
    putU64(out + Attr.blocks, Math.ceil(node.size / 512));
    const at = [Attr.atime, Attr.mtime, Attr.ctime];
    const nsec = [Attr.atimensec, Attr.mtimensec, Attr.ctimensec];
    node.times.forEach(([seconds, rest], i) => {
      putU64(out + (at[i] as number), seconds);
      u32[(out + (nsec[i] as number)) >>> 2] = rest;
    });
    u32[(out + Attr.mode) >>> 2] = node.mode;
    u32[(out + Attr.nlink) >>> 2] = node.nlink;
    u32[(out + Attr.uid) >>> 2] = node.uid;
    u32[(out + Attr.gid) >>> 2] = node.gid;
    u32[(out + Attr.rdev) >>> 2] = node.rdev;
    u32[(out + Attr.blksize) >>> 2] = 4096;
    return ATTR_SIZE;
  }

  #entry(node: Node, out: number): number {
    node.lookups++;
    putU64(out + Entry.nodeid, node.id);
    putU64(out + Entry.generation, 0);
    this.#attr(node, out + Entry.attr);
    return ENTRY_SIZE;
  }

  lookup(r: Request, name: number, nameLen: number, out: number): number {
    const text = getBytes(name, nameLen);
    if (text === Trouble.throws) throw new Error('asked to');
    if (text === Trouble.nothing) return Number.NaN;
    const child = this.#of(r).children.get(text);
    return child === undefined ? ABSENT : this.#entry(child.node, out);
  }

  forget(nodeLo: number, _nodeHi: number, count: number): void {
    const node = this.nodes.get(nodeLo);
    if (node === undefined || node.id === ROOT) return;
    node.lookups -= count;
    if (node.lookups < 0) this.#options.log?.(`lookups of ${node.id} below zero`);
    this.#drop(node);
  }

  getattr(r: Request, _hasFh: boolean, _lo: number, _hi: number, out: number): number {
    return this.#attr(this.#of(r), out);
  }

  setattr(r: Request, set: SetAttr, out: number): number {
    const node = this.#of(r);
    if (set.valid & SETATTR.MODE) node.mode = (node.mode & S.IFMT) | (set.mode & 0o7777);
    if (set.valid & SETATTR.UID) node.uid = set.uid;
    if (set.valid & SETATTR.GID) node.gid = set.gid;
    if (set.valid & SETATTR.SIZE) this.#resize(node, set.size);
    if (set.valid & SETATTR.KILL_SUIDGID) node.mode &= ~S.ISUID;
    const [atime, mtime] = node.times;
    const chosen = (
      bit: number,
      now: number,
      given: [seconds: number, nsec: number],
      old: [number, number],
    ) => (set.valid & bit ? (set.valid & now ? nowParts() : given) : old);
    const seconds = (lo: number, hi: number): number => (hi | 0) * 0x1_0000_0000 + lo;
    node.times = [
      chosen(
        SETATTR.ATIME,
        SETATTR.ATIME_NOW,
        [seconds(set.atimeLo, set.atimeHi), set.atimeNsec],
        atime,
      ),
      chosen(
        SETATTR.MTIME,
        SETATTR.MTIME_NOW,
        [seconds(set.mtimeLo, set.mtimeHi), set.mtimeNsec],
        mtime,
      ),
      nowParts(),
    ];
    return this.#attr(node, out);
  }

  #resize(node: Node, size: number): void {
    if (size > node.data.length) {
      const grown = new Uint8Array(Math.max(size, node.data.length * 2));
      grown.set(node.data.subarray(0, node.size));
      node.data = grown;
    } else if (size < node.size) {
      node.data.fill(0, size, node.size);
    }
    node.size = size;
  }

  readlink(r: Request, out: number, _size: number): number {
    return putBytes(out, this.#of(r).target);
  }

  statfs(_r: Request, out: number): number {
    putU64(out + Kstatfs.blocks, 1 << 20);
    putU64(out + Kstatfs.bfree, 1 << 19);
    putU64(out + Kstatfs.bavail, 1 << 19);
    u32[(out + Kstatfs.bsize) >>> 2] = 4096;
    u32[(out + Kstatfs.frsize) >>> 2] = 4096;
    u32[(out + Kstatfs.namelen) >>> 2] = 255;
    return 80;
  }

  access(_r: Request, _mask: number): number {
    return 0;
  }

  #make(r: Request, name: number, nameLen: number, mode: number, out: number): Node | number {
    const parent = this.#of(r);
    const text = getBytes(name, nameLen);
    if (parent.children.has(text)) return -E.EXIST;
    const node = this.#node(mode & ~r.umask, r.uid, r.gid);
    this.#link(parent, text, node);
    this.#entry(node, out);
    return node;
  }

  mknod(
    r: Request,
    name: number,
    nameLen: number,
    mode: number,
    rdev: number,
    out: number,
  ): number {
    const node = this.#make(r, name, nameLen, mode, out);
    if (typeof node === 'number') return node;
    node.rdev = rdev;
    return this.#attr(node, out + Entry.attr);
  }

  mkdir(r: Request, name: number, nameLen: number, mode: number, out: number): number {
    const node = this.#make(r, name, nameLen, S.IFDIR | (mode & 0o7777), out);
    return typeof node === 'number' ? node : ENTRY_SIZE;
  }

  symlink(r: Request, name: number, nameLen: number, target: number, out: number): number {
    const node = this.#make(r, name, nameLen, S.IFLNK | 0o777, out);
    if (typeof node === 'number') return node;
    node.mode = S.IFLNK | 0o777;
    node.target = getBytes(target, cstrlen(target));
    node.size = node.target.length;
    return this.#attr(node, out + Entry.attr);
  }

  link(
    r: Request,
    oldLo: number,
    _oldHi: number,
    name: number,
    nameLen: number,
    out: number,
  ): number {
    const node = this.nodes.get(oldLo);
    const text = getBytes(name, nameLen);
    if (node === undefined) return -E.NOENT;
    if (this.#of(r).children.has(text)) return -E.EXIST;
    node.nlink++;
    this.#link(this.#of(r), text, node);
    return this.#entry(node, out);
  }

  unlink(r: Request, name: number, nameLen: number): number {
    const text = getBytes(name, nameLen);
    const child = this.#of(r).children.get(text);
    if (child === undefined) return -E.NOENT;
    if (child.node.isDir) return -E.ISDIR;
    this.#unlink(this.#of(r), text, child.node);
    return 0;
  }

  rmdir(r: Request, name: number, nameLen: number): number {
    const text = getBytes(name, nameLen);
    const child = this.#of(r).children.get(text);
    if (child === undefined) return -E.NOENT;
    if (!child.node.isDir) return -E.NOTDIR;
    if (child.node.children.size > 0) return -E.NOTEMPTY;
    this.#unlink(this.#of(r), text, child.node);
    return 0;
  }

  rename(
    r: Request,
    name: number,
    nameLen: number,
    newParentLo: number,
    _newParentHi: number,
    newName: number,
    newNameLen: number,
    flags: number,
  ): number {
    const from = this.#of(r);
    const to = this.nodes.get(newParentLo);
    const oldText = getBytes(name, nameLen);
    const newText = getBytes(newName, newNameLen);
    const moved = from.children.get(oldText)?.node;
    if (moved === undefined || to === undefined) return -E.NOENT;
    const replaced = to.children.get(newText)?.node;
    if (flags === 2) {
      if (replaced === undefined) return -E.NOENT;
      from.children.set(oldText, { node: replaced, cookie: this.#cookie++ });
      to.children.set(newText, { node: moved, cookie: this.#cookie++ });
      return 0;
    }
    if (flags > 1) return -E.INVAL;
    if (replaced !== undefined) {
      if (flags === 1) return -E.EXIST;
      if (replaced.isDir && replaced.children.size > 0) return -E.NOTEMPTY;
      this.#unlink(to, newText, replaced);
    }
    from.children.delete(oldText);
    if (moved.isDir) from.nlink--;
    this.#link(to, newText, moved);
    return 0;
  }

  #handle(node: Node, reply: OpenReply): number {
    const fh = this.#nextHandle++;
    let backingId = 0;
    let fd = -1;
    if (this.#options.backing !== undefined && this.host?.passthrough && !node.isDir) {
      fd = openSync(this.#options.backing, 'r+');
      backingId = this.host.backingOpen(fd);
      if (backingId > 0) {
        reply.flags |= OPEN.PASSTHROUGH;
        reply.backingId = backingId;
      } else this.#options.log?.(`backingOpen ${backingId}`);
    }
    this.handles.set(fh, { node, backingId, fd });
    reply.fhLo = fh;
    return 0;
  }

  open(r: Request, flags: number, reply: OpenReply): number {
    const node = this.#of(r);
    if (this.#nameOf(node) === Trouble.deferred && !this.#copied) {
      const host = this.host as Host;
      const saved = host.defer();
      this.#options.log?.('deferred');
      const size = this.#options.slowSize ?? 0;
      host.jobs.run(JOB.COPY_FILE, this.#slowFrom, this.#slowTo, size, 0, 0, (result) => {
        this.#copied = true;
        this.#options.log?.(`copied ${result}`);
        host.resume(saved);
      });
      return PARKED;
    }
    if (flags & 0o1000) this.#resize(node, 0);
    reply.flags = OPEN.KEEP_CACHE;
    return this.#handle(node, reply);
  }

  #nameOf(node: Node): string | undefined {
    for (const [name, child] of this.root.children) if (child.node === node) return name;
    return undefined;
  }

  create(
    r: Request,
    name: number,
    nameLen: number,
    _flags: number,
    mode: number,
    out: number,
    reply: OpenReply,
  ): number {
    const node = this.#make(r, name, nameLen, S.IFREG | (mode & 0o7777), out);
    return typeof node === 'number' ? node : this.#handle(node, reply);
  }

  tmpfile(r: Request, _flags: number, mode: number, out: number, reply: OpenReply): number {
    const node = this.#node(S.IFREG | (mode & 0o7777 & ~r.umask), r.uid, r.gid);
    node.nlink = 0;
    this.#entry(node, out);
    return this.#handle(node, reply);
  }

  read(r: Request, _lo: number, _hi: number, out: number, size: number, offset: number): number {
    const node = this.#of(r);
    const n = Math.max(0, Math.min(size, node.size - offset));
    u8.set(node.data.subarray(offset, offset + n), out);
    return n;
  }

  write(
    r: Request,
    _lo: number,
    _hi: number,
    data: number,
    size: number,
    offset: number,
    killPriv: boolean,
  ): number {
    const node = this.#of(r);
    if (offset + size > node.size) this.#resize(node, offset + size);
    node.data.set(u8.subarray(data, data + size), offset);
    if (killPriv) node.mode &= ~(S.ISUID | (node.mode & 0o10 ? S.ISGID : 0));
    node.times = [node.times[0], nowParts(), nowParts()];
    return size;
  }

  flush(): number {
    return 0;
  }

  release(_r: Request, fhLo: number): number {
    const handle = this.handles.get(fhLo);
    this.handles.delete(fhLo);
    if (handle !== undefined && handle.backingId > 0) this.host?.backingClose(handle.backingId);
    if (handle !== undefined && handle.fd >= 0) closeSync(handle.fd);
    return handle === undefined ? -E.BADF : 0;
  }

  fsync(r: Request): number {
    if (!this.#nameOf(this.#of(r))?.startsWith(Trouble.slowSync)) return 0;
    const size = this.#options.slowSize ?? 0;
    const { jobs } = this.host as Host;
    this.#options.log?.('parked');
    return jobs.parkReply(JOB.COPY_FILE, this.#slowFrom, this.#slowTo, size, 0, 0);
  }

  fallocate(
    r: Request,
    _lo: number,
    _hi: number,
    offset: number,
    length: number,
    mode: number,
  ): number {
    if (mode !== 0) return -E.OPNOTSUPP;
    const node = this.#of(r);
    if (offset + length > node.size) this.#resize(node, offset + length);
    return 0;
  }

  lseek(r: Request, _lo: number, _hi: number, offset: number, whence: number): number {
    const { size } = this.#of(r);
    if (offset >= size) return -E.NXIO;
    return whence === 3 ? offset : size;
  }

  copyFileRange(): number {
    return -E.OPNOTSUPP;
  }

  syncfs(): number {
    return 0;
  }

  opendir(r: Request, _flags: number, reply: OpenReply): number {
    if (this.#options.noOpendir && this.host?.noOpendir) return -E.NOSYS;
    return this.#handle(this.#of(r), reply);
  }

  readdir(r: Request, _lo: number, _hi: number, offset: number, sink: DirSink): number {
    const node = this.#of(r);
    const parent = node.parent ?? node;
    const dots: [string, Node, number][] = [
      ['.', node, 1],
      ['..', parent, 2],
    ];
    const all: Iterable<[string, Node, number]> = [
      ...dots,
      ...[...node.children].map(([name, child]): [string, Node, number] => [
        name,
        child.node,
        child.cookie,
      ]),
    ];
    for (const [name, child, cookie] of all) {
      if (cookie <= offset) continue;
      if (!sink.fits(name.length)) break;
      if (sink.plus && cookie > 2) this.#entry(child, sink.entry);
      const at = this.#scratchName(name);
      sink.add(child.id, 0, cookie, (child.mode & S.IFMT) >>> 12, at, name.length);
    }
    return 0;
  }

  /** Names lie in JavaScript here; the waist wants them in the arena. */
  #scratchName(name: string): number {
    const at = 0x2c000;
    putBytes(at, name);
    return at;
  }

  releasedir(r: Request, fhLo: number): number {
    return this.release(r, fhLo);
  }

  fsyncdir(): number {
    return 0;
  }

  getxattr(r: Request, name: number, nameLen: number, out: number, size: number): number {
    const value = this.#of(r).xattrs.get(getBytes(name, nameLen));
    if (value === undefined) return -E.NODATA;
    if (size > 0) {
      if (value.length > size) return -E.RANGE;
      u8.set(value, out);
    }
    return value.length;
  }

  listxattr(r: Request, out: number, size: number): number {
    const list = [...this.#of(r).xattrs.keys()].map((key) => `${key}\0`).join('');
    if (size > 0) {
      if (list.length > size) return -E.RANGE;
      putBytes(out, list);
    }
    return list.length;
  }

  setxattr(
    r: Request,
    name: number,
    nameLen: number,
    value: number,
    size: number,
    flags: number,
  ): number {
    const { xattrs } = this.#of(r);
    const key = getBytes(name, nameLen);
    if (r.nodeLo === ROOT && this.#command(key, getBytes(value, size))) return 0;
    if (flags === 1 && xattrs.has(key)) return -E.EXIST;
    if (flags === 2 && !xattrs.has(key)) return -E.NODATA;
    xattrs.set(key, u8.slice(value, value + size));
    return 0;
  }

  /** @returns whether `key` was one of Command. */
  #command(key: string, name: string): boolean {
    const host = this.host as Host;
    const child = this.root.children.get(name)?.node;
    const id = child?.id ?? 0;
    switch (key) {
      case Command.grow:
        if (child === undefined) return false;
        this.#resize(child, child.size + 100);
        return true;
      case Command.invalAttributes:
        host.invalInode(id, 0, -1, 0);
        return true;
      case Command.invalContent:
        host.invalInode(id, 0, 0, 0);
        return true;
      case Command.toggle:
        if (child === undefined) this.add(name, 'appeared');
        else this.#unlink(this.root, name, child);
        return true;
      case Command.invalName:
        host.invalEntry(ROOT, 0, this.#scratchName(name), name.length);
        return true;
      case Command.remove:
        if (child === undefined) return false;
        this.#unlink(this.root, name, child);
        host.notifyDelete(ROOT, 0, id, 0, this.#scratchName(name), name.length);
        return true;
      default:
        return false;
    }
  }

  removexattr(r: Request, name: number, nameLen: number): number {
    return this.#of(r).xattrs.delete(getBytes(name, nameLen)) ? 0 : -E.NODATA;
  }
}
