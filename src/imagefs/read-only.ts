// What a filesystem answers that nobody can change: EROFS for every change, nothing for what only follows changes.
// The base of image-filesystem.ts and layer-store.ts.
// Semantics: vfs/filesystem.ts.

import { E } from '../linux/errno.js';
import type { Request } from '../vfs/filesystem.js';

export abstract class ReadOnlyFileSystem {
  access(): number {
    // Permissions are the kernel's to check (default_permissions).
    return 0;
  }

  flush(): number {
    return -E.NOSYS;
  }

  release(_r: Request, _lo: number, _hi: number): number {
    return 0;
  }

  releasedir(): number {
    return 0;
  }

  fsync(): number {
    return 0;
  }

  fsyncdir(): number {
    return 0;
  }

  syncfs(): number {
    return 0;
  }

  setattr(): number {
    return -E.ROFS;
  }
  mknod(): number {
    return -E.ROFS;
  }
  mkdir(): number {
    return -E.ROFS;
  }
  symlink(): number {
    return -E.ROFS;
  }
  link(): number {
    return -E.ROFS;
  }
  unlink(): number {
    return -E.ROFS;
  }
  rmdir(): number {
    return -E.ROFS;
  }
  rename(): number {
    return -E.ROFS;
  }
  create(): number {
    return -E.ROFS;
  }
  tmpfile(): number {
    return -E.ROFS;
  }
  write(): number {
    return -E.ROFS;
  }
  fallocate(): number {
    return -E.ROFS;
  }
  setxattr(): number {
    return -E.ROFS;
  }
  removexattr(): number {
    return -E.ROFS;
  }
  /** From here to a file elsewhere: the kernel reads and writes. */
  copyFileRange(): number {
    return -E.OPNOTSUPP;
  }
}
