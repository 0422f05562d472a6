// Conflicts are decided: ours stays as it is, theirs comes into the prefix, and the list gets shorter.
// Called by `varve wine update --resolve`, with the prefix's lock, while it is down.
// Files are changed one by one; then registry and list become valid together. Cut off before that, the same may be asked again.

import { join } from 'node:path';
import { MountError } from '../../stack/errors.js';
import { type Below, readRegistryBelow, resolveBelow } from '../prefix/below.js';
import { planOwnRegistry } from '../prefix/materialise.js';
import { publishTogether } from '../prefix/publishing.js';
import type { PrefixRecord } from '../prefix/record.js';
import { writeFileWhole } from '../prefix/write-file.js';
import type { Registry } from '../registry/hive.js';
import { isMeant } from './conflict-words.js';
import {
  type Conflict,
  type FileConflict,
  isOpen,
  isOverInDelta,
  type KeyConflict,
  LIST_FILE,
  listText,
  readConflicts,
} from './conflicts.js';
import { dropSides } from './kept-sides.js';
import { takeFile } from './take-file.js';
import { takeKeys } from './take-keys.js';

export interface Resolved {
  readonly resolved: readonly Conflict[];
  /** Those that are left. */
  readonly open: readonly Conflict[];
}

export interface ResolveRequest {
  /** Of the prefix. */
  readonly folder: string;
  /** undefined: a prefix that only WINEPREFIX_OVERLAYS makes a layered one. */
  readonly record: PrefixRecord | undefined;
  readonly side: 'ours' | 'theirs';
  /** Numbers, paths and keys as the list shows them; none: all conflicts. */
  readonly wanted: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly dryRun?: boolean;
}

/**
 * @throws MountError: `absent` where nothing is meant by one of them; then nothing has changed.
 */
export async function resolveConflicts(request: ResolveRequest): Promise<Resolved> {
  const { folder, record, side, wanted, env } = request;
  const all = readConflicts(folder);
  const resolved = chosen(all.filter(isOpen), wanted, folder);
  const left = all.filter((conflict) => !resolved.includes(conflict));
  if (request.dryRun) return { resolved, open: left.filter(isOpen) };
  const keys = side === 'ours' ? [] : resolved.filter((one) => one.kind === 'registry');
  const files = side === 'ours' ? [] : resolved.filter((one) => one.kind === 'file');
  if (files.length > 0) await takeFiles(folder, record, files, env);
  // Who has decided for ours is not asked again by the same step between two bases.
  const settled = side === 'ours' ? resolved.filter(({ from }) => from !== undefined) : [];
  const kept = [...left, ...settled.map((one): Conflict => ({ ...one, settled: true }))];
  const under = keys.some(({ layer }) => layer !== undefined)
    ? await registriesUnder(record, env)
    : () => undefined;
  const registry =
    keys.length === 0
      ? undefined
      : planOwnRegistry(folder, (delta) => takeKeys(delta, keys as KeyConflict[], under));
  // A key that is as below again takes the conflicts of all its values with it.
  const now = kept.filter(
    (one) => !isOpen(one) || registry === undefined || !isOverInDelta(one, registry.delta),
  );
  publishTogether(folder, (stage) => {
    registry?.stage(stage);
    writeFileWhole(join(stage, LIST_FILE), listText(now));
  });
  const open = now.filter(isOpen);
  dropSides(folder, open);
  return { resolved, open };
}

async function takeFiles(
  folder: string,
  record: PrefixRecord | undefined,
  conflicts: readonly Conflict[],
  env: NodeJS.ProcessEnv,
): Promise<void> {
  if (record === undefined) {
    throw new MountError('option', `${folder}: is no prefix that stands on a base`);
  }
  const below: Below[] = await resolveBelow(record, env);
  for (const conflict of conflicts as FileConflict[]) takeFile(folder, conflict, below);
}

/** What lies below each layer. */
async function registriesUnder(
  record: PrefixRecord | undefined,
  env: NodeJS.ProcessEnv,
): Promise<(layer: string) => Registry | undefined> {
  const below = record === undefined ? [] : await resolveBelow(record, env);
  return (layer) =>
    readRegistryBelow(below.slice(1 + below.findIndex(({ label }) => label === layer)));
}

function chosen(open: readonly Conflict[], wanted: readonly string[], folder: string): Conflict[] {
  for (const word of wanted) {
    if (open.some((conflict) => isMeant(conflict, word))) continue;
    throw new MountError(
      'absent',
      `${word}: no conflict of ${folder} is about it: \`varve wine update ${folder} --conflicts\` lists them`,
    );
  }
  if (wanted.length === 0) return [...open];
  return open.filter((conflict) => wanted.some((word) => isMeant(conflict, word)));
}
