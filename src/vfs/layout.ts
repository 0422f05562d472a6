// Where everything lies in the shared arena: one table of regions, so that workers and a successor agree.
// Read by vfs/ tables, fuse/ (message buffers, counters) and supervisor/ (header); nothing else computes offsets.
// Sizes are address space; memory is used only where touched.

import { ARENA_SIZE, MAX_THREADS, SCRATCH_END } from '../linux/memory.js';

const KiB = 1024;
const MiB = 1024 * KiB;

let next = SCRATCH_END;
function region(size: number, align = 4096): number {
  const at = Math.ceil(next / align) * align;
  next = at + size;
  if (next > ARENA_SIZE) throw new Error(`arena too small: ${next} > ${ARENA_SIZE}`);
  return at;
}

/**
 * Raised whenever a record of the arena, or what it means, changes: a server of another version cannot take over a mount
 * whose arena has the old one.
 */
export const LAYOUT_VERSION = 2;

/** Mount-wide counters and parameters; see counters.ts. */
export const HEADER = region(64 * KiB);

/** Bytes of payload of the largest WRITE and READ. */
export const MAX_IO = 1 * MiB;

/** One request buffer (header, arguments, MAX_IO of data) and one reply buffer for each thread. */
export const MESSAGE_SIZE = MAX_IO + 64 * KiB;
const REQUESTS = region(MESSAGE_SIZE * MAX_THREADS);
const REPLIES = region(MESSAGE_SIZE * MAX_THREADS);
export const requestBuffer = (thread: number): number => REQUESTS + thread * MESSAGE_SIZE;
export const replyBuffer = (thread: number): number => REPLIES + thread * MESSAGE_SIZE;

/** Job records handed to worker threads; see jobs.ts. */
export const JOB_SIZE = 128;
export const JOB_COUNT = 1024;
export const JOBS = region(JOB_SIZE * JOB_COUNT);

/** Working space of the filesystem on the server's thread: directory blocks, xattr values, paths. */
export const WORK_SIZE = 1 * MiB;
export const WORK = region(WORK_SIZE);

/** Directory blocks of one getdents64(2) call; not reentrant. */
export const LISTING_SIZE = 64 * KiB;
export const LISTING = region(LISTING_SIZE);

/** Node records and the hash buckets that find them; see nodes.ts. */
export const NODE_SIZE = 64;
export const NODE_COUNT = 6 * MiB;
export const NODES = region(NODE_SIZE * NODE_COUNT);
export const BUCKET_COUNT = 2 * MiB;
export const NAME_BUCKETS = region(4 * BUCKET_COUNT);
export const INO_BUCKET_COUNT = 2 * MiB;
export const INO_BUCKETS = region(4 * INO_BUCKET_COUNT);

/** Open files and directories; see handles.ts. */
export const HANDLE_SIZE = 64;
export const HANDLE_COUNT = 1 * MiB;
export const HANDLES = region(HANDLE_SIZE * HANDLE_COUNT);

/** Names in granules of 16 bytes; see names.ts. */
export const NAMES_SIZE = 512 * MiB;
export const NAMES = region(NAMES_SIZE);

/** Directories of layers and the stacks of merged directories; see overlay/. */
export const LAYER_DIR_SIZE = 32;
export const LAYER_DIR_COUNT = 4 * MiB;
export const LAYER_DIRS = region(LAYER_DIR_SIZE * LAYER_DIR_COUNT);
export const STACKS_SIZE = 128 * MiB;
export const STACKS = region(STACKS_SIZE);

/** Objects of a composefs image that are open; see imagefs/object-table.ts. */
export const OBJECT_SIZE = 128;
export const OBJECT_COUNT = 512 * KiB;
export const OBJECTS = region(OBJECT_SIZE * OBJECT_COUNT);

/** Objects that were compared with their digests; see imagefs/verified-objects.ts. */
export const VERIFIED_SIZE = 6 * MiB;
export const VERIFIED = region(VERIFIED_SIZE);

/** A bit for each nid of an image whose content the kernel was given unasked; see imagefs/metadata-filesystem.ts. */
export const GIVEN_SIZE = 64 * MiB;
export const GIVEN = region(GIVEN_SIZE);

/** Replies that outlive the server that formed them; see fuse/kept-replies.ts. */
export const KEPT_SIZE = 64 * KiB;
export const KEPT_COUNT = 16;
export const KEPT = region(KEPT_SIZE * KEPT_COUNT);

/** The key of each layer's inode numbers, u32 by the layer's index: a successor shows what its predecessor showed. */
export const LAYER_KEYS = region(4096);
