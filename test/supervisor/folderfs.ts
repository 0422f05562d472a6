// A filesystem over one flat folder on disk, that a successor can take over: it remembers nothing, a nodeid is an inode number.
// Served by serve-folder.ts. A file beside the folder tells it where to die; see Trouble.
// Exactly once as docs/restart.md says: changes are announced to the journal, and recognised when they are done again.

import {
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmdirSync,
  type Stats,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { DT, S } from '../../src/linux/constants.js';
import { E } from '../../src/linux/errno.js';
import { getBytes, putBytes, putU64, u8, u32 } from '../../src/linux/memory.js';
import { ATTR_SIZE, Attr, ENTRY_SIZE, Entry, Kstatfs } from '../../src/vfs/attr.js';
import {
  ABSENT,
  type DirSink,
  type FileSystem,
  type Host,
  JOB,
  type OpenReply,
  PARKED,
  type Request,
  SETATTR,
  type SetAttr,
} from '../../src/vfs/filesystem.js';
import * as journal from '../../src/vfs/journal.js';
import { WORK } from '../../src/vfs/layout.js';

/** Where to die: JSON in the file `FOLDER.trouble`. */
export interface Trouble {
  readonly op: 'lookup' | 'mkdir' | 'rmdir' | 'create' | 'unlink' | 'fsync';
  /** The name that is asked for; absent: any. */
  readonly name?: string;
  /** started: nothing was done. publishing: it was announced. published: it was done. replying: the reply is formed. */
  readonly at: 'started' | 'publishing' | 'published' | 'replying' | 'parked';
  /** So many servers. */
  readonly times: number;
  /** Absent: SIGKILL. */
  readonly exit?: number;
}

const HI = 0x1_0000_0000;
const ROOT = 1;

export class FolderFileSystem implements FileSystem {
  host: Host | undefined;
  readonly #folder: string;
  readonly #names = new Map<number, string>();
  #replying: Trouble | undefined;
  #deferred = false;

  constructor(folder: string) {
    this.#folder = folder;
  }

  start(host: Host): void {
    this.host = host;
  }

  succeed(host: Host): void {
    this.host = host;
  }

  stop(): void {}

  /** Dies here if that was asked for. */
  #die(op: Trouble['op'], at: Trouble['at'], name: string): void {
    const file = `${this.#folder}.trouble`;
    let trouble: Trouble;
    try {
      trouble = JSON.parse(readFileSync(file, 'utf8')) as Trouble;
    } catch {
      return;
    }
    if (trouble.op !== op || trouble.times === 0) return;
    if (trouble.name !== undefined && trouble.name !== name) return;
    if (trouble.at === 'replying' && at === 'started') this.#replying = trouble;
    if (trouble.at !== at) return;
    end(file, trouble);
  }

  /** Called with each line of the trace: a reply is formed. */
  traced(line: string): void {
    if (line.startsWith('<-') && this.#replying !== undefined) {
      end(`${this.#folder}.trouble`, this.#replying);
    }
  }

  #path(name: string): string {
    return join(this.#folder, name);
  }

  /** Name of a node, found by its number. */
  #nameOf(ino: number): string | undefined {
    for (const again of [false, true]) {
      if (again) {
        this.#names.clear();
        for (const name of readdirSync(this.#folder)) {
          this.#names.set(lstatSync(this.#path(name)).ino, name);
        }
      }
      const name = this.#names.get(ino);
      if (name !== undefined && this.#stat(name)?.ino === ino) return name;
    }
    return undefined;
  }

  #stat(name: string): Stats | undefined {
    return lstatSync(this.#path(name), { throwIfNoEntry: false });
  }

  /** Path of a request's node. */
  #of(lo: number, hi: number): string | undefined {
    const ino = hi * HI + lo;
    if (ino === ROOT) return this.#folder;
    const name = this.#nameOf(ino);
    return name === undefined ? undefined : this.#path(name);
  }

  #attr(s: Stats, out: number, ino = s.ino): number {
    u32.fill(0, out >>> 2, (out + ATTR_SIZE) >>> 2);
    putU64(out + Attr.ino, ino);
    putU64(out + Attr.size, s.size);
    putU64(out + Attr.blocks, s.blocks);
    putU64(out + Attr.mtime, Math.floor(s.mtimeMs / 1000));
    u32[(out + Attr.mode) >>> 2] = s.mode;
    u32[(out + Attr.nlink) >>> 2] = s.nlink;
    u32[(out + Attr.uid) >>> 2] = s.uid;
    u32[(out + Attr.gid) >>> 2] = s.gid;
    u32[(out + Attr.blksize) >>> 2] = 4096;
    return ATTR_SIZE;
  }

  #entry(name: string, out: number): number {
    const s = this.#stat(name);
    if (s === undefined) return ABSENT;
    this.#names.set(s.ino, name);
    putU64(out + Entry.nodeid, s.ino);
    putU64(out + Entry.generation, 0);
    this.#attr(s, out + Entry.attr);
    return ENTRY_SIZE;
  }

  lookup(_r: Request, name: number, nameLen: number, out: number): number {
    const text = getBytes(name, nameLen);
    this.#die('lookup', 'started', text);
    return this.#entry(text, out);
  }

  forget(): void {}

  getattr(r: Request, _hasFh: boolean, _lo: number, _hi: number, out: number): number {
    const path = this.#of(r.nodeLo, r.nodeHi);
    if (path === undefined) return -E.STALE;
    return this.#attr(lstatSync(path), out, r.nodeHi * HI + r.nodeLo);
  }

  setattr(r: Request, set: SetAttr, out: number): number {
    const path = this.#of(r.nodeLo, r.nodeHi);
    if (path === undefined) return -E.STALE;
    if (set.valid & SETATTR.SIZE) truncateSync(path, set.size);
    return this.#attr(lstatSync(path), out);
  }

  readlink(): number {
    return -E.INVAL;
  }

  statfs(_r: Request, out: number): number {
    u32[(out + Kstatfs.bsize) >>> 2] = 4096;
    u32[(out + Kstatfs.frsize) >>> 2] = 4096;
    u32[(out + Kstatfs.namelen) >>> 2] = 255;
    return 80;
  }

  access(): number {
    return 0;
  }

  mknod(): number {
    return -E.PERM;
  }

  /** Makes or removes `name`, once. @param there whether it is there afterwards. */
  #change(r: Request, op: Trouble['op'], name: string, there: boolean, change: () => void): number {
    this.#die(op, 'started', name);
    const before = this.#stat(name) !== undefined;
    // What a predecessor has done already is this request's own doing.
    if (before === there && !r.redo) return there ? -E.EXIST : -E.NOENT;
    journal.publishing();
    this.#die(op, 'publishing', name);
    if (before !== there) change();
    this.#die(op, 'published', name);
    return 0;
  }

  mkdir(r: Request, name: number, nameLen: number, mode: number, out: number): number {
    const text = getBytes(name, nameLen);
    const result = this.#change(r, 'mkdir', text, true, () => {
      mkdirSync(this.#path(text), { mode });
    });
    return result < 0 ? result : this.#entry(text, out);
  }

  symlink(): number {
    return -E.PERM;
  }

  link(): number {
    return -E.PERM;
  }

  unlink(r: Request, name: number, nameLen: number): number {
    const text = getBytes(name, nameLen);
    return this.#change(r, 'unlink', text, false, () => unlinkSync(this.#path(text)));
  }

  rmdir(r: Request, name: number, nameLen: number): number {
    const text = getBytes(name, nameLen);
    return this.#change(r, 'rmdir', text, false, () => rmdirSync(this.#path(text)));
  }

  rename(): number {
    return -E.PERM;
  }

  open(_r: Request, _flags: number, _reply: OpenReply): number {
    return 0;
  }

  create(
    r: Request,
    name: number,
    nameLen: number,
    _flags: number,
    mode: number,
    out: number,
    _reply: OpenReply,
  ): number {
    const text = getBytes(name, nameLen);
    const result = this.#change(r, 'create', text, true, () => {
      closeSync(openSync(this.#path(text), 'wx', mode));
    });
    return result < 0 ? result : this.#entry(text, out);
  }

  tmpfile(): number {
    return -E.OPNOTSUPP;
  }

  /** Opens the node of a request for one operation. */
  #use(r: Request, flags: string, action: (fd: number) => number): number {
    const path = this.#of(r.nodeLo, r.nodeHi);
    if (path === undefined) return -E.STALE;
    const fd = openSync(path, flags);
    try {
      return action(fd);
    } finally {
      closeSync(fd);
    }
  }

  read(r: Request, _lo: number, _hi: number, out: number, size: number, offset: number): number {
    return this.#use(r, 'r', (fd) => readSync(fd, u8, out, size, offset));
  }

  write(r: Request, _lo: number, _hi: number, data: number, size: number, offset: number): number {
    return this.#use(r, 'r+', (fd) => writeSync(fd, u8, data, size, offset));
  }

  flush(): number {
    return 0;
  }

  release(): number {
    return 0;
  }

  /** Is put aside until a worker has synced the file, then handled again. */
  fsync(r: Request): number {
    const host = this.host as Host;
    this.#die('fsync', 'started', '');
    if (this.#deferred) {
      this.#deferred = false;
      return 0;
    }
    const path = this.#of(r.nodeLo, r.nodeHi);
    if (path === undefined) return -E.STALE;
    const fd = openSync(path, 'r+');
    const saved = host.defer();
    host.jobs.run(JOB.FSYNC, fd, 0, 0, 0, 0, () => {
      closeSync(fd);
      this.#deferred = true;
      host.resume(saved);
    });
    this.#die('fsync', 'parked', '');
    return PARKED;
  }

  fallocate(): number {
    return -E.OPNOTSUPP;
  }

  lseek(): number {
    return -E.INVAL;
  }

  copyFileRange(): number {
    return -E.OPNOTSUPP;
  }

  syncfs(): number {
    return 0;
  }

  opendir(): number {
    return 0;
  }

  readdir(_r: Request, _lo: number, _hi: number, offset: number, sink: DirSink): number {
    const names = ['.', '..', ...readdirSync(this.#folder).sort()];
    for (let i = offset; i < names.length; i++) {
      const name = names[i] as string;
      const length = Buffer.byteLength(name);
      if (!sink.fits(length)) break;
      const s = i < 2 ? undefined : this.#stat(name);
      const type = s === undefined || (s.mode & S.IFMT) === S.IFDIR ? DT.DIR : DT.REG;
      putBytes(WORK, name);
      sink.add(s?.ino ?? ROOT, 0, i + 1, type, WORK, length);
    }
    return 0;
  }

  releasedir(): number {
    return 0;
  }

  fsyncdir(): number {
    return 0;
  }

  getxattr(): number {
    return -E.OPNOTSUPP;
  }

  listxattr(): number {
    return 0;
  }

  setxattr(): number {
    return -E.OPNOTSUPP;
  }

  removexattr(): number {
    return -E.OPNOTSUPP;
  }
}

function end(file: string, trouble: Trouble): void {
  writeFileSync(file, JSON.stringify({ ...trouble, times: trouble.times - 1 }));
  if (trouble.exit !== undefined) process.exit(trouble.exit);
  process.kill(process.pid, 'SIGKILL');
}
