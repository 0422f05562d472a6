// The supervisor: one small process a user (and user and mount namespace) that owns all mounts of that user.
// Started by client.ts with the starter's connection as fd 3 and the runtime folder as argument; ends by itself.
// Protocol: protocol.ts. It serves no file, so it stays small and hardly ever changes.

import { closeSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, Socket } from 'node:net';
import { mapMemory } from '../linux/memory.js';
import { killNamespace, markOf } from '../linux/namespace.js';
import { peerUid } from '../linux/peer.js';
import { type Bequest, endOf, isOurs, lookAtBequest } from './bequest.js';
import { dropOldLogs, runtimeIn } from './folder.js';
import { Holder } from './holder.js';
import { listenAt } from './listen.js';
import { LoaderKeeper } from './loader.js';
import { Mounts } from './mounts.js';
import { lockAt, Presence } from './presence.js';
import {
  ANOTHER,
  BEQUEST_FD,
  HEIR,
  lineReader,
  type MountRequest,
  type MountStatus,
  PROTOCOL_VERSION,
  type Reply,
  type Request,
  STARTED_FD,
  STARTED_LOADER_FD,
  STARTER_FD,
  toLine,
  WITH_LOADER,
  WITH_SERVER,
} from './protocol.js';
import { RefusedError } from './refusals.js';
import { fdOf } from './server-process.js';

/** Milliseconds without a mount or a client after which it ends. */
const IDLE = Number(process.env['VARVE_SUPERVISOR_IDLE'] ?? 2000);

/** The same while a failed mount is remembered, so that `varve status` can say why. */
const IDLE_WITH_FAILURE = 10 * 60_000;

const [node, program, folder, role] = process.argv as [string, string, string, string?];
const runtime = runtimeIn(folder);

mapMemory();
if (role === HEIR) await inherit();
else begin(new Socket({ fd: STARTER_FD }));

function begin(starter: Socket): void {
  // Held for life: whoever has it is the supervisor. Its socket is stale if it exists now.
  const lock = lockAt(runtime.lock);
  if (lock !== undefined) {
    run(lock, starter);
    return;
  }
  // Also the holder of a killed supervisor may have it, which cannot find that one's program any more.
  if (existsSync(runtime.next)) {
    writeFileSync(`${runtime.next}.new`, `${node}\n${program}\n`, { mode: 0o600 });
    renameSync(`${runtime.next}.new`, runtime.next);
  }
  starter.end(toLine({ state: ANOTHER }), () => process.exit(0));
}

/** Takes the place of a supervisor that was killed. Until the end the holder has all of it for another attempt. */
async function inherit(): Promise<void> {
  const bequest = lookAtBequest(BEQUEST_FD);
  if (bequest === undefined || !(await isOurs(bequest))) process.exit(0);
  console.error('the supervisor was killed: this one takes its place');
  mkdirSync(folder, { mode: 0o700, recursive: true });
  rmSync(runtime.next, { force: true });
  // What it was about to ask is lost with its supervisor; another one finds all that it had in hand.
  if (bequest.loader !== undefined) await endOf(bequest.loader);
  run(bequest.lock, undefined, bequest);
  closeSync(BEQUEST_FD);
  const holder = Number(process.argv[4]);
  if (holder === process.ppid) process.kill(holder, 'SIGKILL');
}

