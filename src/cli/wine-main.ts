// The entry of bin/wine-shim: `varve wine PROGRAM` alone, without the tables of all other commands.
// Bundled as a program of its own (scripts/ensure-built.mjs), for every cold start of Wine waits for it.
// Whatever fails becomes one line on stderr and an exit code, as in main.ts.

import { fileURLToPath } from 'node:url';
import { parseArguments } from './args.js';
import type { CommandRecord } from './command-record.js';
import { lineOf } from './exit-codes.js';
import { run } from './wine-program.js';
import { WINE_RUN_COMMANDS } from './wine-run-commands.js';

// What is started from here is the whole command line.
process.argv[1] = fileURLToPath(new URL('./main.js', import.meta.url));
const { flags, verbatim, failure } = WINE_RUN_COMMANDS[0] as CommandRecord;
try {
  process.exit(await run(parseArguments(process.argv.slice(2), flags, verbatim)));
} catch (error) {
  process.stderr.write(`varve: ${lineOf(error)}\n`);
  process.exit(failure);
}
