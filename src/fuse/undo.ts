// A reply that reached nobody: takes back what the kernel will never give back, as it does not know of it.
// Called by server.ts when writing a reply gives ENOENT (its caller is gone): lookups and open files would leak.
// Follows: the reference counts of Documentation/filesystems/fuse.rst.

import { u32 } from '../linux/memory.js';
import { ENTRY_SIZE } from '../vfs/attr.js';
import type { FileSystem, Request } from '../vfs/filesystem.js';
import { replyBuffer } from '../vfs/layout.js';
import { FuseDirent, FuseOutHeader } from './abi.js';
import { OP } from './opcodes.js';

const REP = replyBuffer(0);
const R = REP >>> 2;
const OUT = REP + FuseOutHeader.size;
const O = OUT >>> 2;

/** Undoes what the reply in replyBuffer(0) to request `r` says was done for the kernel. */
export function undo(fs: FileSystem, r: Request): void {
  if (u32[R + 1] !== 0) return;
  switch (r.opcode) {
    case OP.CREATE:
    case OP.TMPFILE: {
      const k = (OUT + ENTRY_SIZE) >>> 2;
      fs.release(r, u32[k] as number, u32[k + 1] as number);
      forgetEntry(fs, O);
      break;
    }
    case OP.LOOKUP:
    case OP.MKNOD:
    case OP.MKDIR:
    case OP.SYMLINK:
    case OP.LINK:
      forgetEntry(fs, O);
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
        forgetEntry(fs, at >>> 2);
        const nameLength = u32[(at + ENTRY_SIZE + FuseDirent.at.namelen) >>> 2] as number;
        at += (ENTRY_SIZE + FuseDirent.size + nameLength + 7) & ~7;
      }
      break;
    }
    default:
      break;
  }
}

function forgetEntry(fs: FileSystem, k: number): void {
  const lo = u32[k] as number;
  const hi = u32[k + 1] as number;
  if (lo !== 0 || hi !== 0) fs.forget(lo, hi, 1);
}
