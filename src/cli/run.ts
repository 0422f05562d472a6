// `varve run`: a command that sees a composefs image, in a mount namespace of its own.
// Run by main.ts. This half checks what it can and becomes unshare(1), which becomes the other half (run-inside.ts).
// The process stays the same through both, so whoever kills it kills what owns the mount.

import { errnoName } from '../linux/errno.js';
import { execute, mountNamespace } from '../linux/namespace.js';
import { MountError } from '../stack/errors.js';
import { namespaceMaker } from '../stack/private-namespace.js';
import { makeRuntime } from '../supervisor/folder.js';
import type { Arguments } from './args.js';
import { askedImage } from './mount-composefs.js';

/** Tells run-inside.ts which mount namespace it must not be in. */
export const OUTSIDE = 'VARVE_RUN_OUTSIDE';

/** The operands of `varve run`. */
export interface AskedCommand {
  /** As written; undefined: a place of its own. */
  readonly mountpoint: string | undefined;
  readonly command: string;
  readonly args: readonly string[];
}

/** @throws MountError of kind `option`. */
export function askedCommand({ operands, before }: Arguments): AskedCommand {
  const usage = 'write: varve run [flags] [MOUNTPOINT] -- COMMAND [ARG...]';
  if (before === undefined) throw new MountError('option', `-- is missing: ${usage}`);
  if (before > 1) throw new MountError('option', `more than one mount point: ${usage}`);
  const [command, ...args] = operands.slice(before);
  if (command === undefined) throw new MountError('option', `the command is missing: ${usage}`);
  return { mountpoint: before === 1 ? operands[0] : undefined, command, args };
}

export async function run(given: Arguments): Promise<number> {
  if (!given.has('image')) return (await import('./run-registry.js')).runReference(given);
  askedCommand(given);
  askedImage(given);
  const { program, args } = namespaceMaker();
  const { folder } = makeRuntime(process.env, process.geteuid?.() ?? 0);
  const env = {
    ...process.env,
    VARVE_RUNTIME_DIR: folder,
    [OUTSIDE]: mountNamespace() ?? '',
  };
  // `varve run ...` again, under its other name.
  const [node, script, , ...rest] = process.argv as [string, string, string, ...string[]];
  const again = [node, ...process.execArgv, script, 'run-inside', ...rest];
  const r = execute(program, ['unshare', ...args, ...again], env);
  throw new MountError('permission', `run: ${program} cannot be started: ${errnoName(r)}`);
}
