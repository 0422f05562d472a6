// `varve diff --prune`: drops from the upper what the union would show without it, too.
// Called by diff.ts; ops/prune.ts decides and removes, behind a lock that keeps mounts away.
// Manual: diff-commands.ts.

import { holdUpper } from '../ops/hold-upper.js';
import { asStack, openLayers } from '../ops/open-stack.js';
import { type Dropped, type Pruned, prune } from '../ops/prune.js';
import { readable } from '../report/readable.js';
import { bytesText, plain } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import { readChanges } from '../union/changes.js';
import type { Arguments } from './args.js';
import { isWithin } from './diff-compared.js';
import { nameStack } from './diff-operands.js';
import { EXIT } from './exit-codes.js';
import { asMountError } from './image.js';
import { print } from './output.js';

export async function pruneUpper(given: Arguments): Promise<number> {
  const other = ['stat', 'name-status', 'patch', 'html', 'tar', 'trees'].find((f) => given.has(f));
  if (other !== undefined) {
    throw new MountError('option', `--prune changes the upper: leave --${other} out`);
  }
  const { named, paths } = await nameStack(given);
  const { upperdir, workdir, lowerdirs } = named.layers;
  const dryRun = given.has('dry-run');
  if (named.mount !== undefined && !dryRun) {
    throw new MountError(
      'busy',
      `${named.mount.mountpoint}: is mounted: prune it when it is unmounted (-n tells now what would go)`,
    );
  }
  const upper = upperdir ?? (lowerdirs[0] as string);
  const held = dryRun ? undefined : holdUpper(upper, workdir, 'prune it');
  const opened = openLayers(named);
  try {
    const stack = asStack(opened);
    const dropped: Dropped[] = [];
    const lists = given.has('all') || dryRun || given.has('json');
    const done = prune(stack, readChanges(stack), held?.fd, {
      keepTimes: given.has('keep-times'),
      within: (path) => isWithin(path, paths),
      onDrop: (one) => {
        if (lists) dropped.push(one);
      },
    });
    if (!given.has('quiet'))
      print(given, jsonOf(upper, dryRun, done, dropped), () =>
        textOf(upper, dryRun, done, dropped),
      );
    return EXIT.ok;
  } catch (error) {
    throw asMountError(error, upper);
  } finally {
    opened.close();
    held?.release();
  }
}

function jsonOf(
  upperdir: string,
  dryRun: boolean,
  done: Pruned,
  dropped: readonly Dropped[],
): object {
  const entries = [...dropped].reverse().map(({ path, kind, bytes }) => {
    const { text, bytes: pathBytes } = readable(path);
    return { path: text, pathBytes, kind, bytes };
  });
  return { version: 1, upperdir, dryRun, ...done, dropped: entries };
}

function textOf(upper: string, dryRun: boolean, done: Pruned, dropped: readonly Dropped[]): string {
  // What is in a directory was dropped before it.
  const lines = [...dropped].reverse().map(({ path, kind, bytes }) => {
    const mark = kind === 'directory' ? '/' : kind === 'whiteout' ? ' (whiteout of nothing)' : '';
    return `${plain(readable(path).text)}${mark}${bytes > 0 ? `  ${bytesText(bytes)}` : ''}`;
  });
  const parts = [
    counted(done.files, 'identical file', 'identical files'),
    done.directories > 0 ? counted(done.directories, 'copied directory', 'copied directories') : '',
    done.whiteouts > 0 ? `${counted(done.whiteouts, 'whiteout', 'whiteouts')} of nothing` : '',
  ].filter((part) => part !== '');
  const verb = dryRun ? 'would be dropped' : 'dropped';
  const kept = [
    done.kept.links > 0 ? `${done.kept.links} with several names` : '',
    done.kept.opaque > 0 ? `${done.kept.opaque} in replaced directories` : '',
    done.kept.time > 0 ? `${done.kept.time} with another time` : '',
  ].filter((part) => part !== '');
  const tail = kept.length > 0 ? `; identical too, and kept: ${kept.join(', ')}` : '';
  lines.push(`${upper}: ${verb}: ${parts.join(', ')}: ${bytesText(done.bytes)}${tail}`);
  return lines.join('\n');
}

function counted(n: number, one: string, many: string): string {
  return `${n} ${n === 1 ? one : many}`;
}
