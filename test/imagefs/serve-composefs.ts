// A process that serves a composefs image as stack/server.ts does; started by the tests, because serving blocks its thread.
// Arguments: the mount point and the JSON of a ComposefsSpec with a few more keys. One JSON line a report, on standard output.
// Not a test itself.

import { writeSync } from 'node:fs';
import { type ServeOptions, serve } from '../../src/fuse/server.js';
import { performVerify } from '../../src/imagefs/verify-job.js';
import { getU64, mapMemory } from '../../src/linux/memory.js';
import { mountFuse } from '../../src/linux/mount.js';
import { openFileSystem } from '../../src/stack/open.js';
import type { ComposefsSpec, MountSpec } from '../../src/stack/spec.js';
import { Counter } from '../../src/vfs/counters.js';
import { HEADER } from '../../src/vfs/layout.js';

export interface ServeComposefs extends ComposefsSpec {
  readonly serveOptions?: Pick<ServeOptions, 'passthrough' | 'timeout' | 'trace'>;
}

const [mountpoint, json] = process.argv.slice(2);
if (mountpoint === undefined || json === undefined) throw new Error('usage: MOUNTPOINT JSON');
const { serveOptions, ...composefs } = JSON.parse(json) as ServeComposefs;

const say = (value: unknown): void => {
  writeSync(1, `${JSON.stringify(value)}\n`);
};
console.error = (line: string): void => say({ log: line });

mapMemory();
const fs = openFileSystem({ composefs, acl: true } as MountSpec);
const { fd } = mountFuse({
  mountpoint,
  fsname: composefs.image,
  subtype: 'varve-test',
  allowOther: process.getuid?.() === 0,
  defaultPermissions: true,
  readOnly: true,
  nodev: false,
});
const reason = serve(fs, {
  fd,
  timeout: 86400,
  passthrough: true,
  acl: true,
  ...serveOptions,
  work: {
    script: new URL('../../src/stack/composefs-worker.js', import.meta.url),
    perform: performVerify,
  },
  log: (line) => say({ log: line }),
  onReady: ({ passthrough }) => say({ ready: true, passthrough }),
});
const counter = (opcode: number): number => getU64(HEADER + Counter.opcodes + 8 * opcode);
say({ end: reason, opens: counter(14), reads: counter(15), lookups: counter(1) });
