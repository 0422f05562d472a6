// One server process as its supervisor sees it: a pid, a socket for orders and reports, and the moment it is gone.
// Used by mounts.ts; client.ts starts servers in the same way when it starts the supervisor, too.
// Fds of a server: 3 becomes /dev/fuse, 4 is the arena, 5 the orders socket (orders.ts).

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import { Socket } from 'node:net';

/** Milliseconds between two looks at a process that is ending and not our child. */
const LOOK = 5;

export interface ServerProcess {
  readonly pid: number;
  readonly orders: Socket;
  /** Resolves once the process is gone, with how it ended in words. */
  readonly gone: Promise<string>;
}

/**
 * Starts a server as a session of its own, which no signal of a terminal reaches.
 * @param arena its fd 4; absent: the server makes one there.
 */
export function startServer(
  program: readonly string[],
  log: string,
  arena?: number,
  env: NodeJS.ProcessEnv = process.env,
): { readonly child: ChildProcess; readonly orders: Socket } {
  // Node would use free descriptors for itself: 3 and 4 are kept taken.
  const placeholder = openSync('/dev/null', 'r');
  const logFd = openSync(log, 'a', 0o600);
  try {
    const child = spawn(process.execPath, program, {
      cwd: '/',
      stdio: ['ignore', logFd, logFd, placeholder, arena ?? placeholder, 'pipe'],
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

/** A server that is this process's child. */
export function childServer(child: ChildProcess, orders: Socket): ServerProcess {
  orders.on('error', () => {});
  return {
    pid: child.pid ?? 0,
    orders,
    gone: new Promise((resolve) => {
      child.once('error', (error) => resolve(`it could not be started: ${error.message}`));
      child.once('exit', (code, signal) => {
        resolve(signal === null ? `it exited with ${code}` : `it was ended by ${signal}`);
      });
    }),
  };
}

/** A server that the starter of this supervisor has started: its orders socket is inherited. */
export function adoptedServer(pid: number, ordersFd: number): ServerProcess {
  const orders = new Socket({ fd: ordersFd });
  orders.on('error', () => {});
  return {
    pid,
    orders,
    gone: new Promise((resolve) => {
      // The socket closes while the process ends; whoever reaps it, it is gone when /proc has it no more.
      orders.once('close', () => {
        const look = (left: number): void => {
          if (left === 0 || !existsSync(`/proc/${pid}/fd/5`)) resolve('it ended');
          else setTimeout(look, LOOK, left - 1);
        };
        look(1000 / LOOK);
      });
    }),
  };
}

/** libuv's descriptor of a connected socket; Node has no public name for it. */
export function fdOf(socket: Socket): number {
  return (socket as unknown as { _handle: { fd: number } | null })._handle?.fd ?? -1;
}
