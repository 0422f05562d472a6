// A trial on disk: its uppers, and what has to be known to show, commit or discard them later.
// Made by `varve try` before the command runs; kept or removed by it afterwards; one process uses it at a time.
// try.json is written once, by a rename; version 1.

import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { MAGIC, O } from '../../linux/constants.js';
import { E } from '../../linux/errno.js';
import { syncfs } from '../../linux/files.js';
import { mapMemory } from '../../linux/memory.js';
import { lockFile } from '../../linux/peer.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import { removeTree } from '../../tree/remove-tree.js';
import { bytes } from './paths.js';

/** An overlay of a trial. */
export interface TryUpper {
  /** Absolute place in the file tree; bytes as latin1. */
  readonly path: string;
  /** Name of its folders in `upper` and `work`. */
  readonly slot: string;
  /** mode, uid and gid that the upper was made with. */
  readonly made: readonly [number, number, number];
  /** `dev:ino` of the place. */
  readonly over: string;
}

/** try.json */
export interface TryRecord {
  readonly version: 1;
  readonly command: readonly string[];
  /** Latin1. */
  readonly cwd: string;
  /** ISO 8601. */
  readonly started: string;
  readonly userxattr: boolean;
  readonly uppers: readonly TryUpper[];
}

export interface TrySession {
  /** Absolute, without symlinks. */
  readonly folder: string;
  readonly record: TryRecord;
  /** Everything that was changed at this time (nanoseconds) or later has been changed since the trial began. */
  readonly since: bigint;
  upperOf(upper: TryUpper): string;
  workOf(upper: TryUpper): string;
  /** Nobody else may use it until then. */
  close(): void;
}

const RECORD = 'try.json';
/** Where enter.ts mounts what only the sandbox sees. */
export const PLACE = 'place';
export const PLAN = 'plan.json';

/** No upper of an overlay may lie there. */
const UNFIT = new Set<number>([MAGIC.OVERLAYFS, MAGIC.FUSE, 0x6969, 0xff534d42, 0x01021997]);

/**
 * Where trials lie: `asked`, else the state folder of the system or the user, else shared memory (lost with the machine).
 * @returns the folder, which exists. @throws MountError.
 */
export function tryBase(asked: string | undefined, env: NodeJS.ProcessEnv): string {
  const uid = process.geteuid?.() ?? 0;
  const state = env['XDG_STATE_HOME'] ?? join(homedir(), '.local/state');
  const candidates =
    asked === undefined || asked === ''
      ? [
          uid === 0 ? '/var/lib/varve/try' : join(state, 'varve/try'),
          `/var/tmp/varve-try-${uid}`,
          `/dev/shm/varve-try-${uid}`,
        ]
      : [asked];
  const why: string[] = [];
  for (const folder of candidates) {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      const fault = faultOf(folder, uid);
      if (fault === undefined) return realpathSync.native(folder);
      why.push(`${folder}: ${fault}`);
    } catch (error) {
      why.push(`${folder}: ${reasonOf(error)}`);
    }
  }
  throw new MountError(
    'layer',
    `try: no place for the changes: ${why.join('; ')}: name one with --state DIR`,
  );
}

function faultOf(folder: string, uid: number): string | undefined {
  const stat = lstatSync(folder);
  if (!stat.isDirectory()) return 'not a directory';
  if (stat.uid !== uid) return `it belongs to user ${stat.uid}`;
  if ((stat.mode & 0o022) !== 0) return 'others may write to it';
  // f_type is a long: some magics are negative on some machines.
  if (UNFIT.has(Number(statfsSync(folder).type) >>> 0)) {
    return 'its filesystem cannot hold the upper of an overlay';
  }
  return undefined;
}

/** What a new trial is to hold. */
export type NewTry = Pick<TryRecord, 'command' | 'cwd' | 'userxattr'> & {
  /** Places of the overlays, latin1. */
  readonly places: readonly string[];
};

/** @param folder to be made, or empty. @throws MountError. */
export function createTry(folder: string, wanted: NewTry): TrySession {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    chmodSync(folder, 0o700);
    if (readdirSync(folder).length > 0) {
      throw new MountError('layer', `${folder}: not empty: name a new folder, or --resume it`);
    }
    for (const name of ['upper', 'work', PLACE]) mkdirSync(join(folder, name), { mode: 0o700 });
    const uppers = wanted.places.flatMap((path, i) => makeUpper(folder, path, String(i)) ?? []);
    const { command, cwd, userxattr } = wanted;
    const started = new Date().toISOString();
    const record: TryRecord = { version: 1, command, cwd, started, userxattr, uppers };
    writeFileSync(join(folder, `${RECORD}.new`), `${JSON.stringify(record, undefined, 2)}\n`);
    renameSync(join(folder, `${RECORD}.new`), join(folder, RECORD));
  } catch (error) {
    if (error instanceof MountError) throw error;
    throw new MountError('layer', `${folder}: ${reasonOf(error)}: name another folder`);
  }
  return openTry(folder);
}

