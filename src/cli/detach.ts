// `varve detach`: a lower is copied into the upper of a mount in use, and leaves the stack.
// Run by main.ts; ops/detach/ does it, this file says how far it is and what to name next time.
// Manual: detach-command.ts. docs/detach.md.

import { type Resolved, resolveStack } from '../named/resolve.js';
import { mountOfStack } from '../named/up.js';
import { writeDownLayers } from '../named/write-down.js';
import {
  awaitDetach,
  beginDetach,
  cancelDetach,
  type Detached,
  type Lower,
  lowerOf,
} from '../ops/detach/detach-lower.js';
import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import { escapePath, joinLayers } from '../stack/option-text.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, print } from './output.js';
import { StatusLine } from './status-line.js';

export async function run(given: Arguments): Promise<number> {
  const which = given.value('lower');
  const named = await resolveStack(given.operands[0] as string);
  const mount = named.kind === 'path' ? named.path : mountOfStack(named.stack, named.file).path;
  if (which === undefined) {
    if (given.has('cancel')) throw new MountError('option', '--cancel: name the lower by --lower');
    return (await import('./detach-lazy.js')).detachLazy(given, mount);
  }
  if (given.has('verify')) {
    throw new MountError('option', '--verify: of layers of an image store: leave --lower out');
  }
  const lower = await lowerOf(mount, which);
  if (given.has('cancel')) return cancel(given, lower);
  requireOwn(named, lower);
  await beginDetach(lower);
  const { mountpoint } = lower.spec;
  if (given.has('no-wait')) {
    const begun = { version: 1, mountpoint, lower: lower.path, state: 'filling' };
    const text = `${lower.path}: is being copied into ${lower.spec.upperdir}: \`varve status ${mountpoint}\` tells how far it is`;
    if (!given.has('quiet')) print(given, begun, () => text);
    return EXIT.ok;
  }
  const line = new StatusLine(given.has('quiet') || given.has('json'));
  let done: Detached;
  try {
    done = await awaitDetach(lower, ({ copied, bytes }) =>
      line.show(`${lower.path}: ${counted(copied, 'object')} copied, ${bytesText(bytes)}`),
    );
  } finally {
    line.end();
  }
  const file = await writeDownLayers(
    named,
    done,
    (path) => `${lower.path}: is detached, but ${path} names it still`,
  );
  if (given.has('quiet')) return EXIT.ok;
  const { progress, ...rest } = done;
  const { copied = 0, bytes = 0 } = progress ?? {};
  const json = { version: 1, mountpoint, lower: lower.path, ...rest, copied, bytes };
  print(given, { ...json, options: optionsOf(lower, done), stackFile: file }, () =>
    textOf(lower, done, file),
  );
  return EXIT.ok;
}

async function cancel(given: Arguments, lower: Lower): Promise<number> {
  await cancelDetach(lower);
  const { mountpoint } = lower.spec;
  if (!given.has('quiet')) {
    const json = { version: 1, mountpoint, lower: lower.path, state: 'cancelled' };
    print(given, json, () => `${lower.path}: stays a lower of ${mountpoint}`);
  }
  return EXIT.ok;
}

/** A stack of varve.yaml must be able to say the same afterwards. @throws MountError. */
function requireOwn(named: Resolved, { path, place, spec }: Lower): void {
  if (named.kind !== 'stack') return;
  const { stack, file } = named;
  const inherited = stack.layers.length - stack.own;
  if (place <= inherited) {
    throw new MountError(
      'option',
      `${stack.name}: ${path} is a layer of ${stack.bases[0]}, on which it builds: name its layers in ${file.path} instead of base`,
    );
  }
  if (spec.lowerdirs.length > 1) return;
  throw new MountError(
    'option',
    `${stack.name}: ${path} is its only layer, and a stack of ${file.path} needs one: name the mount point, ./NAME or a path, to detach it all the same`,
  );
}

/** What to mount next time; undefined: nothing is left below the upper. */
function optionsOf({ spec }: Lower, { lowerdirs, datadirs }: Detached): string | undefined {
  if (lowerdirs.length === 0) return undefined;
  const { upperdir, workdir } = spec;
  return `lowerdir=${joinLayers(lowerdirs, datadirs)},upperdir=${escapePath(upperdir as string)},workdir=${escapePath(workdir as string)}`;
}

function textOf(lower: Lower, done: Detached, file: string | undefined): string {
  const { mountpoint, upperdir } = lower.spec;
  const { progress, stallMilliseconds } = done;
  const { copied = 0, bytes = 0 } = progress ?? {};
  const options = optionsOf(lower, done);
  const lines = [
    `${lower.path}: detached from ${mountpoint}: ${counted(copied, 'object')} copied, ${bytesText(bytes)}`,
    `  the mount goes on; at the last step nobody was answered for ${stallMilliseconds} ms`,
  ];
  if (file !== undefined) lines.push(`  ${file} names it no more`);
  lines.push(
    options === undefined
      ? `  nothing is left below the upper: ${upperdir} holds all of it`
      : `  next time: -o ${options}`,
  );
  return lines.join('\n');
}
