// Starts the server of a Wine session that will want one, while this process still loads: the three take as long as the slowest.
// Called first of all by wine-run.ts and wine-program.ts; loads no FFI. A wrong guess costs a process that ends by itself.
// Follows drive.ts, mountDrive(): who does the union.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { serverProgram } from '../stack/server-program.js';
import { startAhead } from '../supervisor/client.js';
import type { Arguments } from './args.js';

/** @param folder of the prefix. @param layered whether it has layers, as far as is known. */
export function startServerAhead(given: Arguments, folder: string, layered: boolean): void {
  const backend = given.value('backend') ?? 'auto';
  const isServed = backend === 'fuse' || (backend === 'auto' && process.geteuid?.() !== 0);
  const state = join(folder, '.varve');
  const isUp = existsSync(join(state, 'session.json'));
  if (!isServed || isUp || !(layered || existsSync(join(state, 'prefix.json')))) return;
  try {
    startAhead({ server: serverProgram() });
  } catch {
    // Whoever mounts says what is wrong.
  }
}
