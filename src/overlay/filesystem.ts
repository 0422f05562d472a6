// The overlay as a FileSystem: each method finds its nodes and calls the file of this folder that does the work.
// Made by stack/open.ts, driven by fuse/ through the waist.
// Operation rules: vfs/filesystem.ts.

import { E } from '../linux/errno.js';
import { readlinkAt } from '../linux/files.js';
import { u32 } from '../linux/memory.js';
import { KSTATFS_SIZE, Kstatfs } from '../vfs/attr.js';
import type {
  DirSink,
  FileSystem,
  Host,
  NodeRef,
  OpenReply,
  Request,
  SetAttr,
} from '../vfs/filesystem.js';
import { F, get, nodeidHi, nodeidLo, numberNodes, ROOT, slotOf } from '../vfs/nodes.js';
import type { OverlayConfig } from './config.js';
import { Overlay } from './context.js';
import { create, mkdir, mknod, symlink, tmpfile } from './create.js';
import { Exports, isDots } from './export.js';
import { Fill } from './fill.js';
import { forget } from './forget.js';
import { link } from './hard-link.js';
import { unhideAll } from './hide.js';
import * as io from './io.js';
import { lookup } from './lookup.js';
import { attrOf } from './objects.js';
import { locate, nodeBy, nodeOf } from './places.js';
import { practicePlace } from './practice.js';
import { opendir, readdir, releasedir } from './readdir.js';
import { rmdir, unlink } from './remove.js';
import { rename } from './rename.js';
import { giveLayers, makeRoot } from './root.js';
import { setattr } from './setattr.js';
import { tellOfStaleNames } from './stale.js';
import { settleHandles, takeTables } from './succession.js';
import { RECORD } from './work.js';
import { sweep } from './workdir.js';
import { getxattr, listxattr, removexattr, setxattr } from './xattrs.js';

export class OverlayFileSystem implements FileSystem {
  private readonly o: Overlay;
  private exports: Exports | undefined;

  constructor(config: OverlayConfig) {
    this.o = new Overlay(config);
  }

  start(host: Host): void {
    this.exportNumbers();
    if (this.o.upper !== undefined) sweep(this.o.config.workFd);
    this.o.host = host;
    makeRoot(this.o);
    this.fill();
  }

  succeed(host: Host): void {
    this.exportNumbers();
    takeTables(this.o);
    // A predecessor that was killed at once.
    if (get(ROOT, F.flags) === 0) {
      this.start(host);
    } else {
      this.o.host = host;
      giveLayers(this.o);
      this.fill();
    }
    settleHandles(this.o);
    tellOfStaleNames(this.o);
  }

  private fill(): void {
    const { detaching } = this.o.config;
    if (detaching !== undefined) new Fill(this.o, detaching).begin();
  }

  /** Before the first node is made or taken over: whether nodeids are numbers. */
  private exportNumbers(): void {
    const { o } = this;
    numberNodes(o.config.nfsExport);
    if (o.config.nfsExport) this.exports ??= new Exports(o);
    o.exporting = this.exports;
  }

  stop(): void {
    if (this.o.upper !== undefined) unhideAll(this.o);
    for (const layer of this.o.layers) layer?.close();
  }

  practicePlace(): NodeRef | undefined {
    const slot = practicePlace(this.o);
    return slot === 0 ? undefined : [nodeidLo(slot), nodeidHi(slot)];
  }

  lookup(r: Request, name: number, nameLen: number, out: number): number {
    if (this.exports !== undefined && isDots(name, nameLen)) {
      return this.exports.lookup(r.nodeLo, r.nodeHi, nameLen, out);
    }
    const parent = nodeOf(this.o, r);
    return parent === 0 ? -E.STALE : lookup(this.o, parent, name, nameLen, out);
  }

  forget(nodeLo: number, nodeHi: number, count: number): void {
    const slot = slotOf(nodeLo, nodeHi);
    if (slot !== 0) forget(this.o, slot, count);
  }

  getattr(r: Request, _hasFh: boolean, _fhLo: number, _fhHi: number, out: number): number {
    const slot = nodeOf(this.o, r);
    return slot === 0 ? -E.STALE : attrOf(this.o, slot, out);
  }

  setattr(r: Request, set: SetAttr, out: number): number {
    return setattr(this.o, r, set, out);
  }

  readlink(r: Request, out: number, size: number): number {
    const slot = nodeOf(this.o, r);
    if (slot === 0) return -E.STALE;
    const p = locate(this.o, slot);
    if (p.fd >= 0) return readlinkAt(p.fd, p.name, out, size);
    return p.layer === undefined ? -E.STALE : p.layer.readlink(p.dir, p.name, out, size);
  }

  statfs(_r: Request, out: number): number {
    const { o } = this;
    const top = o.upper ?? o.config.lowers[0];
    const e = top === undefined ? -E.IO : top.statfs(RECORD);
    if (e < 0) return e;
    const s = RECORD >>> 2;
    const k = out >>> 2;
    u32.fill(0, k, k + KSTATFS_SIZE / 4);
    // struct statfs: blocks, bfree, bavail, files, ffree as u64 from byte 16 on; fuse_kstatfs has the same five first.
    for (let i = 0; i < 10; i++) u32[k + i] = u32[s + 4 + i] as number;
    u32[(out + Kstatfs.bsize) >>> 2] = u32[s + 2] as number;
    u32[(out + Kstatfs.namelen) >>> 2] = u32[s + 16] as number;
    u32[(out + Kstatfs.frsize) >>> 2] = u32[s + 18] as number;
    return KSTATFS_SIZE;
  }

