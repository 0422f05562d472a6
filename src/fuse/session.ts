// INIT: what the kernel and this server agree on, as a function of both wishes.
// Called by dispatch.ts for the first request of a mount; the result is fixed for the mount's life.
// Follows: fuse_init_in and fuse_init_out of ABI 7.45; process_init_reply() in fs/fuse/inode.c says what each bit does.

import type { Value } from '../bytes/struct.js';
import { MAX_IO } from '../vfs/layout.js';
import {
  FUSE_KERNEL_MINOR_VERSION,
  FUSE_KERNEL_VERSION,
  FUSE_OLDEST_MINOR_VERSION,
  type FuseInitIn,
  type FuseInitOut,
  INIT,
  INIT2,
} from './abi.js';

/** What a server asks for. */
export interface SessionWishes {
  /** Files may be read and written by the kernel itself, through backing files. Needs CAP_SYS_ADMIN outside. */
  readonly passthrough: boolean;
  /** The kernel collects writes. Not together with passthrough, which wins. */
  readonly writeback: boolean;
  /** POSIX ACLs are read, and checked by the kernel (implies default_permissions). */
  readonly acl: boolean;
  /** Nodeids mean the same to every server of the filesystem: file handles outlive what the kernel remembers. */
  readonly exported?: boolean;
  /** Default MAX_BACKGROUND. */
  readonly maxBackground?: number;
  /** Claim an older ABI (a test of older kernels' paths). */
  readonly minor?: number;
}

/** What was agreed. */
export interface Session {
  readonly minor: number;
  readonly passthrough: boolean;
  readonly writeback: boolean;
  readonly acl: boolean;
  /** A filesystem may refuse OPENDIR with ENOSYS, once. */
  readonly noOpendir: boolean;
  /** SETXATTR arguments have their long form. */
  readonly setxattrExt: boolean;
  /** FUSE_NOTIFY_RESEND works. */
  readonly resend: boolean;
  /** Bytes. */
  readonly maxWrite: number;
  readonly flags: number;
  readonly flags2: number;
}

/**
 * Requests without a waiter (readahead, writeback, async direct I/O) that the kernel sends at once. Above the number of
 * requests that may be parked: with the default of 12, that many parked reads would hold up every other cold read.
 */
export const MAX_BACKGROUND = 1024;

const PAGE = 4096;

/** ABI of Linux 6.9, the first that sends requests again. */
const RESEND_MINOR = 40;

/*
 * Asked for always:
 *   ASYNC_READ, PARALLEL_DIROPS      requests of one file or directory come side by side
 *   BIG_WRITES, MAX_PAGES            WRITE and READ of 1 MiB
 *   CACHE_SYMLINKS                   a target is read once
 *   DO_READDIRPLUS, READDIRPLUS_AUTO attributes with names, but only where somebody stats them
 *   HANDLE_KILLPRIV_V2               suid and sgid are dropped here, so no GETXATTR of capabilities before each write
 *   ATOMIC_O_TRUNC                   open(O_TRUNC) is one request
 *   DONT_MASK                        the umask is applied here, where a default ACL may take its place
 *   SETXATTR_EXT                     says when setting an ACL must drop the sgid bit
 *   NO_OPENDIR_SUPPORT               a filesystem without state in open directories is not asked to open any
 *   ABORT_ERROR                      an aborted connection reads as ECONNABORTED, an unmounted one as ENODEV
 * Not asked for, on purpose:
 *   POSIX_LOCKS, FLOCK_LOCKS         locks stay in the kernel
 *   AUTO_INVAL_DATA                  would drop the page cache for each change of mtime
 *   EXPLICIT_INVAL_DATA              would keep pages when a size changes behind the kernel's back
 *   SPLICE_*                         data goes through the arena
 *   ASYNC_DIO                        offered together with ASYNC_READ's background queue; direct writes stay ordered without
 */
