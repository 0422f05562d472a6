// The command line's side of the supervisor: finds the running one or starts it, asks, waits for the answer.
// Imported by cli/ commands; loads no FFI, so that a mount does not wait for it.
// Protocol: protocol.ts. A supervisor that this process starts gets its first request over an inherited socket.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, rmSync } from 'node:fs';
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
import { startServer } from './server-process.js';

/** Milliseconds after which starting a supervisor is given up. */
const PATIENCE = 20_000;

/** Node options of the supervisor: its heap stays small. */
const SMALL_HEAP = ['--max-semi-space-size=1'];

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
    const { supervisor, asked } =
      running === undefined ? startBoth(request, env) : { supervisor: running, asked: request };
    try {
      return { reply: await supervisor.ask(asked), supervisor };
    } catch (error) {
      // It was about to end, or another one was faster: look again.
      if (!(error instanceof ConnectionLostError)) throw error;
      if (asked.op === 'mount' && asked.started !== undefined) {
        rmSync(asked.started.log, { force: true });
      }
      if (running === undefined && !supervisor.foundAnother) failures++;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const { log } = makeRuntime(env, process.geteuid?.() ?? 0);
  throw new Error(`the supervisor does not start: see ${log}`);
}

/**
 * Starts a supervisor whose first client is this process, and beside it the server of the mount that it will be asked
 * for: both then start at the same time.
 */
function startBoth(
  request: Request,
  env: NodeJS.ProcessEnv,
): { supervisor: Supervisor; asked: Request } {
  const runtime = makeRuntime(env, process.geteuid?.() ?? 0);
  // Options meant for the command line's node (an inspector, a loader) are nobody else's.
  const { NODE_OPTIONS: _, ...rest } = env;
  if (request.op !== 'mount') {
    return { supervisor: startSupervisor(runtime, rest), asked: request };
  }
  const log = runtime.serverLog(`s${process.pid}`);
  const { child, orders } = startServer(request.program, log, {}, rest);
  child.on('error', () => {});
  child.unref();
  const supervisor = startSupervisor(runtime, rest, orders);
  // Only the supervisor holds the other end: a supervisor that does not take the server on ends it so.
  orders.destroy();
  return { supervisor, asked: { ...request, started: { pid: child.pid ?? 0, log } } };
}

function startSupervisor(
  runtime: RuntimePaths,
  env: NodeJS.ProcessEnv,
  orders?: Socket,
): Supervisor {
  const log = openSync(runtime.log, 'a', 0o600);
  // The same place from here, bundled or not.
  const script = fileURLToPath(new URL('../../bundle/programs/supervisor.js', import.meta.url));
  const child: ChildProcess = spawn(process.execPath, [...SMALL_HEAP, script, runtime.folder], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', log, log, 'pipe', orders ?? 'ignore'],
    env,
  });
  closeSync(log);
  child.on('error', () => {});
  child.unref();
  return new Supervisor(child.stdio[3] as unknown as Socket);
}
