// How much of the network Varve takes: connections at once and bytes a second.
// One object is shared by all Registry objects of a process; client.ts asks it before each request
// and at each piece of a body.

/** What the parts of a process share when nobody says otherwise. */
const DEFAULT_CONNECTIONS = 8;

/** At most this much time of unused rate is saved up, in milliseconds. */
const BURST = 100;

export interface LimitOptions {
  /** Requests at once, to all registries together; 8 by default. */
  connections?: number;
  /** Bytes a second of bodies, counted apart for down and up; unlimited by default. */
  bytesPerSecond?: number;
}

/** The clock, a parameter for tests: milliseconds, and a way to wait. */
export interface Clock {
  now(): number;
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
}

export class Limits {
  readonly connections: number;
  readonly bytesPerSecond: number;
  private readonly clock: Clock;
  private free: number;
  private readonly queue: Array<() => void> = [];
  /** When the bytes promised so far will have passed, in milliseconds of the clock. */
  private readonly until = {
    down: Number.NEGATIVE_INFINITY,
    up: Number.NEGATIVE_INFINITY,
  };

  constructor(options: LimitOptions = {}, clock: Clock = systemClock) {
    this.connections = Math.max(1, options.connections ?? DEFAULT_CONNECTIONS);
    this.bytesPerSecond = options.bytesPerSecond ?? Number.POSITIVE_INFINITY;
    this.clock = clock;
    this.free = this.connections;
  }

  /**
   * Waits for a connection, first come first served.
   *
   * @returns gives it back; may be called more than once
   * @throws the signal's reason
   */
  async connection(signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted();
    if (this.free > 0) this.free--;
    else await this.wait(signal);
    let mine = true;
    return () => {
      if (!mine) return;
      mine = false;
      const next = this.queue.shift();
      // The place goes from hand to hand, so that nobody overtakes.
      if (next === undefined) this.free++;
      else next();
    };
  }

  /** Waits until the bytes that were just moved fit into the rate. */
  async moved(bytes: number, way: 'down' | 'up', signal?: AbortSignal): Promise<void> {
    if (this.bytesPerSecond === Number.POSITIVE_INFINITY) return;
    const now = this.clock.now();
    const from = Math.max(this.until[way], now - BURST);
    this.until[way] = from + (bytes * 1000) / this.bytesPerSecond;
    const wait = this.until[way] - now;
    if (wait > 0) await this.clock.sleep(wait, signal);
  }

  private wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = (): void => {
        signal?.removeEventListener('abort', stop);
        resolve();
      };
      const stop = (): void => {
        const at = this.queue.indexOf(go);
        if (at >= 0) this.queue.splice(at, 1);
        reject(signal?.reason);
      };
      this.queue.push(go);
      signal?.addEventListener('abort', stop, { once: true });
    });
  }
}

export const systemClock: Clock = {
  now: () => performance.now(),
  sleep: (milliseconds, signal) =>
    new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const stop = (): void => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', stop);
        resolve();
      }, milliseconds);
      signal?.addEventListener('abort', stop, { once: true });
    }),
};
