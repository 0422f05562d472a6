// Serves one mount: read a request, handle it, write its reply, until the mount is gone.
// The caller (stack/server.ts, or any program) gives a filesystem and a mounted /dev/fuse; serve() blocks its thread.
// Follows: Documentation/filesystems/fuse.rst. One thread, so nothing in the tables of vfs/ needs a lock.

import { writeSync } from 'node:fs';
import { E, errnoName } from '../linux/errno.js';
import { close, dup3, setNonblocking } from '../linux/files.js';
import { cloneFuse } from '../linux/fuse-dev.js';
import { mapMemory, u32 } from '../linux/memory.js';
import { pollIn } from '../linux/poll.js';
import { CAP, hasCapability, inInitialUserNamespace } from '../linux/process.js';
import { Counter, count, set } from '../vfs/counters.js';
import type { FileSystem, Perform } from '../vfs/filesystem.js';
import * as journal from '../vfs/journal.js';
import { LAYOUT_VERSION, requestBuffer } from '../vfs/layout.js';
import { Channel } from './channel.js';
import { Dispatcher, emptyRequest } from './dispatch.js';
import { ServerHost } from './host.js';
import { Jobs } from './jobs.js';
import { Rehearsal } from './rehearse.js';
import type { Session } from './session.js';
import { Succession } from './succession.js';
import { traceReply, traceRequest } from './trace.js';
import { undo } from './undo.js';

/** How to serve. Absent keys mean the default named. */
export interface ServeOptions {
  /** /dev/fuse of a mounted session. Stays open; made non-blocking. */
  readonly fd: number;
  /** Seconds that names, negative names and attributes stay valid in the kernel; fractions allowed. Default 1. */
  readonly timeout?: number;
  /** Default false. Granted only with CAP_SYS_ADMIN in the initial user namespace, on Linux 6.9 and later. */
  readonly passthrough?: boolean;
  /** Default false. Ignored when passthrough is granted: the kernel has one or the other. */
  readonly writeback?: boolean;
  /** Default false: POSIX ACLs. */
  readonly acl?: boolean;
  /** Default false: lookup() finds "." and ".." of any nodeid that a server of this filesystem ever gave. */
  readonly exported?: boolean;
  /** Default false: prints every request and reply. */
  readonly trace?: boolean;
  /** Default false: idle time after the start is used to warm up, reading the first directories and changing a borrowed one. */
  readonly rehearse?: boolean;
  /** Receives lines of the log and the trace; default: standard error, written at once. */
  readonly log?: (line: string) => void;
  /** Microseconds of polling before the thread sleeps; default SPIN_MICROSECONDS, 0: none. */
  readonly spin?: number;
  /** Claims an older ABI, for tests. */
  readonly minor?: number;
  /**
   * Default false: the filesystem cannot be succeeded, or nobody would. Else somebody holds `fd` as well, and starts a
   * successor over the same arena when this process dies; `fd` may then become a clone of itself, which only this
   * process holds (before Linux 6.9).
   */
  readonly succeeded?: boolean;
  /** A session that another process has negotiated: no INIT comes. */
  readonly session?: Session;
  /** Default false: with `session`, this process takes over from the one that negotiated it and whose arena it has. */
  readonly successor?: boolean;
  /** Default false: of a successor, its predecessor has not ended by itself. */
  readonly killed?: boolean;
  /** Called once the session is agreed and the filesystem started. */
  readonly onReady?: (session: Session, recovery: Recovery) => void;
  /** Another program for worker threads, that does more kinds of jobs; it calls workUntilStopped(perform). */
  readonly work?: { readonly script: URL; readonly perform: Perform };
  /** Looked after between requests, beside wakeFd. */
  readonly watch?: Watch;
  /** Default MAX_BACKGROUND: above the number of requests that may be parked. At most 65535. */
  readonly maxBackground?: number;
  /** Another descriptor to watch, for example a control pipe. */
  readonly wakeFd?: number;
  /** Called when wakeFd has something, and reads it. */
  readonly onWake?: () => Wake;
}

/** Something else that is done on the server's thread, without anybody waiting for it. */
export interface Watch {
  /** attend() is called when it has something; -1: none now. */
  readonly fd: number;
  /** Milliseconds after which attend() is called all the same; -1: not at all. */
  readonly timeout: number;
  /** Does what is to be done, and never waits. */
  attend(): void;
}

/**
 * What becomes of the serving when wakeFd had something. stay: nothing. deaf: it goes on, and wakeFd is looked at no more.
 * end: it ends as after an unmount. leave: it ends for a successor's sake; see ExitReason.
 */
export type Wake = 'stay' | 'deaf' | 'end' | 'leave';

/**
 * What becomes of requests that this process has read when it dies. resend: the kernel can be told to send them again.
 * clone: they end with ECONNABORTED. none: they would wait for ever, so nobody can take over.
 */
