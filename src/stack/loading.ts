// How a server reaches the loader of its user, and what it tells the counters.
// Made by server.ts for every mount of layers of an image store; complete ones need it only when content is taken back.
// The supervisor is asked for a loader without waiting for its answer: the loader's socket says when it is there.

import { existsSync } from 'node:fs';
import { LoaderClient } from '../lazy/client.js';
import { DEFAULT_POLICY } from '../lazy/protocol.js';
import { close } from '../linux/files.js';
import { setReadahead } from '../linux/mount.js';
import { connectUnix, sendBytes } from '../linux/socket.js';
import { existingRuntimes, type RuntimePaths } from '../supervisor/folder.js';
import { PROTOCOL_VERSION, toLine } from '../supervisor/protocol.js';
import { Counter, set } from '../vfs/counters.js';
import { MAX_IO } from '../vfs/layout.js';
import { loaderEnvironment, loaderProgram } from './loader-program.js';
import type { MountSpec } from './spec.js';

/**
 * KiB that the kernel reads ahead of a file whose content arrives: about a chunk, as each that it touches is fetched. Its
 * reads are whole or not at all, so a large one waits for the last of its chunks.
 */
const LAZY_READAHEAD = 128;
/** Requests that may be parked: all that the kernel takes (u16). */
export const LAZY_BACKGROUND = 65535;

/** Of layers that may have to be loaded; undefined where none is of an image store. */
export function loadingOf(spec: MountSpec, log: (line: string) => void): LoaderClient | undefined {
  const isLayer = (path: string) => path.endsWith('/meta.erofs');
  const has = [...spec.lowerdirs, ...spec.datadirs].some(isLayer);
  if (!has && spec.layerStore === undefined) return undefined;
  const runtimes = existingRuntimes(process.env, process.geteuid?.() ?? 0);
  const runtime = runtimes.find(({ socket }) => existsSync(socket)) ?? runtimes[0];
  if (runtime === undefined) return undefined;
  return new LoaderClient({
    socket: runtime.loaderSocket,
    mountpoint: spec.mountpoint,
    policy: spec.load ?? DEFAULT_POLICY,
    log,
    summon: () => summon(runtime),
    counted: (waiting, wanted) => {
      set(Counter.awaiting, waiting);
      set(Counter.wanted, wanted);
    },
    completed: () => setReadahead(spec.mountpoint, MAX_IO / 1024),
    revived: () => setReadahead(spec.mountpoint, LAZY_READAHEAD),
  });
}

/** KiB to read ahead in the state in which the layers are. */
export function readaheadOf(loading: LoaderClient | undefined): number {
  return loading?.isNeeded ? LAZY_READAHEAD : MAX_IO / 1024;
}

function summon(runtime: RuntimePaths): void {
  const fd = connectUnix(runtime.socket);
  if (fd < 0) return;
  const request = { op: 'load', program: loaderProgram(), env: loaderEnvironment(), again: true };
  sendBytes(fd, Buffer.from(toLine({ v: PROTOCOL_VERSION, id: 1, ...request })));
  close(fd);
}
