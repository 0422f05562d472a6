// The subpath `varve/fuse`: a FUSE server in TypeScript on the raw kernel protocol, without libfuse or a compiler.
// For programs outside this package: implement FileSystem, mount, serve. Inside, rooms import the files themselves.
// Stability: what is exported here follows the package's version; everything else may change.
//
// A filesystem answers in memory that it shares with the kernel calls (the arena): names come as offsets of
// NUL-terminated bytes, answers go to offsets. The conventions are those of FileSystem. In short:
//
//   import { type FileSystem, mapMemory, mountFuse, serve } from 'varve/fuse';
//
//   class Mine implements FileSystem { ... }                    // test/fuse/memfs.ts is a complete example
//   mapMemory();                                                // before anything else
//   const { fd } = mountFuse({ mountpoint: '/mnt/x', fsname: 'mine', subtype: 'mine' });
//   const reason = serve(new Mine(), { fd, timeout: 1 });       // blocks until the mount is gone
//
// serve() blocks its thread, so a program that does anything else serves in a process of its own; and that process must
// never open a file on its own mount, or it waits for itself.

export { S } from '../linux/constants.js';
export { E, errnoName, SysError } from '../linux/errno.js';
export {
  cstrlen,
  getBytes,
  getU64,
  i32,
  mapMemory,
  putBytes,
  putU64,
  u8,
  u16,
  u32,
} from '../linux/memory.js';
export { type FuseMount, type FuseMounted, mountFuse, unmountFuse } from '../linux/mount.js';
export {
  ATTR_SIZE,
  Attr,
  attrFromStat,
  ENTRY_SIZE,
  Entry,
  KSTATFS_SIZE,
  Kstatfs,
} from '../vfs/attr.js';
export {
  ABSENT,
  type Deferred,
  type DirSink,
  type FileSystem,
  type Host,
  JOB,
  type JobRunner,
  OPEN,
  type OpenReply,
  PARKED,
  type Request,
  SETATTR,
  type SetAttr,
} from '../vfs/filesystem.js';
export { publishing } from '../vfs/journal.js';
export { MAX_IO, WORK, WORK_SIZE } from '../vfs/layout.js';
export { OP, OPCODES, type Opcode, opName } from './opcodes.js';
export {
  type ExitReason,
  passthroughPermitted,
  type Recovery,
  type ServeOptions,
  serve,
  type Wake,
} from './server.js';
export type { Session } from './session.js';
