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
  WITH_LOADER,
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

/** A supervisor that this process has started, and what it has started beside it. */
interface Started {
  readonly supervisor: Supervisor;
  readonly server?: MountRequest['started'];
  readonly loader?: LoadRequest['started'];
}

let ahead: Started | undefined;

/** What is started before it is known what is to be mounted. */
export interface Early {
  /** Arguments of node that start a server. */
  readonly server?: readonly string[];
  readonly loader?: LoadRequest;
}

/**
 * Starts these beside a supervisor, where none runs: they load while this process does. The next mount, and the next loader, that
 * this process asks for is that; what is not asked for ends with this process.
 */
export function startAhead(early: Early, env: NodeJS.ProcessEnv = process.env): void {
  const uid = process.geteuid?.() ?? 0;
  if (existingRuntimes(env, uid).some(({ socket }) => existsSync(socket))) return;
  ahead = startTogether(early, env);
}

/** What a mount needs is asked of the supervisor that will be asked for the mount. */
function aheadFor(request: Request): Started | undefined {
  if (request.op !== 'load' || ahead === undefined) return undefined;
  const { loader, ...rest } = ahead;
  ahead = rest;
  return { supervisor: rest.supervisor, ...(loader === undefined ? {} : { loader }) };
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
  { supervisor, server, loader }: Started,
): { supervisor: Supervisor; asked: Request } {
  if (request.op === 'mount' && server !== undefined) {
    return { supervisor, asked: { ...request, started: server } };
  }
  if (request.op === 'load' && loader !== undefined) {
    return { supervisor, asked: { ...request, started: loader } };
  }
  return { supervisor, asked: request };
}

/** A supervisor for this request, and what it will have to start for it. */
function startBoth(request: Request, env: NodeJS.ProcessEnv): Started {
  if (request.op === 'mount') return startTogether({ server: request.program }, env);
  return startTogether(request.op === 'load' ? { loader: request } : {}, env);
}

/** Options meant for the command line's node (an inspector, a loader) are nobody else's. */
function envOfNode({ NODE_OPTIONS: _, ...rest }: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return rest;
}

/**
 * Starts a supervisor whose first client is this process, and beside it the server and the loader that it will be asked
 * for: all then start at the same time.
 */
function startTogether({ server, loader }: Early, env: NodeJS.ProcessEnv): Started {
  const runtime = makeRuntime(env, process.geteuid?.() ?? 0);
  const serverLog = runtime.serverLog(`s${process.pid}`);
  const given = envOfNode(env);
  const servers = server && startServer(server, serverLog, {}, given);
  const loaders =
    loader &&
    startServer(loader.program, runtime.serverLog('loader'), {}, { ...given, ...loader.env });
  const supervisor = startSupervisor(runtime, given, servers?.orders, loaders?.orders);
  for (const started of [servers, loaders]) {
    started?.child.on('error', () => {});
    started?.child.unref();
    // Only the supervisor holds the other end: a supervisor that does not take it on ends it so.
    started?.orders.destroy();
  }
  return {
    supervisor,
    ...(servers && { server: { pid: servers.child.pid ?? 0, log: serverLog } }),
    ...(loaders && { loader: { pid: loaders.child.pid ?? 0 } }),
  };
}

function startSupervisor(
  runtime: RuntimePaths,
  env: NodeJS.ProcessEnv,
  server?: Socket,
  loader?: Socket,
): Supervisor {
  const log = openSync(runtime.log, 'a', 0o600);
  // The same place from here, bundled or not.
  const script = fileURLToPath(new URL('../../bundle/programs/supervisor.js', import.meta.url));
  const words = [...SMALL_HEAP, script, runtime.folder];
  if (server !== undefined) words.push(WITH_SERVER);
  if (loader !== undefined) words.push(WITH_LOADER);
  const child: ChildProcess = spawn(process.execPath, words, {
    cwd: '/',
    detached: true,
    stdio: ['ignore', log, log, 'pipe', server ?? 'ignore', loader ?? 'ignore'],
    env,
  });
  closeSync(log);
  child.on('error', () => {});
  child.unref();
  return new Supervisor(child.stdio[3] as unknown as Socket);
}
