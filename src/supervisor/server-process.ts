// One server process as its supervisor sees it: a pid, a socket for orders and reports, and the moment it is gone.
// Used by mount.ts and spare.ts; client.ts starts servers in the same way when it starts the supervisor, too.
// Fds of a server: 3 becomes /dev/fuse, 4 is the arena, 5 the orders socket (orders.ts).

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { openLog } from './folder.js';
import { lineReader, type ServerReport, toLine } from './protocol.js';

/** Milliseconds between two looks at a process that is ending and not our child, and of all looks. */
const LOOK = 5;
const LOOKS = 1000;

/** Signals that somebody sends; the others are a crash. */
const SENT: readonly (NodeJS.Signals | null)[] = ['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP'];

/** How a process ended. */
export interface Ending {
  /** In words: `it was ended by SIGKILL`. */
  readonly how: string;
  /** Not by itself: somebody, or the kernel for want of memory, has killed it; or nobody knows. */
  readonly killed: boolean;
}

/** What else a server finds at its start. */
interface Inherited {
  /** Its fd 4; absent: the server makes one there. */
  readonly arena?: number;
  /** Its fd 3; absent: it is sent one. */
  readonly fuse?: number;
}

/** Starts a server as a session of its own, which no signal of a terminal reaches. */
export function startServer(
  program: readonly string[],
  log: string,
  { arena, fuse }: Inherited = {},
  env: NodeJS.ProcessEnv = process.env,
): { readonly child: ChildProcess; readonly orders: Socket } {
  // Node would use free descriptors for itself: 3 and 4 are kept taken.
  const placeholder = openSync('/dev/null', 'r');
  const logFd = openLog(log);
  try {
    const child = spawn(process.execPath, program, {
      cwd: '/',
      stdio: ['ignore', logFd, logFd, fuse ?? placeholder, arena ?? placeholder, 'pipe'],
      detached: true,
      env,
    });
    const orders = (child.stdio as unknown as Socket[])[5] as Socket;
    return { child, orders };
  } finally {
    closeSync(placeholder);
    closeSync(logFd);
  }
}

export class ServerProcess {
  readonly pid: number;
  readonly orders: Socket;
  /** Resolves once no thread of the process holds a descriptor any more, and everything it said was heard. */
  readonly gone: Promise<Ending>;
  /** Which arena its program knows; undefined when it ends before it has said so. */
  readonly loaded: Promise<number | undefined>;
  #heard: (report: ServerReport) => void = () => {};
  #nonsense: string | undefined;
  #over = false;

  /** @param ended settles when the process is gone; the end of its socket is waited for, too. */
  constructor(pid: number, orders: Socket, ended: Promise<Ending>) {
    this.pid = pid;
    this.orders = orders;
    const closed = new Promise<void>((resolve) => orders.once('close', () => resolve()));
    this.gone = Promise.all([ended, closed]).then(([ending]) =>
      this.#nonsense === undefined
        ? ending
        : { how: `it answered nonsense: ${this.#nonsense}`, killed: false },
    );
    let loaded: (layout: number | undefined) => void = () => {};
    this.loaded = new Promise((resolve) => {
      loaded = resolve;
    });
    void closed.then(() => loaded(undefined));
    void ended.then(() => {
      this.#over = true;
    });
    orders.on('error', () => {});
    orders.on(
      'data',
      lineReader(
        (line) => {
          const report = line as unknown as ServerReport;
          if (report.state === 'loaded') loaded(report.layout);
          else this.#heard(report);
        },
        (reason) => {
          this.#nonsense = reason;
          this.kill();
        },
      ),
    );
  }

  /** Whoever called last is told what it reports, but for `loaded`. */
  hear(heard: (report: ServerReport) => void): void {
    this.#heard = heard;
  }

  order(orders: object): void {
    this.orders.write(toLine(orders));
  }

  /** Ends it at once; it may be gone already, and its number somebody else's. */
  kill(): void {
    try {
      if (this.pid > 0 && !this.#over) process.kill(this.pid, 'SIGKILL');
    } catch {
      // It ended meanwhile.
    }
  }
}

/** A server that is this process's child. */
export function childServer(child: ChildProcess, orders: Socket): ServerProcess {
  const ended = new Promise<Ending>((resolve) => {
    child.once('error', (error) => {
      orders.destroy();
      resolve({ how: `it could not be started: ${error.message}`, killed: false });
    });
    child.once('exit', (code, signal) => {
      const how = signal === null ? `it exited with ${code}` : `it was ended by ${signal}`;
      resolve({ how, killed: SENT.includes(signal) });
    });
  });
  return new ServerProcess(child.pid ?? 0, orders, ended);
}

/** A server that the starter of this supervisor has started: its orders socket is inherited. */
export function adoptedServer(pid: number, ordersFd: number): ServerProcess {
  const orders = new Socket({ fd: ordersFd });
  const ended = new Promise<Ending>((resolve) => {
    // The socket closes while the process ends; whoever reaps it, it is gone when /proc has it no more.
    orders.once('close', () => {
      const look = (left: number): void => {
        const there = left > 0 && existsSync(`/proc/${pid}/fd/5`);
        if (there) setTimeout(look, LOOK, left - LOOK);
        else resolve({ how: 'it ended', killed: true });
      };
      look(LOOKS);
    });
  });
  return new ServerProcess(pid, orders, ended);
}

/** libuv's descriptor of a connected socket; Node has no public name for it. */
export function fdOf(socket: Socket): number {
  return (socket as unknown as { _handle: { fd: number } | null })._handle?.fd ?? -1;
}
