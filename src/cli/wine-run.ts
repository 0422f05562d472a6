// `varve wine run`: a program in a prefix that has a record of its layers.
// Run by main.ts; what there is to it is in wine-run-session.ts, which loads while a server starts.
// Manual: wine-run-commands.ts.

import { prefixFolder } from '../wine/prefix/places.js';
import type { Arguments } from './args.js';
import { startServerAhead } from './wine-ahead.js';

export async function run(given: Arguments): Promise<number> {
  const [name = ''] = given.operands;
  startServerAhead(given, prefixFolder(name, process.env), false);
  return (await import('./wine-run-session.js')).run(given);
}
