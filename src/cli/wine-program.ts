// `varve wine PROGRAM`: the drop-in. The prefix and its layers come from the environment, as plain Wine's do.
// Run by main.ts and wine-main.ts; what there is to it is in wine-program-session.ts, which loads while a server starts.
// Manual: wine-run-commands.ts.

import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Arguments } from './args.js';
import { startServerAhead } from './wine-ahead.js';

export async function run(given: Arguments): Promise<number> {
  const { WINEPREFIX, WINEPREFIX_OVERLAYS, HOME } = process.env;
  const folder = resolve(WINEPREFIX || join(HOME || homedir(), '.wine'));
  if (given.operands[0] !== 'wineserver') {
    startServerAhead(given, folder, (WINEPREFIX_OVERLAYS ?? '') !== '');
  }
  return (await import('./wine-program-session.js')).run(given);
}
