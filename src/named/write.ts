// Writes varve.yaml: one writer at a time, published by one rename, with owner, mode and symlinks as they were.
// Used by `varve stack add`, `set`, `rm`, `rename`, and by whatever changes the layers of a named stack (updateStack()).
// The lock is flock(2) on the file's folder, so that nothing is left behind; see edit.ts for the text.

import { randomBytes } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { E, errnoName } from '../linux/errno.js';
import { lockFile } from '../linux/peer.js';
import { syncPath } from '../linux/sync-path.js';
import { MountError, reasonOf } from '../stack/errors.js';
import { findImage } from '../stack/find-image.js';
import { type Draft, editStacks } from './edit.js';
import { unexpandPath } from './expand.js';
import { readStackFile } from './find.js';
import {
  errorAt,
  type NamedLayer,
  type Stack,
  type StackFile,
  StackFileError,
  spellProblem,
  stackNamed,
  stacksOf,
} from './stacks.js';

/** Milliseconds to wait for another writer. */
const PATIENCE = 10_000;
const PAUSE = 20;

/** What a new file begins with. */
const FRESH =
  '# Named stacks of varve: `varve up NAME` mounts one, `varve stack check` checks this file.\nversion: 1\n';

/**
 * Changes a file of stacks, or makes it.
 * @param path absolute. @param edit gets the file as it is when nobody else can write it any more; what it throws leaves it so.
 * @returns the file as it is then.
 * @throws MountError; then the file is what it was.
 */
export async function changeStacks(
  path: string,
  env: NodeJS.ProcessEnv,
  edit: (draft: Draft, file: StackFile) => void,
): Promise<StackFile> {
  const target = targetOf(path);
  makeFolder(target);
  const lock = await lockFolder(dirname(target), path);
  try {
    const stat = statSync(target, { throwIfNoEntry: false });
    const old = stat === undefined ? Buffer.from(FRESH) : readStackFile(target);
    const file = await stacksOf(old, path, env);
    const text = await editStacks(old.toString('utf8'), (draft) => edit(draft, file));
    const bytes = Buffer.from(text);
    const changed = await checked(bytes, path, env);
    if (stat === undefined || !bytes.equals(old)) publish(target, bytes, stat, path);
    return changed;
  } finally {
    closeSync(lock);
  }
}

/** What another command has made of a stack. */
export interface StackUpdate {
  /** All its lowers, absolute, topmost first; those of its bases must be the last of them. */
  readonly lowers?: readonly string[];
  /** All its data-only layers, absolute; those that it has not yet are added to its own. */
  readonly data?: readonly string[];
  /** Absolute; undefined: as it is. */
  readonly upper?: string;
  readonly workdir?: string;
}

/**
 * Writes down that a stack has other layers now: after a commit one more, after a rebase another one. What stays is
 * left as it is written; new paths below the file's folder are written relative to it.
 * @param path absolute, of the file. @param change or what makes it of the stack as it is when nobody else can write.
 * @throws MountError; then the file is what it was.
 */
export async function updateStack(
  path: string,
  name: string,
  change: StackUpdate | ((stack: Stack) => StackUpdate),
  env: NodeJS.ProcessEnv = process.env,
): Promise<StackFile> {
  return changeStacks(path, env, (draft, file) => {
    const stack = stackNamed(file, name);
    const update = typeof change === 'function' ? change(stack) : change;
    const spell = (to: string): string => spellPath(to, file.folder);
    if (update.lowers !== undefined) {
      draft.setList(
        name,
        'layers',
        ownLayers(update.lowers, stack, file).map((layer) =>
          typeof layer === 'number' ? layer : spell(layer),
        ),
      );
    }
    const data = newData(update.data ?? [], stack);
    if (data.length > 0) {
      draft.setList(name, 'data', [...Array(stack.ownData).keys(), ...data.map(spell)]);
    }
    if (update.upper !== undefined) draft.set(name, 'upper', spell(update.upper));
    if (update.workdir !== undefined) draft.set(name, 'workdir', spell(update.workdir));
  });
}

/** A path as it is written in a file of this folder. */
export function spellPath(path: string, folder: string): string {
  const inside = relative(folder, path);
  const near = inside !== '..' && !inside.startsWith('../') && !isAbsolute(inside);
  return unexpandPath(near ? inside || '.' : path);
}

/** The stack's own layers that make up the wanted list with those of its bases: indices of what there is, and new paths. */
function ownLayers(lowers: readonly string[], stack: Stack, file: StackFile): (number | string)[] {
  const paths = stack.layers.map(placesOf);
  const inherited = paths.slice(stack.own);
  const count = lowers.length - inherited.length;
  const kept = inherited.every((places, i) => places.has(lowers[count + i] as string));
  if (count < 0 || !kept) {
    const message = `${stack.name}: the layers of ${stack.bases[0]}, on which it builds, would change: change that stack, or name its layers here instead of base`;
    throw errorAt(file, stack.at, 'option', message);
  }
  const free = new Set(paths.slice(0, stack.own).keys());
  return lowers.slice(0, count).map((path) => {
    for (const i of free) {
      if (!(paths[i] as ReadonlySet<string>).has(path)) continue;
      free.delete(i);
      return i;
    }
    return path;
  });
}

