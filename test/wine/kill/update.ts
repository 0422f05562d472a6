// Moves a prefix to another base, decides its conflicts, or makes a base's next version, and kills itself before a rename:
// the victim of update-kill.test.ts.
// Arguments: move PREFIX BASE@N | resolve PREFIX | version SOURCE, then which rename (a number beyond the last: none). Prints the
// names that were given, one a line.

import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const [what = '', at = '', ...rest] = process.argv.slice(2);
const last = Number(rest.at(-1));
const { renameSync, writeSync } = fs;
let renames = 0;
fs.renameSync = (from, to) => {
  if (renames++ === last) process.kill(process.pid, 'SIGKILL');
  renameSync(from, to);
  writeSync(1, `${String(to)}\n`);
};
syncBuiltinESMExports();

const { env } = process;
const { readRecord } = await import('../../../src/wine/prefix/record.js');
const record = readRecord(at);
if (what === 'version') {
  const { makeVersion } = await import('../../../src/wine/update/new-version.js');
  const { findWine } = await import('../../../src/wine/prefix/build.js');
  await makeVersion({ name: 'default', from: at, wine: () => findWine(undefined, env), env });
} else if (record === undefined) throw new Error(`${at}: no prefix`);
else if (what === 'move') {
  const { movePrefix } = await import('../../../src/wine/update/move.js');
  await movePrefix({ folder: at, record, to: rest[0] as string, follows: false, env });
} else {
  const { resolveConflicts } = await import('../../../src/wine/update/resolve.js');
  await resolveConflicts({ folder: at, record, side: 'theirs', wanted: [], env });
}
