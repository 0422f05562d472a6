// `varve wine doctor`: this machine and its prefixes, what is wrong with them, and what leads out of them.
// Run by main.ts; wine/doctor/ looks and mends.
// Manual: wine-doctor-commands.ts.

import { readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { plain } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import { examinePrefix, type PrefixReport, requirePrefix } from '../wine/doctor/examine.js';
import type { Finding } from '../wine/doctor/finding.js';
import { fixPrefix } from '../wine/doctor/fix.js';
import { type MachineReport, machineReport } from '../wine/doctor/machine.js';
import { isName, prefixFolder, winePlaces } from '../wine/prefix/places.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, remark, table } from './output.js';

/** Paths of one finding that are printed; JSON has all. */
const SHOWN = 8;

export async function run(given: Arguments): Promise<number> {
  const { env } = process;
  const fix = given.has('fix');
  if (given.has('no-z') && !fix) {
    throw new MountError('option', '--no-z: is about what --fix does: add --fix');
  }
  if (fix && given.operands.length === 0) {
    throw new MountError('option', '--fix: name the prefix that is to be mended');
  }
  const folders = foldersOf(given, env);
  for (const folder of folders) requirePrefix(folder);
  const machine = machineReport(given.value('wine'), env);
  const prefixes: (PrefixReport & { readonly done?: readonly string[] })[] = [];
  for (const folder of folders) {
    const done = fix ? await fixPrefix(folder, { env, drives: given.has('no-z') }) : undefined;
    prefixes.push({
      ...(await examinePrefix(folder, env)),
      ...(done === undefined ? {} : { done }),
    });
  }
  if (!given.has('quiet')) {
    print(given, { version: 1, machine, prefixes }, () =>
      [machineText(machine), ...prefixes.map((one) => prefixText(one, one.done))].join('\n\n'),
    );
  }
  if (fix)
    for (const { folder } of prefixes) remark(given, `${folder}: looked at again after mending`);
  return codeOf(machine, prefixes);
}

function foldersOf(given: Arguments, env: NodeJS.ProcessEnv): string[] {
  if (given.operands.length > 0) return given.operands.map((name) => prefixFolder(name, env));
  const own = env['WINEPREFIX'] ?? '';
  if (own !== '') return [resolve(own)];
  const { prefixes } = winePlaces(env);
  return namesOf(prefixes)
    .filter(isName)
    .map((name) => prefixFolder(name, env));
}

function namesOf(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

function codeOf(machine: MachineReport, prefixes: readonly PrefixReport[]): number {
  const isMissing = machine.features.some(({ verdict }) => verdict === 'missing');
  if (isMissing || machine.without !== undefined) return EXIT.permission;
  const findings = prefixes.flatMap((prefix) => prefix.findings);
  return findings.some(({ verdict }) => verdict === 'fault') ? EXIT.layer : EXIT.ok;
}

function machineText({ library, wines, without, features }: MachineReport): string {
  const builds = wines.map(({ wish, version, wine, name }) => [
    wish === undefined ? 'taken' : '--wine',
    wish ?? wine,
    version || name,
  ]);
  const rows = features.map(({ verdict, name, detail, without: instead }) => [
    verdict === 'missing' ? 'MISSING' : verdict,
    name,
    [detail, instead].filter((text) => text !== undefined && text !== '').join(': '),
  ]);
  return [
    `Library: ${plain(library)}`,
    'Wine:',
    ...(without === undefined ? [] : [`  MISSING  ${without}`]),
    ...(builds.length === 0 ? [] : [table(builds, '  ')]),
    'This machine:',
    table(rows, '  '),
  ].join('\n');
}

function prefixText(
  { folder, up, layers, findings }: PrefixReport,
  done: readonly string[] = [],
): string {
  const state = up ? 'up' : 'down';
  const over = layers.length === 0 ? 'no layers' : `over ${layers.map(plain).join(', ')}`;
  const head = `${plain(folder)}: ${state}, ${over}`;
  const mended = done.map((line) => `  done   ${plain(line)}`);
  if (findings.length === 0) return [`${head}: nothing found.`, ...mended].join('\n');
  return [head, ...mended, ...findings.flatMap(findingLines)].join('\n');
}

function findingLines({ verdict, what, paths, remedy, fixable }: Finding): string[] {
  const rest = paths.length - SHOWN;
  const word = verdict === 'fault' ? 'FAULT' : verdict;
  return [
    `  ${word.padEnd(5)}  ${plain(what)}`,
    ...paths.slice(0, SHOWN).map((path) => `           ${plain(path)}`),
    ...(rest > 0 ? [`           and ${rest} more`] : []),
    `         ${fixable ? '--fix' : 'to do'}: ${plain(remedy)}`,
  ];
}
