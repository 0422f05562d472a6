// Who uses a loader in tests: one that collects what it is told, and the client's end of a connection.
// Used by loader.test.ts, loader-socket.test.ts and loader-kill.test.ts.
// Frames: src/lazy/protocol.ts.

import { connect, type Socket } from 'node:net';
import type { Loader, OpenUse } from '../../src/lazy/load/loader.js';
import type { Waiter } from '../../src/lazy/load/queue.js';
import {
  Ask,
  DEFAULT_POLICY,
  FRAME,
  LOADER_PROTOCOL,
  type LoadPolicy,
  Tell,
} from '../../src/lazy/protocol.js';

/** Nothing ahead of what is wanted. */
export const QUIET: LoadPolicy = { ...DEFAULT_POLICY, fill: false, prefetch: false };

export class Collector implements Waiter {
  readonly arrived = new Set<number>();
  readonly refused = new Map<number, number>();
  completed = 0;
  #changed: (() => void)[] = [];

  here(first: number, count: number): void {
    for (let i = first; i < first + count; i++) this.arrived.add(i);
    this.#tell();
  }

  failed(first: number, count: number, errno: number): void {
    for (let i = first; i < first + count; i++) this.refused.set(i, errno);
    this.#tell();
  }

  complete(): void {
    this.completed++;
    this.#tell();
  }

  #tell(): void {
    const changed = this.#changed;
    this.#changed = [];
    for (const told of changed) told();
  }

  /** Waits for what it is told. */
  async until(holds: (told: this) => boolean): Promise<void> {
    while (!holds(this)) await new Promise<void>((resolve) => this.#changed.push(resolve));
  }
}

export async function use(
  loader: Loader,
  folder: string,
  policy: Partial<LoadPolicy> = {},
  mountpoint = '/mnt',
): Promise<{ open: OpenUse; told: Collector }> {
  const told = new Collector();
  const open = await loader.use({
    folder,
    mountpoint,
    policy: { ...QUIET, ...policy },
    waiter: told,
  });
  return { open, told };
}

export function frame(kind: number, layer: number, first: number, count: number): Buffer {
  const bytes = Buffer.alloc(FRAME);
  for (const [k, word] of [kind, layer, first, count].entries()) bytes.writeUInt32LE(word, 4 * k);
  return bytes;
}

export interface Told {
  readonly kind: number;
  readonly layer: number;
  readonly first: number;
  readonly count: number;
  readonly json?: Record<string, unknown>;
}

/** The client's end. */
export class Client {
  readonly socket: Socket;
  readonly told: Told[] = [];
  closed = false;
  #input: Buffer = Buffer.alloc(0);
  #changed: (() => void)[] = [];

  constructor(path: string) {
    this.socket = connect(path);
    this.socket.on('error', () => {});
    this.socket.on('data', (chunk: Buffer) => this.#take(chunk));
    this.socket.on('close', () => {
      this.closed = true;
      this.#tell();
    });
  }

  #take(chunk: Buffer): void {
    this.#input = Buffer.concat([this.#input, chunk]);
    for (;;) {
      if (this.#input.length < FRAME) break;
      const [kind, layer, first, count] = [0, 4, 8, 12].map((at) => this.#input.readUInt32LE(at));
      const hasJson = kind === Tell.REFUSED || kind === Tell.JSON_REPLY;
      const size = FRAME + (hasJson ? (count as number) : 0);
      if (this.#input.length < size) break;
      const json = hasJson ? JSON.parse(this.#input.toString('utf8', FRAME, size)) : undefined;
      this.#input = this.#input.subarray(size);
      this.told.push({ kind, layer, first, count, json } as Told);
    }
    this.#tell();
  }

  #tell(): void {
    const changed = this.#changed;
    this.#changed = [];
    for (const told of changed) told();
  }

  /** The first that fits, also of those that came before; undefined when the connection ends first. */
  async next(fits: (told: Told) => boolean): Promise<Told | undefined> {
    for (;;) {
      const found = this.told.find(fits);
      if (found !== undefined || this.closed) return found;
      await new Promise<void>((resolve) => this.#changed.push(resolve));
    }
  }

  hello(): void {
    this.send(Ask.HELLO, 0, LOADER_PROTOCOL, 0);
  }

  send(kind: number, layer: number, first: number, count: number): void {
    this.socket.write(frame(kind, layer, first, count));
  }

  json(kind: number, layer: number, value: object): void {
    const body = Buffer.from(JSON.stringify(value));
    this.send(kind, layer, 0, body.length);
    this.socket.write(body);
  }

  use(layer: number, folder: string, policy: Partial<LoadPolicy> = {}): void {
    this.json(Ask.USE, layer, {
      layer,
      folder,
      mountpoint: '/mnt',
      policy: { ...QUIET, ...policy },
    });
  }
}