/** The data-only layers that neither the stack nor a base nor an image of its layers gives. */
function newData(data: readonly string[], { layers, data: named }: Stack): string[] {
  const known = new Set([
    ...named.flatMap(({ path }) => [...places(path)]),
    ...layers.flatMap((layer) =>
      layer.kind === 'image' ? findImage(layer.image, layer.stores).objects : [],
    ),
  ]);
  return data.filter((path) => !known.has(path));
}

/** The layers of a stack as paths, as the options of a mount have them: topmost first, those of its bases last. */
export function pathsOfLayers(stack: Stack): string[] {
  return stack.layers.map(pathOf);
}

function pathOf(layer: NamedLayer): string {
  return layer.kind === 'image' ? findImage(layer.image, layer.stores).path : layer.path;
}

/** The paths by which a layer may be known: as written, and as a mount has it. */
function placesOf(layer: NamedLayer): ReadonlySet<string> {
  return places(pathOf(layer));
}

function places(path: string): ReadonlySet<string> {
  try {
    return new Set([path, realpathSync.native(path)]);
  } catch {
    return new Set([path]);
  }
}

/** What is written must be readable again: a change may contradict the rest of the file. */
async function checked(bytes: Buffer, path: string, env: NodeJS.ProcessEnv): Promise<StackFile> {
  try {
    return await stacksOf(bytes, path, env);
  } catch (error) {
    if (!(error instanceof StackFileError)) throw error;
    const [first] = error.problems;
    const line = first === undefined ? error.message : spellProblem(path, first);
    throw new MountError('option', `nothing was written, for it would be wrong: ${line}`);
  }
}

/** The file that is written: where symlinks lead, also when nothing is there yet. */
function targetOf(path: string): string {
  let at = path;
  try {
    for (let i = 0; i < 40; i++) at = resolve(dirname(at), readlinkSync(at));
  } catch {
    // No symlink (any more).
  }
  try {
    return join(realpathSync.native(dirname(at)), basename(at));
  } catch {
    return at;
  }
}

function makeFolder(target: string): void {
  const folder = dirname(target);
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw new MountError(
      'layer',
      `${folder}: ${reasonOf(error)}: name a file elsewhere with --file`,
    );
  }
}

/** @returns a descriptor that holds the lock. */
async function lockFolder(folder: string, path: string): Promise<number> {
  let fd: number;
  try {
    fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    throw new MountError(
      'layer',
      `${path}: ${folder}: ${reasonOf(error)}: name a file elsewhere with --file`,
    );
  }
  for (let waited = 0; ; waited += PAUSE) {
    const r = lockFile(fd);
    if (r === 0) return fd;
    const busy = r === -E.AGAIN || r === -E.INTR;
    if (!busy || waited >= PATIENCE) {
      closeSync(fd);
      const message = busy
        ? `${path}: somebody else has been writing in its folder for ${PATIENCE / 1000} s: try again`
        : `${path}: its folder cannot be locked (${errnoName(r)}): put it on another filesystem`;
      throw new MountError(busy ? 'busy' : 'layer', message);
    }
    await setTimeout(PAUSE);
  }
}

/** Writes beside the file and renames. Called with the lock: what lies there of others is left of killed calls. */
function publish(target: string, bytes: Buffer, stat: Stats | undefined, path: string): void {
  const folder = dirname(target);
  const prefix = `.${basename(target)}.`;
  const temporary = join(folder, `${prefix}${randomBytes(6).toString('hex')}.tmp`);
  try {
    if (stat !== undefined) accessSync(target, constants.W_OK);
    for (const name of readdirSync(folder)) {
      if (name.startsWith(prefix) && /\.[0-9a-f]{12}\.tmp$/.test(name))
        rmSync(join(folder, name), { force: true });
    }
    const fd = openSync(temporary, 'wx', stat === undefined ? 0o644 : 0o600);
    try {
      if (stat !== undefined) keepOwner(fd, stat);
      for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, target);
  } catch (error) {
    rmSync(temporary, { force: true });
    if (error instanceof MountError) throw error;
    throw new MountError(
      'layer',
      `${path}: cannot be written (${reasonOf(error)}): nothing was changed`,
    );
  }
  syncPath(folder);
}

function keepOwner(fd: number, stat: Stats): void {
  if (stat.uid !== process.geteuid?.() || stat.gid !== process.getegid?.()) {
    fchownSync(fd, stat.uid, stat.gid);
  }
  fchmodSync(fd, stat.mode & 0o7777);
}
