// What each kind of job does, on whichever thread.
// Called by worker.ts, and by jobs.ts itself where no worker can be had. Results are >= 0 or -errno.
// Follows: the kinds of vfs/filesystem.ts JOB.

import { copyFile, copyRange } from '../linux/copy.js';
import { E } from '../linux/errno.js';
import { fallocate, fdatasync, fsync, syncfs } from '../linux/files.js';
import { JOB, type Perform } from '../vfs/filesystem.js';

export const perform: Perform = (kind, a, b, c, d, e) => {
  switch (kind) {
    case JOB.FSYNC:
      return b === 1 ? fdatasync(a) : fsync(a);
    case JOB.SYNCFS:
      return syncfs(a);
    case JOB.FALLOCATE:
      return fallocate(a, b, c, d);
    case JOB.COPY_RANGE:
      return copyRange(a, b, c, d, e);
    case JOB.COPY_FILE:
      return copyFile(a, b, c, d === 1);
    default:
      return -E.INVAL;
  }
};
