// What the command line and the supervisor say to each other: one JSON object a line, over a Unix stream socket.
// Spoken by supervisor/server side (supervisor.ts) and client.ts; both check the version in every request.
// A request is answered by one reply line with its id; `wait` is answered when the mount is gone.

import type { FuseMount } from '../linux/mount.js';

/** Raised whenever a request or reply changes its meaning. */
export const PROTOCOL_VERSION = 5;

/** Longest line, bytes: a spec of 500 layers with paths of 4 KiB fits twice. */
export const MAX_LINE = 8 << 20;

/** Where a server finds /dev/fuse (once it was handed over), the arena, and its supervisor. */
export const SERVER_FDS = { fuse: 3, arena: 4, orders: 5 } as const;

/** Where a supervisor finds its first client, and the orders sockets of a server and of a loader started beside it. */
export const STARTER_FD = 3;
export const STARTED_FD = 4;
export const STARTED_LOADER_FD = 5;

/** Words on a supervisor's command line, behind the runtime folder: such a server, such a loader is there. */
export const WITH_SERVER = 'with-server';
export const WITH_LOADER = 'with-loader';

/** Instead of these: it has no starter, but a bequest on its fd 4 (bequest.ts). Behind it the process that has kept it, 0: nobody. */
export const HEIR = 'heir';

/** A kernel overlayfs on top of a FUSE mount, which is seen nowhere itself. */
export interface Cover {
  /** Absolute path of a directory that is made for the FUSE mount and removed once overlayfs has taken it as a layer. */
  readonly below: string;
  /** First column of /proc/mounts. */
  readonly source: string;
  /** Bits of MS. */
  readonly flags: number;
  /** Options of overlayfs, `below` as the lowerdir among them; less than a page. */
  readonly options: string;
}

/** What a mount needs: how it looks, and the program that serves it. */
export interface MountRequest {
  readonly op: 'mount';
  readonly mount: FuseMount;
  /** Arguments of node: flags and the server's script. It finds /dev/fuse, the arena and its orders as server.ts says. */
  readonly program: readonly string[];
  /** Handed to the server unread. */
  readonly spec: object;
  /** What is seen at the mount point is this; the server's own mount is below it. */
  readonly cover?: Cover;
  /**
   * The mount namespace (`mnt:[4026532000]`) that was made for this mount alone: when the client's connection ends while
   * the mount stands, every process in it is killed and the mount goes.
   */
  readonly namespace?: string;
  /**
   * A server that the client has started already, beside the supervisor itself, so that both start at the same time.
   * Its orders socket is the supervisor's fd 4; its arena is its own fd 4.
   */
  readonly started?: { readonly pid: number; readonly log: string };
}

export type Request =
  | MountRequest
  /** Every mount of this supervisor. */
  | { readonly op: 'list' }
  /** One mount. */
  | { readonly op: 'status'; readonly mountpoint: string }
  /** Answers when the mount is gone. */
  | { readonly op: 'wait'; readonly mountpoint: string }
  /** Detaches the mount; with `force` its server is ended at once and waiting programs get an error. */
  | { readonly op: 'umount'; readonly mountpoint: string; readonly force: boolean }
  /** Replaces the server by one of `program` (as in MountRequest), without unmounting; answers when that one serves. */
  | { readonly op: 'reload'; readonly mountpoint: string; readonly program: readonly string[] }
  /**
   * Whether anybody has a file open that the server of a mount keeps by this name, but servers of this supervisor. Where several
   * have, the others are replaced by successors that share the opening of this one: how often a file is open is all that the kernel tells.
   */
  | { readonly op: 'elsewhere'; readonly mountpoint: string; readonly name: string }
  | ChangeRequest
  | LoadRequest;

/** There shall be a loader of lazy layers: one is started where none runs. Answers when it takes connections. */
export interface LoadRequest {
  readonly op: 'load';
  /** Arguments of node: flags and the loader's script. */
  readonly program: readonly string[];
  /** What it finds in its environment beside the supervisor's own: proxies, credentials. Not for one that runs already. */
  readonly env?: Readonly<Record<string, string>>;
  /** Where there was one before, it is started as that was: who asks is a server, and has no environment of a person's. */
  readonly again?: true;
  /** Mounts of the kernel are likely to be what it is for: the holder is started while nobody waits for that. */
  readonly byKernel?: boolean;
  /** One that the client has started already, beside the supervisor itself. Its orders socket is the supervisor's fd 5. */
  readonly started?: { readonly pid: number };
}

