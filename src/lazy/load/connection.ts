// One connection to the loader: frames in, frames out (protocol.ts).
// Made by stack/loader.ts for each client of its socket; what it asks for goes to loader.ts.
// Whoever breaks the protocol loses the connection, and with it everything that it used.

import type { Socket } from 'node:net';
import {
  Ask,
  FRAME,
  LOADER_PROTOCOL,
  type LoaderCommand,
  type LoadPolicy,
  MAX_JSON,
  Tell,
  type UseRequest,
} from '../protocol.js';
import type { Loader, OpenUse } from './loader.js';
import type { Waiter } from './queue.js';

/** Layers of one connection. */
const MAX_LAYERS = 1 << 16;
const U32 = 0xffff_ffff;

/** A mount of the kernel is not served by whoever asks for it: its uses outlive the connection. */
export interface KernelWay {
  /**
   * Has the layer loaded for a mount of the kernel. Resolves when that may be made.
   * @param ended resolves when the mount stands, or will never be made. @returns whether the layer is complete.
   */
  use(request: UseRequest, ended: Promise<void>): Promise<boolean>;
}

/**
 * Commands that are none of the loader's own. They hold up nobody: each is answered when it is done.
 * @param ended resolves when the connection is gone. @returns undefined for a command of the loader.
 */
export type FurtherCommands = (
  command: LoaderCommand,
  ended: Promise<void>,
) => Promise<object> | undefined;

export class Connection {
  readonly #socket: Socket;
  readonly #loader: Loader;
  readonly #kernel: KernelWay | undefined;
  readonly #further: FurtherCommands | undefined;
  readonly #uses = new Map<number, OpenUse | undefined>();
  #input: Buffer = Buffer.alloc(0);
  #greeted = false;
  #over = false;
  /** Commands and uses are performed one after the other. */
  #last: Promise<void> = Promise.resolve();
  readonly #ended: Promise<void>;

  constructor(socket: Socket, loader: Loader, kernel?: KernelWay, further?: FurtherCommands) {
    this.#socket = socket;
    this.#loader = loader;
    this.#kernel = kernel;
    this.#further = further;
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('error', () => {});
    this.#ended = new Promise((resolve) => socket.on('close', () => resolve()));
    void this.#ended.then(() => this.#end());
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    for (const use of this.#uses.values()) use?.end();
    this.#uses.clear();
  }

  #break(): void {
    this.#end();
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    if (this.#over) return;
    this.#input = this.#input.length === 0 ? chunk : Buffer.concat([this.#input, chunk]);
    let at = 0;
    while (!this.#over && this.#input.length - at >= FRAME) {
      const kind = this.#input.readUInt32LE(at);
      const layer = this.#input.readUInt32LE(at + 4);
      const first = this.#input.readUInt32LE(at + 8);
      const count = this.#input.readUInt32LE(at + 12);
      const hasJson = kind === Ask.USE || kind === Ask.COMMAND;
      if (hasJson && count > MAX_JSON) {
        this.#break();
        return;
      }
      const size = FRAME + (hasJson ? count : 0);
      if (this.#input.length - at < size) break;
      const body = this.#input.subarray(at + FRAME, at + size);
      at += size;
      if (hasJson) this.#queueJson(kind, layer, body);
      else this.#frame(kind, layer, first, count);
    }
    this.#input = this.#input.subarray(at);
  }

  #frame(kind: number, layer: number, first: number, count: number): void {
    if (kind === Ask.HELLO) {
      // A client of another version finds out by our answer.
      this.#greeted = true;
      this.#send(Tell.HELLO, 0, LOADER_PROTOCOL, 0);
      return;
    }
    if (!this.#greeted) {
      this.#break();
      return;
    }
    // Of a layer that was refused, or is complete, nothing is to be done.
    const use = this.#uses.get(layer);
    switch (kind) {
      case Ask.WANT:
        // It may still be opened.
        if (use === undefined) void this.#last.then(() => this.#want(layer, first, count));
        else this.#want(layer, first, count);
        break;
      case Ask.DROP:
        use?.drop(first, count);
        break;
      case Ask.USED:
        use?.used(first, count);
        break;
      default:
        this.#break();
    }
  }

  #want(layer: number, first: number, count: number): void {
    const use = this.#uses.get(layer);
    if (use === undefined) return;
    if (first + count > use.count) this.#break();
    else use.want(first, count);
  }