/** As the place is, so that the root directory of the overlay looks like it. undefined: the place has just gone. */
function makeUpper(folder: string, path: string, slot: string): TryUpper | undefined {
  const at = join(folder, 'upper', slot);
  const found = statSync(bytes(path), { throwIfNoEntry: false });
  const over = placeId(path);
  if (found === undefined || over === undefined) return undefined;
  const { mode, uid, gid } = found;
  mkdirSync(at);
  mkdirSync(join(folder, 'work', slot), { mode: 0o700 });
  try {
    chownSync(at, uid, gid);
  } catch {
    // A directory of somebody else, such as /tmp: its overlay is the user's own.
  }
  chmodSync(at, mode & 0o7777);
  const made = statSync(at);
  return { path, slot, made: [made.mode, made.uid, made.gid], over };
}

/** What a path is, as long as it is the same directory of the same mounted filesystem; undefined: none. */
export function placeId(path: string): string | undefined {
  const stat = statSync(bytes(path), { throwIfNoEntry: false });
  return stat?.isDirectory() === true ? `${stat.dev}:${stat.ino}` : undefined;
}

/** @throws MountError: `absent`, `busy`, `layer`. */
export function openTry(path: string): TrySession {
  let folder: string;
  let record: TryRecord;
  let fd: number;
  try {
    folder = realpathSync.native(path);
    record = JSON.parse(readFileSync(join(folder, RECORD), 'utf8')) as TryRecord;
    fd = openSync(folder, O.RDONLY | O.DIRECTORY);
  } catch (error) {
    const why = error instanceof SyntaxError ? 'try.json is damaged' : reasonOf(error);
    throw new MountError('absent', `${path}: no trial is kept there (${why})`);
  }
  const { uid, ctimeNs } = lstatSync(join(folder, RECORD), { bigint: true });
  requireSound(folder, record, Number(uid));
  if (lockFile(fd) === -E.AGAIN) {
    closeSync(fd);
    throw new MountError('busy', `${folder}: another varve try uses it: wait for that`);
  }
  return {
    folder,
    record,
    since: ctimeNs,
    upperOf: ({ slot }) => join(folder, 'upper', slot),
    workOf: ({ slot }) => join(folder, 'work', slot),
    close: () => closeSync(fd),
  };
}

/** What is committed is written to the real system: by the word of nobody but this user. */
function requireSound(folder: string, record: TryRecord, uid: number): void {
  const own = process.geteuid?.() ?? 0;
  if (uid !== own || lstatSync(folder).uid !== own) {
    throw new MountError(
      'permission',
      `${folder}: the trial is another user's: only they can go on with it`,
    );
  }
  const sound =
    record.version === 1 &&
    Array.isArray(record.uppers) &&
    record.uppers.every(({ path, slot }) => path.startsWith('/') && /^\d+$/.test(slot));
  if (!sound)
    throw new MountError('layer', `${folder}: ${RECORD} is damaged, or of another version`);
}

/** What is kept in a folder of trials, the oldest first; one that is in use now as well. */
export function keptTries(base: string): { folder: string; record: TryRecord }[] {
  return readdirSync(base)
    .sort()
    .flatMap((name) => {
      const folder = join(base, name);
      try {
        const record = JSON.parse(readFileSync(join(folder, RECORD), 'utf8')) as TryRecord;
        return [{ folder, record }];
      } catch {
        // Something else, or it is being made or removed.
        return [];
      }
    });
}

/** A name that no other trial has. */
export function newTryFolder(base: string): string {
  const time = new Date().toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
  return join(base, `${time}-${randomBytes(3).toString('hex')}`);
}

/** Before its overlays are mounted again: the kernel refuses an upper that was mounted volatile. */
export function readyAgain(session: TrySession): void {
  for (const upper of session.record.uppers) {
    mkdirSync(session.workOf(upper), { recursive: true, mode: 0o700 });
    // The kernel makes it anew; what it has is without any permission.
    removeIn(session.workOf(upper), () => true);
  }
  mkdirSync(join(session.folder, PLACE), { recursive: true, mode: 0o700 });
}

/** It is to survive: what was written without fsync goes to disk. */
export function keepTry(session: TrySession): void {
  readyAgain(session);
  rmSync(join(session.folder, PLAN), { force: true });
  const fd = openSync(session.folder, O.RDONLY | O.DIRECTORY);
  syncfs(fd);
  closeSync(fd);
}

/** Removes all of it; the record last but for the folder, so that a killed removal can be repeated. */
export function removeTry(session: TrySession): void {
  const { folder } = session;
  removeIn(folder, (name) => name !== RECORD);
  rmSync(join(folder, RECORD), { force: true });
  session.close();
  rmSync(folder, { recursive: true, force: true });
}

function removeIn(folder: string, which: (name: string) => boolean): void {
  mapMemory();
  const fd = openSync(folder, O.RDONLY | O.DIRECTORY);
  for (const name of readdirSync(folder, { encoding: 'latin1' })) {
    if (which(name)) removeTree(fd, name);
  }
  closeSync(fd);
}
