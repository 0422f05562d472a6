// One request, from bytes to bytes: check its lengths, call the filesystem's method, form the reply.
// Called by server.ts for each message; the request lies in requestBuffer(0), the reply is left in replyBuffer(0).
// Follows: fs/fuse/{dir,file,readdir,xattr}.c of Linux 6.18 for what each operation sends and accepts.

import { NAME_MAX, XATTR_SIZE_MAX } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { u8, u16, u32 } from '../linux/memory.js';
import { ENTRY_SIZE, KSTATFS_SIZE } from '../vfs/attr.js';
import { Counter, count, set } from '../vfs/counters.js';
import {
  ABSENT,
  type FileSystem,
  type Host,
  type Request,
  type SetAttr,
} from '../vfs/filesystem.js';
import * as journal from '../vfs/journal.js';
import { MAX_IO, MESSAGE_SIZE, replyBuffer, requestBuffer } from '../vfs/layout.js';
import {
  FuseCopyFileRangeIn as CopyIn,
  FuseCreateIn as CreateIn,
  FATTR_KNOWN,
  FuseFallocateIn as FallocateIn,
  FuseFsyncIn as FsyncIn,
  FUSE_COMPAT_SETXATTR_IN_SIZE,
  FUSE_FSYNC_FDATASYNC,
  FUSE_GETATTR_FH,
  FUSE_OPEN_KILL_SUIDGID,
  FUSE_SETXATTR_ACL_KILL_SGID,
  FUSE_WRITE_KILL_SUIDGID,
  FuseAttrOut,
  FuseBatchForgetIn,
  FuseForgetOne,
  FuseInitIn,
  FuseInitOut,
  FuseLinkIn,
  FuseOpenOut,
  FuseRenameIn,
  FuseGetattrIn as GetattrIn,
  FuseGetxattrIn as GetxattrIn,
  FuseInHeader as InHeader,
  FuseLseekIn as LseekIn,
  FuseMkdirIn as MkdirIn,
  FuseMknodIn as MknodIn,
  FuseOpenIn as OpenIn,
  FuseOutHeader as OutHeader,
  FuseReadIn as ReadIn,
  FuseRename2In as Rename2In,
  FuseSetattrIn as SetattrIn,
  FuseSetxattrIn as SetxattrIn,
  FuseWriteIn as WriteIn,
} from './abi.js';
import { ReplySink } from './dirsink.js';
import { ListAhead } from './list-ahead.js';
import { ANSWERED, MIN_LENGTH, NEEDS_NODE, OP, OPCODE_LIMIT } from './opcodes.js';
import { describe, Reply } from './reply.js';
import { negotiate, type Session, type SessionWishes } from './session.js';

// The buffers of the server's thread, as byte offsets and as indices of the u32 view.
const REQ = requestBuffer(0);
const ARGS = REQ + InHeader.size;
const REP = replyBuffer(0);
const OUT = REP + OutHeader.size;
const H = REQ >>> 2;
const A = ARGS >>> 2;
const O = OUT >>> 2;

/** Word of the journal that no filesystem here uses: how many entries of a BATCH_FORGET have had their turn. */
const FORGOTTEN = 3;

/** READLINK's room: a page less the NUL that the kernel adds. */
const LINK_MAX = 4095;
/** Largest result of the 32-bit COPY_FILE_RANGE reply (MAX_RW_COUNT). */
const COPY_MAX = 0x7ffff000;

const HI = 0x1_0000_0000;

/** A u64 of the arguments as Number; offsets above 2^53 do not occur (they are loff_t below s_maxbytes = 2^63-1, clamped). */
function num(k: number): number {
  const hi = u32[k + 1] as number;
  return hi >= 0x200000 ? Number.MAX_SAFE_INTEGER : hi * HI + (u32[k] as number);
}

export interface DispatchOptions {
  readonly wishes: SessionWishes;
  /** Seconds that names (negative ones too) and attributes stay valid in the kernel. */
  readonly timeout: number;
  /** Receives one line for each request that failed in a way nobody expected. */
  readonly log: (line: string) => void;
}

