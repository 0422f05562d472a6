// The loader of lazy layers as its supervisor sees it: started when somebody needs it, replaced when it dies, let go when it is done.
// Owned by supervisor.ts; the program is stack/loader.ts, its side of the talk loader-orders.ts.
// Holds what must outlive a loader: the socket that clients are about to connect to, and what keeps readers waiting (LINUX.md 3, fanotify).

import { closeSync, existsSync, statSync, truncateSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { check } from '../linux/errno.js';
import { receiveFds, sendFds } from '../linux/socket.js';
import { type Bequest, processMark } from './bequest.js';
import type { Holder } from './holder.js';
import { identityOf, removeOwn } from './presence.js';
import {
  GO,
  GROUP,
  type HeirProgram,
  LISTENER,
  type LoaderInfo,
  type LoaderOrders,
  type LoaderReport,
  type LoadRequest,
  STARTED_LOADER_FD,
  STAY,
} from './protocol.js';
import { lastLines, RefusedError } from './refusals.js';
import {
  adoptedServer,
  childServer,
  type Ending,
  fdOf,
  type ServerProcess,
  startServer,
} from './server-process.js';

/** Milliseconds to wait for descriptors that a loader is about to send. */
const PATIENCE = 2000;
/** Milliseconds within which a loader must be ready; then it is killed. */
const START_LIMIT = 15_000;
/** Pause before the next one, after one that ended by itself: doubled each time. Milliseconds. */
const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 10_000;
/** Milliseconds within which a loader must end when it is asked to by the end of everything that it serves. */
const END_LIMIT = 10_000;
/** Milliseconds for which a loader's socket may be missing: it looks several times a second (stack/run-loader.ts). */
const MISSING_LIMIT = 3000;
/** Bytes that a loader may print before its log starts again. */
const LOG_LIMIT = 4 << 20;

interface KeeperHost {
  readonly socket: string;
  readonly log: string;
  /** Milliseconds after a request for a loader within which its client comes. */
  readonly aboutToCome: number;
  /** There is a loader now, or there is none. */
  changed(): void;
  readonly holder: Holder;
  /** The supervisor's. */
  lock(): number;
  readonly heir: HeirProgram;
}

export class LoaderKeeper {
  readonly #host: KeeperHost;
  #request: LoadRequest | undefined;
  #process: ServerProcess | undefined;
  #ready = false;
  /** It was told to go. */
  #going = false;
  #ending = false;
  /** Readers of the kernel are gone, or going. */
  #forced = false;
  #restarts = 0;
  /** Since one was ready. */
  #failures = 0;
  /** Nobody depends on what is kept yet, and somebody is likely to. */
  #expectsReaders = false;
  #trouble: string | undefined;
  #error: string | undefined;
  #lastLoad = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #limit: NodeJS.Timeout | undefined;
  readonly #kept = new Map<string, number>();
  /** Of the file at which the loader listens. */
  #socketIdentity: string | undefined;
  /** Who waits until one is ready, or none can be. */
  #waiting: { resolve: (info: LoaderInfo) => void; reject: (error: Error) => void }[] = [];
  #atRest: (() => void)[] = [];

  constructor(host: KeeperHost) {
    this.#host = host;
  }

  /** One runs, or will again: the supervisor must live. */
  get isNeeded(): boolean {
    return this.#process !== undefined || this.#timer !== undefined;
  }

  get info(): LoaderInfo | undefined {
    if (!this.isNeeded) return undefined;
    return {
      pid: this.#process?.pid ?? 0,
      socket: this.#host.socket,
      restarts: this.#restarts,
      log: this.#host.log,
      ...(this.#host.holder.pid === undefined ? {} : { holder: this.#host.holder.pid }),
      ...(this.#trouble === undefined ? {} : { trouble: this.#trouble }),
    };
  }

  /** Goes on for a supervisor that was killed; its loader has ended. */
  inherit({ kept, request, restarts }: Bequest): void {
    for (const [name, fd] of kept) this.#kept.set(name, fd);
    if (kept.has(LISTENER)) this.#socketIdentity = identityOf(this.#host.socket);
    this.#request = request;
    this.#restarts = restarts + 1;
    this.#trouble = 'the supervisor was killed, this is another';
    // The loader finds what is held when it starts.
    this.bequeath();
    this.#start();
  }

  /** Has the holder hold what an heir of this process needs, as long as readers depend on it. */
  bequeath(): void {
    const { holder } = this.#host;
    if (!this.#holdsReaders) {
      if (!this.#expectsReaders) holder.end();
      return;
    }
    this.#expectsReaders = false;
    const loader = this.#process && processMark(this.#process.pid);
    holder.hold({
      kept: this.#kept,
      lock: this.#host.lock(),
      heir: this.#host.heir,
      request: this.#request as LoadRequest,
      restarts: this.#restarts,
      ...(loader && { loader }),
    });
  }

  /** Resolves when a loader takes connections. @throws RefusedError when none can be started. */
  load(request: LoadRequest): Promise<LoaderInfo> {
    this.#lastLoad = performance.now();
    const { started, ...again } = request;
    const adopts = started !== undefined && this.#process === undefined && !this.#ending;
    // It ends with its socket.
    if (started !== undefined && !adopts) closeSync(STARTED_LOADER_FD);
    if (request.byKernel === true && !this.#ending && !this.#holdsReaders) {
      this.#expectsReaders = true;
      setImmediate(() => {
        if (this.#expectsReaders) this.#host.holder.prepare();
      });
    }
    if (this.#ready && !this.#going) return this.#reachable(again);
    return new Promise((resolve, reject) => {
      if (this.#ending) {
        reject(new RefusedError('busy', 'the supervisor is ending: try again'));
        return;
      }
      this.#waiting.push({ resolve, reject });
      if (this.#process === undefined) {
        if (request.again !== true) this.#request = again;
        this.#request ??= again;
        this.#start(adopts ? started : undefined);
      } else {
        this.#request ??= again;
      }
    });
  }

  /** The one that is ready, as soon as its socket is there: somebody may have removed it. @throws RefusedError. */
  async #reachable(request: LoadRequest): Promise<LoaderInfo> {
    const { socket } = this.#host;
    for (let waited = 0; !existsSync(socket); waited += 50) {
      if (waited >= MISSING_LIMIT) {
        const how = 'was removed, and cannot be made again';
        throw new RefusedError('server', `${socket}: the socket of the loader ${how}`);
      }
      await sleep(50);
    }
    return this.info ?? this.load(request);
  }

  /** @param started it runs already: where its orders come from is inherited. */
  #start(started?: LoadRequest['started']): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#ready = false;
    this.#going = false;
    this.#error = undefined;
    const loader = started ? adoptedServer(started.pid, STARTED_LOADER_FD) : this.#child();
    this.#process = loader;
    this.bequeath();
    loader.hear((report) => {
      if (loader !== this.#process) return;
      try {
        this.#report(report as unknown as LoaderReport, loader);
      } catch (error) {
        this.#error = error instanceof Error ? error.message : String(error);
        loader.kill();
      }
    });
    loader.order({
      socket: this.#host.socket,
      kept: [...this.#kept.keys()],
      heir: this.#host.heir,
      request: this.#request as LoadRequest,
    } satisfies LoaderOrders);
    this.#limit = setTimeout(() => {
      this.#error = `it was not ready within ${START_LIMIT / 1000} s`;
      loader.kill();
    }, START_LIMIT);
    void loader.gone.then((ending) => {
      loader.orders.destroy();
      this.#gone(ending);
    });
    this.#host.changed();
  }

  #child(): ServerProcess {
    const { program, env } = this.#request as LoadRequest;
    const { queue } = this.#host.holder;
    // Until it has been sent what is kept it could not start an heir without.
    const inherited = queue === undefined ? {} : { arena: queue };
    const all = { ...process.env, ...env };
    const { child, orders } = startServer(program, this.#host.log, inherited, all);
    return childServer(child, orders);
  }

  #report(report: LoaderReport, loader: ServerProcess): void {
    const socket = fdOf(loader.orders);
    switch (report.state) {
      case 'waiting':
        check(sendFds(socket, [...this.#kept.values()]), 'send descriptors');
        break;
      case 'keep':
        this.#keep(report.names, socket);
        break;
      case 'release':
        for (const name of report.names) this.#release(name);
        this.bequeath();
        writeSync(socket, '\n');
        break;
      case 'ready':
        this.#isReady();
        break;
      case 'idle':
        this.#going = performance.now() - this.#lastLoad >= this.#host.aboutToCome || this.#ending;
        writeSync(socket, this.#going ? GO : STAY);
        break;
      case 'error':
        this.#error = report.error.message;
        break;
    }
  }

  #keep(names: readonly string[], socket: number): void {
    writeSync(socket, '\n');
    const fds = receiveFds(socket, names.length, PATIENCE);
    if (typeof fds === 'number') throw new Error(`receive descriptors: errno ${-fds}`);
    names.forEach((name, i) => {
      this.#release(name);
      this.#kept.set(name, fds[i] as number);
    });
    if (names.includes(LISTENER)) this.#socketIdentity = identityOf(this.#host.socket);
    // Before the loader marks a blob: from then on readers depend on it.
    this.bequeath();
    writeSync(socket, '\n');
  }

  #release(name: string): void {
    const fd = this.#kept.get(name);
    this.#kept.delete(name);
    if (fd !== undefined) closeSync(fd);
  }

  #isReady(): void {
    clearTimeout(this.#limit);
    this.#ready = true;
    this.#failures = 0;
    this.#trouble = undefined;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { resolve } of waiting) resolve(this.info as LoaderInfo);
  }

  #gone(ending: Ending): void {
    clearTimeout(this.#limit);
    const wasReady = this.#ready;
    this.#process = undefined;
    this.#ready = false;
    // Whatever was agreed on: as long as the kernel has readers that would get zeros there is another one.
    if ((this.#going || this.#ending) && !this.#holdsReaders) {
      this.#dropAll();
      this.#going = false;
      // Somebody has come meanwhile.
      if (this.#waiting.length > 0 && !this.#ending) this.#start();
      this.#rest();
      return;
    }
    const how = this.#error ?? `${ending.how}${lastLines(this.#host.log)}`;
    if (!wasReady && this.#kept.size === 0) {
      this.#refuse(how);
      return;
    }
    this.#restarts++;
    this.#trouble = `the loader has ended: ${how}`;
    if (!wasReady || !ending.killed) this.#failures++;
    const pause =
      this.#failures === 0
        ? 0
        : Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** Math.min(this.#failures - 1, 16));
    this.#timer = setTimeout(() => this.#start(), pause);
  }

  /** Nobody depends on it: whoever asks next may try again. */
  #refuse(how: string): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#failures = 0;
    for (const { reject } of waiting) {
      reject(new RefusedError('server', `the loader of lazy layers does not start: ${how}`));
    }
    this.#dropAll();
    this.#rest();
  }

  get #holdsReaders(): boolean {
    return !this.#forced && [...this.#kept.keys()].some((name) => name.startsWith(GROUP));
  }

  #dropAll(): void {
    for (const fd of this.#kept.values()) closeSync(fd);
    this.#kept.clear();
    this.#expectsReaders = false;
    this.bequeath();
    // The loader of a supervisor that was started when this one could not be found may listen there.
    removeOwn(this.#host.socket, this.#socketIdentity);
  }

  #rest(): void {
    if (this.isNeeded) return;
    const atRest = this.#atRest;
    this.#atRest = [];
    for (const told of atRest) told();
    this.#host.changed();
  }

  /**
   * The supervisor is to end; resolves when nothing is left that needs it. As long as the kernel's readers would get zeros
   * it does not: @param force they are gone, or going.
   */
  async end(force: boolean): Promise<void> {
    this.#ending = true;
    if (!this.isNeeded) return;
    const rest = new Promise<void>((resolve) => this.#atRest.push(resolve));
    this.#forced ||= force;
    this.#expectsReaders = false;
    this.bequeath();
    const stop = (): void => {
      if (this.#holdsReaders) return;
      clearTimeout(this.#timer);
      this.#timer = undefined;
      if (this.#process === undefined) {
        this.#dropAll();
        this.#rest();
      } else {
        this.#process.kill();
      }
    };
    if (force) stop();
    else if (this.#holdsReaders)
      console.error('mounts of the kernel are being loaded: unmount them');
    const limit = setTimeout(stop, END_LIMIT);
    await rest;
    clearTimeout(limit);
  }

  trimLog(): void {
    if ((statSync(this.#host.log, { throwIfNoEntry: false })?.size ?? 0) > LOG_LIMIT) {
      truncateSync(this.#host.log);
    }
  }
}
