// A TCP proxy that makes a loopback connection as slow as a distant one: latency and a rate that all connections share.
// For tests and benchmarks, in the test's own process. Connections take turns on the wire, as they do behind a fair
// queue: what one has asked for in advance does not keep the others waiting.

import { connect, createServer, type Server, type Socket } from 'node:net';
import type { Cleanup } from '../support/temp.js';

export interface ShaperOptions {
  /** Where connections go: `127.0.0.1:5000`. */
  to: string;
  /** Milliseconds that each byte takes, EACH WAY: half of the round trip. */
  latency?: number;
  /** Bytes a second, shared by all connections, counted apart for each way; unlimited by default. */
  rate?: number;
}

export interface Shaper {
  /** `127.0.0.1:PORT`, to be used instead of the registry's. */
  readonly host: string;
  /** Bytes that came from the registry, and bytes that went to it. */
  readonly bytes: { down: number; up: number };
  /** May be changed while connections are open. */
  latency: number;
  rate: number;
  /** Breaks all connections that are open now. */
  cut(): void;
  stop(): Promise<void>;
}

/** Bytes of one connection that may wait for the wire; more stays with the sender. */
const WINDOW = 128 * 1024;
/** What goes over the wire in one turn. */
const PIECE = 8 * 1024;
/** Milliseconds of the wire's time that a late timer may make up for. */
const LATE = 5;

export async function startShaper(t: Cleanup | undefined, options: ShaperOptions): Promise<Shaper> {
  const [toHost, toPort] = splitHost(options.to);
  const open = new Set<Socket>();
  const shaper = {
    host: '',
    bytes: { down: 0, up: 0 },
    latency: options.latency ?? 0,
    rate: options.rate ?? Number.POSITIVE_INFINITY,
    cut: () => {
      for (const socket of open) socket.destroy();
    },
    stop: async () => {
      shaper.cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  const wires = { down: new Wire(shaper), up: new Wire(shaper) };

  const server: Server = createServer({ allowHalfOpen: true }, (client) => {
    const upstream = connect({ host: toHost, port: toPort, allowHalfOpen: true });
    for (const socket of [client, upstream]) {
      socket.setNoDelay(true).pause();
      open.add(socket);
      socket.on('close', () => open.delete(socket));
    }
    const count = (way: 'down' | 'up') => (bytes: number) => {
      shaper.bytes[way] += bytes;
    };
    const ways = [
      new Way(client, upstream, wires.up, shaper, count('up')),
      new Way(upstream, client, wires.down, shaper, count('down')),
    ];
    // The handshake takes a round trip, of which the connection to the proxy itself shows nothing.
    upstream.once('connect', () => {
      setTimeout(() => {
        for (const way of ways) way.begin();
      }, shaper.latency * 2);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  shaper.host = `127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
  t?.after(() => shaper.stop());
  return shaper;
}

interface Settings {
  readonly latency: number;
  readonly rate: number;
}

/** One way of the line: whoever has something to send gets a turn, one piece each. */
class Wire {
  private readonly settings: Settings;
  /** Those that have something to send, in the order of their turns. */
  private readonly waiting: Way[] = [];
  /** When the wire is free again, in milliseconds of performance.now(). */
  private free = 0;
  private timer: NodeJS.Timeout | undefined;

  constructor(settings: Settings) {
    this.settings = settings;
  }

  join(way: Way): void {
    if (!this.waiting.includes(way)) this.waiting.push(way);
    if (this.timer === undefined) this.turn();
  }

  private turn(): void {
    this.timer = undefined;
    while (this.waiting.length > 0) {
      const now = performance.now();
      if (this.free > now) {
        this.timer = setTimeout(() => this.turn(), this.free - now);
        return;
      }
      const way = this.waiting.shift()!;
      const piece = way.next(PIECE);
      if (piece === undefined) continue;
      this.free = Math.max(this.free, now - LATE) + (piece.length * 1000) / this.settings.rate;
      way.deliver(piece, Math.max(this.free, now) + this.settings.latency);
      this.waiting.push(way);
    }
  }
}

/** One way of one connection. */
class Way {
  private readonly from: Socket;
  private readonly to: Socket;
  private readonly wire: Wire;
  private readonly settings: Settings;
  private readonly count: (bytes: number) => void;
  /** Waits for the wire. */
  private queue: Buffer[] = [];
  private queued = 0;
  private ended = false;
  /** Is on its way; undefined is the end. */
  private readonly flying: Array<{ at: number; piece: Buffer | undefined }> = [];
  private timer: NodeJS.Timeout | undefined;

  constructor(
    from: Socket,
    to: Socket,
    wire: Wire,
    settings: Settings,
    count: (bytes: number) => void,
  ) {
    this.from = from;
    this.to = to;
    this.wire = wire;
    this.settings = settings;
    this.count = count;
    // A connection that breaks takes what was on its way with it.
    from.on('error', () => {});
    from.on('close', () => {
      if (!this.ended) to.destroy();
    });
    to.on('close', () => {
      this.queue = [];
      this.queued = 0;
    });
  }

  begin(): void {
    this.from.on('data', (data: Buffer) => {
      this.count(data.length);
      this.queue.push(data);
      this.queued += data.length;
      if (this.queued >= WINDOW) this.from.pause();
      this.wire.join(this);
    });
    this.from.on('end', () => {
      this.ended = true;
      if (this.queued === 0) this.arriveEnd();
    });
    this.from.resume();
  }

  /** Takes the next piece from what waits. */
  next(most: number): Buffer | undefined {
    const first = this.queue[0];
    if (first === undefined) return undefined;
    const piece = first.subarray(0, most);
    if (piece.length === first.length) this.queue.shift();
    else this.queue[0] = first.subarray(most);
    this.queued -= piece.length;
    if (this.queued < WINDOW && this.from.isPaused()) this.from.resume();
    return piece;
  }

  deliver(piece: Buffer, at: number): void {
    this.fly({ at, piece });
    if (this.ended && this.queued === 0) this.arriveEnd();
  }

  private arriveEnd(): void {
    const last = this.flying.at(-1)?.at ?? 0;
    this.fly({ at: Math.max(last, performance.now() + this.settings.latency), piece: undefined });
  }

  private fly(entry: { at: number; piece: Buffer | undefined }): void {
    this.flying.push(entry);
    if (this.timer === undefined) this.land();
  }

  private land(): void {
    this.timer = undefined;
    while (this.flying.length > 0) {
      const { at, piece } = this.flying[0]!;
      const left = at - performance.now();
      if (left > 0.5) {
        this.timer = setTimeout(() => this.land(), left);
        return;
      }
      this.flying.shift();
      if (this.to.destroyed) continue;
      if (piece === undefined) this.to.end();
      else this.to.write(piece);
    }
  }
}

function splitHost(host: string): [string, number] {
  const colon = host.lastIndexOf(':');
  return [host.slice(0, colon), Number(host.slice(colon + 1))];
}
