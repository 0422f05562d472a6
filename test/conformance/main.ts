// `npm run conformance -- DIR`: runs the public filesystem suites that lie in DIR on a mount and prints
// a scorecard. Nothing of those suites is part of this repository; a suite that is missing is a failure.
// docs/conformance.md says what DIR holds and keeps the last scorecard. Root only.

import { existsSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { isRoot } from '../support/requires.js';
import { withTempDir } from '../support/temp.js';
import { runFsstress, runFsx } from './exercisers.js';
import { peerNamed } from './peers.js';
import { runPjdfstest } from './pjdfstest.js';
import { type Score, type Setting, showScorecard } from './score.js';
import { runUnionmount } from './unionmount.js';

const help = `npm run conformance -- [flags] DIR

  DIR              holds pjdfstest/ (built), unionmount-testsuite/, fsx and fsstress (built)
  --only A,B       some of pjdfstest, unionmount, fsx, fsstress
  --match TEXT     only combinations of unionmount or variants of fsx whose name contains it
  --peer NAME      fuse-overlayfs or kernel in the place of varve
  --seconds N      length of each run of fsx (60)
  --jobs N         test files of pjdfstest at a time (4)
  --json FILE      the scorecard as JSON
`;

/** Suite to the file of DIR that shows it is there, and what runs it. */
const suites = {
  pjdfstest: { file: 'pjdfstest/pjdfstest', run: runPjdfstest },
  unionmount: { file: 'unionmount-testsuite/run', run: runUnionmount },
  fsx: { file: 'fsx', run: runFsx },
  fsstress: { file: 'fsstress', run: runFsstress },
} as const satisfies Record<string, { file: string; run(setting: Setting): Promise<Score[]> }>;

type Suite = keyof typeof suites;

function refuse(line: string): never {
  process.stderr.write(`conformance: ${line}\n`);
  process.exit(2);
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      only: { type: 'string' },
      match: { type: 'string', default: '' },
      peer: { type: 'string', default: 'varve' },
      seconds: { type: 'string', default: '60' },
      jobs: { type: 'string', default: '4' },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const [given] = positionals;
  if (given === undefined) refuse('name the folder that holds the suites (--help)');
  if (!isRoot()) refuse('needs root: the suites change owners and mount');
  const folder = resolve(given);
  const wanted = (values.only?.split(',') ?? Object.keys(suites)) as Suite[];
  for (const name of wanted) {
    if (suites[name] === undefined) refuse(`--only: no suite is called ${name}`);
    const file = join(folder, suites[name].file);
    if (!existsSync(file)) refuse(`${file} is missing; docs/conformance.md says what it is`);
  }

  const scores: Score[] = [];
  for (const name of wanted) {
    await withTempDir(async (work) => {
      // A supervisor of this run's own, so that it is of this build.
      process.env['VARVE_RUNTIME_DIR'] = join(work, 'run');
      const setting: Setting = {
        ...{ folder, work, match: values.match, peer: peerNamed(values.peer) },
        ...{ seconds: Number(values.seconds), jobs: Number(values.jobs) },
      };
      scores.push(...(await suites[name].run(setting)));
    });
  }
  process.stdout.write(`\n${showScorecard(values.peer, scores)}`);
  if (values.json !== undefined) {
    writeFileSync(
      values.json,
      `${JSON.stringify({ subject: values.peer, scores }, undefined, 2)}\n`,
    );
  }
  // Nothing that ran is no success.
  return scores.length > 0 && scores.every(({ passed, total }) => passed === total) ? 0 : 1;
}

process.exitCode = await main();
