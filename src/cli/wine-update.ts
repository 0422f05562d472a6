// `varve wine update`: the next version of a base, or a prefix on another version of its base.
// Run by main.ts; tells the two apart, does the first, and leaves the second to wine-update-prefix.ts.
// Manual: wine-update-commands.ts.

import { MountError } from '../stack/errors.js';
import { labelOf, listBases, listPrefixes } from '../wine/library/shelf.js';
import { withLibrary } from '../wine/library/stage.js';
import { findWine } from '../wine/prefix/build.js';
import { winePlaces } from '../wine/prefix/places.js';
import { holdPrefix, isUp } from '../wine/prefix/standing.js';
import { newerBase } from '../wine/update/follow.js';
import { type MoveReport, movePrefix } from '../wine/update/move.js';
import { makeVersion, type NewVersion, setCurrent } from '../wine/update/new-version.js';
import type { Arguments } from './args.js';
import { EXIT, exitCodeOf, lineOf } from './exit-codes.js';
import { counted, print, remark } from './output.js';
import { failing } from './store.js';
import { withProgress } from './wine-library.js';
import { moveJson, printMove, updatePrefix } from './wine-update-prefix.js';

const OF_BASES = ['wine', 'from', 'prefixes', 'current', 'force'];
const OF_PREFIXES = ['to', 'follow', 'conflicts', 'resolve'];

export async function run(given: Arguments): Promise<number> {
  const [name = '', ...words] = given.operands;
  const ofBase = OF_BASES.find((flag) => given.has(flag));
  const ofPrefix = OF_PREFIXES.find((flag) => given.has(flag));
  if (ofBase !== undefined && ofPrefix !== undefined) {
    throw new MountError(
      'option',
      `--${ofBase} is for bases, --${ofPrefix} for prefixes: leave one of the two out`,
    );
  }
  if (words.length > 0 && !given.has('resolve')) {
    throw new MountError('option', `${words[0]}: too many operands: name one base or prefix`);
  }
  return isBase(given, name, ofBase, ofPrefix)
    ? updateBase(given, name)
    : updatePrefix(given, name, words);
}

/** @throws MountError: `option` where it cannot be told, `absent`. */
function isBase(
  given: Arguments,
  name: string,
  ofBase: string | undefined,
  ofPrefix: string | undefined,
): boolean {
  if (given.has('base') && given.has('prefix')) {
    throw new MountError('option', '--base and --prefix exclude each other: leave one out');
  }
  if (given.has('base') || ofBase !== undefined) return true;
  if (given.has('prefix') || ofPrefix !== undefined || name.includes('/')) return false;
  if (name === '.' || name === '..') return false;
  const places = winePlaces();
  if (name.includes('@')) {
    const [base = ''] = name.split('@', 1);
    throw new MountError(
      'option',
      `${name}: a version is never changed: \`varve wine update ${base}\` makes the next one`,
    );
  }
  const hasBase = listBases(places).some((base) => base.name === name);
  const hasPrefix = listPrefixes(places).some((prefix) => prefix.name === name);
  if (hasBase && hasPrefix) {
    throw new MountError('option', `${name}: is a base and a prefix: say --base or --prefix`);
  }
  if (hasBase || hasPrefix) return hasBase;
  throw new MountError(
    'absent',
    `${name}: no base and no prefix is called so: \`varve wine ls\` lists them`,
  );
}

async function updateBase(given: Arguments, name: string): Promise<number> {
  const made = given.has('current') ? undefined : await newVersion(given, name);
  if (given.has('current')) await nameCurrent(given, name);
  const moves = given.has('prefixes') ? await moveAll(given, name, made) : [];
  const reports = moves.flatMap(({ report }) => report ?? []);
  if (given.has('json')) {
    const prefixes = moves.map(({ folder, report, error }) =>
      report === undefined ? { folder, error } : moveJson(report),
    );
    const current = listBases(winePlaces()).find((base) => base.name === name)?.current;
    print(
      given,
      { version: 1, base: name, current, ...(made && { update: made }), prefixes },
      () => '',
    );
  } else {
    if (made !== undefined) tellVersion(given, name, made);
    for (const { name: label, report } of moves) {
      if (report !== undefined) printMove(given, label, report);
    }
  }
  const failed = moves.find(({ code }) => code !== undefined);
  if (failed?.code !== undefined) return failed.code;
  return reports.some(({ open }) => open > 0) ? EXIT.conflict : EXIT.ok;
}

