// The server's end of the loader's socket: says what is waited for, and calls back when it is here, or is not to be had.
// Owned by stack/server.ts, whose loop polls it between requests; it never blocks and never looks at content.
// A loader may die at any moment: the supervisor starts another one, which is told everything again.

import { E, errnoName } from '../linux/errno.js';
import { close } from '../linux/files.js';
import { connectUnix, receiveBytes, sendBytes } from '../linux/socket.js';
import type { ChunkTable } from './chunk-table.js';
import {
  Ask,
  FRAME,
  LOADER_PROTOCOL,
  type LoaderCommand,
  type LoadPolicy,
  Tell,
  type UseRequest,
} from './protocol.js';
import type { ResidencyMap } from './residency.js';

/** Milliseconds between two looks at what is waited for: deadlines, chunks that are to be asked for again, and the map itself. */
const LOOK = 200;
/** Milliseconds after which a chunk, or a loader, is asked for again. */
const WANT_AGAIN = 1000;
/** Pause before the next attempt to connect, milliseconds: the first, and the longest. */
const FIRST_PAUSE = 20;
const LONGEST_PAUSE = 500;
/** Milliseconds without a connection after which a loader is asked for, and between two such requests. */
const SUMMON_AFTER = 300;
const SUMMON_EVERY = 3000;
/** stall=eio: milliseconds for which a loader may be away, for one that was killed is replaced. */
const AWAY = 5000;
/** Bytes of frames that wait to be sent, above which what nobody waits for is not asked for. */
const MUCH_TO_SEND = 64 * 1024;
const RECEIVE = 64 * 1024;
/** Number of the command that is never done. */
const STAY = 0;

export interface ClientOptions {
  /** The loader's socket. */
  readonly socket: string;
  readonly mountpoint: string;
  readonly policy: LoadPolicy;
  readonly log: (line: string) => void;
  /** Has a loader started; called when nobody listens. */
  readonly summon?: () => void;
  /** Told how many wait now, and how many chunks were asked for so far. */
  readonly counted?: (waiting: number, wanted: number) => void;
  /** Called when the last layer has become complete. */
  readonly completed?: () => void;
  /** Called when content of a complete layer was taken back: it arrives again. */
  readonly revived?: () => void;
  /** Milliseconds; performance.now(). */
  readonly now?: () => number;
}

/** One that waits for chunks of one layer. */
interface Waiter {
  /** Chunks that are still missing. */
  readonly missing: Set<number>;
  readonly since: number;
  readonly done: (result: number) => void;
}

/** A chunk that was asked for. */
interface Wanted {
  readonly waiters: Set<Waiter>;
  /** When it is to be asked for again, although the loader thinks that nobody is that patient; 0: it is being fetched. */
  again: number;
}

/** What the loader that is connected knows of a layer. */
const State = { NEW: 0, ASKED: 1, USED: 2 } as const;

/** A layer that is not complete, or may be so again. Made by LoaderClient.layer(). */
export class LateLayer {
  readonly number: number;
  readonly folder: string;
  readonly table: ChunkTable;
  /** Opened when the loader says that it is there, or before where the layer is complete. */
  map: ResidencyMap | undefined;
  /** The loader wants to hear of what is read. */
  records = false;
  /** Nothing of it is to be loaded, as far as is known. */
  complete: boolean;
  /** It was complete, and content was taken back on purpose: only what is wanted comes again. */
  revived = false;
  /** What the loader that is connected knows of it. */
  state: number = State.NEW;
  readonly wanted = new Map<number, Wanted>();
  readonly openMap: () => ResidencyMap;
  readonly #client: LoaderClient;
  #told: Uint8Array | undefined;

  constructor(client: LoaderClient, number: number, how: LayerOptions) {
    this.#client = client;
    this.number = number;
    this.folder = how.folder;
    this.table = how.table;
    this.openMap = how.openMap;
    this.map = how.map;
    this.complete = how.map?.isComplete === true;
  }

  whenHere(first: number, last: number, done: (result: number) => void): () => void {
    return this.#client.wait(this, first, last, done);
  }