  #queueJson(kind: number, layer: number, body: Buffer): void {
    let value: unknown;
    try {
      value = JSON.parse(body.toString());
    } catch {
      value = undefined;
    }
    if (!this.#greeted || typeof value !== 'object' || value === null) {
      this.#break();
      return;
    }
    const further =
      kind === Ask.COMMAND ? this.#further?.(value as LoaderCommand, this.#ended) : undefined;
    if (further !== undefined) {
      void this.#answer(layer, further);
      return;
    }
    this.#last = this.#last.then(async () => {
      if (this.#over) return;
      if (kind === Ask.USE) await this.#use(value as UseRequest);
      else await this.#command(layer, value as LoaderCommand);
    });
  }

  #command(number: number, command: LoaderCommand): Promise<void> {
    return this.#answer(number, this.#loader.perform(command));
  }

  async #answer(number: number, reply: Promise<object>): Promise<void> {
    try {
      this.#sendJson(Tell.JSON_REPLY, number, await reply);
    } catch (error) {
      this.#sendJson(Tell.JSON_REPLY, number, { error: messageOf(error) });
    }
  }

  async #use(request: UseRequest): Promise<void> {
    const { layer } = request;
    const fault = faultOf(request);
    if (fault !== undefined || this.#uses.has(layer) || this.#uses.size >= MAX_LAYERS) {
      return this.#break();
    }
    try {
      if (request.way === 'kernel') {
        const kernel = this.#kernel;
        if (kernel === undefined) {
          throw new Error('this loader does not know the way of the kernel');
        }
        const complete = await this.#loader.whenFree(() => kernel.use(request, this.#ended));
        return this.#send(Tell.USING, layer, complete ? 1 : 0, 0);
      }
      const waiter = this.#waiter(layer);
      const use = await this.#loader.whenFree(() => this.#loader.use({ ...request, waiter }));
      if (this.#over) return use.end();
      this.#uses.set(layer, use);
      this.#send(Tell.USING, layer, use.isComplete ? 1 : 0, use.records ? 1 : 0);
    } catch (error) {
      this.#sendJson(Tell.REFUSED, layer, { message: messageOf(error) });
    }
  }

  #waiter(layer: number): Waiter {
    return {
      here: (first, count) => this.#send(Tell.HERE, layer, first, count),
      failed: (first, count, errno) => {
        for (let i = first; i < first + count; i++) this.#send(Tell.FAILED, layer, i, errno);
      },
      complete: () => this.#send(Tell.COMPLETE, layer, 0, 0),
    };
  }

  #send(kind: number, layer: number, first: number, count: number): void {
    if (this.#over) return;
    const frame = Buffer.alloc(FRAME);
    frame.writeUInt32LE(kind, 0);
    frame.writeUInt32LE(layer, 4);
    frame.writeUInt32LE(first, 8);
    frame.writeUInt32LE(count, 12);
    this.#socket.write(frame);
  }

  #sendJson(kind: number, layer: number, value: object): void {
    const body = Buffer.from(JSON.stringify(value));
    this.#send(kind, layer, 0, body.length);
    if (!this.#over) this.#socket.write(body);
  }
}

const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);

/** @returns what of a request is none, or undefined. */
function faultOf({ layer, folder, mountpoint, policy }: UseRequest): string | undefined {
  if (!Number.isInteger(layer) || layer < 0 || layer > U32) return 'layer';
  if (typeof folder !== 'string' || !folder.startsWith('/')) return 'folder';
  if (typeof mountpoint !== 'string') return 'mountpoint';
  return isPolicy(policy) ? undefined : 'policy';
}

function isPolicy(policy: LoadPolicy | undefined): boolean {
  if (typeof policy !== 'object' || policy === null) return false;
  const { stall, fill, prefetch, record } = policy;
  const knows = stall === 'wait' || stall === 'eio' || (typeof stall === 'number' && stall > 0);
  return knows && [fill, prefetch, record].every((word) => typeof word === 'boolean');
}
