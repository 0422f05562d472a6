// The exit codes of every command, and how a failure becomes one line and one of them.
// Used by main.ts; the manual lists this table.
// mount.fuse.varve answers mount(8) with mount(8)'s own codes, see mount-helper.ts.

import { plain } from '../report/words.js';
import { MountError, type MountErrorKind } from '../stack/errors.js';

export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  layer: 3,
  permission: 4,
  busy: 5,
  absent: 6,
  server: 7,
  conflict: 8,
} as const;

/** What the manual says about each code. */
export const EXIT_MEANING: readonly (readonly [number, string])[] = [
  [EXIT.ok, 'Done.'],
  [EXIT.failed, 'Something unforeseen failed.'],
  [EXIT.usage, 'The command line or a mount option is wrong.'],
  [EXIT.layer, 'A layer, the upper, the work directory or the mount point is missing or unusable.'],
  [EXIT.permission, 'This user or this machine may not do it.'],
  [EXIT.busy, 'Something is in use: the mount, the mount point or the work directory.'],
  [EXIT.absent, 'There is no such mount, or no such path in it.'],
  [EXIT.server, 'The server of the mount or the supervisor failed.'],
  [EXIT.conflict, 'Two sides have changed the same, and it was not said which one counts.'],
];

const OF_KIND: Record<MountErrorKind, number> = {
  option: EXIT.usage,
  layer: EXIT.layer,
  permission: EXIT.permission,
  busy: EXIT.busy,
  absent: EXIT.absent,
  server: EXIT.server,
};

/** The exit code of a failure. */
export function exitCodeOf(error: unknown): number {
  return error instanceof MountError ? OF_KIND[error.kind] : EXIT.failed;
}

/** The failure as one line, without its stack. A registry, an image or a file name may have had a part in it. */
export function lineOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return plain(text.replace(/\s*\n\s*/g, ' '));
}
