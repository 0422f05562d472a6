// One request, from bytes to bytes: check its lengths, call the filesystem's method, form the reply.
// Called by server.ts for each message; the request lies in requestBuffer(0), the reply is left in replyBuffer(0).
// Follows: fs/fuse/{dir,file,readdir,xattr}.c of Linux 6.18 for what each operation sends and accepts.

import { E } from '../linux/errno.js';
import { u8, u16, u32 } from '../linux/memory.js';
import { ATTR_SIZE, ENTRY_SIZE, Entry, KSTATFS_SIZE } from '../vfs/attr.js';
import { Counter, count, set } from '../vfs/counters.js';
import {
  ABSENT,
  type FileSystem,
  type Host,
  OPEN,
  type OpenReply,
  PARKED,
  type Request,
  type SetAttr,
} from '../vfs/filesystem.js';
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
import { ANSWERED, MIN_LENGTH, NEEDS_NODE, OP, OPCODE_LIMIT } from './opcodes.js';
import { negotiate, type Session, type SessionWishes } from './session.js';

// The buffers of the server's thread, as byte offsets and as indices of the u32 view.
const REQ = requestBuffer(0);
const ARGS = REQ + InHeader.size;
const REP = replyBuffer(0);
const OUT = REP + OutHeader.size;
const H = REQ >>> 2;
const A = ARGS >>> 2;
const R = REP >>> 2;
const O = OUT >>> 2;

/** Longest name of a directory entry, bytes. */
const NAME_MAX = 255;
/** READLINK's room: a page less the NUL that the kernel adds. */
const LINK_MAX = 4095;
const XATTR_MAX = 65536;
/** Largest result of the 32-bit COPY_FILE_RANGE reply (MAX_RW_COUNT). */
const COPY_MAX = 0x7ffff000;

