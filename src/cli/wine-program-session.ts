// The session of `varve wine PROGRAM`: what WINEPREFIX and WINEPREFIX_OVERLAYS ask for.
// Run by wine-program.ts, which has started what takes longest; wine-session.ts is the rest.
// The variable follows the proposal of 2020 for WINEPREFIX_OVERLAYS: drive_c folders, topmost first.

import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { MountError } from '../stack/errors.js';
import { beginPrefix } from '../wine/library/begin.js';
import { overlaysOf, resolveBelow } from '../wine/prefix/below.js';
import { pathsOf } from '../wine/prefix/places.js';
import { type PrefixRecord, readRecord, writeRecord } from '../wine/prefix/record.js';
import { recoverPrefix } from '../wine/prefix/session.js';
import type { Arguments } from './args.js';
import { followed, runInSession, runPlain, wineOf } from './wine-session.js';

export async function run(given: Arguments): Promise<number> {
  const [program, ...args] = given.operands as [string, ...string[]];
  const { env } = process;
  const folder = resolve(env['WINEPREFIX'] || join(env['HOME'] || homedir(), '.wine'));
  const known = readRecord(folder);
  const value = env['WINEPREFIX_OVERLAYS'] ?? '';
  const overlays = overlaysOf(value);
  const record = overlays.length === 0 ? known : recordOf(folder, known, overlays);
  const wine = wineOf(given, record?.wine);
  const recorded = record?.wine !== undefined;
  const asked = { given, folder, wine, recorded, program, args };
  const hasLayers = record !== undefined && (record.base !== undefined || record.layers.length > 0);
  if (!hasLayers || isAskingOnly(program, args)) {
    if (existsSync(pathsOf(folder).session) && !hasLayers) await recoverPrefix(folder);
    return runPlain(asked, env['WINEPREFIX'] === undefined ? undefined : folder);
  }
  if (overlays.length === 0) {
    const current = await followed(given, folder, record);
    return runInSession({ ...asked, below: await resolveBelow(current, env) });
  }
  const below = await resolveBelow(record, env);
  if (known === undefined) await beginPrefix(folder, below, env);
  return runInSession({
    ...asked,
    below,
    overlays: value,
    started: (session) => {
      if (JSON.stringify(record) !== JSON.stringify(known)) writeRecord(session.folder, record);
    },
  });
}

/** A wineserver that is only to be waited for or ended needs no files. */
function isAskingOnly(program: string, args: readonly string[]): boolean {
  const isServer = program === 'wineserver';
  return isServer && args.some((word) => /^(-w|-k\d*|--wait|--kill(=.*)?)$/.test(word));
}

function recordOf(
  folder: string,
  known: PrefixRecord | undefined,
  overlays: readonly string[],
): PrefixRecord {
  if (known?.base !== undefined) {
    throw new MountError(
      'option',
      `WINEPREFIX_OVERLAYS: ${folder} stands on ${known.base} and has its layers recorded: unset the variable, or take another WINEPREFIX`,
    );
  }
  return { version: 1, follows: false, ...known, layers: overlays };
}