/** What dispatch needs of the host besides what filesystems use. */
export interface DispatchHost extends Host {
  session: Session | undefined;
  /** A signal hit the caller of a request. */
  interrupted(uniqueLo: number, uniqueHi: number): void;
}

/** The record of the current request, before the first. */
export function emptyRequest(): Request {
  return {
    opcode: 0,
    uniqueLo: 0,
    uniqueHi: 0,
    nodeLo: 0,
    nodeHi: 0,
    uid: 0,
    gid: 0,
    pid: 0,
    umask: 0,
    killPriv: false,
    redo: false,
  };
}

/** A record for the arguments of setattr: nothing is to be changed. */
export function emptySetAttr(): SetAttr {
  return {
    valid: 0,
    fhLo: 0,
    fhHi: 0,
    size: 0,
    atimeLo: 0,
    atimeHi: 0,
    atimeNsec: 0,
    mtimeLo: 0,
    mtimeHi: 0,
    mtimeNsec: 0,
    ctimeLo: 0,
    ctimeHi: 0,
    ctimeNsec: 0,
    mode: 0,
    uid: 0,
    gid: 0,
  };
}

/** Decodes requests and calls one filesystem. One object a server. */
export class Dispatcher {
  readonly request: Request;
  /** Bytes of the request being handled. */
  length = 0;
  session: Session | undefined;

  readonly #fs: FileSystem;
  readonly #host: DispatchHost;
  readonly #options: DispatchOptions;
  readonly #set: SetAttr = emptySetAttr();
  /** Listings made before they are asked for; server.ts has it make them. */
  readonly ahead: ListAhead;
  readonly #sink: ReplySink;
  readonly #reply: Reply;
  #setxattrSize = SetxattrIn.size;

