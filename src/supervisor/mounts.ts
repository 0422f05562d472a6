// The mounts of one supervisor: each with its server process, /dev/fuse, arena, and state.
// Called by main.ts for every request; owns the descriptors, so that a mount outlives what happens to its server.
// Order of a start: spawn, the server opens its layers, mount, hand over /dev/fuse, the server answers INIT.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { E, SysError } from '../linux/errno.js';
import { createArena } from '../linux/memory.js';
import { type FuseMount, mountFuse, unmountFuse } from '../linux/mount.js';
import { mountAt } from '../linux/mountinfo.js';
import { sendFd } from '../linux/socket.js';
import type { MountState, ServerReport } from './protocol.js';
import {
  lineReader,
  type MountRequest,
  type MountStatus,
  type Refusal,
  type RefusalKind,
  toLine,
} from './protocol.js';

/** Fd of the orders socket in a server. 3 becomes /dev/fuse, 4 is the arena. */
const ORDERS_FD = 5;

/** Keeps fd 3 of a starting server taken: node would use a free one for itself. */
const PLACEHOLDER = openSync('/dev/null', 'r');

/** Bytes that a server may print before its log starts again. */
const LOG_LIMIT = 4 << 20;

/** A refusal on its way to the client. */
export class RefusedError extends Error {
  readonly kind: RefusalKind;

  constructor(kind: RefusalKind, message: string) {
    super(message);
    this.kind = kind;
  }
}

/** What the surroundings do when a mount ends. */
export interface MountsHost {
  serverLog(name: string): string;
  /** A mount went; there may be none left. */
  changed(): void;
}

export class Mounts {
  readonly #host: MountsHost;
  readonly #all = new Map<string, Mount>();
  #next = 1;

  constructor(host: MountsHost) {
    this.#host = host;
  }

