// The implementations that the suites can run on, as a mount for one suite and as a type for mount(8).
// Used by the suites' runners; the mounting itself is that of test/support/subjects.ts.
// mount(8) finds a helper of FUSE only as /sbin/mount.fuse.TYPE, so ours is linked there for a while.

import { lstatSync, rmSync, symlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Subject, subjectNamed } from '../support/subjects.js';

export interface Peer {
  subject: Subject;
  /** Flag of unionmount-testsuite; undefined: kernel overlayfs, its default. */
  fuseFlag: string | undefined;
  /** Makes `mount -t fuse.NAME` work, runs, and takes that back. */
  withHelper<T>(use: () => Promise<T>): Promise<T>;
}

const helper = '/sbin/mount.fuse.varve';
const ours = fileURLToPath(new URL('../../../bin/mount.fuse.varve', import.meta.url));

export function peerNamed(name: string): Peer {
  const subject = subjectNamed(name);
  const plain = async <T>(use: () => Promise<T>) => use();
  if (name === 'kernel') return { subject, fuseFlag: undefined, withHelper: plain };
  return {
    subject,
    fuseFlag: `--fuse=${name}`,
    withHelper: name === 'varve' ? withOurHelper : plain,
  };
}

async function withOurHelper<T>(use: () => Promise<T>): Promise<T> {
  if (lstatSync(helper, { throwIfNoEntry: false }) !== undefined) return use();
  symlinkSync(ours, helper);
  try {
    return await use();
  } finally {
    rmSync(helper, { force: true });
  }
}