/** What the kernel accepts beside PASSTHROUGH (FOPEN_PASSTHROUGH_MASK); anything else there is EIO for the caller. */
const PASSTHROUGH_FLAGS =
  OPEN.PASSTHROUGH | OPEN.DIRECT_IO | OPEN.PARALLEL_DIRECT_WRITES | OPEN.NOFLUSH;

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
  readonly #open: OpenReply = { fhLo: 0, fhHi: 0, flags: 0, backingId: 0 };
  readonly #set: SetAttr = {
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
  readonly #sink: ReplySink;
  readonly #validLo: number;
  readonly #validHi: number;
  readonly #validNsec: number;
  /** Whether names that do not exist are remembered by the kernel. */
  readonly #negative: boolean;
  #setxattrSize = SetxattrIn.size;

  /** @param request the record that every method gets; also the host's. */
  constructor(request: Request, fs: FileSystem, host: DispatchHost, options: DispatchOptions) {
    this.request = request;
    this.#fs = fs;
    this.#host = host;
    this.#options = options;
    const seconds = Math.floor(Math.max(0, options.timeout));
    this.#validLo = seconds >>> 0;
    this.#validHi = Math.min(Math.floor(seconds / HI), 0x7fffffff);
    this.#validNsec = Math.min(
      Math.floor((Math.max(0, options.timeout) - seconds) * 1e9),
      999_999_999,
    );
    this.#negative = options.timeout > 0;
    this.#sink = new ReplySink([this.#validLo, this.#validHi, this.#validNsec]);
  }

  /**
   * Handles the request of `length` bytes in requestBuffer(0).
   * @returns bytes of the reply in replyBuffer(0), or 0 when none is to be sent now.
   */
  handle(length: number): number {
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
    if (length < InHeader.size || u32[H] !== length || length > MESSAGE_SIZE) {
      this.#options.log(`request of ${length} bytes says it has ${u32[H]}`);
      return length < InHeader.size ? 0 : this.#error(E.IO);
    }
    // Extensions follow the arguments; none is negotiated, so none is looked at.
    const end = REQ + length - 8 * (u16[(REQ + InHeader.at.total_extlen) >>> 1] as number);
    if (opcode >= OPCODE_LIMIT) return this.#error(E.NOSYS);
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
        `${this.describe()} failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
      );
      return ANSWERED[opcode] === 1 ? this.#error(E.IO) : 0;
    }
  }

  /** The request for a log line. */
  describe(): string {
    const r = this.request;
    return `request opcode ${r.opcode} unique ${r.uniqueHi * HI + r.uniqueLo} node ${r.nodeHi * HI + r.nodeLo} uid ${r.uid} pid ${r.pid}`;
  }

  #dispatch(opcode: number, r: Request, end: number): number {
    const fs = this.#fs;
    switch (opcode) {
      case OP.LOOKUP: {
        const length = this.#entryName(ARGS, end);
        if (length < 0) return this.#badName(length);
        const result = fs.lookup(r, ARGS, length, OUT);
        if (result >= 0) return this.#entry(ENTRY_SIZE);
        return result === ABSENT ? this.#absent() : this.#failed(result);
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
        return result >= 0 ? this.#attr() : this.#failed(result);
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
        return result >= 0 ? this.#reply(Math.min(result, size)) : this.#failed(result);
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
        return this.#size(result);
      }
      case OP.READDIR:
      case OP.READDIRPLUS: {
        const size = Math.min(u32[A + ReadIn.at.size / 4] as number, MAX_IO);
        const sink = this.#sink;
        sink.begin(OUT, size, opcode === OP.READDIRPLUS);
        const result = fs.readdir(
          r,
          u32[A] as number,
          u32[A + 1] as number,
          num(A + ReadIn.at.offset / 4),
          sink,
        );
        return result >= 0 ? this.#reply(sink.end - OUT) : this.#failed(result);
      }
      case OP.OPEN:
      case OP.OPENDIR: {
        const flags = u32[A] as number;
        const reply = this.#freshOpen();
        r.killPriv = ((u32[A + OpenIn.at.open_flags / 4] as number) & FUSE_OPEN_KILL_SUIDGID) !== 0;
        const result = opcode === OP.OPEN ? fs.open(r, flags, reply) : fs.opendir(r, flags, reply);
        if (!(result >= 0)) return this.#failed(result);
        this.#putOpen(OUT);
        return this.#reply(FuseOpenOut.size);
      }
      case OP.CREATE:
      case OP.TMPFILE: {
        const name = ARGS + CreateIn.size;
        r.umask = u32[A + CreateIn.at.umask / 4] as number;
        r.killPriv =
          ((u32[A + CreateIn.at.open_flags / 4] as number) & FUSE_OPEN_KILL_SUIDGID) !== 0;
        const flags = u32[A] as number;
        const mode = u32[A + CreateIn.at.mode / 4] as number;
        const reply = this.#freshOpen();
        let result: number;
        if (opcode === OP.CREATE) {
          const length = this.#entryName(name, end);
          if (length < 0) return this.#badName(length);
          result = fs.create(r, name, length, flags, mode, OUT, reply);
        } else {
          result = fs.tmpfile(r, flags, mode, OUT, reply);
        }
        if (!(result >= 0)) return this.#failed(result);
        this.#putOpen(OUT + ENTRY_SIZE);
        return this.#entry(ENTRY_SIZE + FuseOpenOut.size);
      }
      case OP.RELEASE:
        return this.#done(fs.release(r, u32[A] as number, u32[A + 1] as number));
      case OP.RELEASEDIR:
        return this.#done(fs.releasedir(r, u32[A] as number, u32[A + 1] as number));
      case OP.FLUSH:
        return this.#done(fs.flush(r, u32[A] as number, u32[A + 1] as number));
      case OP.FSYNC:
      case OP.FSYNCDIR: {
        const dataOnly =
          ((u32[A + FsyncIn.at.fsync_flags / 4] as number) & FUSE_FSYNC_FDATASYNC) !== 0;
        const lo = u32[A] as number;
        const hi = u32[A + 1] as number;
        return this.#done(
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
        return result >= 0 ? this.#reply(result) : this.#failed(result);
      }
      case OP.SYMLINK: {
        const length = this.#entryName(ARGS, end);
        if (length < 0) return this.#badName(length);
        const target = ARGS + length + 1;
        if (this.#name(target, end) <= 0) return this.#malformed();
        return this.#made(fs.symlink(r, ARGS, length, target, OUT));
      }
      case OP.MKNOD: {
        const name = ARGS + MknodIn.size;
        const length = this.#entryName(name, end);
        if (length < 0) return this.#badName(length);
        r.umask = u32[A + MknodIn.at.umask / 4] as number;
        const rdev = u32[A + MknodIn.at.rdev / 4] as number;
        return this.#made(fs.mknod(r, name, length, u32[A] as number, rdev, OUT));
      }
      case OP.MKDIR: {
        const name = ARGS + MkdirIn.size;
        const length = this.#entryName(name, end);
        if (length < 0) return this.#badName(length);
        r.umask = u32[A + MkdirIn.at.umask / 4] as number;
        return this.#made(fs.mkdir(r, name, length, u32[A] as number, OUT));
      }
      case OP.LINK: {
        const name = ARGS + FuseLinkIn.size;
        const length = this.#entryName(name, end);
        if (length < 0) return this.#badName(length);
        return this.#made(fs.link(r, u32[A] as number, u32[A + 1] as number, name, length, OUT));
      }
      case OP.UNLINK:
      case OP.RMDIR: {
        const length = this.#entryName(ARGS, end);
        if (length < 0) return this.#badName(length);
        return this.#done(
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
        return this.#done(
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
        return result >= 0 ? this.#reply(KSTATFS_SIZE) : this.#failed(result);
      }
      case OP.ACCESS:
        return this.#done(fs.access(r, u32[A] as number));
      case OP.GETXATTR: {
        const name = ARGS + GetxattrIn.size;
        const length = this.#name(name, end);
        if (length <= 0) return this.#malformed();
        const size = Math.min(u32[A] as number, XATTR_MAX);
        return this.#value(fs.getxattr(r, name, length, OUT, size), size);
      }
      case OP.LISTXATTR: {
        const size = Math.min(u32[A] as number, XATTR_MAX);
        return this.#value(fs.listxattr(r, OUT, size), size);
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
        return this.#done(
          fs.setxattr(r, name, length, value, size, u32[A + SetxattrIn.at.flags / 4] as number),
        );
      }
      case OP.REMOVEXATTR: {
        const length = this.#name(ARGS, end);
        if (length <= 0) return this.#malformed();
        return this.#done(fs.removexattr(r, ARGS, length));
      }
      case OP.FALLOCATE:
        return this.#done(
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
        return this.#number(result);
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
        return old ? this.#size(result) : this.#number(result);
      }
      case OP.SYNCFS:
        return this.#done(fs.syncfs(r));
      case OP.INIT:
        return this.#init(end);
      case OP.DESTROY:
        return this.#reply(0);
      case OP.INTERRUPT:
        this.#host.interrupted(u32[A] as number, u32[A + 1] as number);
        return 0;
      case OP.NOTIFY_REPLY:
        return 0;
      case OP.IOCTL:
        return this.#error(E.NOTTY);
      // POLL: the kernel then takes every file as always ready. STATX: it falls back to GETATTR (no birth time).
      // GETLK, SETLK, SETLKW: never sent, the locks are the kernel's. The others are unknown here.
      default:
        return this.#error(E.NOSYS);
    }
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
    return this.#reply(FuseInitOut.size);
  }

  /** Starts the filesystem in an agreed session. */
  begin(session: Session): void {
    this.session = session;
    this.#host.session = session;
    this.#setxattrSize = session.setxattrExt ? SetxattrIn.size : FUSE_COMPAT_SETXATTR_IN_SIZE;
    this.#fs.start(this.#host);
  }

  #batchForget(end: number): number {
    const items = u32[A] as number;
    let k = A + FuseBatchForgetIn.size / 4;
    if (items * FuseForgetOne.size > end - ARGS - FuseBatchForgetIn.size) return this.#malformed();
    for (let i = 0; i < items; i++) {
      this.#fs.forget(
        u32[k] as number,
        u32[k + 1] as number,
        num(k + FuseForgetOne.at.nlookup / 4),
      );
      k += FuseForgetOne.size / 4;
    }
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
    return result >= 0 ? this.#attr() : this.#failed(result);
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
    return errno === -E.NAMETOOLONG ? this.#error(E.NAMETOOLONG) : this.#malformed();
  }

  #malformed(): number {
    this.#options.log(`${this.describe()}: malformed, ${this.length} bytes`);
    return ANSWERED[this.request.opcode] === 1 ? this.#error(E.INVAL) : 0;
  }

  #freshOpen(): OpenReply {
    const o = this.#open;
    o.fhLo = 0;
    o.fhHi = 0;
    o.flags = 0;
    o.backingId = 0;
    return o;
  }

  #putOpen(at: number): void {
    const o = this.#open;
    const k = at >>> 2;
    u32[k] = o.fhLo;
    u32[k + 1] = o.fhHi;
    u32[k + 2] = o.flags & OPEN.PASSTHROUGH ? o.flags & PASSTHROUGH_FLAGS : o.flags;
    u32[k + 3] = o.backingId;
  }

  #reply(size: number): number {
    const length = OutHeader.size + size;
    u32[R] = length;
    u32[R + 1] = 0;
    u32[R + 2] = this.request.uniqueLo;
    u32[R + 3] = this.request.uniqueHi;
    return length;
  }

  #error(errno: number): number {
    if (errno === E.IO) count(Counter.errors);
    u32[R] = OutHeader.size;
    u32[R + 1] = -errno;
    u32[R + 2] = this.request.uniqueLo;
    u32[R + 3] = this.request.uniqueHi;
    return OutHeader.size;
  }

  /** What a method returned below zero (or nothing at all, which is a bug and EIO). */
  #failed(result: number): number {
    if (result === PARKED) return 0;
    if (result === ABSENT) return this.#error(E.NOENT);
    // The kernel refuses a reply with an errno of 512 or more.
    if (result < 0 && result > -512) return this.#error(-result);
    this.#options.log(`${this.describe()}: the filesystem returned ${result}`);
    return this.#error(E.IO);
  }

  #done(result: number): number {
    return result >= 0 ? this.#reply(0) : this.#failed(result);
  }

  #made(result: number): number {
    return result >= 0 ? this.#entry(ENTRY_SIZE) : this.#failed(result);
  }

  #size(result: number): number {
    if (!(result >= 0)) return this.#failed(result);
    u32[O] = result;
    u32[O + 1] = 0;
    return this.#reply(8);
  }

  #number(result: number): number {
    if (!(result >= 0)) return this.#failed(result);
    u32[O] = result >>> 0;
    u32[O + 1] = Math.floor(result / HI);
    return this.#reply(8);
  }

  /** A value of an attribute, or its length when the caller had no room. */
  #value(result: number, size: number): number {
    if (!(result >= 0)) return this.#failed(result);
    if (size === 0) return this.#size(result);
    return result <= size ? this.#reply(result) : this.#error(E.RANGE);
  }

  #attr(): number {
    u32[O] = this.#validLo;
    u32[O + 1] = this.#validHi;
    u32[O + 2] = this.#validNsec;
    u32[O + 3] = 0;
    return this.#reply(FuseAttrOut.at.attr + ATTR_SIZE);
  }

  #entry(size: number): number {
    const k = O + Entry.entry_valid / 4;
    u32[k] = this.#validLo;
    u32[k + 1] = this.#validHi;
    u32[k + 2] = this.#validLo;
    u32[k + 3] = this.#validHi;
    u32[k + 4] = this.#validNsec;
    u32[k + 5] = this.#validNsec;
    return this.#reply(size);
  }

  /** No such name: as an entry with nodeid 0 that the kernel may remember, or as ENOENT. */
  #absent(): number {
    if (!this.#negative) return this.#error(E.NOENT);
    u32.fill(0, O, O + ENTRY_SIZE / 4);
    return this.#entry(ENTRY_SIZE);
  }

  /**
   * The reply in replyBuffer(0) reached nobody (the caller was killed): takes back what the kernel will never give
   * back, as it does not know of it: lookups and open files.
   */
  undo(): void {
    if (u32[R + 1] !== 0) return;
    const r = this.request;
    const fs = this.#fs;
    switch (r.opcode) {
      case OP.CREATE:
      case OP.TMPFILE: {
        const k = (OUT + ENTRY_SIZE) >>> 2;
        fs.release(r, u32[k] as number, u32[k + 1] as number);
        this.#forgetEntry(O);
        break;
      }
      case OP.LOOKUP:
      case OP.MKNOD:
      case OP.MKDIR:
      case OP.SYMLINK:
      case OP.LINK:
        this.#forgetEntry(O);
        break;
      case OP.OPEN:
        fs.release(r, u32[O] as number, u32[O + 1] as number);
        break;
      case OP.OPENDIR:
        fs.releasedir(r, u32[O] as number, u32[O + 1] as number);
        break;
      case OP.READDIRPLUS: {
        const end = REP + (u32[R] as number);
        for (let at = OUT; at < end; ) {
          this.#forgetEntry(at >>> 2);
          const nameLength = u32[(at + ENTRY_SIZE + 16) >>> 2] as number;
          at += (ENTRY_SIZE + 24 + nameLength + 7) & ~7;
        }
        break;
      }
      default:
        break;
    }
  }

  #forgetEntry(k: number): void {
    const lo = u32[k] as number;
    const hi = u32[k + 1] as number;
    if (lo !== 0 || hi !== 0) this.#fs.forget(lo, hi, 1);
  }
}