  /** Number of mounts that are served or about to be. */
  get live(): number {
    let n = 0;
    for (const mount of this.#all.values()) if (mount.state !== 'failed') n++;
    return n;
  }

  /** Failed mounts that are kept so that someone can ask why. */
  get failed(): number {
    return this.#all.size - this.live;
  }

  list(): MountStatus[] {
    return [...this.#all.values()].map((mount) => mount.status());
  }

  find(mountpoint: string): Mount {
    const mount = this.#all.get(mountpoint);
    if (mount === undefined) {
      throw new RefusedError('absent', `${mountpoint}: not a mount of this supervisor`);
    }
    return mount;
  }

  /** Resolves when the mount answers. @throws RefusedError. */
  async mount(request: MountRequest): Promise<MountStatus> {
    const { mountpoint } = request.mount;
    const before = this.#all.get(mountpoint);
    if (before !== undefined && before.state !== 'failed') {
      throw new RefusedError('busy', `${mountpoint}: already mounted: unmount it first`);
    }
    const log = this.#host.serverLog(String(this.#next++));
    const mount = new Mount(request, log, () => {
      if (mount.state !== 'failed' && this.#all.get(mountpoint) === mount) {
        this.#all.delete(mountpoint);
      }
      this.#host.changed();
    });
    this.#all.set(mountpoint, mount);
    before?.forget();
    await mount.ready;
    return mount.status();
  }

  /** Detaches everything; resolves when every server is gone. */
  async end(): Promise<void> {
    for (const mount of this.#all.values()) mount.umount(false);
    await Promise.all([...this.#all.values()].map((mount) => mount.gone));
  }

  /** Keeps logs small; called now and then. */
  trimLogs(): void {
    for (const mount of this.#all.values()) mount.trimLog();
  }
}

export class Mount {
  state: MountState = 'starting';
  /** Settles when the mount answers, or rejects with RefusedError. */
  readonly ready: Promise<void>;
  /** Resolves when the server's process is gone: with the reason when that was not in order. */
  readonly gone: Promise<string | undefined>;

  readonly #how: FuseMount;
  readonly #spec: object;
  readonly #log: string;
  readonly #since = Date.now();
  readonly #child: ChildProcess;
  readonly #logFd: number;
  readonly #arena: number;
  #fuse = -1;
  #by: 'mount' | 'fusermount3' | undefined;
  /** `major:minor` of the mount: what is later found at the mount point is ours only if it has it. */
  #device = '';
  #why: string | undefined;
  #refusal: Refusal | undefined;
  #settle: (refusal: RefusedError | undefined) => void = () => {};

  constructor(request: MountRequest, log: string, ended: () => void) {
    this.#how = request.mount;
    this.#spec = request.spec;
    this.#log = log;
    this.#arena = createArena();
    this.#logFd = openSync(log, 'a', 0o600);
    ftruncateSync(this.#logFd);
    this.#child = spawn(process.execPath, request.program, {
      cwd: '/',
      stdio: ['ignore', this.#logFd, this.#logFd, PLACEHOLDER, this.#arena, 'pipe'],
      // A session of its own: no signal of a terminal reaches it.
      detached: true,
    });
    this.ready = new Promise((resolve, reject) => {
      this.#settle = (refusal) => (refusal === undefined ? resolve() : reject(refusal));
    });
    // Nobody may be waiting when it fails.
    this.ready.catch(() => {});
    this.gone = new Promise((resolve) => {
      const finish = (how: string | undefined): void => {
        this.#ended(how);
        ended();
        resolve(this.#why);
      };
      this.#child.once('error', (error) => finish(`it could not be started: ${error.message}`));
      this.#child.once('exit', (code, signal) => {
        finish(
          code === 0
            ? undefined
            : signal === null
              ? `it exited with ${code}`
              : `it was ended by ${signal}`,
        );
      });
    });
    this.#listen();
  }

  status(): MountStatus {
    return {
      mountpoint: this.#how.mountpoint,
      state: this.state,
      ...(this.#why === undefined ? {} : { why: this.#why }),
      pid: this.#child.pid ?? 0,
      ...(this.#by === undefined ? {} : { mountedBy: this.#by }),
      since: this.#since,
      log: this.#log,
      spec: this.#spec,
    };
  }

  #listen(): void {
    const orders = (this.#child.stdio as unknown as (Socket | undefined)[])[ORDERS_FD];
    // The pid is absent when the process could not be started; `error` follows.
    if (orders === undefined || this.#child.pid === undefined) return;
    orders.on('error', () => {});
    orders.on(
      'data',
      lineReader(
        (report) => this.#report(report as unknown as ServerReport, orders),
        (reason) => {
          this.#refusal = { kind: 'server', message: `the server answered nonsense: ${reason}` };
          this.#child.kill('SIGKILL');
        },
      ),
    );
    orders.write(toLine({ spec: this.#spec }));
  }

  #report(report: ServerReport, orders: Socket): void {
    switch (report.state) {
      case 'opened':
        try {
          this.#mount();
          sendFd((orders as unknown as { _handle: { fd: number } })._handle.fd, this.#fuse);
        } catch (error) {
          this.#refusal = mountRefusal(error, this.#how);
          this.#child.kill('SIGKILL');
        }
        break;
      case 'ready':
        if (this.state === 'starting') this.state = 'mounted';
        this.#settle(undefined);
        break;
      case 'error':
        this.#refusal = report.error;
        break;
    }
  }

  #mount(): void {
    const { fd, by } = mountFuse(this.#how);
    this.#fuse = fd;
    this.#by = by;
    this.#device = mountAt(this.#how.mountpoint)?.device ?? '';
  }

  /** @param how undefined when the server ended as it should. */
  #ended(how: string | undefined): void {
    const mounted = this.#fuse >= 0;
    // The last descriptor of the connection: whoever still waits for an answer gets an error instead.
    if (mounted) closeSync(this.#fuse);
    this.#fuse = -1;
    closeSync(this.#arena);
    const wasReady = this.state !== 'starting';
    if (how !== undefined || !wasReady) {
      if (mounted) this.#detach();
      const last = lastLines(this.#log);
      const why =
        this.#refusal?.message ??
        `the server of ${this.#how.mountpoint} failed: ${how ?? 'it exited'}${last}`;
      if (wasReady && this.state !== 'leaving') {
        this.state = 'failed';
        this.#why = why;
      }
      this.#settle(new RefusedError(this.#refusal?.kind ?? 'server', why));
    }
    closeSync(this.#logFd);
    if (this.state !== 'failed') this.forget();
  }

  /** Removes the log. */
  forget(): void {
    rmSync(this.#log, { force: true });
  }

  /** Detaches what we mounted, if it is still what is found there. */
  #detach(): void {
    try {
      if (mountAt(this.#how.mountpoint)?.device === this.#device) {
        unmountFuse(this.#how.mountpoint, true);
      }
    } catch (error) {
      console.error(`detach ${this.#how.mountpoint}: ${error}`);
    }
  }

  umount(force: boolean): void {
    if (this.state === 'failed') return;
    this.state = 'leaving';
    this.#detach();
    if (force) this.#child.kill('SIGKILL');
  }

  trimLog(): void {
    if (this.state !== 'failed' && fstatSync(this.#logFd).size > LOG_LIMIT)
      ftruncateSync(this.#logFd);
  }
}

/** Explains a failed mount(2) or fusermount3. */
function mountRefusal(error: unknown, how: FuseMount): Refusal {
  const where = how.mountpoint;
  if (!(error instanceof SysError)) {
    return {
      kind: 'server',
      message: `mount: ${where}: ${error instanceof Error ? error.message : error}`,
    };
  }
  const said = error.cause instanceof Error ? error.cause.message : '';
  if (error.errno === E.NODEV || (error.op === 'open' && error.errno === E.NOENT)) {
    return {
      kind: 'permission',
      message: 'mount: /dev/fuse: this system has no FUSE: load the module fuse',
    };
  }
  if (error.op === 'fusermount3' && error.errno === E.NOENT) {
    return {
      kind: 'permission',
      message: `mount: ${where}: not permitted here: install fusermount3 (package fuse3), run as root, or run inside "unshare -Urm"`,
    };
  }
  if (error.errno === E.NOENT || error.errno === E.NOTDIR) {
    return { kind: 'layer', message: `mount: ${where}: no such directory: create it first` };
  }
  const permission = error.errno === E.PERM || error.errno === E.ACCES;
  return {
    kind: permission ? 'permission' : 'server',
    message: said === '' ? `mount: ${where}: ${error.message}` : `mount: ${where}: ${said}`,
  };
}

/** The end of a server's log as `: text`, to be put behind a sentence. */
function lastLines(log: string): string {
  try {
    const lines = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-3);
    const text = lines
      .map((line) => line.trim())
      .filter((line) => line !== '')
      .join(' | ');
    return text === '' ? '' : `: ${text}`;
  } catch {
    return '';
  }
}