function newVersion(given: Arguments, name: string): Promise<NewVersion> {
  const from = given.value('from');
  if (from === '') throw new MountError('option', '--from: is empty: name a prefix or an image');
  if (from !== undefined && given.has('wine')) {
    throw new MountError('option', '--wine: nothing is run with --from: leave one of the two out');
  }
  const { env } = process;
  return withProgress(given, from ?? name, (onProgress) =>
    makeVersion({
      name,
      ...(from === undefined ? {} : { from }),
      wine: () => findWine(given.value('wine'), env),
      env,
      force: given.has('force'),
      dryRun: given.has('dry-run'),
      onProgress,
    }),
  );
}

function tellVersion(given: Arguments, name: string, made: NewVersion): void {
  const { from, to, wine, changed } = made;
  const by = wine === undefined || wine === '' ? '' : ` by ${wine}`;
  if (made.reason === 'same') {
    remark(given, `${from}: was made${by} already: nothing to update`);
  } else if (made.reason === 'dry-run') {
    remark(given, `${to}: would be made of ${from}${by}`);
  } else {
    const files =
      changed === undefined ? '' : `: ${counted(changed, 'file')} changed since ${from}`;
    remark(given, `${to}: made${by}${files}; it is what prefixes on ${name} start on now`);
  }
}

async function nameCurrent(given: Arguments, name: string): Promise<void> {
  const alone = ['wine', 'from', 'force'].find((flag) => given.has(flag));
  if (alone !== undefined) {
    throw new MountError('option', `--current names a version that is there: drop --${alone}`);
  }
  const text = given.value('current') ?? '';
  const [, digits] =
    new RegExp(`^(?:${name.replaceAll(/[.+]/g, '\\$&')}@)?([1-9][0-9]{0,8})$`).exec(text) ?? [];
  if (digits === undefined) {
    throw new MountError('option', `--current ${text}: name a version by its number, as 1`);
  }
  const places = winePlaces();
  if (given.has('dry-run')) {
    remark(given, `${name}@${digits}: would be the current version`);
    return;
  }
  await withLibrary(places, () => setCurrent(name, Number(digits), places));
  if (!given.has('json')) remark(given, `${name}@${digits}: is the current version`);
}

interface Moved {
  readonly name: string;
  readonly folder: string;
  readonly report?: MoveReport;
  /** Why not, and the exit code of that. */
  readonly error?: string;
  readonly code?: number;
}

/** Every prefix that follows the base; one that cannot move does not keep the others. */
async function moveAll(
  given: Arguments,
  name: string,
  made: NewVersion | undefined,
): Promise<Moved[]> {
  const moved: Moved[] = [];
  for (const prefix of listPrefixes(winePlaces())) {
    const { folder, record } = prefix;
    if (record?.base?.split('@', 1)[0] !== name || !record.follows) continue;
    const planned = made?.reason === 'dry-run' ? undefined : newerBase(record, process.env);
    if (planned === undefined) continue;
    try {
      if (isUp(folder)) {
        remark(given, `${labelOf(prefix)}: Wine runs in it: it moves when it starts next`);
        continue;
      }
      const lock = await holdPrefix(folder, 'update it');
      try {
        const dryRun = given.has('dry-run');
        const request = { folder, record, to: planned, follows: true, env: process.env, dryRun };
        const report = await failing(folder, () => movePrefix(request));
        moved.push({ name: labelOf(prefix), folder, report });
      } finally {
        lock.release();
      }
    } catch (error) {
      if (!(error instanceof MountError)) throw error;
      moved.push({ name: labelOf(prefix), folder, error: lineOf(error), code: exitCodeOf(error) });
      process.stderr.write(`varve: ${labelOf(prefix)}: ${lineOf(error)}\n`);
    }
  }
  return moved;
}