function run(lock: number, starter?: Socket, bequest?: Bequest): void {
  let clients = 0;
  let idle: NodeJS.Timeout | undefined;
  let ending = false;
  /** The server that was started beside this process, if there is one, has its mount. */
  let adopted = !process.argv.includes(WITH_SERVER);
  /** Likewise a loader. */
  let adoptedLoader = !process.argv.includes(WITH_LOADER);
  dropOldLogs(runtime);

  const mounts = new Mounts({ serverLog: runtime.serverLog, changed: () => restartIdle() });
  const loader: LoaderKeeper = new LoaderKeeper({
    socket: runtime.loaderSocket,
    log: runtime.serverLog('loader'),
    aboutToCome: 1000 + IDLE,
    changed: () => restartIdle(),
    holder: new Holder(runtime, program, bequest),
    lock: () => presence.lock,
    heir: {
      program: [...process.execArgv, program, folder, HEIR, '0'],
      lock: runtime.lock,
      log: runtime.log,
    },
  });
  let server: Server | undefined;
  const presence: Presence = new Presence(runtime, lock, {
    isNeeded: () => !ending && (clients > 0 || mounts.live > 0 || loader.isNeeded),
    listen,
    lockChanged: () => loader.bequeath(),
  });

  function listen(done: () => void): void {
    // Who is connected stays.
    server?.close();
    server = createServer({ allowHalfOpen: false }, (socket) => {
      if (peerUid(fdOf(socket)) === process.geteuid?.()) serve(socket);
      else socket.destroy();
    });
    listenAt(server, runtime.socket).then(done, (error: Error) => {
      console.error(`listen on ${runtime.socket}: ${error.message}`);
      done();
    });
  }

  function restartIdle(): void {
    clearTimeout(idle);
    if (clients > 0 || mounts.live > 0 || loader.isNeeded || ending) return;
    idle = setTimeout(leave, mounts.failed > 0 ? IDLE_WITH_FAILURE : IDLE);
  }

  function leave(): void {
    ending = true;
    // The socket goes before the lock does: whoever connects from now on starts a new supervisor.
    const isOwner = presence.end();
    for (const status of mounts.list()) rmSync(status.log, { force: true });
    if (!isOwner) process.exit(0);
    rmSync(runtime.next, { force: true });
    rmSync(runtime.serverLog('spare'), { force: true });
    rmSync(runtime.serverLog('loader'), { force: true });
    rmSync(runtime.log, { force: true });
    process.exit(0);
  }

  function serve(socket: Socket): void {
    clients++;
    restartIdle();
    socket.on('error', () => {});
    socket.on('close', () => {
      clients--;
      restartIdle();
    });
    const reply = (message: Reply): void => {
      if (!socket.destroyed) socket.write(toLine({ supervisor: process.pid, ...message }));
    };
    socket.on(
      'data',
      lineReader(
        (line) =>
          void answer(line as unknown as Request & { v: number; id: number }, reply, socket),
        () => socket.destroy(),
      ),
    );
  }

  async function answer(
    request: Request & { v: number; id: number },
    reply: (message: Reply) => void,
    socket: Socket,
  ): Promise<void> {
    const { id } = request;
    if (ending && request.op === 'mount') {
      // The next supervisor's: nobody would be left to replace its server. The client finds that one.
      socket.destroy();
      return;
    }
    try {
      reply({ id, ...(await perform(request, socket)) });
    } catch (error) {
      const kind = error instanceof RefusedError ? error.kind : 'server';
      reply({
        id,
        error: { kind, message: error instanceof Error ? error.message : String(error) },
      });
    }
  }

  async function perform(
    request: Request & { v: number },
    socket: Socket,
  ): Promise<Omit<Reply, 'id'>> {
    if (request.v !== PROTOCOL_VERSION) {
      throw new RefusedError(
        'server',
        `the running supervisor (process ${process.pid}) is of another version: unmount its mounts, then try again`,
      );
    }
    switch (request.op) {
      case 'mount':
        return { mounts: [await mountFor(socket, request)] };
      case 'list':
        return { mounts: mounts.list(), loader: loader.info };
      case 'status':
        return { mounts: [mounts.find(request.mountpoint).status()], loader: loader.info };
      case 'load':
        if (request.started !== undefined) adoptedLoader = true;
        return { loader: await loader.load(request) };
      case 'wait':
        return { why: await mounts.find(request.mountpoint).gone };
      case 'elsewhere':
        return { elsewhere: await mounts.isOpenElsewhere(request.mountpoint, request.name) };
      case 'umount':
        mounts.umount(request.mountpoint, request.force);
        return {};
      case 'reload': {
        const mount = mounts.find(request.mountpoint);
        await mount.reload(request.program);
        return { mounts: [mount.status()] };
      }
      case 'change': {
        const mount = mounts.find(request.mountpoint);
        const changed = await mount.change(request.program, request.change);
        return { mounts: [mount.status()], changed };
      }
      default:
        throw new RefusedError(
          'server',
          `unknown request ${JSON.stringify((request as { op: unknown }).op)}`,
        );
    }
  }

  /** A mount in a namespace of its own is nobody's once its client has gone. */
  async function mountFor(socket: Socket, request: MountRequest): Promise<MountStatus> {
    const { namespace } = request;
    if (namespace !== undefined) {
      const mark = markOf(runtime.folder);
      socket.on('close', () => {
        // A client that unmounts before it leaves has ended the others itself.
        if (mounts.live > 0) killNamespace({ id: namespace, mark });
        // The mounts of the kernel end with the namespace: nobody is left to read what is not there.
        void mounts
          .end()
          .then(() => loader.end(true))
          .then(leave);
      });
    }
    if (request.started !== undefined) adopted = true;
    return mounts.mount(request);
  }

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      ending = true;
      void mounts
        .end()
        .then(() => loader.end(false))
        .then(leave);
    });
  }
  // What goes wrong in one request or for one mount ends no other: what is held here keeps readers of the kernel from zeros.
  process.on('uncaughtException', (error) => console.error(error));
  // A terminal that closes takes no mount with it.
  process.on('SIGHUP', () => {});
  setInterval(() => {
    mounts.trimLogs();
    loader.trimLog();
    presence.look();
  }, 60_000).unref();

  if (bequest !== undefined) {
    loader.inherit(bequest);
    // Where there is another one by now, commands find that.
    presence.look();
    return;
  }
  if (starter !== undefined) serve(starter);
  // What was started for a mount which nobody asked for ends with its socket.
  starter?.on('close', () => {
    if (!adopted) closeSync(STARTED_FD);
    if (!adoptedLoader) closeSync(STARTED_LOADER_FD);
  });
  presence.begin();
}
