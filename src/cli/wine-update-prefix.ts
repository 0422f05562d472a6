// What `varve wine update` does with a prefix: moves it, lists its conflicts, decides them.
// Called by wine-update.ts; wine/update does the work.
// Manual: wine-update-commands.ts.

import { existsSync } from 'node:fs';
import { MountError } from '../stack/errors.js';
import { show } from '../tree/tree.js';
import { requirePrefix } from '../wine/library/hold.js';
import { findBase } from '../wine/library/shelf.js';
import { pathsOf, prefixFolder, winePlaces } from '../wine/prefix/places.js';
import { type PrefixRecord, readRecord, writeRecord } from '../wine/prefix/record.js';
import { holdPrefix } from '../wine/prefix/standing.js';
import { conflictJson, lineOf } from '../wine/update/conflict-words.js';
import { openConflicts } from '../wine/update/conflicts.js';
import { type MoveReport, movePrefix } from '../wine/update/move.js';
import { resolveConflicts } from '../wine/update/resolve.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, print, remark } from './output.js';
import { failing } from './store.js';

export async function updatePrefix(
  given: Arguments,
  name: string,
  words: readonly string[],
): Promise<number> {
  const doing = ['conflicts', 'resolve', 'to'].filter((flag) => given.has(flag));
  if (doing.length > 1) {
    throw new MountError('option', `--${doing.join(' and --')}: one at a time: drop one`);
  }
  if (given.has('conflicts')) return listConflicts(given, name);
  if (given.has('resolve')) return resolve(given, name, words);
  return move(given, name);
}

/** Also of a prefix that only WINEPREFIX_OVERLAYS makes a layered one. @throws MountError of kind `absent`. */
function anyPrefix(name: string): string {
  const folder = prefixFolder(name, process.env);
  if (existsSync(pathsOf(folder).state)) return folder;
  return requirePrefix(name, process.env);
}

function listConflicts(given: Arguments, name: string): number {
  const open = openConflicts(anyPrefix(name));
  print(given, { version: 1, conflicts: open.map(conflictJson) }, () =>
    given.has('quiet') ? '' : open.map(lineOf).join('\n'),
  );
  return open.length > 0 ? EXIT.conflict : EXIT.ok;
}

async function resolve(given: Arguments, name: string, words: readonly string[]): Promise<number> {
  const side = given.value('resolve');
  if (side !== 'ours' && side !== 'theirs') {
    throw new MountError('option', `--resolve ${side}: one of ours, theirs`);
  }
  const folder = anyPrefix(name);
  const lock = await holdPrefix(folder, 'decide its conflicts');
  try {
    const record = readRecord(folder);
    const dryRun = given.has('dry-run');
    const request = { folder, record, side, wanted: words, env: process.env, dryRun } as const;
    const { resolved, open } = await failing(folder, () => resolveConflicts(request));
    const json = { version: 1, side, dryRun };
    print(
      given,
      { ...json, resolved: resolved.map(conflictJson), open: open.map(conflictJson) },
      () => '',
    );
    if (!given.has('json')) {
      const verb = dryRun ? 'would be decided' : 'decided';
      remark(given, `${counted(resolved.length, 'conflict')} ${verb}, ${open.length} open`);
    }
    return open.length > 0 ? EXIT.conflict : EXIT.ok;
  } finally {
    lock.release();
  }
}

async function move(given: Arguments, name: string): Promise<number> {
  const folder = requirePrefix(name, process.env);
  const dryRun = given.has('dry-run');
  const lock = await holdPrefix(folder, 'update it');
  try {
    const record = readRecord(folder) as PrefixRecord;
    const { to, follows } = whereTo(given, name, record);
    if (to === record.base) {
      if (follows !== record.follows && !dryRun) writeRecord(folder, { ...record, follows });
      const open = openConflicts(folder).length;
      const nothing = { folder, from: to, to, follows, done: false, open };
      print(given, { version: 1, prefix: nothing }, () => '');
      if (!given.has('json')) {
        const kept = follows ? '' : ' and is kept there';
        const left = open === 0 ? '' : `; ${counted(open, 'conflict')} open`;
        remark(given, `${name}: stands on ${to}${kept}: nothing to move${left}`);
      }
      return open > 0 ? EXIT.conflict : EXIT.ok;
    }
    const request = { folder, record, to, follows, env: process.env, dryRun };
    const report = await failing(folder, () => movePrefix(request));
    if (given.has('json')) print(given, { version: 1, prefix: moveJson(report) }, () => '');
    else printMove(given, name, report);
    return report.open > 0 ? EXIT.conflict : EXIT.ok;
  } finally {
    lock.release();
  }
}

/** @throws MountError: `option`, `absent`. */
function whereTo(
  given: Arguments,
  name: string,
  record: PrefixRecord,
): { to: string; follows: boolean } {
  const { base } = record;
  if (base === undefined) {
    throw new MountError('option', `${name}: stands on no base: there is nothing to update`);
  }
  const wanted = given.value('to');
  const places = winePlaces();
  if (wanted !== undefined) {
    const to = findBase(wanted, places).reference;
    return { to, follows: given.has('follow') || !wanted.includes('@') };
  }
  const [own = ''] = base.split('@', 1);
  const follows = record.follows || given.has('follow');
  return { to: follows ? findBase(own, places).reference : base, follows };
}

export function moveJson(report: MoveReport): object {
  const { files, conflicts, ...rest } = report;
  const decisions = files.map(({ path, outcome }) => ({ path: text(path), outcome }));
  return { ...rest, files: decisions, conflicts: conflicts.map(conflictJson) };
}

/** Conflicts, and with --verbose every decision, on stdout; one remark about the whole. */
export function printMove(given: Arguments, name: string, report: MoveReport): void {
  if (given.has('quiet')) return;
  const { from, to, done, files, conflicts, open } = report;
  const lines = conflicts.map(lineOf);
  if (given.has('verbose') || given.has('dry-run')) {
    const told = files.filter(({ outcome }) => outcome !== 'conflict');
    lines.unshift(...told.map(({ path, outcome }) => `${outcome}: drive_c/${text(path)}`));
  }
  if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`);
  const verb = done ? 'moved' : 'would move';
  const older = open > conflicts.length ? ` (${open - conflicts.length} older ones)` : '';
  const decide = `\`varve wine update ${name} --resolve ours|theirs\` decides them`;
  const end = open === 0 ? '' : `; ${counted(open, 'conflict')}${older}: ${decide}`;
  remark(given, `${name}: ${verb} from ${from} to ${to}${end}`);
}

/** A name's bytes as text; quoted where it is more than that. */
function text(path: string): string {
  const quoted = show(path);
  const plain = Buffer.from(path, 'latin1').toString();
  return quoted === `"${plain}"` ? plain : quoted;
}
