// One thing that `varve setup` installs, as data.
// Made by setup.ts and wine-shims.ts, carried out by setup.ts.
// A type only.

export interface SetupItem {
  readonly path: string;
  /** A symlink to this file, or a file with this text. */
  readonly link?: string;
  readonly text?: string;
  /** Permissions of such a file; default 0644. */
  readonly mode?: number;
}
