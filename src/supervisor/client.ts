// The command line's side of the supervisor: finds the running one or starts it, asks, waits for the answer.
// Imported by cli/ commands; loads no FFI, so that a mount does not wait for it.
// Protocol: protocol.ts. A supervisor that this process starts gets its first request over an inherited socket.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { existingRuntimes, makeRuntime, type RuntimePaths } from './folder.js';
import {
  ANOTHER,
  type LoadRequest,
  lineReader,
  type MountRequest,
  PROTOCOL_VERSION,
  type Reply,
  type Request,
  toLine,
  WITH_SERVER,
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
    const early = request.op === 'mount' ? takeAhead() : aheadFor(request);
    const running = early === undefined ? await findSupervisor(env) : undefined;
    const { supervisor, asked } =
      running === undefined
        ? askedOf(request, early ?? startBoth(request, env))
        : { supervisor: running, asked: request };
    try {
      return { reply: await supervisor.ask(asked), supervisor };
    } catch (error) {
      // It was about to end, or another one was faster: look again.
      if (!(error instanceof ConnectionLostError)) throw error;
      if (asked.op === 'mount' && asked.started !== undefined) {
        rmSync(asked.started.log, { force: true });
      }
      if (ahead?.supervisor === supervisor) ahead = undefined;
      if (running === undefined && !supervisor.foundAnother) failures++;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const { log } = makeRuntime(env, process.geteuid?.() ?? 0);
  throw new Error(`the supervisor does not start: see ${log}`);
}

/** A supervisor that this process has started, and the server beside it. */
interface Started {
  readonly supervisor: Supervisor;
  readonly server?: MountRequest['started'];
}

let ahead: Started | undefined;

/**
 * Starts both before it is known what is to be mounted, where no supervisor runs: they load while this process does. The next
 * mount that this process asks for has them; when it asks for none they end with it.
 */
export function startAhead(program: readonly string[], env: NodeJS.ProcessEnv = process.env): void {
  const uid = process.geteuid?.() ?? 0;
  if (existingRuntimes(env, uid).some(({ socket }) => existsSync(socket))) return;
  ahead = startWithServer(program, env);
}

/** What a mount needs is asked of the supervisor that will be asked for the mount. */
function aheadFor(request: Request): Started | undefined {
  return request.op === 'load' && ahead !== undefined
    ? { supervisor: ahead.supervisor }
    : undefined;
}

/** Has a loader started for the mount that this process asks for next. @returns the reply, refusals included. */
export async function askForLoader(
  request: LoadRequest,
  env: NodeJS.ProcessEnv = process.env,
): Promise<Reply> {
  const { reply, supervisor } = await askSupervisor(request, env);
  if (supervisor !== ahead?.supervisor) supervisor.close();
  return reply;
}

function takeAhead(): Started | undefined {
  const taken = ahead;
  ahead = undefined;
  return taken;
}

function askedOf(
  request: Request,
  { supervisor, server }: Started,
): { supervisor: Supervisor; asked: Request } {
  const adopts = request.op === 'mount' && server !== undefined;
  return { supervisor, asked: adopts ? { ...request, started: server } : request };
}

function startBoth(request: Request, env: NodeJS.ProcessEnv): Started {
  if (request.op === 'mount') return startWithServer(request.program, env);
  return {
    supervisor: startSupervisor(makeRuntime(env, process.geteuid?.() ?? 0), envOfNode(env)),
  };
}

/** Options meant for the command line's node (an inspector, a loader) are nobody else's. */
function envOfNode({ NODE_OPTIONS: _, ...rest }: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return rest;
}

/**
 * Starts a supervisor whose first client is this process, and beside it the server of the mount that it will be asked
 * for: both then start at the same time.
 */
function startWithServer(program: readonly string[], env: NodeJS.ProcessEnv): Started {
  const runtime = makeRuntime(env, process.geteuid?.() ?? 0);
  const log = runtime.serverLog(`s${process.pid}`);
  const { child, orders } = startServer(program, log, {}, envOfNode(env));
  child.on('error', () => {});
  child.unref();
  const supervisor = startSupervisor(runtime, envOfNode(env), orders);
  // Only the supervisor holds the other end: a supervisor that does not take the server on ends it so.
  orders.destroy();
  return { supervisor, server: { pid: child.pid ?? 0, log } };
}

function startSupervisor(
  runtime: RuntimePaths,
  env: NodeJS.ProcessEnv,
  orders?: Socket,
): Supervisor {
  const log = openSync(runtime.log, 'a', 0o600);
  // The same place from here, bundled or not.
  const script = fileURLToPath(new URL('../../bundle/programs/supervisor.js', import.meta.url));
  const words = [...SMALL_HEAP, script, runtime.folder];
  if (orders !== undefined) words.push(WITH_SERVER);
  const child: ChildProcess = spawn(process.execPath, words, {
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