const ALWAYS =
  INIT.ASYNC_READ |
  INIT.ATOMIC_O_TRUNC |
  INIT.BIG_WRITES |
  INIT.DONT_MASK |
  INIT.DO_READDIRPLUS |
  INIT.READDIRPLUS_AUTO |
  INIT.PARALLEL_DIROPS |
  INIT.ABORT_ERROR |
  INIT.MAX_PAGES |
  INIT.CACHE_SYMLINKS |
  INIT.HANDLE_KILLPRIV_V2 |
  INIT.SETXATTR_EXT |
  INIT.NO_OPENDIR_SUPPORT |
  INIT.INIT_EXT;

export type Negotiation =
  | { readonly session: Session; readonly reply: Partial<Value<typeof FuseInitOut>> }
  /** The kernel speaks another major version: it will ask again with ours. */
  | { readonly session: undefined; readonly reply: Partial<Value<typeof FuseInitOut>> };

/**
 * Answers INIT. @throws Error when the kernel's protocol is too old (before Linux 5.4).
 * @param init what the kernel sent; its flags2 count only when it set INIT_EXT.
 */
export function negotiate(init: Value<typeof FuseInitIn>, wishes: SessionWishes): Negotiation {
  if (init.major > FUSE_KERNEL_VERSION) {
    return {
      session: undefined,
      reply: { major: FUSE_KERNEL_VERSION, minor: FUSE_KERNEL_MINOR_VERSION },
    };
  }
  const minor = Math.min(init.minor, wishes.minor ?? FUSE_KERNEL_MINOR_VERSION);
  if (init.major < FUSE_KERNEL_VERSION || minor < FUSE_OLDEST_MINOR_VERSION) {
    throw new Error(
      `this kernel speaks FUSE ${init.major}.${init.minor}, 7.31 is the oldest known`,
    );
  }
  const offered = init.flags;
  const offered2 = offered & INIT.INIT_EXT ? init.flags2 : 0;
  const passthrough = wishes.passthrough && (offered2 & INIT2.PASSTHROUGH) !== 0;
  const writeback = wishes.writeback && !passthrough && (offered & INIT.WRITEBACK_CACHE) !== 0;
  const acl = wishes.acl && (offered & INIT.POSIX_ACL) !== 0;

  let flags = ALWAYS;
  if (writeback) flags |= INIT.WRITEBACK_CACHE;
  if (acl) flags |= INIT.POSIX_ACL;
  // LOOKUP of "." and ".." then finds what a file handle names.
  if (wishes.exported) flags |= INIT.EXPORT_SUPPORT;
  flags = (flags & offered) >>> 0;
  let flags2: number = minor >= RESEND_MINOR ? INIT2.HAS_RESEND : 0;
  if (passthrough) flags2 |= INIT2.PASSTHROUGH;
  flags2 = (flags2 & offered2) >>> 0;

  const background = wishes.maxBackground ?? MAX_BACKGROUND;
  const maxWrite = flags & INIT.MAX_PAGES ? MAX_IO : 32 * PAGE;
  return {
    session: {
      minor,
      passthrough,
      writeback,
      acl,
      noOpendir: (flags & INIT.NO_OPENDIR_SUPPORT) !== 0,
      setxattrExt: (flags & INIT.SETXATTR_EXT) !== 0,
      resend: (flags2 & INIT2.HAS_RESEND) !== 0,
      maxWrite,
      flags,
      flags2,
    },
    reply: {
      major: FUSE_KERNEL_VERSION,
      minor,
      max_readahead: init.max_readahead,
      flags,
      flags2,
      max_background: background,
      congestion_threshold: Math.floor((background * 3) / 4),
      max_write: maxWrite,
      time_gran: 1,
      max_pages: flags & INIT.MAX_PAGES ? maxWrite / PAGE : 0,
      max_stack_depth: passthrough ? 1 : 0,
    },
  };
}

/** Names of the bits that are set, for the trace and `varve doctor`. */
export function initFlagNames(flags: number, flags2: number): string[] {
  const names: string[] = [];
  for (const [name, bit] of Object.entries(INIT)) if (flags & bit) names.push(name);
  for (const [name, bit] of Object.entries(INIT2)) if (flags2 & bit) names.push(name);
  return names;
}
