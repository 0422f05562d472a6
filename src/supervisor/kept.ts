// The descriptors of one mount that outlive its servers: of the layers, the claims and the work directory, by name.
// Owned by mount.ts. A server sends what it has opened, its successor is sent all of it before it answers anything.
// They go over the socket of orders (SCM_RIGHTS, unix(7)).

import { closeSync, fstatSync, writeSync } from 'node:fs';
import { check } from '../linux/errno.js';
import { duplicate, isOpenElsewhere } from '../linux/files.js';
import { receiveFds, sendFds } from '../linux/socket.js';

/** Milliseconds to wait for descriptors that a server is about to send. */
const PATIENCE = 2000;

/** Kept for a change of the stack only, until it is made: names that begin so. */
const OF_CHANGE = 'change ';

export class KeptDescriptors {
  readonly #fds = new Map<string, number>();

  get names(): string[] {
    return [...this.#fds.keys()];
  }

  /** Takes what a server has announced by name. @param socket of its orders. @throws SysError. */
  keep(names: readonly string[], socket: number): void {
    for (const [name, fd] of receive(names, socket)) this.#fds.set(name, fd);
  }

  /** Whether anybody has the file open but through these and their duplicates. True where there is none of this name. */
  isOpenElsewhere(name: string): boolean {
    const fd = this.#fds.get(name);
    return fd === undefined || isOpenElsewhere(fd);
  }

  /**
   * Makes whatever is the same file an opening of it that another mount has: both then count as one.
   * @param fd of the other mount. @returns whether there was any, for whoever serves still has the old one. @throws SysError.
   */
  share(fd: number): boolean {
    const { dev, ino } = fstatSync(fd);
    let found = false;
    for (const [name, own] of this.#fds) {
      const there = fstatSync(own);
      if (own === fd || there.dev !== dev || there.ino !== ino) continue;
      this.#fds.set(name, check(duplicate(fd), 'dup'));
      closeSync(own);
      found = true;
    }
    return found;
  }

  /** Undefined where there is none of this name. Not to be closed. */
  get(name: string): number | undefined {
    return this.#fds.get(name);
  }

  /** What a change has made of them: these, and no others. @throws SysError; then they are as they were. */
  replace(names: readonly string[], socket: number): void {
    const now = receive(names, socket);
    this.close();
    for (const [name, fd] of now) this.#fds.set(name, fd);
  }

  /**
   * Sends `first` and then all of these, in the order of their names as `names` tells them.
   * @param prepared also what is kept for a change: who prepared it has opened that itself. @throws SysError.
   */
  send(socket: number, first: number, prepared: boolean): void {
    const sent = [...this.#fds].filter(([name]) => prepared || !name.startsWith(OF_CHANGE));
    check(sendFds(socket, [first, ...sent.map(([, fd]) => fd)]), 'send descriptors');
  }

  /** The change is made, or will not be. */
  dropPrepared(): void {
    for (const [name, fd] of this.#fds) {
      if (!name.startsWith(OF_CHANGE)) continue;
      closeSync(fd);
      this.#fds.delete(name);
    }
  }

  close(): void {
    for (const fd of this.#fds.values()) closeSync(fd);
    this.#fds.clear();
  }
}

function receive(names: readonly string[], socket: number): [string, number][] {
  if (names.length === 0) return [];
  writeSync(socket, '\n');
  const fds = receiveFds(socket, names.length, PATIENCE);
  if (typeof fds === 'number') return [['', check(fds, 'receive descriptors')]];
  return names.map((name, i) => [name, fds[i] as number]);
}
