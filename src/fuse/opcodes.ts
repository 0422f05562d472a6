// One record an opcode: what a request of it consists of and what its reply is.
// Drives decoding, the length checks of dispatch, the trace and the tests, so that none of them can disagree.
// Follows: enum fuse_opcode of include/uapi/linux/fuse.h, ABI 7.45.

import type { Fields, Struct } from '../bytes/struct.js';
import * as abi from './abi.js';

// biome-ignore format: a table, read by column
export const OP = {
  LOOKUP: 1, FORGET: 2, GETATTR: 3, SETATTR: 4, READLINK: 5, SYMLINK: 6, MKNOD: 8, MKDIR: 9,
  UNLINK: 10, RMDIR: 11, RENAME: 12, LINK: 13, OPEN: 14, READ: 15, WRITE: 16, STATFS: 17,
  RELEASE: 18, FSYNC: 20, SETXATTR: 21, GETXATTR: 22, LISTXATTR: 23, REMOVEXATTR: 24, FLUSH: 25,
  INIT: 26, OPENDIR: 27, READDIR: 28, RELEASEDIR: 29, FSYNCDIR: 30, GETLK: 31, SETLK: 32,
  SETLKW: 33, ACCESS: 34, CREATE: 35, INTERRUPT: 36, BMAP: 37, DESTROY: 38, IOCTL: 39, POLL: 40,
  NOTIFY_REPLY: 41, BATCH_FORGET: 42, FALLOCATE: 43, READDIRPLUS: 44, RENAME2: 45, LSEEK: 46,
  COPY_FILE_RANGE: 47, SETUPMAPPING: 48, REMOVEMAPPING: 49, SYNCFS: 50, TMPFILE: 51, STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;

export type OpName = keyof typeof OP;
type AnyStruct = Struct<Fields>;

export interface Opcode {
  readonly name: OpName;
  readonly number: number;
  /** The struct after the header. */
  readonly args?: AnyStruct;
  /** Bytes of it that the oldest kernel supported sends; the whole struct when absent. */
  readonly argsMin?: number;
  /** NUL-terminated strings after the struct, in words for the trace. */
  readonly names: readonly string[];
  /** What follows the names: raw bytes, or an array. */
  readonly tail?: 'data' | 'value' | 'forgets';
  /** The struct a successful reply carries. */
  readonly reply?: AnyStruct;
  /** A reply that is not a struct. */
  readonly replyData?: 'bytes' | 'dirents' | 'direntplus' | 'string';
  /** Whether the kernel waits for an answer. */
  readonly answered: boolean;
  /** Whether nodeid names a node (then 0 is refused). */
  readonly node: boolean;
}

type Options = Partial<Omit<Opcode, 'name' | 'number'>>;

function op(name: OpName, options: Options = {}): Opcode {
  return { name, number: OP[name], names: [], answered: true, node: true, ...options };
}

const entry = abi.FuseEntryOut;
const name = ['name'];

export const OPCODES: readonly Opcode[] = [
  op('LOOKUP', { names: name, reply: entry }),
  op('FORGET', { args: abi.FuseForgetIn, answered: false }),
  op('GETATTR', { args: abi.FuseGetattrIn, reply: abi.FuseAttrOut }),
  op('SETATTR', { args: abi.FuseSetattrIn, reply: abi.FuseAttrOut }),
  op('READLINK', { replyData: 'string' }),
  op('SYMLINK', { names: ['name', 'target'], reply: entry }),
  op('MKNOD', { args: abi.FuseMknodIn, names: name, reply: entry }),
  op('MKDIR', { args: abi.FuseMkdirIn, names: name, reply: entry }),
  op('UNLINK', { names: name }),
  op('RMDIR', { names: name }),
  op('RENAME', { args: abi.FuseRenameIn, names: ['old', 'new'] }),
  op('LINK', { args: abi.FuseLinkIn, names: name, reply: entry }),
  op('OPEN', { args: abi.FuseOpenIn, reply: abi.FuseOpenOut }),
  op('READ', { args: abi.FuseReadIn, replyData: 'bytes' }),
  op('WRITE', { args: abi.FuseWriteIn, tail: 'data', reply: abi.FuseWriteOut }),
  op('STATFS', { reply: abi.FuseKstatfs }),
  op('RELEASE', { args: abi.FuseReleaseIn }),
  op('FSYNC', { args: abi.FuseFsyncIn }),
  op('SETXATTR', {
    args: abi.FuseSetxattrIn,
    argsMin: abi.FUSE_COMPAT_SETXATTR_IN_SIZE,
    names: name,
    tail: 'value',
  }),
  op('GETXATTR', { args: abi.FuseGetxattrIn, names: name, replyData: 'bytes' }),
  op('LISTXATTR', { args: abi.FuseGetxattrIn, replyData: 'bytes' }),
  op('REMOVEXATTR', { names: name }),
  op('FLUSH', { args: abi.FuseFlushIn }),
  op('INIT', {
    args: abi.FuseInitIn,
    argsMin: abi.FUSE_COMPAT_INIT_IN_SIZE,
    reply: abi.FuseInitOut,
    node: false,
  }),
  op('OPENDIR', { args: abi.FuseOpenIn, reply: abi.FuseOpenOut }),
  op('READDIR', { args: abi.FuseReadIn, replyData: 'dirents' }),
  op('RELEASEDIR', { args: abi.FuseReleaseIn }),
  op('FSYNCDIR', { args: abi.FuseFsyncIn }),
  op('GETLK', { args: abi.FuseLkIn }),
  op('SETLK', { args: abi.FuseLkIn }),
  op('SETLKW', { args: abi.FuseLkIn }),
  op('ACCESS', { args: abi.FuseAccessIn }),
  op('CREATE', { args: abi.FuseCreateIn, names: name, reply: abi.FuseCreateOut }),
  op('INTERRUPT', { args: abi.FuseInterruptIn, answered: false, node: false }),
  op('BMAP', { args: abi.FuseBmapIn }),
  op('DESTROY', { node: false }),
  op('IOCTL', { args: abi.FuseIoctlIn, tail: 'data' }),
  op('POLL', { args: abi.FusePollIn }),
  op('NOTIFY_REPLY', { answered: false, node: false, tail: 'data' }),
  op('BATCH_FORGET', {
    args: abi.FuseBatchForgetIn,
    tail: 'forgets',
    answered: false,
    node: false,
  }),
  op('FALLOCATE', { args: abi.FuseFallocateIn }),
  op('READDIRPLUS', { args: abi.FuseReadIn, replyData: 'direntplus' }),
  op('RENAME2', { args: abi.FuseRename2In, names: ['old', 'new'] }),
  op('LSEEK', { args: abi.FuseLseekIn, reply: abi.FuseLseekOut }),
  op('COPY_FILE_RANGE', { args: abi.FuseCopyFileRangeIn, reply: abi.FuseWriteOut }),
  op('SETUPMAPPING', { tail: 'data' }),
  op('REMOVEMAPPING', { tail: 'data' }),
  op('SYNCFS', { args: abi.FuseSyncfsIn }),
  op('TMPFILE', { args: abi.FuseCreateIn, names: name, reply: abi.FuseCreateOut }),
  op('STATX', { args: abi.FuseStatxIn }),
  op('COPY_FILE_RANGE_64', { args: abi.FuseCopyFileRangeIn, reply: abi.FuseCopyFileRangeOut }),
];

/** One more than the highest opcode known. */
export const OPCODE_LIMIT = 64;

/** Record of an opcode number, or undefined. */
export const opcodeOf: readonly (Opcode | undefined)[] = Array.from(
  { length: OPCODE_LIMIT },
  (_, number) => OPCODES.find((record) => record.number === number),
);

/** Smallest length a request of each opcode can have, header included: every name is at least its NUL. */
export const MIN_LENGTH = Int32Array.from(opcodeOf, (record) =>
  record === undefined
    ? abi.FuseInHeader.size
    : abi.FuseInHeader.size + (record.argsMin ?? record.args?.size ?? 0) + record.names.length,
);

/** 1 for opcodes whose nodeid must name a node. */
export const NEEDS_NODE = Uint8Array.from(opcodeOf, (record) => (record?.node ? 1 : 0));

/** 1 for opcodes that are answered; unknown ones are (with ENOSYS). */
export const ANSWERED = Uint8Array.from(opcodeOf, (record) =>
  record === undefined || record.answered ? 1 : 0,
);

/** `LOOKUP` for 1; unknown numbers as `OP_77`. */
export function opName(number: number): string {
  return opcodeOf[number]?.name ?? `OP_${number}`;
}