export type Recovery = 'resend' | 'clone' | 'none';

/** Milliseconds without a request after which a rehearsal goes on. */
const PAUSE = 5;

/** Of the descriptors that are slept on: FUSE, jobs, wakeFd, the watch. */
const WATCH_BIT = 8;

/** Requests after which an errand takes its turn although more wait. */
const ERRAND_EVERY = 16;

/** Requests without a pause after which the watch has its turn. */
const WATCH_EVERY = 32;

/** Requests without a pause after which wakeFd is looked at. */
const WAKE_EVERY = 1024;

/** Why serve() returned. */
export type ExitReason = 'unmounted' | 'aborted' | 'woken' | 'left' | 'failed';

/** Whether the kernel would let this process register backing files. */
export function passthroughPermitted(): boolean {
  return hasCapability(CAP.SYS_ADMIN) && inInitialUserNamespace();
}

const LENGTH = requestBuffer(0) >>> 2;
const UNIQUE = LENGTH + 2;

/**
 * Sees to it that no request waits for ever for a reply of this process when it dies: where the kernel cannot send
 * again, requests are read from a clone of the descriptor.
 */
function recovery(session: Session, { fd, succeeded }: ServeOptions): Recovery {
  if (!succeeded) return 'none';
  if (session.resend) return 'resend';
  const clone = cloneFuse(fd);
  if (clone < 0) return 'none';
  const r = dup3(clone, fd);
  close(clone);
  if (r < 0) return 'none';
  setNonblocking(fd, true);
  return 'clone';
}

function toStderr(line: string): void {
  try {
    writeSync(2, `varve: ${line}\n`);
  } catch {
    // Standard error is gone; there is nobody to tell.
  }
}

/**
 * Serves `fs` until the mount is gone. Blocks the calling thread: no timer, promise or message of it runs meanwhile.
 * The process must not open files on its own mount.
 * @returns `unmounted` (the normal end), `aborted` (by the abort file of /sys/fs/fuse/connections), `woken` (onWake said
 * so), `left` (it said so, too: what was read is answered, and nothing is closed or taken back in the tables, which a
 * successor takes over) or `failed` (the device failed in another way, which is logged).
 */