  access(): number {
    // Permissions are the kernel's to check (default_permissions).
    return 0;
  }

  mknod(
    r: Request,
    name: number,
    nameLen: number,
    mode: number,
    rdev: number,
    out: number,
  ): number {
    return mknod(this.o, r, name, nameLen, mode, rdev, out);
  }

  mkdir(r: Request, name: number, nameLen: number, mode: number, out: number): number {
    return mkdir(this.o, r, name, nameLen, mode, out);
  }

  symlink(r: Request, name: number, nameLen: number, target: number, out: number): number {
    return symlink(this.o, r, name, nameLen, target, out);
  }

  link(
    r: Request,
    oldLo: number,
    oldHi: number,
    name: number,
    nameLen: number,
    out: number,
  ): number {
    return link(this.o, r, nodeBy(this.o, oldLo, oldHi), name, nameLen, out);
  }

  unlink(r: Request, name: number, nameLen: number): number {
    return unlink(this.o, r, name, nameLen);
  }

  rmdir(r: Request, name: number, nameLen: number): number {
    return rmdir(this.o, r, name, nameLen);
  }

  rename(
    r: Request,
    name: number,
    nameLen: number,
    newParentLo: number,
    newParentHi: number,
    newName: number,
    newNameLen: number,
    flags: number,
  ): number {
    return rename(this.o, r, name, nameLen, newParentLo, newParentHi, newName, newNameLen, flags);
  }

  open(r: Request, flags: number, reply: OpenReply): number {
    return io.open(this.o, r, flags, reply);
  }

  create(
    r: Request,
    name: number,
    nameLen: number,
    flags: number,
    mode: number,
    out: number,
    reply: OpenReply,
  ): number {
    return create(this.o, r, name, nameLen, flags, mode, out, reply);
  }

  tmpfile(r: Request, flags: number, mode: number, out: number, reply: OpenReply): number {
    return tmpfile(this.o, r, flags, mode, out, reply);
  }

  read(r: Request, fhLo: number, fhHi: number, out: number, size: number, offset: number): number {
    return io.read(this.o, r, fhLo, fhHi, out, size, offset);
  }

  write(
    r: Request,
    fhLo: number,
    fhHi: number,
    data: number,
    size: number,
    offset: number,
    killPriv: boolean,
  ): number {
    return io.write(this.o, fhLo, fhHi, data, size, offset, killPriv, r.gid);
  }

  flush(): number {
    // Nothing to do at close: the kernel then stops asking, and still writes its own pages back.
    return -E.NOSYS;
  }

  release(_r: Request, fhLo: number, fhHi: number): number {
    return io.release(this.o, fhLo, fhHi);
  }

  fsync(_r: Request, fhLo: number, fhHi: number, dataOnly: boolean): number {
    return io.fsync(this.o, fhLo, fhHi, dataOnly);
  }

  fallocate(
    r: Request,
    fhLo: number,
    fhHi: number,
    offset: number,
    length: number,
    mode: number,
  ): number {
    return io.fallocate(this.o, r, fhLo, fhHi, offset, length, mode);
  }

  lseek(r: Request, fhLo: number, fhHi: number, offset: number, whence: number): number {
    return io.lseek(this.o, r, fhLo, fhHi, offset, whence);
  }

  copyFileRange(
    r: Request,
    fhLo: number,
    fhHi: number,
    offset: number,
    _outNodeLo: number,
    _outNodeHi: number,
    outFhLo: number,
    outFhHi: number,
    outOffset: number,
    length: number,
  ): number {
    return io.copyFileRange(this.o, r, fhLo, fhHi, offset, outFhLo, outFhHi, outOffset, length);
  }

  syncfs(): number {
    return io.syncfs(this.o);
  }

  opendir(r: Request, flags: number, reply: OpenReply): number {
    return opendir(this.o, r, flags, reply);
  }

  readdir(r: Request, _fhLo: number, _fhHi: number, offset: number, sink: DirSink): number {
    return readdir(this.o, r, offset, sink);
  }

  releasedir(_r: Request, fhLo: number, fhHi: number): number {
    return releasedir(this.o, fhLo, fhHi);
  }

  fsyncdir(): number {
    return io.syncfs(this.o);
  }

  getxattr(r: Request, name: number, nameLen: number, out: number, size: number): number {
    return getxattr(this.o, r, name, nameLen, out, size);
  }

  listxattr(r: Request, out: number, size: number): number {
    return listxattr(this.o, r, out, size);
  }

  setxattr(
    r: Request,
    name: number,
    nameLen: number,
    value: number,
    size: number,
    flags: number,
  ): number {
    return setxattr(this.o, r, name, nameLen, value, size, flags);
  }

  removexattr(r: Request, name: number, nameLen: number): number {
    return removexattr(this.o, r, name, nameLen);
  }
}
