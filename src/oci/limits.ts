// How much of the network Varve takes: connections at once and bytes a second.
// One object is shared by all Registry objects of a process; client.ts asks it before each request
// and at each piece of a body.

/** What the parts of a process share when nobody says otherwise. */
const DEFAULT_CONNECTIONS = 8;

/** At most this much time of unused rate is saved up, in milliseconds. */
const BURST = 100;
/** Pauses below this are none, in milliseconds. */
const SHORTEST = 0.01;

export interface LimitOptions {
  /** Requests at once, to all registries together; 8 by default. */
  connections?: number;
  /** Bytes a second of bodies, counted apart for down and up; 0, the default: as many as come. */
  bytesPerSecond?: number;
}

/** Bytes of one direction, counted since the beginning. */
interface Flow {
  /** Of all that were moved, or are about to be. */
  promised: number;
  /** For how many of them there was time; more than were promised: so many may be moved at once. */
  passed: number;
}

/** The clock, a parameter for tests: milliseconds, and a way to wait. */
export interface Clock {
  now(): number;
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
}

export class Limits {
  readonly connections: number;
  private readonly clock: Clock;
  private rate: number;
  private free: number;
  private readonly queue: Array<() => void> = [];
  private readonly flows: Record<'down' | 'up', Flow> = {
    down: { promised: 0, passed: 0 },
    up: { promised: 0, passed: 0 },
  };
  /** The clock's time for which `passed` is true. */
  private at: number;
  /** Pauses that end when the rate becomes another. */
  private readonly pauses = new Set<AbortController>();

  constructor(options: LimitOptions = {}, clock: Clock = systemClock) {
    this.connections = Math.max(1, options.connections ?? DEFAULT_CONNECTIONS);
    this.rate = options.bytesPerSecond ?? 0;
    this.clock = clock;
    // What nobody has used yet is saved up.
    this.at = clock.now() - BURST;
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

  /** Bytes a second; 0: as many as come. */
  get bytesPerSecond(): number {
    return this.rate;
  }

  /** Holds from now on, also for who waits already. */
  set bytesPerSecond(rate: number) {
    this.settle();
    this.rate = rate;
    for (const pause of this.pauses) pause.abort();
  }

  /** Waits until the bytes that were just moved fit into the rate. */
  async moved(bytes: number, way: 'down' | 'up', signal?: AbortSignal): Promise<void> {
    this.settle();
    const flow = this.flows[way];
    flow.promised += bytes;
    const mine = flow.promised;
    while (this.rate > 0 && mine > flow.passed) {
      const wait = ((mine - flow.passed) * 1000) / this.rate;
      if (wait < SHORTEST) break;
      await this.pause(wait, signal);
      this.settle();
    }
  }

  /** Time has gone on. */
  private settle(): void {
    const now = this.clock.now();
    for (const flow of Object.values(this.flows)) {
      const most = flow.promised + (this.rate * BURST) / 1000;
      const passed = flow.passed + (this.rate * (now - this.at)) / 1000;
      flow.passed = this.rate === 0 ? flow.promised : Math.min(most, passed);
    }
    this.at = now;
  }

  /** @throws the signal's reason. */
  private async pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    const pause = new AbortController();
    const end = (): void => pause.abort();
    signal?.addEventListener('abort', end, { once: true });
    this.pauses.add(pause);
    try {
      await this.clock.sleep(milliseconds, pause.signal);
    } catch (error) {
      signal?.throwIfAborted();
      // The rate is another.
      if (!pause.signal.aborted) throw error;
    } finally {
      this.pauses.delete(pause);
      signal?.removeEventListener('abort', end);
    }
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
