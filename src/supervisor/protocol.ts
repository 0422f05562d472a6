// What the command line and the supervisor say to each other: one JSON object a line, over a Unix stream socket.
// Spoken by supervisor/server side (supervisor.ts) and client.ts; both check the version in every request.
// A request is answered by one reply line with its id; `wait` is answered when the mount is gone.

import type { FuseMount } from '../linux/mount.js';

/** Raised whenever a request or reply changes its meaning. */
export const PROTOCOL_VERSION = 2;

/** Longest line, bytes: a spec of 500 layers with paths of 4 KiB fits twice. */
export const MAX_LINE = 8 << 20;

/** Where a server finds /dev/fuse (once it was handed over), the arena, and its supervisor. */
export const SERVER_FDS = { fuse: 3, arena: 4, orders: 5 } as const;

/** Where a supervisor finds its first client, and the orders socket of a server started beside it. */
export const STARTER_FD = 3;
export const STARTED_FD = 4;

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
  | { readonly op: 'umount'; readonly mountpoint: string; readonly force: boolean };

/**
 * starting: the server opens its layers. mounted: it answers. leaving: it was asked to end.
 * failed: it ended while mounted; what was mounted has been detached.
 */
export type MountState = 'starting' | 'mounted' | 'leaving' | 'failed';

/** What the supervisor knows of one mount. */
export interface MountStatus {
  readonly mountpoint: string;
  readonly state: MountState;
  /** Why it failed. */
  readonly why?: string;
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
}

/** Sent instead of a reply by a supervisor that found another one in its place. */
export const ANOTHER = 'another';

/** Orders to a server (one line), and what it answers. Its socket is fd 5. */
export interface ServerOrders {
  readonly spec: object;
  /** Whether fd 4 is an arena already; else the server makes one there. */
  readonly arena: boolean;
}

/**
 * opened: layers are open, the mount may be made; the supervisor then sends one byte that carries /dev/fuse.
 * ready: requests are being answered. ended: the mount is gone, the server ends as it should.
 * error: the server ends, because of this.
 */
export type ServerReport =
  | { readonly state: 'opened' | 'ready' | 'ended' }
  | { readonly state: 'error'; readonly error: Refusal };

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
