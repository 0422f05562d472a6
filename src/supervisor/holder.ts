// A process beside the supervisor that holds the same: when both the supervisor and the loader are killed the kernel's readers wait all the
// same, and a supervisor is started again. Owned by loader.ts; there is one as long as readers depend on what is kept.
// The process is share/supervisor/holder, a shell; what it holds lies in a queue that it never reads (bequest.ts).

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { check } from '../linux/errno.js';
import { setNonblocking } from '../linux/files.js';
import { dropMessages, socketpair } from '../linux/socket.js';
import { type Bequest, bequeath, makeGuard, noteHeld, takeGuard } from './bequest.js';
import { openLog, type RuntimePaths } from './folder.js';

/** The same place from here, bundled or not. */
const SCRIPT = fileURLToPath(new URL('../../../share/supervisor/holder', import.meta.url));
/** Milliseconds that one must have lived for the next to come at once, and the pause when it has not. */
const SOON = 100;

/** A queue whose sending end does not block: the receiving end is the heir's. @throws SysError. */
export function makeQueue(): { readonly sending: number; readonly receiving: number } {
  const ends = socketpair();
  if (typeof ends === 'number') check(ends, 'socketpair');
  const [sending, receiving] = ends as [number, number];
  setNonblocking(sending, true);
  return { sending, receiving };
}

export class Holder {
  readonly #runtime: RuntimePaths;
  readonly #program: string;
  #guard: number | undefined;
  /** Of the last bequest. */
  #number: number;
  #queue: ReturnType<typeof makeQueue> | undefined;
  /** In the queue. */
  #messages = 0;
  #child: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** It cannot be started here. */
  #hopeless = false;

  /** @param program the supervisor's. @param bequest of a predecessor, whose guard this process has taken. */
  constructor(runtime: RuntimePaths, program: string, bequest?: Bequest) {
    this.#runtime = runtime;
    this.#program = program;
    this.#guard = bequest?.guard;
    this.#number = bequest?.number ?? 0;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Receiving end of what is held; undefined while nothing is. */
  get queue(): number | undefined {
    return this.#queue?.receiving;
  }

  /** Starts the process, where there is none; until something is held it is of no consequence. */
  prepare(): void {
    if (this.#hopeless) return;
    try {
      this.#queue ??= makeQueue();
      if (this.#child === undefined && this.#timer === undefined) {
        this.#start(this.#queue.receiving);
      }
    } catch (error) {
      this.#refuse(error);
    }
  }

  /** When this returns all of it is held, unless it is said in the log that it is not. */
  hold(told: Omit<Bequest, 'guard' | 'number'>): void {
    this.prepare();
    if (this.#queue === undefined) return;
    try {
      const { sending, receiving } = this.#queue;
      this.#number++;
      const bequest = { ...told, guard: this.#ownGuard(), number: this.#number };
      const messages = bequeath(sending, bequest);
      dropMessages(receiving, this.#messages);
      this.#messages = messages;
      noteHeld(bequest);
    } catch (error) {
      this.#refuse(error);
    }
  }

  #ownGuard(): number {
    if (this.#guard === undefined) {
      this.#guard = makeGuard();
      takeGuard(this.#guard);
    }
    return this.#guard;
  }

  /** spawn() returns when the process has what it inherits. */
  #start(queue: number): void {
    this.#timer = undefined;
    const log = openLog(this.#runtime.log);
    const { folder, next } = this.#runtime;
    const words = [SCRIPT, process.execPath, this.#program, folder, next];
    // A session of its own: no signal of a terminal, or to the supervisor's group, reaches it.
    const child = spawn('/bin/sh', words, {
      cwd: '/',
      detached: true,
      stdio: ['ignore', log, log, 'pipe', queue],
    });
    closeSync(log);
    this.#child = child;
    const since = performance.now();
    const life = (child.stdio as unknown as Socket[])[3];
    life?.on('error', () => {});
    life?.unref();
    child.unref();
    child.once('error', (error) => {
      if (child === this.#child) this.#refuse(error);
    });
    child.once('exit', (code) => {
      if (child !== this.#child) return;
      this.#child = undefined;
      if (code !== null) {
        this.#refuse(new Error(`${SCRIPT}: it exited with ${code}`));
        return;
      }
      const pause = performance.now() - since < SOON ? SOON : 0;
      this.#timer = setTimeout(() => this.#start(queue), pause).unref();
    });
  }

  #refuse(error: unknown): void {
    const why = error instanceof Error ? error.message : String(error);
    console.error(
      `${why}: should this process and the loader be killed together, who reads layers that are not complete reads zeros`,
    );
    this.end();
    this.#hopeless = true;
  }

  /** Nobody depends on it: nothing is held any more when this returns but for what a killed process takes to end. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const child = this.#child;
    this.#child = undefined;
    child?.kill('SIGKILL');
    if (this.#queue === undefined) return;
    // The process that ends has the receiving end, too: what is in the queue goes now.
    dropMessages(this.#queue.receiving, this.#messages);
    this.#messages = 0;
    for (const fd of Object.values(this.#queue)) closeSync(fd);
    this.#queue = undefined;
  }
}
