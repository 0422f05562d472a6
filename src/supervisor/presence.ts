// A supervisor's names in its runtime folder, its lock and its socket: made again when somebody has removed them.
// Owned by supervisor.ts. Cleaners of /tmp and /run remove what they think is old, with mounts that live.
// Whoever has the lock of the file that is there now is the supervisor; the others keep their mounts, and remove nothing.

import { closeSync, type FSWatcher, mkdirSync, openSync, rmSync, statSync, watch } from 'node:fs';
import { lockFile } from '../linux/peer.js';
import type { RuntimePaths } from './folder.js';

/** Milliseconds from the first sign to the look: whoever removes the folder as a whole is to be through. */
const DELAY = 30;

/** What tells a file from a later one of the same name; undefined where there is none. */
export function identityOf(path: string): string | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? undefined : `${stat.dev}:${stat.ino}:${stat.birthtimeNs}`;
}

/** Removes a file unless it is another than the one that was seen there. */
export function removeOwn(path: string, identity: string | undefined): void {
  if (identity !== undefined && identityOf(path) === identity) rmSync(path, { force: true });
}

/** @param path of the lock. @returns it, held for life, or undefined when another supervisor has it. */
export function lockAt(path: string): number | undefined {
  const fd = openSync(path, 'w', 0o600);
  if (lockFile(fd) >= 0) return fd;
  closeSync(fd);
  return undefined;
}

interface PresenceHost {
  /** Somebody would miss this supervisor. */
  isNeeded(): boolean;
  /** Listens at the socket's path, and replaces what is there; `done` when it does, or cannot. */
  listen(done: () => void): void;
  /** Presence.lock is another one. */
  lockChanged(): void;
}

export class Presence {
  readonly #runtime: RuntimePaths;
  readonly #host: PresenceHost;
  #lock: number;
  #lockIdentity: string | undefined;
  #socketIdentity: string | undefined;
  #watcher: FSWatcher | undefined;
  #watched: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #listening = false;

  /** @param lock as lockAt() has given it. */
  constructor(runtime: RuntimePaths, lock: number, host: PresenceHost) {
    this.#runtime = runtime;
    this.#host = host;
    this.#lock = lock;
    this.#lockIdentity = identityOf(`/proc/self/fd/${lock}`);
  }

  /** Held for as long as this supervisor is the one that commands find. */
  get lock(): number {
    return this.#lock;
  }

  /** Listens for the first time. */
  begin(): void {
    this.#watch();
    this.#listen();
  }

  /** Whether commands find this supervisor, or nobody. */
  get #isOwner(): boolean {
    return (
      this.#lockIdentity !== undefined && identityOf(this.#runtime.lock) === this.#lockIdentity
    );
  }

  #listen(): void {
    if (this.#listening) return;
    this.#listening = true;
    this.#host.listen(() => {
      this.#listening = false;
      this.#socketIdentity = identityOf(this.#runtime.socket);
    });
  }

  /** Looks before long, where the kernel can tell that names come and go. */
  #watch(): void {
    const { folder } = this.#runtime;
    const now = identityOf(folder);
    if (now === undefined || now === this.#watched) return;
    this.#watcher?.close();
    this.#watched = undefined;
    try {
      this.#watcher = watch(folder, { persistent: false }, (event) => {
        if (event === 'rename') this.#timer ??= setTimeout(() => this.look(), DELAY);
      });
      this.#watcher.on('error', () => {});
      this.#watched = now;
    } catch {
      // No watch is left: look() is called now and then all the same.
    }
  }

  /** Has everything there again that is missing. Also called now and then: a folder that comes back tells nobody. */
  look(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (!this.#host.isNeeded()) return;
    try {
      mkdirSync(this.#runtime.folder, { mode: 0o700, recursive: false });
    } catch {
      // It is there, mostly.
    }
    try {
      this.#watch();
      if (!this.#isOwner && !this.#takeLock()) return;
      const now = identityOf(this.#runtime.socket);
      // It may also have gone before it was seen there.
      if (now === undefined || now !== this.#socketIdentity) this.#listen();
    } catch (error) {
      console.error(`${this.#runtime.folder}: ${error instanceof Error ? error.message : error}`);
    }
  }

  /** @returns false when there is another supervisor by now. */
  #takeLock(): boolean {
    const lock = lockAt(this.#runtime.lock);
    if (lock === undefined) return false;
    closeSync(this.#lock);
    this.#lock = lock;
    this.#lockIdentity = identityOf(this.#runtime.lock);
    this.#host.lockChanged();
    return true;
  }

  /** Before the process ends. @returns whether what lies in the folder is this supervisor's. */
  end(): boolean {
    clearTimeout(this.#timer);
    this.#watcher?.close();
    removeOwn(this.#runtime.socket, this.#socketIdentity);
    return this.#isOwner;
  }
}
