// The mounts of one supervisor: each with its server process, /dev/fuse, arena, and state.
// Called by supervisor.ts for every request; owns the descriptors, so that a mount outlives what happens to its server.
// Order of a start: spawn, the server opens its layers, mount, hand over /dev/fuse, the server answers INIT.

import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  truncateSync,
} from 'node:fs';
import type { Socket } from 'node:net';
import { MNT } from '../linux/constants.js';
import { check, E, SysError } from '../linux/errno.js';
import { createArena } from '../linux/memory.js';
import { type FuseMount, mount, mountFuse, umount2, unmountFuse } from '../linux/mount.js';
import { mountAt } from '../linux/mountinfo.js';
import { sendFd } from '../linux/socket.js';
import {
  type Cover,
  lineReader,
  type MountRequest,
  type MountState,
  type MountStatus,
  type Refusal,
  type RefusalKind,
  SERVER_FDS,
  type ServerOrders,
  type ServerReport,
  STARTED_FD,
  toLine,
} from './protocol.js';
import {
  adoptedServer,
  childServer,
  fdOf,
  type ServerProcess,
  startServer,
} from './server-process.js';

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
  /** In the order in which they were made; several may have had the same mount point. */
  #all: Mount[] = [];
  #next = 1;

  constructor(host: MountsHost) {
    this.#host = host;
  }

  /** Number of mounts that are served or about to be. */
  get live(): number {
    return this.#all.filter((mount) => mount.state !== 'failed').length;
  }

  /** Failed mounts that are kept so that someone can ask why. */
  get failed(): number {
    return this.#all.length - this.live;
  }

  list(): MountStatus[] {
    return this.#all.map((mount) => mount.status());
  }

  find(mountpoint: string): Mount {
    const mount = this.#all.findLast((m) => m.mountpoint === mountpoint);
    if (mount === undefined) {
      throw new RefusedError('absent', `${mountpoint}: not a mount of this supervisor`);
    }
    return mount;
  }

  /** Resolves when the mount answers. @throws RefusedError. */
  async mount(request: MountRequest): Promise<MountStatus> {
    const { mountpoint } = request.mount;
    if (this.#all.some((m) => m.mountpoint === mountpoint && m.attached)) {
      throw new RefusedError('busy', `${mountpoint}: already mounted: unmount it first`);
    }
    for (const mount of this.#all) {
      if (mount.mountpoint === mountpoint && mount.state === 'failed') this.#drop(mount);
    }
    const log = this.#host.serverLog(String(this.#next++));
    const mount = new Mount(request, log, () => {
      if (mount.state !== 'failed') this.#drop(mount);
      this.#host.changed();
    });
    this.#all.push(mount);
    await mount.ready;
    return mount.status();
  }

  #drop(mount: Mount): void {
    mount.forget();
    this.#all = this.#all.filter((other) => other !== mount);
  }

  /** Detaches everything; resolves when every server is gone. */
  async end(): Promise<void> {
    for (const mount of this.#all) mount.umount(false);
    await Promise.all(this.#all.map((mount) => mount.gone));
  }

  /** Keeps logs small; called now and then. */
  trimLogs(): void {
    for (const mount of this.#all) mount.trimLog();
  }
}

export class Mount {
  state: MountState = 'starting';
  /** Settles when the mount answers, or rejects with RefusedError. */
  readonly ready: Promise<void>;
  /** Resolves when the server's process is gone: with the reason when that was not in order. */
  readonly gone: Promise<string | undefined>;

  readonly #how: FuseMount;
  readonly #cover: Cover | undefined;
  readonly #spec: object;
  readonly #log: string;
  readonly #since = Date.now();
  readonly #server: ServerProcess;
  /** Held so that the counters and tables outlive the server. */
  #arena = -1;
  #fuse = -1;
  #by: 'mount' | 'fusermount3' | undefined;
  /** Where our mount is found: below its cover until that stands. */
  #place: string;
  /** `major:minor` of the mount: what is later found at the mount point is ours only if it has it. */
  #device = '';
  #why: string | undefined;
  #refusal: Refusal | undefined;
  /** The server said that the mount is gone. */
  #over = false;
  #settle: (refusal: RefusedError | undefined) => void = () => {};

  constructor(request: MountRequest, log: string, ended: () => void) {
    this.#how = request.mount;
    this.#cover = request.cover;
    this.#place = request.cover?.below ?? request.mount.mountpoint;
    this.#spec = request.spec;
    this.#log = request.started?.log ?? log;
    if (request.started === undefined) {
      this.#arena = createArena();
      const { child, orders } = startServer(request.program, log, this.#arena);
      this.#server = childServer(child, orders);
    } else {
      this.#server = adoptedServer(request.started.pid, STARTED_FD);
    }
    this.ready = new Promise((resolve, reject) => {
      this.#settle = (refusal) => (refusal === undefined ? resolve() : reject(refusal));
    });
    // Nobody may be waiting when it fails.
    this.ready.catch(() => {});
    this.#listen(this.#server.orders);
    this.gone = this.#server.gone.then((how) => {
      this.#ended(how);
      ended();
      return this.#why;
    });
  }

  get mountpoint(): string {
    return this.#how.mountpoint;
  }

  /** Whether the mount point is, or is about to be, ours. A lazily unmounted server may live on without it. */
  get attached(): boolean {
    if (this.state === 'starting') return true;
    return this.state === 'mounted' && mountAt(this.mountpoint)?.device === this.#device;
  }

  status(): MountStatus {
    return {
      mountpoint: this.#how.mountpoint,
      state: this.state,
      ...(this.#why === undefined ? {} : { why: this.#why }),
      pid: this.#server.pid,
      ...(this.#by === undefined ? {} : { mountedBy: this.#by }),
      since: this.#since,
      log: this.#log,
      spec: this.#spec,
    };
  }

  #listen(orders: Socket): void {
    orders.on(
      'data',
      lineReader(
        (report) => this.#report(report as unknown as ServerReport, orders),
        (reason) => {
          this.#refusal = { kind: 'server', message: `the server answered nonsense: ${reason}` };
          this.#kill();
        },
      ),
    );
    orders.write(toLine({ spec: this.#spec, arena: this.#arena >= 0 } satisfies ServerOrders));
  }

  #report(report: ServerReport, orders: Socket): void {
    switch (report.state) {
      case 'opened':
        try {
          this.#mount();
          sendFd(fdOf(orders), this.#fuse);
        } catch (error) {
          this.#refusal = mountRefusal(error, this.#how);
          this.#kill();
        }
        break;
      case 'ready':
        this.#ready();
        break;
      case 'ended':
        this.#over = true;
        break;
      case 'error':
        this.#refusal = report.error;
        break;
    }
  }

  #mount(): void {
    if (this.#arena < 0) {
      this.#arena = openSync(`/proc/${this.#server.pid}/fd/${SERVER_FDS.arena}`, 'r+');
    }
    if (this.#cover !== undefined) mkdirSync(this.#cover.below, { mode: 0o700 });
    const { fd, by } = mountFuse({ ...this.#how, mountpoint: this.#place });
    this.#fuse = fd;
    this.#by = by;
    this.#device = mountAt(this.#place)?.device ?? '';
  }

  /** Requests are answered: what is to be seen may be shown. */
  #ready(): void {
    try {
      if (this.#cover !== undefined && this.state === 'starting') this.#putOver(this.#cover);
    } catch (error) {
      this.#refusal = coverRefusal(error, this.#how.mountpoint);
      this.#kill();
      return;
    }
    if (this.state === 'starting') this.state = 'mounted';
    this.#settle(undefined);
  }

  /** Mounts the overlayfs; it keeps what it needs of the mount below, which goes out of sight. */
  #putOver(cover: Cover): void {
    const { mountpoint } = this.#how;
    const r = mount(cover.source, mountpoint, 'overlay', cover.flags, cover.options);
    check(r, 'overlayfs', mountpoint);
    this.#uncover(cover);
    this.#place = mountpoint;
    this.#device = mountAt(mountpoint)?.device ?? '';
  }

  #uncover(cover: Cover): void {
    umount2(cover.below, MNT.DETACH);
    rmdirSync(cover.below);
  }

  /** @param how how the process ended, in words. */
  #ended(how: string): void {
    const mounted = this.#fuse >= 0;
    // The last descriptor of the connection: whoever still waits for an answer gets an error instead.
    if (mounted) closeSync(this.#fuse);
    this.#fuse = -1;
    if (this.#arena >= 0) closeSync(this.#arena);
    this.#server.orders.destroy();
    if (!this.#over) {
      if (mounted) this.#detach();
      if (this.#cover !== undefined) rmSync(this.#cover.below, { recursive: true, force: true });
      const why =
        this.#refusal?.message ??
        `the server of ${this.#how.mountpoint} failed: ${how}${lastLines(this.#log)}`;
      if (this.state === 'mounted') {
        this.state = 'failed';
        this.#why = why;
      }
      this.#settle(new RefusedError(this.#refusal?.kind ?? 'server', why));
    }
  }

  /** Removes the log. */
  forget(): void {
    rmSync(this.#log, { force: true });
  }

  /** Detaches what we mounted, if it is still what is found there. */
  #detach(): void {
    try {
      if (mountAt(this.#place)?.device === this.#device) unmountFuse(this.#place, true);
    } catch (error) {
      console.error(`detach ${this.#how.mountpoint}: ${error}`);
    }
  }

  #kill(): void {
    try {
      if (this.#server.pid > 0) process.kill(this.#server.pid, 'SIGKILL');
    } catch {
      // It ended meanwhile.
    }
  }

  umount(force: boolean): void {
    if (this.state === 'failed') return;
    const starting = this.state === 'starting';
    this.state = 'leaving';
    this.#detach();
    if (force || starting) this.#kill();
  }

  trimLog(): void {
    if (this.state === 'failed') return;
    if ((statSync(this.#log, { throwIfNoEntry: false })?.size ?? 0) > LOG_LIMIT) {
      truncateSync(this.#log);
    }
  }
}

/** Explains a failed mount(2) of a cover. */
function coverRefusal(error: unknown, mountpoint: string): Refusal {
  const errno = error instanceof SysError ? error.errno : 0;
  if (errno === E.BUSY) {
    const message = `mount: ${mountpoint}: the upperdir or workdir is in use: unmount the other overlay`;
    return { kind: 'busy', message };
  }
  const said = error instanceof Error ? error.message : String(error);
  const refused = errno === E.PERM || errno === E.ACCES || errno === E.NODEV;
  return {
    kind: refused ? 'permission' : 'server',
    message: `mount: ${mountpoint}: the kernel's overlayfs refuses (${said}): dmesg has the reason; --mode=follow does without it`,
  };
}

/** Explains a failed mount(2) or fusermount3. */
function mountRefusal(error: unknown, how: FuseMount): Refusal {
  const where = how.mountpoint;
  const code = (error as NodeJS.ErrnoException).code;
  const errno = error instanceof SysError ? error.errno : 0;
  const onDevice = error instanceof SysError && error.op === 'open';
  if (errno === E.NODEV || (onDevice && errno === E.NOENT)) {
    return {
      kind: 'permission',
      message: 'mount: /dev/fuse: this system has no FUSE: load the module fuse',
    };
  }
  if (onDevice && (errno === E.ACCES || errno === E.PERM)) {
    return {
      kind: 'permission',
      message: 'mount: /dev/fuse: this user may not open it: give it mode 0666, as udev does',
    };
  }
  if (error instanceof SysError && error.op === 'fusermount3' && errno === E.NOENT) {
    return {
      kind: 'permission',
      message: `mount: ${where}: not permitted here: install fusermount3 (package fuse3), run as root, or run inside "unshare -Urm"`,
    };
  }
  if (errno === E.NOENT || errno === E.NOTDIR || code === 'ENOENT' || code === 'ENOTDIR') {
    return { kind: 'layer', message: `mount point: ${where}: no such directory: create it first` };
  }
  if (!(error instanceof SysError)) {
    const said = error instanceof Error ? error.message : String(error);
    return { kind: 'server', message: `mount: ${where}: ${said}` };
  }
  const said = error.cause instanceof Error ? error.cause.message : '';
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
