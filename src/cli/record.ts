// `varve record`: runs a command in an image and remembers in which order its content is used.
// Run by main.ts; all of it is run-registry.ts with recording switched on.
// Manual: registry-commands.ts.

import type { Arguments } from './args.js';
import { runReference } from './run-registry.js';

export function run(given: Arguments): Promise<number> {
  return runReference(given, true);
}