  wantSoon(first: number, last: number): void {
    this.#client.wantSoon(this, first, last);
  }

  /** Chunks `first` to `last` (not included) were read; each is told once. */
  used(first: number, last: number): void {
    if (!this.records) return;
    this.#told ??= new Uint8Array(this.table.count);
    for (let i = first; i < last; i++) {
      if (this.#told[i] !== 0) continue;
      this.#told[i] = 1;
      this.#client.tellUsed(this, i);
    }
  }
}

export interface LayerOptions {
  /** Absolute path of its folder, as the loader is to find it. */
  readonly folder: string;
  readonly table: ChunkTable;
  /** Undefined as long as no loader has made it. */
  readonly map: ResidencyMap | undefined;
  readonly openMap: () => ResidencyMap;
}

/** A command that was not answered. */
interface Command {
  readonly json: Uint8Array;
  readonly done: (reply: object) => void;
}

export class LoaderClient {
  /** Connection to the loader; -1: none. */
  fd = -1;
  readonly #options: ClientOptions;
  readonly #now: () => number;
  readonly #layers: LateLayer[] = [];
  readonly #input = new Uint8Array(RECEIVE);
  #held = 0;
  #output: Uint8Array[] = [];
  #outputSize = 0;
  #waiters = new Set<Waiter>();
  #wanted = 0;
  /** When the connection broke, or the first attempt was made. */
  #awaySince = 0;
  #nextTry = 0;
  #pause = FIRST_PAUSE;
  #lastSummons = Number.NEGATIVE_INFINITY;
  #nextLook = 0;
  /** The last line of the log: said once. */
  #told = '';
  /** Commands that were not answered, by number. */
  readonly #commands = new Map<number, Command>();
  #nextCommand = 1;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#awaySince = this.#now();
  }

  /** A layer that this server reads. */
  layer(how: LayerOptions): LateLayer {
    const layer = new LateLayer(this, this.#layers.length, how);
    this.#layers.push(layer);
    if (!layer.complete && this.fd >= 0) {
      this.#use(layer);
      this.#flush();
    }
    return layer;
  }

  /** From now on there is a loader as long as this server lives, whatever there is to load. */
  stay(): void {
    // Never done, so that every loader is told.
    this.#commands.set(STAY, { json: Buffer.from(JSON.stringify({ op: 'stay' })), done: () => {} });
    if (this.fd < 0) this.#nextTry = 0;
    else this.#sendCommand(STAY);
  }

  /** Has the loader do something that may take long. `done` gets its answer; another loader is asked again. */
  command(command: LoaderCommand, done: (reply: object) => void): void {
    const number = this.#nextCommand++;
    this.#commands.set(number, { json: Buffer.from(JSON.stringify(command)), done });
    if (this.fd < 0) this.#nextTry = 0;
    else this.#sendCommand(number);
    this.#flush();
  }

  #sendCommand(number: number): void {
    const { json } = this.#commands.get(number) as Command;
    this.#frame(Ask.COMMAND, number, 0, json.length);
    this.#put(json);
  }

