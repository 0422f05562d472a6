// Serves one mount: read a request, handle it, write its reply, until the mount is gone.
// The caller (stack/server.ts, or any program) gives a filesystem and a mounted /dev/fuse; serve() blocks its thread.
// Follows: Documentation/filesystems/fuse.rst. One thread, so nothing in the tables of vfs/ needs a lock.

import { writeSync } from 'node:fs';
import { E, errnoName } from '../linux/errno.js';
import { mapMemory } from '../linux/memory.js';
import { CAP, hasCapability, inInitialUserNamespace } from '../linux/process.js';
import { Counter, count } from '../vfs/counters.js';
import type { FileSystem, Perform } from '../vfs/filesystem.js';
import { Channel } from './channel.js';
import { Dispatcher, emptyRequest } from './dispatch.js';
import { ServerHost } from './host.js';
import { Jobs } from './jobs.js';
import { Rehearsal } from './rehearse.js';
import type { Session } from './session.js';
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
  /** A session that another process has negotiated: no INIT comes. */
  readonly session?: Session;
  /** Called once the session is agreed and the filesystem started. */
  readonly onReady?: (session: Session) => void;
  /** Another program for worker threads, that does more kinds of jobs; it calls workUntilStopped(perform). */
  readonly work?: { readonly script: URL; readonly perform: Perform };
  /** Another descriptor to watch, for example a control pipe. */
  readonly wakeFd?: number;
  /** Called when wakeFd has something; true ends the serving. */
  readonly onWake?: () => boolean;
}

/** Milliseconds without a request after which a rehearsal goes on. */
const PAUSE = 5;

/** Requests after which an errand takes its turn although more wait. */
const ERRAND_EVERY = 16;

/** Why serve() returned. */
export type ExitReason = 'unmounted' | 'aborted' | 'woken' | 'failed';

/** Whether the kernel would let this process register backing files. */
export function passthroughPermitted(): boolean {
  return hasCapability(CAP.SYS_ADMIN) && inInitialUserNamespace();
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
 * so) or `failed` (the device failed in another way, which is logged).
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
      minor: options.minor,
    },
    timeout: options.timeout ?? 1,
    log,
  });
  const channel = new Channel(options.fd, options.spin);
  if (options.session !== undefined) {
    dispatcher.begin(options.session);
    options.onReady?.(options.session);
  }
  let announced = options.session !== undefined;

  /** A failure there must not end the serving: every program on the mount would fail with it. */
  const attempt = (what: string, action: () => void): void => {
    try {
      action();
    } catch (error) {
      log(`${what}: ${error instanceof Error ? error.stack : String(error)}`);
    }
  };

  /** Handles the message in the request buffer and sends its reply. */
  const serveOne = (length: number): void => {
    if (trace) log(traceRequest(length, dispatcher.session));
    const reply = dispatcher.handle(length);
    if (reply > 0) {
      if (trace) log(traceReply(reply, request));
      if (!channel.reply(reply)) attempt('undoing', () => undo(fs, request));
    } else if (trace) {
      log('   (no reply now)');
    }
    if (!announced && dispatcher.session !== undefined) {
      announced = true;
      options.onReady?.(dispatcher.session);
    }
  };

  const rehearsal = new Rehearsal(dispatcher, fs);
  let lastRequest = 0;
  // A practised request must not be parked: while others are, it might wait for the same.
  const rehearsing = (): boolean => announced && rehearse && !rehearsal.over && jobs.pending === 0;

  /** Sleeps until there is something to do. @returns a reason to end, if that is what came. */
  const wait = (): ExitReason | undefined => {
    // Before the first job there is no pipe; poll(2) skips -1.
    jobs.publish();
    // A client that is at work shall not find the server practising.
    const timeout = rehearsing() ? PAUSE : jobs.concern;
    const mask = channel.sleep([jobs.doneFd, options.wakeFd ?? -1], timeout);
    if (mask === 0) jobs.rescue((slot, result) => host.answer(slot, result));
    if (mask < 0) return mask === -E.INTR ? undefined : 'failed';
    return mask & 4 && options.onWake?.() ? 'woken' : undefined;
  };

  let reason: ExitReason | undefined;
  let sinceErrand = 0;
  const errand = (): void => {
    sinceErrand = 0;
    attempt('errand', () => host.runErrand());
  };
  while (reason === undefined) {
    if (jobs.ready) jobs.collect();
    if (host.hasErrand && ++sinceErrand > ERRAND_EVERY) errand();
    while (host.hasReady) {
      const length = host.takeReady();
      if (length > 0) serveOne(length);
    }
    const { ahead } = dispatcher;
    const n = channel.next(ahead.wanted);
    if (n > 0) {
      count(Counter.requests);
      serveOne(n);
      if (rehearsing()) lastRequest = performance.now();
    } else if (n === -E.AGAIN) {
      if (ahead.wanted) attempt('listing ahead', () => ahead.make(request));
      else if (host.hasErrand) errand();
      else if (rehearsing() && performance.now() - lastRequest >= PAUSE) rehearsal.turn();
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
  do {
    while (host.hasErrand) errand();
    jobs.finish();
  } while (host.hasErrand);
  attempt('stopping', () => fs.stop());
  jobs.stop();
  if (channel.refused > 0) log(`${channel.refused} replies were refused by the kernel`);
  return reason;
}
