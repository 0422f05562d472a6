// What a command has done to the layers of a stack, written down where the stack has a name.
// Called by commit, detach and rebase after the change itself, which stands whatever happens here.
// The writing is write.ts.

import { MountError } from '../stack/errors.js';
import type { Resolved } from './resolve.js';
import { updateStack } from './write.js';

/**
 * The layers that a stack has now, absolute paths, the lowers topmost first.
 * @param named a path or undefined: there is nothing to write. @param done half a sentence about the file, where it
 * cannot be written: `/upper: is committed, but FILE does not name it yet`.
 * @returns the file. @throws MountError; then the file is what it was.
 */
export async function writeDownLayers(
  named: Resolved | undefined,
  { lowerdirs, datadirs }: Record<'lowerdirs' | 'datadirs', readonly string[]>,
  done: (file: string, stack: string) => string,
): Promise<string | undefined> {
  if (named?.kind !== 'stack') return undefined;
  const { path } = named.file;
  const { name } = named.stack;
  try {
    await updateStack(path, name, { lowers: lowerdirs, data: datadirs });
    return path;
  } catch (error) {
    if (!(error instanceof MountError)) throw error;
    throw new MountError(error.kind, `${done(path, name)}: ${error.message}`, { cause: error });
  }
}