  #replied(number: number, json: Uint8Array): void {
    const command = this.#commands.get(number);
    if (command === undefined) return;
    if (number !== STAY) this.#commands.delete(number);
    command.done(JSON.parse(Buffer.from(json).toString()) as object);
  }

  /** Whether there is anything that a loader is needed for. */
  get isNeeded(): boolean {
    return this.#commands.size > 0 || this.#layers.some(({ complete }) => !complete);
  }

  /** Milliseconds after which attend() is to be called although `fd` has nothing; -1: not at all. */
  get timeout(): number {
    let due = Number.POSITIVE_INFINITY;
    const now = this.#now();
    if (this.#output.length > 0) due = 2;
    if (this.fd < 0 && this.isNeeded) due = this.#nextTry - now;
    if (this.#hasWanted) due = Math.min(due, this.#nextLook - now);
    return due === Number.POSITIVE_INFINITY ? -1 : Math.max(0, Math.ceil(due));
  }

  get #hasWanted(): boolean {
    return this.#layers.some(({ wanted }) => wanted.size > 0);
  }

  /** Hears what the loader says, and does what is due. */
  attend(): void {
    if (this.fd >= 0) this.#receive();
    const now = this.#now();
    if (this.fd < 0 && this.isNeeded && now >= this.#nextTry) this.#connect(now);
    if (this.#output.length > 0) this.#flush();
    if (this.#hasWanted && now >= this.#nextLook) this.#look(now);
  }

  /** As LateSource.whenHere(). */
  wait(layer: LateLayer, first: number, last: number, done: (result: number) => void): () => void {
    const waiter: Waiter = { missing: new Set(), since: this.#now(), done };
    for (let i = first; i < last; i++) if (layer.map?.isHere(i) !== true) waiter.missing.add(i);
    if (waiter.missing.size === 0) {
      done(0);
      return () => {};
    }
    this.#revive(layer);
    this.#waiters.add(waiter);
    if (!this.#hasWanted) this.#nextLook = waiter.since + LOOK;
    for (const i of waiter.missing) {
      const wanted = layer.wanted.get(i);
      if (wanted === undefined) layer.wanted.set(i, { waiters: new Set([waiter]), again: 0 });
      else wanted.waiters.add(waiter);
      if (wanted === undefined) this.#want(layer, i);
    }
    this.#flush();
    this.#count();
    return () => this.#forget(layer, waiter);
  }

  /** As LateSource.wantSoon(). */
  wantSoon(layer: LateLayer, first: number, last: number): void {
    if (this.#outputSize > MUCH_TO_SEND) return;
    for (let i = first; i < last; i++) {
      if (layer.map?.isHere(i) === true || layer.wanted.has(i)) continue;
      if (!this.#hasWanted) this.#nextLook = this.#now() + LOOK;
      layer.wanted.set(i, { waiters: new Set(), again: 0 });
      this.#want(layer, i);
    }
    this.#flush();
  }

  tellUsed(layer: LateLayer, chunk: number): void {
    if (layer.state === State.USED) this.#frame(Ask.USED, layer.number, chunk, 1);
  }

  /** Content of a complete layer was taken back: it is to be loaded again. */
  #revive(layer: LateLayer): void {
    if (!layer.complete) return;
    layer.complete = false;
    layer.revived = true;
    this.#options.revived?.();
    // Named once in a connection: it takes another.
    if (layer.state !== State.NEW) this.#disconnect();
    if (this.fd >= 0) this.#use(layer);
    else this.#nextTry = 0;
  }

  #want(layer: LateLayer, chunk: number): void {
    this.#wanted++;
    if (layer.state === State.USED) this.#frame(Ask.WANT, layer.number, chunk, 1);
  }

  #forget(layer: LateLayer, waiter: Waiter): void {
    if (!this.#waiters.delete(waiter)) return;
    for (const i of waiter.missing) {
      const wanted = layer.wanted.get(i);
      wanted?.waiters.delete(waiter);
      if (wanted?.waiters.size !== 0) continue;
      layer.wanted.delete(i);
      if (layer.state === State.USED) this.#frame(Ask.DROP, layer.number, i, 1);
    }
    this.#count();
  }

  #fail(layer: LateLayer, waiter: Waiter, error: number): void {
    if (!this.#waiters.has(waiter)) return;
    this.#forget(layer, waiter);
    waiter.done(error);
  }

  #arrived(layer: LateLayer, chunk: number): void {
    const wanted = layer.wanted.get(chunk);
    if (wanted === undefined) return;
    layer.wanted.delete(chunk);
    for (const waiter of wanted.waiters) {
      waiter.missing.delete(chunk);
      if (waiter.missing.size > 0) continue;
      this.#waiters.delete(waiter);
      waiter.done(0);
    }
  }

  /** Deadlines, chunks that are to be asked for again, and what arrived without a word. */
  #look(now: number): void {
    this.#nextLook = now + LOOK;
    const { stall } = this.#options.policy;
    const away = this.fd < 0 && now - this.#awaySince > AWAY;
    for (const layer of this.#layers) {
      for (const [chunk, wanted] of layer.wanted) {
        if (layer.map?.isHere(chunk) === true) {
          this.#arrived(layer, chunk);
          continue;
        }
        for (const waiter of wanted.waiters) {
          const waits = now - waiter.since;
          const isOver = typeof stall === 'number' ? waits >= stall * 1000 : waits > AWAY && away;
          if (stall !== 'wait' && isOver) this.#fail(layer, waiter, -E.IO);
        }
        if (wanted.again === 0 || now < wanted.again) continue;
        wanted.again = 0;
        this.#want(layer, chunk);
      }
    }
    this.#count();
    this.#flush();
  }

  #count(): void {
    this.#options.counted?.(this.#waiters.size, this.#wanted);
  }

  #connect(now: number): void {
    const fd = connectUnix(this.#options.socket);
    if (fd < 0) {
      this.#nextTry = now + this.#pause;
      this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE);
      if (now - this.#awaySince < SUMMON_AFTER || now - this.#lastSummons < SUMMON_EVERY) return;
      this.#lastSummons = now;
      this.#say(`no loader (${errnoName(fd)}): asking for one`);
      this.#options.summon?.();
      return;
    }
    this.fd = fd;
    this.#held = 0;
    this.#pause = FIRST_PAUSE;
    this.#frame(Ask.HELLO, 0, LOADER_PROTOCOL, 0);
    for (const layer of this.#layers) if (!layer.complete) this.#use(layer);
    for (const number of this.#commands.keys()) this.#sendCommand(number);
    this.#flush();
  }

  #say(line: string): void {
    if (line !== this.#told) this.#options.log(line);
    this.#told = line;
  }

  #use(layer: LateLayer): void {
    const { mountpoint } = this.#options;
    const policy = layer.revived
      ? { ...this.#options.policy, fill: false, prefetch: false }
      : this.#options.policy;
    const request: UseRequest = { layer: layer.number, folder: layer.folder, mountpoint, policy };
    const json = Buffer.from(JSON.stringify(request));
    layer.state = State.ASKED;
    this.#frame(Ask.USE, layer.number, 0, json.length);
    this.#put(json);
  }

  #disconnect(): void {
    if (this.fd < 0) return;
    close(this.fd);
    this.fd = -1;
    this.#output = [];
    this.#outputSize = 0;
    this.#held = 0;
    this.#awaySince = this.#now();
    this.#nextTry = this.#awaySince + FIRST_PAUSE;
    for (const layer of this.#layers) layer.state = State.NEW;
  }

  #frame(kind: number, layer: number, first: number, count: number): void {
    const words = Uint32Array.of(kind, layer, first, count);
    this.#put(new Uint8Array(words.buffer));
  }

  #put(bytes: Uint8Array): void {
    if (this.fd < 0) return;
    this.#output.push(bytes);
    this.#outputSize += bytes.length;
  }

  #flush(): void {
    if (this.fd < 0 || this.#output.length === 0) return;
    const all = this.#output.length === 1 ? this.#output[0] : Buffer.concat(this.#output);
    const n = sendBytes(this.fd, all as Uint8Array);
    if (n < 0 && n !== -E.AGAIN && n !== -E.INTR) {
      this.#disconnect();
      return;
    }
    const rest = (all as Uint8Array).subarray(Math.max(n, 0));
    this.#output = rest.length === 0 ? [] : [rest];
    this.#outputSize = rest.length;
  }

  #receive(): void {
    while (this.fd >= 0) {
      const n = receiveBytes(this.fd, this.#input.subarray(this.#held));
      if (n === -E.AGAIN) break;
      if (n === -E.INTR) continue;
      if (n <= 0) {
        this.#disconnect();
        break;
      }
      this.#held += n;
      this.#take();
    }
    this.#count();
    if (this.fd >= 0 && !this.isNeeded) {
      this.#disconnect();
      this.#options.completed?.();
    }
  }

  /** Handles the whole frames that were received; JSON may come in pieces. */
  #take(): void {
    const view = new DataView(this.#input.buffer);
    let at = 0;
    while (this.fd >= 0 && this.#held - at >= FRAME) {
      const kind = view.getUint32(at, true);
      const layer = view.getUint32(at + 4, true);
      const first = view.getUint32(at + 8, true);
      const count = view.getUint32(at + 12, true);
      const body = kind === Tell.REFUSED || kind === Tell.JSON_REPLY ? count : 0;
      // Longer than any reason is.
      if (body > RECEIVE - FRAME) {
        this.#disconnect();
        return;
      }
      if (this.#held - at < FRAME + body) break;
      const json = this.#input.subarray(at + FRAME, at + FRAME + body);
      at += FRAME + body;
      if (kind === Tell.HELLO) this.#greeted(first);
      else if (kind === Tell.JSON_REPLY) this.#replied(layer, json);
      else if (this.#layers[layer] !== undefined) {
        this.#heard(kind, this.#layers[layer], first, count, json);
      }
    }
    if (at > 0) this.#input.copyWithin(0, at, this.#held);
    this.#held = Math.max(0, this.#held - at);
  }

  #greeted(version: number): void {
    if (version === LOADER_PROTOCOL) return;
    this.#say(`the loader speaks version ${version}, this server ${LOADER_PROTOCOL}`);
    this.#disconnect();
    this.#nextTry = this.#now() + WANT_AGAIN;
  }

  #heard(kind: number, layer: LateLayer, first: number, count: number, json: Uint8Array): void {
    switch (kind) {
      case Tell.USING:
        this.#using(layer, first === 1, count === 1);
        break;
      case Tell.REFUSED:
        this.#refused(layer, json);
        break;
      case Tell.HERE:
        for (let i = first; i < first + count; i++) this.#arrived(layer, i);
        break;
      case Tell.FAILED:
        this.#failed(layer, first, count);
        break;
      case Tell.COMPLETE:
        this.#complete(layer);
        break;
    }
  }

  #using(layer: LateLayer, complete: boolean, records: boolean): void {
    layer.state = State.USED;
    layer.records = records;
    try {
      layer.map ??= layer.openMap();
    } catch (error) {
      this.#say(`${layer.folder}: ${error instanceof Error ? error.message : String(error)}`);
      this.#again(layer);
      return;
    }
    this.#told = '';
    for (const chunk of [...layer.wanted.keys()]) {
      if (layer.map.isHere(chunk)) this.#arrived(layer, chunk);
      else this.#frame(Ask.WANT, layer.number, chunk, 1);
    }
    if (complete) this.#complete(layer);
    this.#flush();
  }

  /** What the map says counts: content may have been taken back again. */
  #complete(layer: LateLayer): void {
    for (const chunk of [...layer.wanted.keys()]) {
      if (layer.map?.isHere(chunk) === true) this.#arrived(layer, chunk);
    }
    layer.records = false;
    if (layer.wanted.size > 0) this.#again(layer);
    else layer.complete = true;
    if (layer.complete) layer.revived = false;
  }

  #refused(layer: LateLayer, json: Uint8Array): void {
    const { message } = JSON.parse(Buffer.from(json).toString()) as { message?: string };
    this.#say(message ?? `${layer.folder}: refused by the loader`);
    this.#again(layer);
    if (this.#options.policy.stall !== 'eio') return;
    for (const { waiters } of [...layer.wanted.values()]) {
      for (const waiter of [...waiters]) this.#fail(layer, waiter, -E.IO);
    }
  }

  /** Another connection is another chance: a layer can be asked for once in each. */
  #again(layer: LateLayer): void {
    layer.state = State.NEW;
    this.#disconnect();
    this.#nextTry = this.#now() + WANT_AGAIN;
  }

  #failed(layer: LateLayer, chunk: number, errno: number): void {
    const wanted = layer.wanted.get(chunk);
    if (wanted === undefined) return;
    if (wanted.waiters.size === 0) {
      layer.wanted.delete(chunk);
    } else if (errno === E.AGAIN) {
      // The first who waited has waited long enough: #look() has the time of each of them.
      wanted.again = this.#now() + WANT_AGAIN;
    } else {
      for (const waiter of [...wanted.waiters]) this.#fail(layer, waiter, -(errno || E.IO));
    }
  }
}
