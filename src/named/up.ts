// Mounts one named stack: makes the directories that may be made, and hands the rest to mount.ts or mount-image.ts.
// Called by `varve up`, which goes through the stacks in their order.
// A lock on the directory that becomes the mount point keeps two calls from mounting the same stack twice.

import { closeSync, mkdirSync, openSync, statSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { E, errnoName } from '../linux/errno.js';
import { lockFile } from '../linux/peer.js';
import { MountError, reasonOf } from '../stack/errors.js';
import type { Mode } from '../stack/image-plan.js';
import { type Mounted, mountStack } from '../stack/mount.js';
import { knownMounts } from '../stack/mounts-known.js';
import { requestOf } from './request.js';
import { errorAt, type NamedPath, type Stack, type StackFile } from './stacks.js';
import { type StackState, stateOf } from './state.js';

/** Milliseconds that somebody else may take to mount what we want to mount. */
const PATIENCE = 60_000;
const PAUSE = 50;

export interface UpRequest {
  readonly file: StackFile;
  /** Options that the stack may overrule. */
  readonly defaults: string;
  /** Make upper and mount point where they are missing, whatever the file says. */
  readonly create: boolean;
}

export interface UpResult {
  readonly mountpoint: string;
  /** undefined: it was up already. */
  readonly mounted?: Mounted & { readonly mode?: Mode };
  /** Directories that were made. */
  readonly made: readonly string[];
}

/** @throws MountError; then nothing is mounted, though directories may have been made. */
export async function upStack(stack: Stack, request: UpRequest): Promise<UpResult> {
  const { file, defaults } = request;
  const mount = mountOfStack(stack, file);
  const before = await look(stack, request);
  if (before.state === 'up') return { mountpoint: before.mountpoint as string, made: [] };
  refuse(stack, file, before);
  const wanted = requestOf(stack, file, defaults);
  const made = makeDirectories(stack, file, request.create || stack.create);
  let lock: number | undefined;
  try {
    lock = await lockDirectory(mount.path);
    // Somebody may have been faster.
    const now = await look(stack, request);
    if (now.state === 'up') return { mountpoint: now.mountpoint as string, made };
    refuse(stack, file, now);
    const mounted =
      wanted.kind === 'stack'
        ? await mountStack(wanted.options, mount.path)
        : await (await import('../stack/mount-image.js')).mountImage({
            image: wanted.image,
            parsed: wanted.parsed,
            mountpoint: mount.path,
            mode: stack.mode,
          });
    mounted.served?.supervisor.close();
    return { mountpoint: mounted.spec.mountpoint, mounted, made };
  } catch (error) {
    if (!(error instanceof MountError)) throw error;
    throw errorAt(file, stack.at, error.kind, `${stack.name}: ${error.message}`);
  } finally {
    if (lock !== undefined) closeSync(lock);
  }
}

/** @throws MountError where a stack is only there for others to build on. */
export function mountOfStack(stack: Stack, file: StackFile): NamedPath {
  if (stack.mount !== undefined) return stack.mount;
  const message = `${stack.name}: it has no mount: name a mount point there, or mount a stack that builds on it`;
  throw errorAt(file, stack.at, 'option', message);
}

async function look(stack: Stack, { file, defaults }: UpRequest): Promise<StackState> {
  return stateOf(stack, file, await knownMounts(), defaults);
}

/** @throws MountError unless the stack is down. */
function refuse(stack: Stack, file: StackFile, { state, mountpoint, why }: StackState): void {
  const { name } = stack;
  const again = `\`varve down ${name}\`, then up again`;
  switch (state) {
    case 'differs':
      throw errorAt(
        file,
        stack.at,
        'busy',
        `${name}: is up at ${mountpoint}, but otherwise than the file says: ${why}: ${again}`,
      );
    case 'failed':
      throw errorAt(file, stack.at, 'server', `${name}: ${mountpoint}: ${why}: ${again}`);
    case 'occupied':
      throw errorAt(
        file,
        stack.at,
        'busy',
        `${name}: ${mountpoint}: ${why}: unmount that, or take another mount point`,
      );
    default:
  }
}

/** What `up` would make. */
export function missingDirectories(stack: Stack, create: boolean): string[] {
  const { upper, workdir, mount, workdirIsOurs } = stack;
  const wanted = [
    ...(create ? [upper, mount] : []),
    ...(create || workdirIsOurs ? [workdir] : []),
  ].flatMap((named) => named?.path ?? []);
  return wanted.filter((path) => statSync(path, { throwIfNoEntry: false }) === undefined);
}

/** @returns those that were made. @throws MountError of kind `layer`. */
function makeDirectories(stack: Stack, file: StackFile, create: boolean): string[] {
  const { upper, workdir } = stack;
  // Beside an upper that is missing nothing is made.
  if (
    !create &&
    upper !== undefined &&
    statSync(upper.path, { throwIfNoEntry: false }) === undefined
  ) {
    return [];
  }
  try {
    return missingDirectories(stack, create).map((path) => {
      mkdirSync(path, { recursive: true, mode: path === workdir?.path ? 0o700 : 0o755 });
      return path;
    });
  } catch (error) {
    const { path } = error as NodeJS.ErrnoException;
    const message = `${stack.name}: ${path}: cannot be made (${reasonOf(error)}): make it, or correct the path`;
    throw errorAt(file, stack.at, 'layer', message);
  }
}

/** @returns a descriptor that holds the lock; closing it gives it up. */
async function lockDirectory(path: string): Promise<number> {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const advice = missing ? 'make it, or say --create' : 'check the path';
    throw new MountError('layer', `mount point: ${path}: ${reasonOf(error)}: ${advice}`);
  }
  for (let waited = 0; ; waited += PAUSE) {
    const r = lockFile(fd);
    // Where a filesystem has no locks nobody can be kept off.
    if (r === 0 || (r !== -E.AGAIN && r !== -E.INTR)) return fd;
    if (waited >= PATIENCE) {
      closeSync(fd);
      throw new MountError(
        'busy',
        `mount point: ${path}: locked by another call for a minute (${errnoName(r)}): try again later`,
      );
    }
    await setTimeout(PAUSE);
  }
}