/** The loader of a supervisor. */
export interface LoaderInfo {
  readonly pid: number;
  /** Where it listens (lazy/protocol.ts). */
  readonly socket: string;
  readonly restarts: number;
  readonly log: string;
  /** The process that holds what keeps readers of the kernel waiting, while there are any (holder.ts). */
  readonly holder?: number;
  /** It does not run: how the last one ended, and there will be another. */
  readonly trouble?: string;
}

/**
 * Gives a mount other layers without unmounting: a server of `program` takes over as in `reload`, and makes the change
 * between the last request of the old one and its own first. Answers when that one serves, with what it told of the change.
 */
export interface ChangeRequest {
  readonly op: 'change';
  readonly mountpoint: string;
  readonly program: readonly string[];
  readonly change: StackChange;
}

/** What is to be changed while nobody serves: handed to the server unread. */
export interface StackChange {
  /** Why servers change, in a word: `commit`. */
  readonly reason: string;
  /** What the mount is served from afterwards. */
  readonly spec: object;
  /** What else the server is to know. */
  readonly how: object;
}

/**
 * starting: the server opens its layers. mounted: it answers, or its successor is about to. leaving: it was asked to end.
 * failed: it ended and nobody takes its place; what was mounted has been detached, or answers EIO (`refuses`).
 */
export type MountState = 'starting' | 'mounted' | 'leaving' | 'failed';

/** Why a server was replaced. */
export interface LastRestart {
  /** How the one before ended, or `reload`. */
  readonly reason: string;
  /** ISO 8601. */
  readonly at: string;
  /** From the end of one to the moment at which the next took requests; absent while it has not. */
  readonly stallMilliseconds?: number;
}

/** What the supervisor knows of one mount. */
export interface MountStatus {
  readonly mountpoint: string;
  readonly state: MountState;
  /** Why it failed. */
  readonly why?: string;
  /** Failed, but still mounted: every request is answered EIO. */
  readonly refuses?: true;
  /** How many servers have taken the place of another one. */
  readonly restarts: number;
  readonly lastRestart?: LastRestart;
  /** The server's process id; its fd 4 is the arena that holds its counters. */
  readonly pid: number;
  readonly mountedBy?: 'mount' | 'fusermount3';
  /** Milliseconds since 1970. */
  readonly since: number;
  /** What the server prints. */
  readonly log: string;
  readonly spec: object;
}

/** Kinds of refusal; the same words as MountErrorKind of stack/errors.ts. */
export type RefusalKind = 'option' | 'layer' | 'permission' | 'busy' | 'absent' | 'server';

export interface Refusal {
  readonly kind: RefusalKind;
  readonly message: string;
}

export interface Reply {
  readonly id: number;
  readonly error?: Refusal;
  /** The supervisor's own process id. */
  readonly supervisor?: number;
  readonly mounts?: readonly MountStatus[];
  /** Answer of `wait`: how the server ended, absent when it ended as it should. */
  readonly why?: string;
  /** Answer of `elsewhere`; true also where it cannot be known. */
  readonly elsewhere?: boolean;
  /** Answers of `load`, `list` and `status`: the loader, where there is one. */
  readonly loader?: LoaderInfo;
  /** Answer of `change`: what the server told; `refusal` of it means that nothing was changed. */
  readonly changed?: ChangeOutcome;
}

/** What became of a change. */
export interface ChangeOutcome {
  /** Why nothing was changed. */
  readonly refusal?: Refusal;
  /** What the server tells whoever asked for the change. */
  readonly told: object;
}

/** Sent instead of a reply by a supervisor that found another one in its place. */
export const ANOTHER = 'another';

/** Orders to a server (one line), and what it answers. Its socket is fd 5. */
export interface ServerOrders {
  readonly spec: object;
  /** Whether fd 4 is an arena already; else the server makes one there, or is told of one as a successor. */
  readonly arena: boolean;
  readonly successor?: SuccessorOrders;
}

/**
 * Orders to take over a mount. The server reports `waiting`; then its descriptors are sent (linux/socket.ts sendFds):
 * /dev/fuse, and one for each name of `kept`.
 */
export interface SuccessorOrders {
  /** What the first server reported when it was ready. */
  readonly session: object;
  /** The arena, as a path of /proc: it must be mapped before a descriptor can be received. */
  readonly arena: string;
  readonly kept: readonly string[];
  /** The last server has not ended by itself: what it had in hand is hardly to blame. */
  readonly killed: boolean;
  /** Where it prints from now on. */
  readonly log: string;
  /**
   * Before it takes over it makes this change, or finds out that a predecessor has made it already. `early`: the old server
   * still serves, and what is to be opened by path is opened now: the descriptors come when that one has left.
   */
  readonly change?: StackChange & { readonly early: boolean };
}