  /** @param request the record that every method gets; also the host's. */
  constructor(request: Request, fs: FileSystem, host: DispatchHost, options: DispatchOptions) {
    this.request = request;
    this.#fs = fs;
    this.#host = host;
    this.#options = options;
    this.#reply = new Reply(request, options.timeout, options.log);
    this.#sink = new ReplySink(this.#reply.validity);
    this.ahead = new ListAhead(fs, new ReplySink(this.#reply.validity));
  }

  /**
   * Handles the request of `length` bytes in requestBuffer(0).
   * @param redo a predecessor may have made its change visible.
   * @returns bytes of the reply in replyBuffer(0), or 0 when none is to be sent now.
   */
  handle(length: number, redo = false): number {
    this.length = length;
    const opcode = u32[H + 1] as number;
    const r = this.request;
    r.opcode = opcode;
    r.uniqueLo = u32[H + 2] as number;
    r.uniqueHi = u32[H + 3] as number;
    r.nodeLo = u32[H + 4] as number;
    r.nodeHi = u32[H + 5] as number;
    r.uid = u32[H + 6] as number;
    r.gid = u32[H + 7] as number;
    r.pid = u32[H + 8] as number;
    r.umask = 0;
    r.killPriv = false;
    r.redo = redo;
    if (length < InHeader.size || u32[H] !== length || length > MESSAGE_SIZE) {
      this.#options.log(`request of ${length} bytes says it has ${u32[H]}`);
      return length < InHeader.size ? 0 : this.#reply.error(E.IO);
    }
    // Extensions follow the arguments; none is negotiated, so none is looked at.
    const end = REQ + length - 8 * (u16[(REQ + InHeader.at.total_extlen) >>> 1] as number);
    if (opcode >= OPCODE_LIMIT) return this.#reply.error(E.NOSYS);
    count(Counter.opcodes + 8 * opcode);
    if (
      end - REQ < (MIN_LENGTH[opcode] as number) ||
      (NEEDS_NODE[opcode] === 1 && r.nodeLo === 0 && r.nodeHi === 0)
    ) {
      return this.#malformed();
    }
    try {
      return this.#dispatch(opcode, r, end);
    } catch (error) {
      this.#options.log(
        `${describe(r)} failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
      );
      return ANSWERED[opcode] === 1 ? this.#reply.error(E.IO) : 0;
    }
  }

  #dispatch(opcode: number, r: Request, end: number): number {
    const fs = this.#fs;
    switch (opcode) {
      case OP.LOOKUP: {
        const length = this.#entryName(ARGS, end);
        if (length < 0) return this.#badName(length);
        const result = fs.lookup(r, ARGS, length, OUT);
        if (result >= 0) return this.#reply.entry(ENTRY_SIZE);
        return result === ABSENT ? this.#reply.absent() : this.#reply.failed(result);
      }
      case OP.GETATTR: {
        const hasFh = ((u32[A] as number) & FUSE_GETATTR_FH) !== 0;
        const fh = A + GetattrIn.at.fh / 4;
        const result = fs.getattr(
          r,
          hasFh,
          u32[fh] as number,
          u32[fh + 1] as number,
          OUT + FuseAttrOut.at.attr,
        );
        return result >= 0 ? this.#reply.attr() : this.#reply.failed(result);
      }
      case OP.READ: {
        const size = Math.min(u32[A + ReadIn.at.size / 4] as number, MAX_IO);
        const result = fs.read(
          r,
          u32[A] as number,
          u32[A + 1] as number,
          OUT,
          size,
          num(A + ReadIn.at.offset / 4),
        );
        return result >= 0 ? this.#reply.bytes(Math.min(result, size)) : this.#reply.failed(result);
      }
      case OP.WRITE: {
        const size = u32[A + WriteIn.at.size / 4] as number;
        const data = ARGS + WriteIn.size;
        if (size > end - data) return this.#malformed();
        const flags = u32[A + WriteIn.at.write_flags / 4] as number;
        const result = fs.write(
          r,
          u32[A] as number,
          u32[A + 1] as number,
          data,
          size,
          num(A + WriteIn.at.offset / 4),
          (flags & FUSE_WRITE_KILL_SUIDGID) !== 0,
        );
        return this.#reply.size(result);
      }
      case OP.READDIR:
      case OP.READDIRPLUS: {
        const size = Math.min(u32[A + ReadIn.at.size / 4] as number, MAX_IO);
        return this.#readdir(r, num(A + ReadIn.at.offset / 4), size, opcode === OP.READDIRPLUS);
      }
      case OP.OPEN:
      case OP.OPENDIR: {
        const flags = u32[A] as number;
        const reply = this.#reply.freshOpen();
        r.killPriv = ((u32[A + OpenIn.at.open_flags / 4] as number) & FUSE_OPEN_KILL_SUIDGID) !== 0;
        const result = opcode === OP.OPEN ? fs.open(r, flags, reply) : fs.opendir(r, flags, reply);
        if (!(result >= 0)) return this.#reply.failed(result);
        this.#reply.putOpen(OUT);
        return this.#reply.bytes(FuseOpenOut.size);
      }
      case OP.CREATE:
      case OP.TMPFILE: {
        const name = ARGS + CreateIn.size;
        r.umask = u32[A + CreateIn.at.umask / 4] as number;
        r.killPriv =
          ((u32[A + CreateIn.at.open_flags / 4] as number) & FUSE_OPEN_KILL_SUIDGID) !== 0;
        const flags = u32[A] as number;
        const mode = u32[A + CreateIn.at.mode / 4] as number;
        const reply = this.#reply.freshOpen();
        let result: number;
        if (opcode === OP.CREATE) {
          const length = this.#entryName(name, end);
          if (length < 0) return this.#badName(length);
          result = fs.create(r, name, length, flags, mode, OUT, reply);
        } else {
          result = fs.tmpfile(r, flags, mode, OUT, reply);
        }
        if (!(result >= 0)) return this.#reply.failed(result);
        this.#reply.putOpen(OUT + ENTRY_SIZE);
        return this.#reply.entry(ENTRY_SIZE + FuseOpenOut.size);
      }
      case OP.RELEASE:
        return this.#reply.done(fs.release(r, u32[A] as number, u32[A + 1] as number));
      case OP.RELEASEDIR:
        return this.#reply.done(fs.releasedir(r, u32[A] as number, u32[A + 1] as number));
      case OP.FLUSH:
        return this.#reply.done(fs.flush(r, u32[A] as number, u32[A + 1] as number));
      case OP.FSYNC:
      case OP.FSYNCDIR: {
        const dataOnly =
          ((u32[A + FsyncIn.at.fsync_flags / 4] as number) & FUSE_FSYNC_FDATASYNC) !== 0;
        const lo = u32[A] as number;
        const hi = u32[A + 1] as number;
        return this.#reply.done(
          opcode === OP.FSYNC ? fs.fsync(r, lo, hi, dataOnly) : fs.fsyncdir(r, lo, hi, dataOnly),
        );
      }
      case OP.FORGET:
        fs.forget(r.nodeLo, r.nodeHi, num(A));
        return 0;
      case OP.BATCH_FORGET:
        return this.#batchForget(end);
      case OP.SETATTR:
        return this.#setattr(r);
      case OP.READLINK: {
        const result = fs.readlink(r, OUT, LINK_MAX);
        return result >= 0 ? this.#reply.bytes(result) : this.#reply.failed(result);
      }
      case OP.SYMLINK: {
        const length = this.#entryName(ARGS, end);
        if (length < 0) return this.#badName(length);
        const target = ARGS + length + 1;
        if (this.#name(target, end) <= 0) return this.#malformed();
        return this.#reply.made(fs.symlink(r, ARGS, length, target, OUT));
      }
      case OP.MKNOD: {
        const name = ARGS + MknodIn.size;
        const length = this.#entryName(name, end);
        if (length < 0) return this.#badName(length);
        r.umask = u32[A + MknodIn.at.umask / 4] as number;
        const rdev = u32[A + MknodIn.at.rdev / 4] as number;
        return this.#reply.made(fs.mknod(r, name, length, u32[A] as number, rdev, OUT));
      }
      case OP.MKDIR: {
        const name = ARGS + MkdirIn.size;
        const length = this.#entryName(name, end);
        if (length < 0) return this.#badName(length);
        r.umask = u32[A + MkdirIn.at.umask / 4] as number;
        return this.#reply.made(fs.mkdir(r, name, length, u32[A] as number, OUT));
      }
      case OP.LINK: {
        const name = ARGS + FuseLinkIn.size;
        const length = this.#entryName(name, end);
        if (length < 0) return this.#badName(length);
        return this.#reply.made(
          fs.link(r, u32[A] as number, u32[A + 1] as number, name, length, OUT),
        );
      }
      case OP.UNLINK:
      case OP.RMDIR: {
        const length = this.#entryName(ARGS, end);
        if (length < 0) return this.#badName(length);
        return this.#reply.done(
          opcode === OP.UNLINK ? fs.unlink(r, ARGS, length) : fs.rmdir(r, ARGS, length),
        );
      }
      case OP.RENAME:
      case OP.RENAME2: {
        const modern = opcode === OP.RENAME2;
        const name = ARGS + (modern ? Rename2In.size : FuseRenameIn.size);
        const length = this.#entryName(name, end);
        if (length < 0) return this.#badName(length);
        const newName = name + length + 1;
        const newLength = this.#entryName(newName, end);
        if (newLength < 0) return this.#badName(newLength);
        const flags = modern ? (u32[A + Rename2In.at.flags / 4] as number) : 0;
        return this.#reply.done(
          fs.rename(
            r,
            name,
            length,
            u32[A] as number,
            u32[A + 1] as number,
            newName,
            newLength,
            flags,
          ),
        );
      }
      case OP.STATFS: {
        u32.fill(0, O, O + KSTATFS_SIZE / 4);
        const result = fs.statfs(r, OUT);
        return result >= 0 ? this.#reply.bytes(KSTATFS_SIZE) : this.#reply.failed(result);
      }
      case OP.ACCESS:
        return this.#reply.done(fs.access(r, u32[A] as number));
      case OP.GETXATTR: {
        const name = ARGS + GetxattrIn.size;
        const length = this.#name(name, end);
        if (length <= 0) return this.#malformed();
        const size = Math.min(u32[A] as number, XATTR_SIZE_MAX);
        return this.#reply.value(fs.getxattr(r, name, length, OUT, size), size);
      }
      case OP.LISTXATTR: {
        const size = Math.min(u32[A] as number, XATTR_SIZE_MAX);
        return this.#reply.value(fs.listxattr(r, OUT, size), size);
      }
      case OP.SETXATTR: {
        const name = ARGS + this.#setxattrSize;
        const length = this.#name(name, end);
        if (length <= 0) return this.#malformed();
        const value = name + length + 1;
        const size = u32[A] as number;
        if (size > end - value) return this.#malformed();
        if (this.#setxattrSize === SetxattrIn.size) {
          const flags = u32[A + SetxattrIn.at.setxattr_flags / 4] as number;
          r.killPriv = (flags & FUSE_SETXATTR_ACL_KILL_SGID) !== 0;
        }
        return this.#reply.done(
          fs.setxattr(r, name, length, value, size, u32[A + SetxattrIn.at.flags / 4] as number),
        );
      }
      case OP.REMOVEXATTR: {
        const length = this.#name(ARGS, end);
        if (length <= 0) return this.#malformed();
        return this.#reply.done(fs.removexattr(r, ARGS, length));
      }
      case OP.FALLOCATE:
        return this.#reply.done(
          fs.fallocate(
            r,
            u32[A] as number,
            u32[A + 1] as number,
            num(A + FallocateIn.at.offset / 4),
            num(A + FallocateIn.at.length / 4),
            u32[A + FallocateIn.at.mode / 4] as number,
          ),
        );
      case OP.LSEEK: {
        const result = fs.lseek(
          r,
          u32[A] as number,
          u32[A + 1] as number,
          num(A + LseekIn.at.offset / 4),
          u32[A + LseekIn.at.whence / 4] as number,
        );
        return this.#reply.number(result);
      }
      case OP.COPY_FILE_RANGE:
      case OP.COPY_FILE_RANGE_64: {
        const old = opcode === OP.COPY_FILE_RANGE;
        const length = num(A + CopyIn.at.len / 4);
        const node = A + CopyIn.at.nodeid_out / 4;
        const fh = A + CopyIn.at.fh_out / 4;
        const result = fs.copyFileRange(
          r,
          u32[A] as number,
          u32[A + 1] as number,
          num(A + CopyIn.at.off_in / 4),
          u32[node] as number,
          u32[node + 1] as number,
          u32[fh] as number,
          u32[fh + 1] as number,
          num(A + CopyIn.at.off_out / 4),
          old ? Math.min(length, COPY_MAX) : length,
        );
        return old ? this.#reply.size(result) : this.#reply.number(result);
      }
      case OP.SYNCFS:
        return this.#reply.done(fs.syncfs(r));
      case OP.INIT:
        return this.#init(end);
      case OP.DESTROY:
        return this.#reply.bytes(0);
      case OP.INTERRUPT:
        this.#host.interrupted(u32[A] as number, u32[A + 1] as number);
        return 0;
      case OP.NOTIFY_REPLY:
        return 0;
      case OP.IOCTL:
        return this.#reply.error(E.NOTTY);
      // POLL: the kernel then takes every file as always ready. STATX: it falls back to GETATTR (no birth time).
      // GETLK, SETLK, SETLKW: never sent, the locks are the kernel's. The others are unknown here.
      default:
        return this.#reply.error(E.NOSYS);
    }
  }

  #readdir(r: Request, offset: number, size: number, plus: boolean): number {
    const lo = u32[A] as number;
    const hi = u32[A + 1] as number;
    const ahead = this.#fs.listsAhead ? this.ahead : undefined;
    let length = ahead === undefined ? -1 : ahead.take(OUT, r, lo, hi, offset, size, plus);
    let next = ahead?.next ?? 0;
    if (length < 0) {
      const sink = this.#sink;
      sink.begin(OUT, size, plus);
      const result = this.#fs.readdir(r, lo, hi, offset, sink);
      if (!(result >= 0)) return this.#reply.failed(result);
      length = sink.end - OUT;
      next = sink.last;
    }
    // Nothing: that was the end. Practised requests (rehearse.ts) are not continued.
    const practised = r.uniqueLo === 0 && r.uniqueHi === 0;
    if (length > 0 && !practised) ahead?.expect(r, lo, hi, next, size, plus);
    return this.#reply.bytes(length);
  }

  #init(end: number): number {
    const length = end - ARGS;
    // A kernel before 7.36 sends 16 bytes: the rest is zero.
    if (length < FuseInitIn.size) u8.fill(0, end, ARGS + FuseInitIn.size);
    const view = new DataView(u8.buffer, 0);
    const init = FuseInitIn.decode(view, ARGS);
    const { session, reply } = negotiate(init, this.#options.wishes);
    if (session !== undefined) this.begin(session);
    FuseInitOut.encode(view, reply, OUT);
    if (session !== undefined) set(Counter.ready, 1);
    return this.#reply.bytes(FuseInitOut.size);
  }

  /** Starts the filesystem in an agreed session. @param successor it takes over from a predecessor. */
  begin(session: Session, successor = false): void {
    this.session = session;
    this.#host.session = session;
    this.#setxattrSize = session.setxattrExt ? SetxattrIn.size : FUSE_COMPAT_SETXATTR_IN_SIZE;
    if (successor) this.#fs.succeed?.(this.#host);
    else this.#fs.start(this.#host);
  }

  #batchForget(end: number): number {
    const items = u32[A] as number;
    let k = A + FuseBatchForgetIn.size / 4;
    if (items * FuseForgetOne.size > end - ARGS - FuseBatchForgetIn.size) return this.#malformed();
    // Nobody sends it again: what a predecessor has not come to is left to do.
    const first = this.request.redo ? journal.noted(FORGOTTEN) : 0;
    k += (first * FuseForgetOne.size) / 4;
    for (let i = first; i < items; i++) {
      journal.note(FORGOTTEN, i + 1);
      this.#fs.forget(
        u32[k] as number,
        u32[k + 1] as number,
        num(k + FuseForgetOne.at.nlookup / 4),
      );
      k += FuseForgetOne.size / 4;
    }
    journal.note(FORGOTTEN, 0);
    return 0;
  }

  #setattr(r: Request): number {
    const s = this.#set;
    const at = SetattrIn.at;
    s.valid = (u32[A] as number) & FATTR_KNOWN;
    s.fhLo = u32[A + at.fh / 4] as number;
    s.fhHi = u32[A + at.fh / 4 + 1] as number;
    s.size = num(A + at.size / 4);
    s.atimeLo = u32[A + at.atime / 4] as number;
    s.atimeHi = u32[A + at.atime / 4 + 1] as number;
    s.atimeNsec = u32[A + at.atimensec / 4] as number;
    s.mtimeLo = u32[A + at.mtime / 4] as number;
    s.mtimeHi = u32[A + at.mtime / 4 + 1] as number;
    s.mtimeNsec = u32[A + at.mtimensec / 4] as number;
    s.ctimeLo = u32[A + at.ctime / 4] as number;
    s.ctimeHi = u32[A + at.ctime / 4 + 1] as number;
    s.ctimeNsec = u32[A + at.ctimensec / 4] as number;
    s.mode = u32[A + at.mode / 4] as number;
    s.uid = u32[A + at.uid / 4] as number;
    s.gid = u32[A + at.gid / 4] as number;
    const result = this.#fs.setattr(r, s, OUT + FuseAttrOut.at.attr);
    return result >= 0 ? this.#reply.attr() : this.#reply.failed(result);
  }

  /** Length of the NUL-terminated string at `at`, or -1 when it runs past `end`. */
  #name(at: number, end: number): number {
    for (let i = at; i < end; i++) if (u8[i] === 0) return i - at;
    return -1;
  }

  /** As #name, for a directory entry: -EINVAL for an empty or open one, -ENAMETOOLONG above 255 bytes. */
  #entryName(at: number, end: number): number {
    const length = this.#name(at, end);
    if (length <= 0) return -E.INVAL;
    return length > NAME_MAX ? -E.NAMETOOLONG : length;
  }

  #badName(errno: number): number {
    return errno === -E.NAMETOOLONG ? this.#reply.error(E.NAMETOOLONG) : this.#malformed();
  }

  #malformed(): number {
    this.#options.log(`${describe(this.request)}: malformed, ${this.length} bytes`);
    return ANSWERED[this.request.opcode] === 1 ? this.#reply.error(E.INVAL) : 0;
  }
}
