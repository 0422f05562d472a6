// Whether a word of a command line is the name of a stack or a path: the one place where that is decided.
// Used by every command that takes a mount point, or layers.
// A name has no slash and is in varve.yaml; `./NAME` is the path.

import { lstatSync } from 'node:fs';
import { mountpointPath } from '../stack/check.js';
import { knownMounts } from '../stack/mounts-known.js';
import { findStackFile, type Search, searchHere } from './find.js';
import { optionText } from './request.js';
import { readStacks, type Stack, type StackFile } from './stacks.js';
import { mountOfStack } from './up.js';

export type Resolved =
  | { readonly kind: 'path'; readonly path: string }
  | { readonly kind: 'stack'; readonly stack: Stack; readonly file: StackFile };

/**
 * @throws MountError when the file cannot be used and the word is no path either.
 */
export async function resolveStack(
  nameOrPath: string,
  search: Search = searchHere(),
): Promise<Resolved> {
  const path = { kind: 'path', path: nameOrPath } as const;
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(nameOrPath)) return path;
  try {
    const found = findStackFile(search);
    if (found === undefined) return path;
    const file = await readStacks(found, search.env);
    const stack = file.stacks.get(nameOrPath);
    return stack === undefined ? path : { kind: 'stack', stack, file };
  } catch (error) {
    // A mistake in the file is no obstacle to what has nothing to do with it.
    if (lstatSync(nameOrPath, { throwIfNoEntry: false }) !== undefined) return path;
    throw error;
  }
}

/** The mount point that is meant, as written. @throws MountError, also where a stack has none. */
export async function mountpointNamed(nameOrPath: string): Promise<string> {
  const resolved = await resolveStack(nameOrPath);
  if (resolved.kind === 'path') return resolved.path;
  return mountOfStack(resolved.stack, resolved.file).path;
}

/** A stack by its mount, or by what would mount it. */
export type Meant = { readonly mount: string } | { readonly options: readonly string[] };

/**
 * What a command means that works on stacks whether they are mounted or not: a path is a mount point; a name is its
 * mount while it has one, and else what the file says.
 */
export async function stackMeant(nameOrPath: string): Promise<Meant> {
  const resolved = await resolveStack(nameOrPath);
  if (resolved.kind === 'path') return { mount: resolved.path };
  const { stack, file } = resolved;
  if (stack.mount !== undefined) {
    const mountpoint = mountpointPath(stack.mount.path);
    const mount = (await knownMounts()).findLast((known) => known.mountpoint === mountpoint);
    // One that lives on in another mount namespace only is no longer to be had here.
    if (mount?.entry !== undefined && mount.layers !== undefined)
      return { mount: stack.mount.path };
  }
  return { options: [optionText(stack, file)] };
}
