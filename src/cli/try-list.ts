// `varve try --list`: the trials that were kept, or that a killed varve left behind.
// Called by try.ts.
// Their folder is that of ops/try/session.ts.

import { keptTries, tryBase } from '../ops/try/session.js';
import { plain } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { table } from './output.js';

export function listTries(given: Arguments): number {
  if (given.operands.length > 0) {
    throw new MountError('option', `${given.operands[0]}: --list takes no command`);
  }
  const env = process.env;
  const tries = keptTries(tryBase(given.value('state') ?? env['VARVE_TRY_DIR'], env)).map(
    ({ folder, record: { command, started } }) => ({ folder, started, command }),
  );
  if (given.has('json')) {
    process.stdout.write(`${JSON.stringify(tries, undefined, 2)}\n`);
    return 0;
  }
  const rows = tries.map(({ folder, started, command }) => [
    folder,
    `${started.slice(0, 19).replace('T', ' ')} UTC`,
    plain(command.join(' ')),
  ]);
  if (rows.length > 0) process.stdout.write(`${table(rows)}\n`);
  return 0;
}
