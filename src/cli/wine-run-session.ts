// The session of `varve wine run`: the prefix by its name, its record, its layers.
// Run by wine-run.ts, which has started what takes longest; wine-session.ts is the rest.
// Manual: wine-run-commands.ts.

import { existsSync } from 'node:fs';
import { MountError } from '../stack/errors.js';
import { resolveBelow } from '../wine/prefix/below.js';
import { prefixFolder } from '../wine/prefix/places.js';
import { readRecord } from '../wine/prefix/record.js';
import type { Arguments } from './args.js';
import { followed, runInSession, runPlain, wineOf } from './wine-session.js';

export async function run(given: Arguments): Promise<number> {
  const [name, program, ...args] = given.operands as [string, string, ...string[]];
  const folder = prefixFolder(name, process.env);
  if (!existsSync(folder)) {
    throw new MountError('absent', `${name}: no such prefix: \`varve wine create\` makes one`);
  }
  const known = readRecord(folder);
  const record = known && (await followed(given, folder, known));
  const wine = wineOf(given, record?.wine);
  const recorded = record?.wine !== undefined;
  const asked = { given, folder, wine, recorded, program, args };
  if (record === undefined || (record.base === undefined && record.layers.length === 0)) {
    return runPlain(asked, folder);
  }
  return runInSession({ ...asked, below: await resolveBelow(record, process.env) });
}
