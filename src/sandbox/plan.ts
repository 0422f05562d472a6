// What the three programs of a sandbox tell each other: the plan of its file tree, and what is to run in it.
// Written by launch.ts (outside), read by setup.ts (makes the mounts) and init.ts (runs the command inside).
// All paths are absolute; as bytes, one code unit a byte (latin1).

import type { Cover } from './covers.js';

/** An overlay that takes writes: its place, and its folders on a real filesystem. */
export interface Upper {
  readonly path: string;
  readonly upper: string;
  readonly work: string;
}

export interface Bind {
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
  /** The target is made where it is missing. */
  readonly make?: boolean;
}

export interface SandboxPlan {
  /** A folder that exists, on which setup.ts mounts what nobody else sees. */
  readonly place: string;
  readonly covers: readonly Cover[];
  /** One for each cover of kind `write`. */
  readonly uppers: readonly Upper[];
  /** Marks are user.overlay.*: not root of the initial user namespace. */
  readonly userxattr: boolean;
  /** Directories that are shown empty, where they exist. */
  readonly hidden: readonly string[];
  readonly dev: 'minimal' | 'host';
  readonly binds: readonly Bind[];
  /** Bring the loopback interface up: a network namespace of its own. */
  readonly loopback: boolean;
  readonly hostname?: string;
  /** unshare(1). */
  readonly unshare: string;
  /** unshare(1) maps the user: to itself, or to root. undefined: launch.ts writes the maps. */
  readonly map?: '--map-current-user' | '--map-root-user';
}

/** What runs inside. */
export interface SandboxStart {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly umask: number;
  /** Abstract unix sockets of others may be connected to. */
  readonly abstractSockets: boolean;
}

/** From inside, over descriptor 3. */
export type Report =
  /** setup.ts: something is not as planned, and goes on. */
  | { readonly state: 'remark'; readonly text: string }
  /** setup.ts or init.ts: the command does not run. `code`: 125, 126 or 127. */
  | { readonly state: 'failed'; readonly code: number; readonly text: string }
  /** init.ts: it waits for its id maps and for what is to run. */
  | { readonly state: 'waiting' }
  | { readonly state: 'started' }
  | { readonly state: 'ended'; readonly code: number | null; readonly signal: string | null };

/** To init.ts. */
export type Order = { readonly start: SandboxStart } | { readonly signal: NodeJS.Signals };

/** The descriptor of the connection, in every program inside. */
export const CONTROL = 3;

/** What env(1), docker(1) and podman(1) answer, too: not started; found but not runnable; not found. */
export const EXIT_SANDBOX = { failed: 125, notRunnable: 126, notFound: 127 } as const;
