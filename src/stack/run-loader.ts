// The process of a loader: its orders, the socket that outlives it, clients, and its end when nothing is left to load.
// Run by the program loader.ts with a registry, and by tests with others.
// The supervisor starts another when this one ends with anything but 0 (supervisor/loader.ts).

import { once } from 'node:events';
import { existsSync, readSync, writeSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { KernelUses } from '../lazy/fanotify/kernel-uses.js';
import { type Keeper, KernelWayError } from '../lazy/fanotify/kernel-way.js';
import { Connection, type FurtherCommands } from '../lazy/load/connection.js';
import { Loader, type LoaderOptions } from '../lazy/load/loader.js';
import { memoryFile } from '../linux/native-memory.js';
import { peerUid } from '../linux/peer.js';
import { setUmask } from '../linux/process.js';
import { listenAt } from '../supervisor/listen.js';
import {
  allKept,
  keepForNext,
  mayGo,
  releaseKept,
  replaceSupervisor,
  reportLoaderReady,
  takeLoaderOrders,
} from '../supervisor/loader-orders.js';
import { LISTENER } from '../supervisor/protocol.js';

/** Milliseconds between two looks at whether the socket is still there: cleaners of /tmp and /run remove what is old. */
const LOOK = 250;
/** Milliseconds without anything to load after which it asks whether it may end, and between two such questions. */
const IDLE = 1000;

/** libuv's descriptor; Node has no public name for it. */
const fdOf = (of: Socket | Server): number =>
  (of as unknown as { _handle: { fd: number } | null })._handle?.fd ?? -1;

/** The supervisor, as lazy/fanotify/ knows it. */
const keeper: Keeper = {
  get: (name) => allKept().get(name),
  names: () => [...allKept().keys()],
  add: (descriptors) => {
    if (!keepForNext(descriptors)) throw new KernelWayError('its supervisor is gone');
  },
  drop: releaseKept,
};

/** Serves until nothing is left to load. @throws Error when it cannot listen. */
export async function runLoader(options: LoaderOptions, further?: FurtherCommands): Promise<void> {
  setUmask(0o077);
  const orders = takeLoaderOrders();
  // Whoever would have started it is gone.
  if (orders === undefined) return;
  inheritLimit(options);
  const log = options.log ?? ((line) => console.error(line));
  let kernel: KernelUses | undefined;
  const loader = new Loader({
    ...options,
    log,
    keptBlob: (folder) => kernel?.keptBlob(folder),
    readers: (id) => kernel?.waiting(id) ?? [],
  });
  loader.on('limit', keepLimit);
  setInterval(replaceSupervisor, IDLE).unref();
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
  const serve = (socket: Socket): void => {
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
  };
  const listener = new Listener(orders.socket, serve, log);
  await listener.begin();
  reportLoaderReady();

  for (;;) {
    await sleep(IDLE);
    await kernel.settled();
    const recent = performance.now() - lastClient < IDLE;
    if (!recent && !loader.isBusy && staying === 0 && mayGo()) break;
  }
  isOver = true;
  listener.stay();
  if (clients > 0) log('nothing is left to load');
  await loader.end();
  await kernel.close();
}

/** Under this name the rate that somebody asked for is kept for the next: bytes a second, u64, little endian. */
const LIMIT = 'limit';
const LIMIT_BYTES = 8;

/** What a predecessor was told holds, not what the environment says. */
function inheritLimit({ limits }: LoaderOptions): void {
  const kept = allKept().get(LIMIT);
  if (kept === undefined || limits === undefined) return;
  const bytes = Buffer.alloc(LIMIT_BYTES);
  readSync(kept, bytes, 0, LIMIT_BYTES, 0);
  limits.bytesPerSecond = Number(bytes.readBigUInt64LE());
}

function keepLimit(bytesPerSecond: number): void {
  const kept = allKept().get(LIMIT);
  const file = kept ?? memoryFile('varve-limit', LIMIT_BYTES);
  const bytes = Buffer.alloc(LIMIT_BYTES);
  bytes.writeBigUInt64LE(BigInt(bytesPerSecond));
  writeSync(file, bytes, 0, LIMIT_BYTES, 0);
  if (kept === undefined) keepForNext(new Map([[LIMIT, file]]));
}

/** Where clients connect: on the socket of the loader before, or a new one that the next will have. */
class Listener {
  readonly #path: string;
  readonly #serve: (socket: Socket) => void;
  readonly #log: (line: string) => void;
  #server: Server | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(path: string, serve: (socket: Socket) => void, log: (line: string) => void) {
    this.#path = path;
    this.#serve = serve;
    this.#log = log;
  }

  /** @throws Error when it cannot listen. */
  async begin(): Promise<void> {
    const kept = allKept().get(LISTENER);
    if (kept === undefined) await this.#listenAnew();
    else await this.#listen((server) => once(server.listen({ fd: kept }), 'listening'));
    this.#watch();
  }

  /** Nobody is to find the next one's place taken. */
  stay(): void {
    clearTimeout(this.#timer);
  }

  #watch(): void {
    this.#timer = setTimeout(() => void this.#look().then(() => this.#watch()), LOOK);
  }

  /** What is there and is not this loader's belongs to another supervisor's, and is left alone. */
  async #look(): Promise<void> {
    if (existsSync(this.#path)) return;
    this.#server?.close();
    this.#server = undefined;
    await this.#listenAnew().then(
      () => this.#log(`${this.#path}: was removed, and is there again`),
      () => {
        // Its folder is gone, too: the supervisor makes that again.
      },
    );
  }

  async #listenAnew(): Promise<void> {
    const server = await this.#listen((server) => listenAt(server, this.#path, 1024));
    keepForNext(new Map([[LISTENER, fdOf(server)]]));
  }

  async #listen(begin: (server: Server) => Promise<unknown>): Promise<Server> {
    const server = createServer(this.#serve);
    server.on('error', () => {});
    await begin(server);
    this.#server = server;
    return server;
  }
}
