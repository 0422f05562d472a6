// `varve wine stop`: takes prefixes down, when or as soon as nobody uses them; mends what a crash left.
// Run by main.ts, by people and by the keeper of a session (which asks with --timeout=0, and goes on waiting for exit code 5).
// The work is wine/prefix/stop.ts.

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { MountError } from '../stack/errors.js';
import { findWine } from '../wine/prefix/build.js';
import { prefixFolder, winePlaces } from '../wine/prefix/places.js';
import { killPrefix, stopPrefix } from '../wine/prefix/stop.js';
import type { Arguments } from './args.js';
import { EXIT, exitCodeOf, lineOf } from './exit-codes.js';
import { print, remark } from './output.js';
import { varveItself } from './varve-itself.js';

export async function run(given: Arguments): Promise<number> {
  const patience = patienceOf(given);
  let code: number = EXIT.ok;
  const done: { prefix: string; outcome: 'stopped' | 'down' | 'failed'; error?: string }[] = [];
  for (const name of namesOf(given)) {
    try {
      const folder = folderOf(name);
      if (given.has('kill')) await killPrefix(folder, () => findWine(undefined, process.env));
      const stopped = await stopPrefix(folder, {
        patience,
        varve: varveItself(),
        remark: (text) => remark(given, `wine: ${text}`),
      });
      done.push({ prefix: name, outcome: stopped ? 'stopped' : 'down' });
      if (!given.has('json')) remark(given, `${name} is ${stopped ? '' : 'already '}down`);
    } catch (error) {
      code = code === EXIT.ok ? exitCodeOf(error) : code;
      done.push({ prefix: name, outcome: 'failed', error: lineOf(error) });
      if (!given.has('json') && !(given.has('quiet') && exitCodeOf(error) === EXIT.busy)) {
        process.stderr.write(`varve: ${lineOf(error)}\n`);
      }
    }
  }
  if (given.has('json')) print(given, done, () => '');
  return code;
}

function patienceOf(given: Arguments): number {
  const text = given.value('timeout');
  if (text === undefined) return Number.POSITIVE_INFINITY;
  if (/^\d{1,7}(\.\d{1,3})?$/.test(text)) return Number(text) * 1000;
  throw new MountError('option', `--timeout=${text}: write a number of seconds`);
}

function namesOf(given: Arguments): readonly string[] {
  const all = given.has('all');
  if (all !== given.operands.length > 0) {
    if (!all) return given.operands;
    const { prefixes } = winePlaces(process.env);
    return existsSync(prefixes)
      ? readdirSync(prefixes).filter((name) => existsSync(join(prefixes, name, '.varve')))
      : [];
  }
  throw new MountError(
    'option',
    all ? '--all: and names exclude each other' : 'name a prefix, or say --all',
  );
}

function folderOf(name: string): string {
  const folder = prefixFolder(name, process.env);
  if (existsSync(folder)) return folder;
  throw new MountError('absent', `${name}: no such prefix: \`varve wine ls\` lists them`);
}
