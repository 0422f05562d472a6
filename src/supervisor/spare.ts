// A server that has loaded its program and waits for orders: the next mount whose server dies waits a few milliseconds.
// Used by mount.ts; one a supervisor, and only once a server has died, for it takes the memory of one.
// Measured: docs/restart.md.

import { childServer, type ServerProcess, startServer } from './server-process.js';

/** Milliseconds after a succession: the programs that have waited go first. */
const DELAY = 100;

export class Spare {
  readonly #log: string;
  #server: ServerProcess | undefined;
  #program = '';
  #timer: NodeJS.Timeout | undefined;
  #over = false;

  constructor(log: string) {
    this.#log = log;
  }

  /** The spare, if there is one of this program; it is then the caller's. */
  take(program: readonly string[]): ServerProcess | undefined {
    const server = this.#server;
    if (server === undefined || this.#program !== key(program)) return undefined;
    this.#server = undefined;
    return server;
  }

  /** Has one of this program ready before long. */
  prepare(program: readonly string[]): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#start(program), DELAY);
  }

  /** No mount is left that could need one. */
  drop(): void {
    clearTimeout(this.#timer);
    this.#server?.kill();
    this.#server = undefined;
  }

  /** The supervisor ends. */
  end(): void {
    this.#over = true;
    this.drop();
  }

  #start(program: readonly string[]): void {
    if (this.#over) return;
    if (this.#server !== undefined && this.#program === key(program)) return;
    this.drop();
    const { child, orders } = startServer(program, this.#log);
    const server = childServer(child, orders);
    this.#server = server;
    this.#program = key(program);
    void server.gone.then(() => {
      server.orders.destroy();
      if (this.#server === server) this.#server = undefined;
    });
  }
}

const key = (program: readonly string[]): string => program.join('\0');
