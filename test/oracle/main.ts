// The oracle by hand: `node dist/test/oracle/main.js --subject varve --ops 1000000 --seed 7`, or one
// failing case again with `--replay FILE`. Prints what disagrees, made small, and a summary. Root only.
// CI runs the same through oracle.test.ts.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { withTempDir } from '../support/temp.js';
import type { Case } from './campaign.js';
import { explore, replay, tell } from './explore.js';

const { values } = parseArgs({
  options: {
    subject: { type: 'string', default: process.env['VARVE_TEST_SUBJECT'] ?? 'varve' },
    ops: { type: 'string', default: '20000' },
    seed: { type: 'string', default: '1' },
    'ops-per-stack': { type: 'string', default: '500' },
    patience: { type: 'string', default: '60' },
    failures: { type: 'string', default: '1' },
    images: { type: 'boolean', default: false },
    forgets: { type: 'boolean', default: false },
    replay: { type: 'string' },
    quiet: { type: 'boolean', default: false },
  },
});

process.exitCode = await withTempDir((folder) => {
  // A supervisor of this run's own, so that it is of this build.
  process.env['VARVE_RUNTIME_DIR'] ??= join(folder, 'run');
  const { subject } = values;
  if (values.replay !== undefined) {
    const one = JSON.parse(readFileSync(values.replay, 'utf8')) as Case;
    const failure = replay(one, subject, folder);
    console.log(failure === undefined ? 'agrees' : tell({ failure, one }));
    return failure === undefined ? 0 : 1;
  }
  const summary = explore({
    subject,
    folder,
    ops: Number(values.ops),
    seed: Number(values.seed),
    opsPerStack: Number(values['ops-per-stack']),
    images: values.images,
    forgets: values.forgets,
    patience: Number(values.patience) * 1000,
    failures: Number(values.failures),
    onFailure: (failed) => console.log(tell(failed)),
    report: (line) => {
      if (!values.quiet) console.log(line);
    },
  });
  for (const [reason, count] of summary.allowances)
    console.log(`allowed ${count} times: ${reason}`);
  const { ops, stacks, kinds, failed, milliseconds } = summary;
  console.log(
    `${subject}: ${ops} operations of ${kinds} kinds on ${stacks} stacks, ${failed.length} disagree, ` +
      `${(milliseconds / 1000).toFixed(1)} s`,
  );
  return failed.length === 0 ? 0 : 1;
});
