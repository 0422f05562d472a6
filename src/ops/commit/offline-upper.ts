// An upper that nobody has mounted, as the place of a freeze or a discard: behind the locks that a mount would take.
// Called by commit.ts and discard.ts for stacks that are described by options.
// What is done there: stack/freeze.ts, stack/discard.ts; for a live mount a server does it.

import { basename, dirname } from 'node:path';
import { AT, O } from '../../linux/constants.js';
import { check } from '../../linux/errno.js';
import { close } from '../../linux/files.js';
import { mapMemory } from '../../linux/memory.js';
import { makeDirectory, openName } from '../../linux/named.js';
import { CAP, hasCapability } from '../../linux/process.js';
import { type FreezePlace, finishInterrupted } from '../../stack/freeze.js';
import { openToRead } from '../../stack/open.js';
import type { MountSpec } from '../../stack/spec.js';
import { holdUpper } from '../hold-upper.js';

/**
 * @param aside absolute path of what takes the upper's place. @param doing for the message where it is in use.
 * @throws MountError, SysError, and what `use` throws.
 */
export function withUpper<T>(
  spec: MountSpec,
  aside: string,
  doing: string,
  use: (place: FreezePlace) => T,
): T {
  mapMemory();
  const upper = spec.upperdir as string;
  const workdir = spec.workdir as string;
  const held = holdUpper(upper, workdir, doing);
  const fds: number[] = [];
  const open = (path: string): number => {
    const name = Buffer.from(path).toString('latin1');
    const fd = check(openName(AT.FDCWD, name, O.RDONLY | O.DIRECTORY), 'open', path);
    fds.push(fd);
    return fd;
  };
  const optional = (path: string): number => {
    const name = Buffer.from(path).toString('latin1');
    const fd = openName(AT.FDCWD, name, O.RDONLY | O.DIRECTORY);
    if (fd >= 0) fds.push(fd);
    return Math.max(fd, -1);
  };
  try {
    const key = openToRead(spec).upper?.key ?? 0;
    const work = makeWork(open(workdir));
    fds.push(work);
    const common = {
      work,
      index: optional(`${workdir}/index`),
      prefix: spec.userxattr ? 'user.overlay.' : 'trusted.overlay.',
      key,
      privileged: hasCapability(CAP.CHOWN),
    };
    finishInterrupted(common, open(upper));
    return use({
      ...common,
      upper: open(upper),
      upperParent: open(dirname(upper)),
      upperName: Buffer.from(basename(upper)).toString('latin1'),
      frozenParent: open(dirname(aside)),
      frozenName: Buffer.from(basename(aside)).toString('latin1'),
      frozenPath: aside,
      openNew: () => {
        const name = Buffer.from(upper).toString('latin1');
        return check(openName(AT.FDCWD, name, O.RDONLY | O.DIRECTORY), 'open', upper);
      },
    });
  } finally {
    for (const fd of fds) close(fd);
    held.release();
  }
}

/** `work` in the workdir, which a stack that was never mounted lacks. */
function makeWork(workdir: number): number {
  makeDirectory(workdir, 'work', 0o700);
  return check(openName(workdir, 'work', O.RDONLY | O.DIRECTORY | O.NOFOLLOW), 'open', 'work');
}