export function serve(fs: FileSystem, options: ServeOptions): ExitReason {
  mapMemory();
  const log = options.log ?? toStderr;
  const trace = options.trace ?? false;
  const rehearse = options.rehearse ?? false;
  const request = emptyRequest();
  const jobs = new Jobs(request, options.fd, { log, ...options.work });
  const host = new ServerHost(request, options.fd, jobs);
  const dispatcher = new Dispatcher(request, fs, host, {
    wishes: {
      passthrough: (options.passthrough ?? false) && passthroughPermitted(),
      writeback: options.writeback ?? false,
      acl: (options.acl ?? false) && (fs.acl ?? true),
      exported: options.exported ?? false,
      maxBackground: options.maxBackground,
      minor: options.minor,
    },
    timeout: options.timeout ?? 1,
    log,
  });
  const channel = new Channel(options.fd, options.spin);
  if (!options.successor) set(Counter.layout, LAYOUT_VERSION);

  /** A failure there must not end the serving: every program on the mount would fail with it. */
  const attempt = (what: string, action: () => void): void => {
    try {
      action();
    } catch (error) {
      log(`${what}: ${error instanceof Error ? error.stack : String(error)}`);
    }
  };

  let announced = false;
  const announce = (session: Session): void => {
    announced = true;
    options.onReady?.(session, recovery(session, options));
  };

  /** Handles the message in the request buffer and sends its reply. */
  const serveOne = (length: number, redo = false): void => {
    if (trace) log(traceRequest(length, dispatcher.session));
    journal.begin(u32[UNIQUE] as number, u32[UNIQUE + 1] as number);
    const reply = dispatcher.handle(length, redo);
    if (reply > 0) {
      journal.done(reply);
      if (trace) log(traceReply(reply, request));
      const sent = channel.reply(reply);
      journal.idle();
      if (!sent) attempt('undoing', () => undo(fs, request));
    } else {
      journal.idle();
      if (trace) log('   (no reply now)');
    }
    if (!announced && dispatcher.session !== undefined) announce(dispatcher.session);
  };

  const resumeReady = (): void => {
    while (host.hasReady) {
      const length = host.takeReady();
      if (length > 0) serveOne(length, host.resumedRedo);
    }
  };

  /** Handles a predecessor's request to its end, parked or not. @returns bytes of its reply, 0: somebody else's. */
  const redo = (): number => {
    let reply = dispatcher.handle(u32[LENGTH] as number, true);
    while (reply === 0 && host.savedCount > 0) {
      // It waits for content, which may never come. Nothing is changed yet, and the kernel sends it again.
      if (jobs.pending === 0 && !host.hasErrand && !host.hasReady) {
        host.dropSaved();
        break;
      }
      pollIn([jobs.doneFd], jobs.pending > 0 ? PAUSE : 0);
      jobs.collect();
      jobs.rescue((slot, result) => host.answer(slot, result));
      if (host.hasErrand) errand();
      const length = host.takeReady();
      if (length > 0) reply = dispatcher.handle(length, true);
    }
    return reply;
  };

  let succession = options.successor ? new Succession(log) : undefined;
  const rehearsal = new Rehearsal(dispatcher, fs);
  let lastRequest = 0;
  // A practised request must not be parked: while others are, it might wait for the same.
  const rehearsing = (): boolean => announced && rehearse && !rehearsal.over && jobs.pending === 0;

  const { watch } = options;
  let sinceWatch = 0;
  const attend = (): void => {
    sinceWatch = 0;
    if (watch !== undefined) attempt('watch', () => watch.attend());
  };
  /** Its turn while there is no time to sleep. */
  const glance = (weight: number): void => {
    sinceWatch += weight;
    if (watch === undefined || sinceWatch < WATCH_EVERY) return;
    sinceWatch = 0;
    if (watch.timeout === 0 || pollIn([watch.fd], 0) > 0) attend();
  };

  /** Sleeps until there is something to do. @returns a reason to end, if that is what came. */
  const wait = (): ExitReason | undefined => {
    // Before the first job there is no pipe; poll(2) skips -1.
    jobs.publish();
    // A client that is at work shall not find the server practising.
    const own = rehearsing() ? PAUSE : jobs.concern;
    const due = watch?.timeout ?? -1;
    const dues = [own, due, host.concern].filter((one) => one >= 0);
    const timeout = dues.length === 0 ? -1 : Math.min(...dues);
    const mask = channel.sleep([jobs.doneFd, wakeFd, watch?.fd ?? -1], timeout);
    if (mask === 0 || mask & WATCH_BIT) attend();
    if (mask === 0) jobs.rescue((slot, result) => host.answer(slot, result));
    if (mask < 0) return mask === -E.INTR ? undefined : 'failed';
    return mask & 4 ? wake() : undefined;
  };

  let wakeFd = options.wakeFd ?? -1;
  let sinceWake = 0;
  const wake = (): ExitReason | undefined => {
    const what = options.onWake?.() ?? 'deaf';
    if (what === 'deaf') wakeFd = -1;
    return what === 'end' ? 'woken' : what === 'leave' ? 'left' : undefined;
  };

  let reason: ExitReason | undefined;
  let sinceErrand = 0;
  const errand = (): void => {
    sinceErrand = 0;
    attempt('errand', () => host.runErrand());
  };

  if (options.session !== undefined) {
    dispatcher.begin(options.session, options.successor);
    succession?.begin(options.killed ?? false, redo);
    announce(options.session);
  }
  while (reason === undefined) {
    if (jobs.ready) jobs.collect();
    if (host.concern >= 0) host.giveUpKilled();
    if (host.hasErrand && ++sinceErrand > ERRAND_EVERY) errand();
    resumeReady();
    const { ahead } = dispatcher;
    const n = channel.next(ahead.wanted);
    if (n > 0) {
      count(Counter.requests);
      const kept = succession?.reply() ?? 0;
      if (kept > 0) {
        channel.reply(kept);
        succession?.replied();
      } else {
        serveOne(n);
      }
      if (succession?.over) succession = undefined;
      if (rehearsing()) lastRequest = performance.now();
      glance(1);
      if (++sinceWake > WAKE_EVERY) {
        sinceWake = 0;
        if (wakeFd >= 0 && pollIn([wakeFd], 0) > 0) reason = wake();
      }
    } else if (n === -E.AGAIN) {
      if (ahead.wanted) attempt('listing ahead', () => ahead.make(request));
      else if (host.hasErrand) {
        errand();
        glance(ERRAND_EVERY);
      } else if (rehearsing() && performance.now() - lastRequest >= PAUSE) rehearsal.turn();
      else reason = wait();
    } else if (n === -E.NODEV) {
      reason = 'unmounted';
    } else if (n === -E.CONNABORTED) {
      reason = 'aborted';
    } else {
      log(`reading requests: ${n === 0 ? 'end of file' : errnoName(n)}`);
      reason = 'failed';
    }
  }

  // Jobs and errands use the filesystem's descriptors: they end before it closes them.
  host.dropErrands();
  do {
    while (host.hasErrand) errand();
    jobs.finish();
    if (reason === 'left') resumeReady();
  } while (host.hasErrand || jobs.pending > 0);
  if (reason !== 'left') attempt('stopping', () => fs.stop());
  jobs.stop();
  if (channel.refused > 0) log(`${channel.refused} replies were refused by the kernel`);
  return reason;
}
