// A process that serves memfs on a mount; started by the tests, because serving blocks its thread.
// Arguments: the mount point and one JSON object. Prints one JSON line when ready and one when the mount is gone.
// Not a test itself.

import { writeSync } from 'node:fs';
import { type ServeOptions, serve, type Wake } from '../../src/fuse/server.js';
import { getU64, mapMemory } from '../../src/linux/memory.js';
import { mountFuse } from '../../src/linux/mount.js';
import { Counter } from '../../src/vfs/counters.js';
import { HEADER } from '../../src/vfs/layout.js';
import { MemoryFileSystem, type MemoryOptions } from './memfs.js';

export interface ServeMemory {
  readonly memory?: MemoryOptions;
  readonly serve?: Omit<Partial<ServeOptions>, 'fd'>;
  readonly files?: Record<string, string>;
  readonly allowOther?: boolean;
  /** A line on standard input ends the serving. */
  readonly wake?: boolean;
  /** Also exit by process.exit() right after serving. */
  readonly exit?: boolean;
}

const [mountpoint, json] = process.argv.slice(2);
if (mountpoint === undefined) throw new Error('usage: serve-memfs MOUNTPOINT JSON');
const options = JSON.parse(json ?? '{}') as ServeMemory;

const say = (value: unknown): void => {
  writeSync(1, `${JSON.stringify(value)}\n`);
};

mapMemory();
const log = (line: string): void => say({ log: line });
const fs = new MemoryFileSystem({ ...options.memory, log });
for (const [name, content] of Object.entries(options.files ?? {})) fs.add(name, content);
const { fd, by } = mountFuse({
  mountpoint,
  fsname: 'memfs',
  subtype: 'varve-test',
  allowOther: options.allowOther,
  defaultPermissions: true,
});
const reason = serve(fs, {
  ...options.serve,
  fd,
  log,
  ...(options.wake ? { wakeFd: 0, onWake: (): Wake => 'end' } : {}),
  onReady: (session) =>
    say({
      ready: true,
      by,
      minor: session.minor,
      passthrough: session.passthrough,
      writeback: session.writeback,
    }),
});
say({
  end: reason,
  held: fs.held(),
  handles: fs.handles.size,
  stopped: fs.stopped,
  requests: getU64(HEADER + Counter.requests),
});
if (options.exit) process.exit(0);
