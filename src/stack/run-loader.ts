// The process of a loader: its orders, the socket that outlives it, clients, and its end when nothing is left to load.
// Run by the program loader.ts with a registry, and by tests with others.
// The supervisor starts another when this one ends with anything but 0 (supervisor/loader.ts).

import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { KernelUses } from '../lazy/fanotify/kernel-uses.js';
import type { Keeper } from '../lazy/fanotify/kernel-way.js';
import { Connection, type FurtherCommands } from '../lazy/load/connection.js';
import { Loader, type LoaderOptions } from '../lazy/load/loader.js';
import { peerUid } from '../linux/peer.js';
import { setUmask } from '../linux/process.js';
import {
  allKept,
  keepForNext,
  mayGo,
  releaseKept,
  reportLoaderReady,
  takeLoaderOrders,
} from '../supervisor/loader-orders.js';

/** The listening socket, kept for the next. */
const SOCKET = 'socket';
/** Milliseconds without anything to load after which it asks whether it may end, and between two such questions. */
const IDLE = 1000;

/** libuv's descriptor; Node has no public name for it. */
const fdOf = (of: Socket | Server): number =>
  (of as unknown as { _handle: { fd: number } | null })._handle?.fd ?? -1;

/** The supervisor, as lazy/fanotify/ knows it. */
const keeper: Keeper = {
  get: (name) => allKept().get(name),
  names: () => [...allKept().keys()],
  add: async (descriptors) => keepForNext(descriptors),
  drop: releaseKept,
};

/** Serves until nothing is left to load. @throws Error when it cannot listen. */
export async function runLoader(options: LoaderOptions, further?: FurtherCommands): Promise<void> {
  setUmask(0o077);
  const orders = takeLoaderOrders();
  // Whoever would have started it is gone.
  if (orders === undefined) return;
  const log = options.log ?? ((line) => console.error(line));
  let kernel: KernelUses | undefined;
  const loader = new Loader({
    ...options,
    log,
    keptBlob: (folder) => kernel?.keptBlob(folder),
    readers: (id) => kernel?.waiting(id) ?? [],
  });
  kernel = new KernelUses(loader, keeper, log);
  await kernel.adopt();
  let clients = 0;
  /** The supervisor keeps nothing for this one any more: whoever comes now is to find the next. */
  let isOver = false;
  /** Of these, who has said that the loader is to stay. */
  let staying = 0;
  const performFurther: FurtherCommands = (command, ended) => {
    if (command.op !== 'stay') return further?.(command, ended);
    staying++;
    void ended.then(() => {
      staying--;
    });
    return Promise.resolve({});
  };
  let lastClient = performance.now();
  const server = createServer((socket) => {
    if (isOver || peerUid(fdOf(socket)) !== process.geteuid?.()) {
      socket.destroy();
      return;
    }
    clients++;
    lastClient = performance.now();
    socket.on('close', () => {
      clients--;
    });
    new Connection(socket, loader, kernel, performFurther);
  });
  await listen(server, orders.socket);
  reportLoaderReady();

  for (;;) {
    await sleep(IDLE);
    await kernel.settled();
    const recent = performance.now() - lastClient < IDLE;
    if (!recent && !loader.isBusy && staying === 0 && mayGo()) break;
  }
  isOver = true;
  if (clients > 0) log('nothing is left to load');
  await loader.end();
  await kernel.close();
}

/** On the socket of the loader before, or a new one that the next will have. */
function listen(server: Server, path: string): Promise<void> {
  const kept = allKept().get(SOCKET);
  if (kept === undefined) rmSync(path, { force: true });
  return new Promise((resolve, reject) => {
    server.on('error', reject);
    server.listen(kept === undefined ? { path, backlog: 1024 } : { fd: kept }, () => {
      if (kept === undefined) keepForNext(new Map([[SOCKET, fdOf(server)]]));
      resolve();
    });
  });
}
