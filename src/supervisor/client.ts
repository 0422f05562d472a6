// The command line's side of the supervisor: finds the running one or starts it, asks, waits for the answer.
// Imported by cli/ commands; loads no FFI, so that a mount does not wait for it.
// Protocol: protocol.ts. A supervisor that this process starts gets its first request over an inherited socket.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { existingRuntimes, makeRuntime, type RuntimePaths } from './folder.js';
import {
  ANOTHER,
  lineReader,
  PROTOCOL_VERSION,
  type Reply,
  type Request,
  toLine,
} from './protocol.js';

/** Milliseconds after which starting a supervisor is given up. */
const PATIENCE = 20_000;

/** Node options of a small process: the heap hardly grows, and no compiler threads stand by. */
export const SMALL_PROCESS = ['--max-semi-space-size=1', '--v8-pool-size=0'];

/** A connection; requests may overlap. */
export class Supervisor {
  readonly #socket: Socket;
  readonly #waiting = new Map<
    number,
    { resolve: (reply: Reply) => void; reject: (e: Error) => void }
  >();
  #next = 1;
  /** This one found another supervisor in its place, and left. */
  foundAnother = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on(
      'data',
      lineReader(
        (line) => {
          if (line['state'] === ANOTHER) this.foundAnother = true;
          else this.#take(line as unknown as Reply);
        },
        () => socket.destroy(),
      ),
    );
    socket.on('error', () => {});
    socket.on('close', () => {
      for (const { reject } of this.#waiting.values()) {
        reject(new ConnectionLostError('the supervisor closed the connection'));
      }
      this.#waiting.clear();
    });
  }

  #take(reply: Reply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    waiting?.resolve(reply);
  }

  /** @returns the reply, refusals included. @throws ConnectionLostError. */
  ask(request: Request): Promise<Reply> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) return reject(new ConnectionLostError('not connected'));
      this.#waiting.set(id, { resolve, reject });
      this.#socket.write(toLine({ v: PROTOCOL_VERSION, id, ...request }));
    });
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** The other side went away before it answered. */
export class ConnectionLostError extends Error {}

/** Connects to a listening supervisor. @returns undefined when nobody listens. */
function connectTo(runtime: RuntimePaths): Promise<Supervisor | undefined> {
  return new Promise((resolve) => {
    const socket = connect(runtime.socket);
    socket.once('error', () => resolve(undefined));
    socket.once('connect', () => resolve(new Supervisor(socket)));
  });
}

/** The running supervisor of this user and namespace, or undefined. */
export async function findSupervisor(
  env: NodeJS.ProcessEnv = process.env,
): Promise<Supervisor | undefined> {
  for (const runtime of existingRuntimes(env, process.geteuid?.() ?? 0)) {
    const found = await connectTo(runtime);
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * Asks the supervisor, which is started when none runs. Several callers at once end up with one supervisor.
 * @throws Error when none can be started.
 */
export async function askSupervisor(
  request: Request,
  env: NodeJS.ProcessEnv = process.env,
): Promise<{ reply: Reply; supervisor: Supervisor }> {
  const deadline = Date.now() + PATIENCE;
  for (let failures = 0; failures < 3 && Date.now() < deadline; ) {
    const running = await findSupervisor(env);
    const supervisor = running ?? startSupervisor(env);
    try {
      return { reply: await supervisor.ask(request), supervisor };
    } catch (error) {
      // It was about to end, or another one was faster: look again.
      if (!(error instanceof ConnectionLostError)) throw error;
      if (running === undefined && !supervisor.foundAnother) failures++;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const { log } = makeRuntime(env, process.geteuid?.() ?? 0);
  throw new Error(`the supervisor does not start: see ${log}`);
}

/** Starts a supervisor whose first client is this process. */
function startSupervisor(env: NodeJS.ProcessEnv): Supervisor {
  const runtime = makeRuntime(env, process.geteuid?.() ?? 0);
  const log = openSync(runtime.log, 'a', 0o600);
  const script = fileURLToPath(new URL('./main.js', import.meta.url));
  // Options meant for the command line's node (an inspector, a loader) are not the supervisor's.
  const { NODE_OPTIONS: _, ...rest } = env;
  const child: ChildProcess = spawn(process.execPath, [...SMALL_PROCESS, script, runtime.folder], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', log, log, 'pipe'],
    env: rest,
  });
  closeSync(log);
  child.on('error', () => {});
  child.unref();
  return new Supervisor(child.stdio[3] as unknown as Socket);
}
