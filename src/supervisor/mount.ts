// One mount: its /dev/fuse, its arena, the descriptors of its layers, and whichever server answers for it.
// Made by mounts.ts; owns the descriptors, so that the mount outlives its servers: it starts another when one dies.
// A start: spawn, the server opens its layers, mount, hand over /dev/fuse, the server answers INIT. A succession: docs/restart.md.

import {
  closeSync,
  mkdirSync,
  openSync,
  rmdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { MNT } from '../linux/constants.js';
import { check } from '../linux/errno.js';
import { createArena } from '../linux/memory.js';
import { type FuseMount, mount, mountFuse, umount2, unmountFuse } from '../linux/mount.js';
import { mountAt } from '../linux/mountinfo.js';
import { isBroken } from '../linux/poll.js';
import { sendFd } from '../linux/socket.js';
import { Failures, START_LIMIT } from './failures.js';
import { KeptDescriptors } from './kept.js';
import {
  type ChangeOutcome,
  type Cover,
  type LastRestart,
  LEAVE,
  type MountRequest,
  type MountState,
  type MountStatus,
  type Recovery,
  type Refusal,
  SERVER_FDS,
  type ServerOrders,
  type ServerReport,
  STARTED_FD,
  type StackChange,
} from './protocol.js';
import { coverRefusal, lastLines, mountRefusal, RefusedError } from './refusals.js';
import {
  adoptedServer,
  childServer,
  type Ending,
  fdOf,
  type ServerProcess,
  startServer,
} from './server-process.js';
import type { Spare } from './spare.js';

/** Bytes that a server may print before its log starts again. */
const LOG_LIMIT = 4 << 20;

/** Milliseconds within which a server must leave; then it is killed, which loses nothing either. */
const LEAVE_LIMIT = 10_000;

/** Milliseconds until a change is tried again that a server has asked for. */
const ASK_AGAIN = 500;

/** struct fuse_out_header with the code FUSE_NOTIFY_RESEND: what was read and not answered is queued again. */
const RESEND = Buffer.from([16, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

/** Answers EIO to everything. */
const REFUSER = ['--max-semi-space-size=1', fileURLToPath(new URL('./refuse.js', import.meta.url))];

/** What a mount needs of its supervisor. */
interface Surroundings {
  readonly spare: Spare;
  /** It is over; its last state says how. */
  ended(): void;
}

/** A server of another program that is to take over. */
interface Reload {
  readonly server: ServerProcess;
  readonly program: readonly string[];
  settle(refusal?: RefusedError): void;
  /** It has its orders already. */
  readonly ordered?: boolean;
  /** And waits for its descriptors. */
  waits?: boolean;
}

/** A change of the stack that the next server is to make, or has made. */
interface Pending {
  readonly change: StackChange;
  outcome?: ChangeOutcome;
  settle(outcome: ChangeOutcome | RefusedError): void;
}

export class Mount {
  state: MountState = 'starting';
  /** Settles when the mount answers, or rejects with RefusedError. */
  readonly ready: Promise<void>;
  /** Resolves when the mount is gone, and every process of it: with the reason when that was not in order. */
  readonly gone: Promise<string | undefined>;

  readonly #how: FuseMount;
  readonly #cover: Cover | undefined;
  #spec: object;
  readonly #log: string;
  readonly #since = Date.now();
  readonly #surroundings: Surroundings;
  readonly #failures = new Failures();
  #program: readonly string[];
  /** Whoever answers, or is about to. */
  #server: ServerProcess;
  /** It was ready once. */
  #serves = false;
  /** Held so that the counters and tables outlive the server. */
  #arena = -1;
  #fuse = -1;
  readonly #kept = new KeptDescriptors();
  #layout: number | undefined;
  #session: object = {};
  #recovery: Recovery = 'none';
  #by: 'mount' | 'fusermount3' | undefined;
  /** Where our mount is found: below its cover until that stands. */
  #place: string;
  /** `major:minor` of the mount: what is later found at the mount point is ours only if it has it. */
  #device = '';
  #why: string | undefined;
  #refusal: Refusal | undefined;
  /** No other server of the program could do better. */
  #hopeless = false;
  #forced = false;
  #refuses = false;
  #over = false;
  #reload: Reload | undefined;
  #pending: Pending | undefined;
  #restarts = 0;
  #lastRestart: LastRestart | undefined;
  /** performance.now() of the last server's end. */
  #diedAt = 0;
  /** The last server has not ended by itself. */
  #killed = false;
  #limit: NodeJS.Timeout | undefined;
  #settle: (refusal: RefusedError | undefined) => void = () => {};
  #leave: (why: string | undefined) => void = () => {};

  constructor(request: MountRequest, log: string, surroundings: Surroundings) {
    this.#how = request.mount;
    this.#cover = request.cover;
    this.#place = request.cover?.below ?? request.mount.mountpoint;
    this.#spec = request.spec;
    this.#program = request.program;
    this.#log = request.started?.log ?? log;
    this.#surroundings = surroundings;
    this.ready = new Promise((resolve, reject) => {
      this.#settle = (refusal) => (refusal === undefined ? resolve() : reject(refusal));
    });
    // Nobody may be waiting when it fails.
    this.ready.catch(() => {});
    this.gone = new Promise((resolve) => {
      this.#leave = resolve;
    });
    if (request.started === undefined) {
      this.#arena = createArena();
      const { child, orders } = startServer(this.#program, log, { arena: this.#arena });
      this.#server = childServer(child, orders);
    } else {
      this.#server = adoptedServer(request.started.pid, STARTED_FD);
    }
    this.#employ(this.#server);
    void this.#server.loaded.then((layout) => {
      this.#layout = layout;
    });
    this.#server.order({ spec: this.#spec, arena: this.#arena >= 0 } satisfies ServerOrders);
  }

  get mountpoint(): string {
    return this.#how.mountpoint;
  }

  /** Failed and detached: only the memory of it is left. */
  get isOver(): boolean {
    return this.state === 'failed' && !this.#refuses;
  }

  /** Whether the mount point is, or is about to be, ours. A lazily unmounted server may live on without it. */
  get attached(): boolean {
    if (this.state === 'starting') return true;
    return (this.state === 'mounted' || this.#refuses) && this.#stands;
  }

  get #stands(): boolean {
    return mountAt(this.#place)?.device === this.#device;
  }

  status(): MountStatus {
    return {
      mountpoint: this.#how.mountpoint,
      state: this.state,
      ...(this.#why === undefined ? {} : { why: this.#why }),
      ...(this.#refuses ? { refuses: true } : {}),
      restarts: this.#restarts,
      ...(this.#lastRestart === undefined ? {} : { lastRestart: this.#lastRestart }),
      pid: this.#server.pid,
      ...(this.#by === undefined ? {} : { mountedBy: this.#by }),
      since: this.#since,
      log: this.#log,
      spec: this.#spec,
    };
  }

  /** Of one mount: servers have duplicates of what is kept, so that whatever else is open is somebody else's. */
  isOpenElsewhere(name: string): boolean {
    return this.#kept.isOpenElsewhere(name);
  }

  /** Has the server of another mount, which keeps the same file, replaced by one that has this mount's opening of it. */
  async shareWith(other: Mount, name: string): Promise<void> {
    const fd = this.#kept.get(name);
    if (fd !== undefined && other.#kept.share(fd)) await other.reload(other.#program);
  }

  /** From now on this one answers for the mount. */
  #employ(server: ServerProcess): void {
    this.#server = server;
    this.#serves = false;
    this.#refusal = undefined;
    this.#hopeless = false;
    server.hear((report) => {
      if (server !== this.#server) return;
      try {
        this.#report(report, server);
      } catch (error) {
        this.#refusal = mountRefusal(error, this.#how);
        server.kill();
      }
    });
    void server.gone.then((ending) => {
      server.orders.destroy();
      if (server === this.#server) this.#serverGone(ending);
    });
  }

  #report(report: ServerReport, server: ServerProcess): void {
    switch (report.state) {
      case 'waiting':
        this.#sendDescriptors(server);
        break;
      case 'prepared':
        this.#kept.keep(report.kept, fdOf(server.orders));
        break;
      case 'changed':
        this.#kept.replace(report.kept, fdOf(server.orders));
        this.#changed({ told: report.told });
        break;
      case 'unchanged':
        this.#changed({ refusal: report.refusal, told: report.told });
        break;
      case 'opened':
        this.#kept.keep(report.kept, fdOf(server.orders));
        this.#mount();
        check(sendFd(fdOf(server.orders), this.#fuse), 'send /dev/fuse');
        break;
      case 'asks':
        void this.#changeFor(server, report.change);
        break;
      case 'ready':
        this.#session = report.session;
        this.#recovery = report.recovery;
        this.#ready();
        break;
      case 'aborted':
        this.#refusal = { kind: 'server', message: report.message };
        break;
      case 'error':
        this.#refusal = report.error;
        this.#hopeless = report.final ?? false;
        break;
    }
  }

  #sendDescriptors(server: ServerProcess): void {
    const prepared = this.#reload?.ordered === true && this.#reload.server === server;
    this.#kept.send(fdOf(server.orders), this.#fuse, !prepared);
  }

  /** The change that was asked for is made, or will not be: every later server starts from this. */
  #changed(outcome: ChangeOutcome): void {
    const pending = this.#pending;
    if (pending === undefined || pending.outcome !== undefined) return;
    pending.outcome = outcome;
    if (outcome.refusal === undefined) this.#spec = pending.change.spec;
    this.#kept.dropPrepared();
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
    this.#serves = true;
    this.#failures.ready();
    if (this.state === 'starting') {
      try {
        if (this.#cover !== undefined) this.#putOver(this.#cover);
      } catch (error) {
        this.#refusal = coverRefusal(error, this.#how.mountpoint);
        this.#server.kill();
        return;
      }
      this.state = 'mounted';
    } else {
      this.#succeeded();
    }
    this.#settle(undefined);
  }

  /** Mounts the overlayfs; it keeps what it needs of the mount below, which goes out of sight. */
  #putOver(cover: Cover): void {
    const { mountpoint } = this.#how;
    const r = mount(cover.source, mountpoint, 'overlay', cover.flags, cover.options);
    check(r, 'overlayfs', mountpoint);
    umount2(cover.below, MNT.DETACH);
    rmdirSync(cover.below);
    this.#place = mountpoint;
    this.#device = mountAt(mountpoint)?.device ?? '';
  }

  /** What becomes of the mount when its server's process is gone. */
  #serverGone(ending: Ending): void {
    clearTimeout(this.#limit);
    // Of several that did not come so far, the stall begins with the end of the last that did.
    if (this.#serves) this.#diedAt = performance.now();
    this.#killed = ending.killed;
    const where = this.mountpoint;
    const reload = this.#reload;
    // The log tells why, where the server itself has not.
    const how = this.#refusal?.message ?? `${ending.how}${lastLines(this.#log)}`;
    const failed = this.#refusal?.message ?? `the server of ${where} failed: ${how}`;
    if (this.#fuse < 0 || this.state === 'starting') {
      this.#end(failed);
    } else if (isBroken(this.#fuse)) {
      // Unmounted; or aborted, and then it stands and answers nobody.
      const aborted = this.#stands && !this.#forced;
      this.#end(aborted ? `${where}: its connection was aborted` : undefined);
    } else if (this.#forced) {
      this.#end(undefined);
    } else if (this.#recovery === 'none') {
      this.#end(failed);
    } else if (reload?.server === this.#server) {
      // The new program cannot: back to the old one.
      this.#reload = undefined;
      this.#succeed(`reload failed: ${how}`);
      reload.settle(
        new RefusedError(
          'server',
          `${where}: the new server failed, one of the old program serves again: ${how}`,
        ),
      );
    } else if (reload !== undefined) {
      this.#failures.forgive();
      this.#succeed(this.#pending?.change.reason ?? 'reload', reload.server);
    } else if (this.#refuses) {
      this.#end(this.#why);
    } else {
      const limit = this.#failures.count(ending.killed, this.#serves);
      const reason = ending.killed ? ending.how : how;
      if (limit === undefined && !this.#hopeless) this.#succeed(reason);
      else this.#refuse(this.#hopeless ? how : `${limit}, the last because ${how}`);
    }
  }

  /** Another server takes over. @param reason what became of the last. */
  #succeed(reason: string, given?: ServerProcess): void {
    this.#restarts++;
    this.#lastRestart = { reason, at: new Date().toISOString() };
    this.#refuses = false;
    this.#why = undefined;
    if (this.state === 'failed') this.state = 'mounted';
    this.#resend();
    const server = given ?? this.#surroundings.spare.take(this.#program) ?? this.#start();
    this.#employ(server);
    const reload = this.#reload?.server === server ? this.#reload : undefined;
    if (reload?.waits) this.#sendDescriptors(server);
    else if (reload?.ordered !== true) server.order(this.#orders(false));
    this.#limit = setTimeout(() => {
      this.#refusal = {
        kind: 'server',
        message: `it was not ready within ${START_LIMIT / 1000} s`,
      };
      server.kill();
    }, START_LIMIT);
  }

  /** @param early the server that serves has not left yet. */
  #orders(early: boolean): ServerOrders {
    const change = this.#pending?.outcome === undefined ? this.#pending?.change : undefined;
    return {
      spec: this.#spec,
      arena: true,
      successor: {
        session: this.#session,
        arena: `/proc/${process.pid}/fd/${this.#arena}`,
        kept: this.#kept.names,
        killed: this.#killed && !early,
        log: this.#log,
        ...(change === undefined ? {} : { change: { ...change, early } }),
      },
    };
  }

  #start(): ServerProcess {
    const { child, orders } = startServer(this.#program, this.#log, { arena: this.#arena });
    return childServer(child, orders);
  }

  /** What the last server had read and not answered is queued for the next, before everything else. */
  #resend(): void {
    if (this.#recovery === 'resend') writeSync(this.#fuse, RESEND);
  }

  #succeeded(): void {
    clearTimeout(this.#limit);
    const { reason, at } = this.#lastRestart as LastRestart;
    const stallMilliseconds = Math.round(performance.now() - this.#diedAt);
    this.#lastRestart = { reason, at, stallMilliseconds };
    const reload = this.#reload;
    if (reload?.server === this.#server) {
      this.#program = reload.program;
      this.#reload = undefined;
      reload.settle();
    } else {
      this.#surroundings.spare.prepare(this.#program);
    }
    const pending = this.#pending;
    if (pending?.outcome === undefined) return;
    this.#pending = undefined;
    pending.settle(pending.outcome);
  }

  /** Nobody takes over: whoever waits, or asks from now on, gets EIO. */
  #refuse(why: string): void {
    this.state = 'failed';
    this.#refuses = true;
    this.#why = `the server of ${this.mountpoint} failed: ${why}: every request gets EIO: "varve reload ${this.mountpoint}" tries again, "varve umount ${this.mountpoint}" ends it`;
    this.#resend();
    const { child, orders } = startServer(REFUSER, this.#log, { fuse: this.#fuse });
    this.#employ(childServer(child, orders));
  }

  /**
   * Has a server of `program` take over; resolves when it does. The one that serves finishes what it has in hand first.
   * @throws RefusedError; then the mount is as it was.
   */
  async reload(program: readonly string[]): Promise<void> {
    const server = await this.#load(program);
    await new Promise<void>((resolve, reject) => {
      const settle = (refusal?: RefusedError): void => (refusal ? reject(refusal) : resolve());
      this.#reload = { server, program, settle };
      this.#dismiss();
    });
  }

  /**
   * As reload(), and the new server changes the stack before it answers anything.
   * @returns what it told. @throws RefusedError when nobody could take over; whether the change was made is then looked for
   * by whoever does.
   */
  async change(program: readonly string[], change: StackChange): Promise<ChangeOutcome> {
    const server = await this.#load(program);
    const outcome = await new Promise<ChangeOutcome | RefusedError>((resolve) => {
      this.#pending = { change, settle: resolve };
      this.#prepare({ server, program, settle: () => {}, ordered: true });
    });
    if (outcome instanceof RefusedError) throw outcome;
    return outcome;
  }

  /** Makes the change that the server asks for, as soon as nothing else is going on, unless that has replaced it. */
  async #changeFor(server: ServerProcess, change: StackChange): Promise<void> {
    while (server === this.#server && !this.#over) {
      try {
        await this.change(this.#program, change);
        return;
      } catch (error) {
        if (!(error instanceof RefusedError)) throw error;
        await sleep(ASK_AGAIN);
      }
    }
  }

  /** Lets the new server open what it needs while the old one serves; then that one is to leave. */
  #prepare(reload: Reload): void {
    const { server } = reload;
    this.#reload = reload;
    let refusal: Refusal | undefined;
    const limit = setTimeout(() => server.kill(), START_LIMIT);
    server.hear((report) => {
      if (report.state === 'prepared') {
        try {
          this.#kept.keep(report.kept, fdOf(server.orders));
        } catch (error) {
          refusal = mountRefusal(error, this.#how);
          server.kill();
        }
      } else if (report.state === 'error') {
        refusal = report.error;
      } else if (report.state === 'waiting') {
        clearTimeout(limit);
        reload.waits = true;
        this.#dismiss();
      }
    });
    server.order(this.#orders(true));
    void server.gone.then(({ how }) => {
      clearTimeout(limit);
      // The old one has not been asked to leave.
      if (this.#reload !== reload || this.#server === server || reload.waits) return;
      const pending = this.#pending;
      this.#reload = undefined;
      this.#pending = undefined;
      this.#kept.dropPrepared();
      const message = refusal?.message ?? `${this.mountpoint}: the new server failed: ${how}`;
      pending?.settle(new RefusedError(refusal?.kind ?? 'server', message));
    });
  }

  /** A loaded server of `program` that knows the arena. @throws RefusedError. */
  async #load(program: readonly string[]): Promise<ServerProcess> {
    this.#requireReloadable();
    const { child, orders } = startServer(program, this.#log, { arena: this.#arena });
    const server = childServer(child, orders);
    const layout = await server.loaded;
    try {
      if (layout === undefined) {
        const { how } = await server.gone;
        throw new RefusedError(
          'server',
          `${this.mountpoint}: the new server cannot start: ${how}${lastLines(this.#log)}`,
        );
      }
      if (layout !== this.#layout) {
        throw new RefusedError(
          'server',
          `${this.mountpoint}: the installed version keeps other tables (${layout}) than the running server (${this.#layout}): unmount, then mount again`,
        );
      }
      this.#requireReloadable();
    } catch (error) {
      server.kill();
      throw error;
    }
    return server;
  }

  /** Whoever answers finishes what it has read and leaves. */
  #dismiss(): void {
    const old = this.#server;
    if (this.#refuses) {
      old.kill();
      return;
    }
    old.order(LEAVE);
    const limit = setTimeout(() => old.kill(), LEAVE_LIMIT);
    void old.gone.then(() => clearTimeout(limit));
  }

  #requireReloadable(): void {
    const busy = this.#reload !== undefined || this.#pending !== undefined;
    if ((this.state !== 'mounted' && !this.#refuses) || busy) {
      throw new RefusedError('busy', `${this.mountpoint}: is starting or ending: try again`);
    }
    if (this.#recovery !== 'none') return;
    throw new RefusedError(
      'server',
      `${this.mountpoint}: its server cannot be replaced while it is mounted: unmount, then mount again`,
    );
  }

  /** The mount is over. @param why it failed; undefined: it ended as it should. */
  #end(why: string | undefined): void {
    if (this.#over) return;
    this.#over = true;
    const mounted = this.#fuse >= 0;
    // The last descriptors of the connection: whoever still waits for an answer gets an error instead.
    for (const fd of [this.#fuse, this.#arena]) if (fd >= 0) closeSync(fd);
    this.#kept.close();
    this.#fuse = -1;
    this.#arena = -1;
    if (why !== undefined) {
      if (mounted) this.#detach();
      if (this.#cover !== undefined) rmSync(this.#cover.below, { recursive: true, force: true });
      const failed = this.state === 'mounted' || this.state === 'failed';
      if (failed) {
        this.state = 'failed';
        this.#why = why;
      }
      this.#settle(new RefusedError(this.#refusal?.kind ?? 'server', why));
    } else {
      this.state = 'leaving';
    }
    this.#refuses = false;
    this.#reload?.server.kill();
    this.#reload?.settle(new RefusedError('absent', `${this.mountpoint}: was unmounted meanwhile`));
    this.#reload = undefined;
    this.#pending?.settle(
      new RefusedError('absent', `${this.mountpoint}: was unmounted meanwhile`),
    );
    this.#pending = undefined;
    this.#surroundings.ended();
    this.#leave(this.#why);
  }

  /** Removes the log. */
  forget(): void {
    rmSync(this.#log, { force: true });
  }

  /** Detaches what we mounted, if it is still what is found there. */
  #detach(): void {
    try {
      if (this.#stands) unmountFuse(this.#place, true);
    } catch (error) {
      console.error(`detach ${this.#how.mountpoint}: ${error}`);
    }
  }

  umount(force: boolean): void {
    if (this.isOver) return;
    const starting = this.state === 'starting';
    this.state = 'leaving';
    this.#forced ||= force;
    this.#detach();
    if (force || starting) this.#server.kill();
  }

  trimLog(): void {
    if (this.state === 'failed') return;
    if ((statSync(this.#log, { throwIfNoEntry: false })?.size ?? 0) > LOG_LIMIT) {
      truncateSync(this.#log);
    }
  }
}