/** Said to a server that serves: finish what was read and end, another one takes over. */
export const LEAVE = { leave: true } as const;

/**
 * loaded: it waits for orders; `layout` is the arena that its program knows. waiting: for its descriptors.
 * opened: layers are open. When `kept` has names the supervisor answers with a byte, and is sent a descriptor for each
 * (sendFds); it keeps them for successors. It then mounts, and sends one byte that carries /dev/fuse.
 * prepared: of a change, before `waiting`: descriptors that it needs and that are kept in the same way. changed: `kept` are
 * all there are from now on, and the spec is that of the change. unchanged: it stays as it was.
 * asks: of a server that serves: another one is to make this change, as in ChangeRequest.
 * ready: requests are being answered. ended: the mount is gone, or the server leaves: it ends as it should.
 * aborted: the connection was; so no other server can have it either. error: the server ends, because of this; `final`:
 * so would every other of its program.
 */
export type ServerReport =
  | { readonly state: 'loaded'; readonly layout: number }
  | { readonly state: 'waiting' | 'ended' }
  | { readonly state: 'opened' | 'prepared'; readonly kept: readonly string[] }
  | { readonly state: 'changed'; readonly kept: readonly string[]; readonly told: object }
  | { readonly state: 'unchanged'; readonly refusal: Refusal; readonly told: object }
  | { readonly state: 'asks'; readonly change: StackChange }
  | { readonly state: 'ready'; readonly session: object; readonly recovery: Recovery }
  | { readonly state: 'aborted'; readonly message: string }
  | { readonly state: 'error'; readonly error: Refusal; readonly final?: boolean };

/** Under this name the loader's listening socket is kept for the next. */
export const LISTENER = 'socket';

/** Descriptors whose names begin so keep readers of the kernel waiting: without them these read zeros. */
export const GROUP = 'group';

/** Where an heir finds its bequest (bequest.ts), and a loader that of its supervisor, until it has been sent what was kept. */
export const BEQUEST_FD = 4;

/** Orders to a loader, one line on its fd 5. */
export interface LoaderOrders {
  /** Where it listens, unless it is given the listening socket. */
  readonly socket: string;
  /** Names of the descriptors that the one before has had kept. They are sent when it reports `waiting`. */
  readonly kept: readonly string[];
  /** For a loader whose supervisor and holder have both been killed. */
  readonly heir: HeirProgram;
  /** What this loader was asked for with. */
  readonly request: LoadRequest;
}

/** How a loader that is alone starts a supervisor, its heir. */
export interface HeirProgram {
  /** Arguments of node. */
  readonly program: readonly string[];
  readonly lock: string;
  readonly log: string;
}

/**
 * What a loader says. waiting: for its descriptors (sendFds). keep: the supervisor answers with a byte, is sent a descriptor
 * for each name, and answers with another byte when it has them. release: it closes them, and answers with a byte. ready: it
 * takes connections. idle: nothing is left to do; the answer is GO or STAY.
 */
export type LoaderReport =
  | { readonly state: 'waiting' | 'ready' | 'idle' }
  | { readonly state: 'keep' | 'release'; readonly names: readonly string[] }
  | { readonly state: 'error'; readonly error: Refusal };

/** Answers to `idle`, a byte each. GO: end now, with 0. STAY: somebody is about to come. */
export const GO = 'g';
export const STAY = 's';

/** What becomes of requests that a server had read when it dies; as fuse/server.ts has it. none: it has no successor. */
export type Recovery = 'resend' | 'clone' | 'none';

/** Splits a byte stream into lines and parses each; what is no JSON object ends the connection. */
export function lineReader(
  take: (value: Record<string, unknown>) => void,
  refuse: (reason: string) => void,
): (chunk: Buffer) => void {
  let parts: Buffer[] = [];
  let length = 0;
  return (chunk) => {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      const line = Buffer.concat([...parts, chunk.subarray(start, end)]).toString();
      parts = [];
      length = 0;
      start = end + 1;
      let value: unknown;
      try {
        value = JSON.parse(line);
      } catch {
        return refuse('a line is no JSON');
      }
      if (typeof value !== 'object' || value === null) return refuse('a line is no object');
      take(value as Record<string, unknown>);
    }
    length += chunk.length - start;
    if (length > MAX_LINE) return refuse(`a line is longer than ${MAX_LINE} bytes`);
    if (start < chunk.length) parts.push(chunk.subarray(start));
  };
}

/** One message as it goes over the socket. */
export function toLine(value: object): string {
  return `${JSON.stringify(value)}\n`;
}
