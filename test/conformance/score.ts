// What a suite is told and what it answers, and the scorecard that a person reads.
// Used by main.ts and by every suite's runner.
// The table is Markdown, as docs/conformance.md keeps it.

import { release } from 'node:os';
import type { Peer } from './peers.js';

export interface Setting {
  /** Holds the suites. */
  folder: string;
  /** An empty folder, unmounted and deleted afterwards. */
  work: string;
  peer: Peer;
  match: string;
  seconds: number;
  jobs: number;
}

export interface Score {
  suite: string;
  variant: string;
  passed: number;
  total: number;
  /** What is counted. */
  unit: string;
  seconds: number;
  /** One line each; the first ones where there are many. */
  failures: string[];
}

export function progress(line: string): void {
  process.stderr.write(`${line}\n`);
}

export function showScorecard(subject: string, scores: readonly Score[]): string {
  const rows = scores.map(({ suite, variant, passed, total, unit, seconds }) => {
    const verdict = passed === total ? 'all' : `**${total - passed} fail**`;
    return `| ${suite} | ${variant} | ${passed} of ${total} ${unit} | ${verdict} | ${seconds.toFixed(0)} s |`;
  });
  const failures = scores.flatMap(({ suite, variant, failures: lines }) =>
    lines.map((line) => `- ${suite} ${variant}: ${line}`),
  );
  const head = `${subject}, Linux ${release()}`;
  const table = ['| Suite | Variant | Passed | | Time |', '|---|---|---|---|---|', ...rows];
  return `${[head, '', ...table, '', ...failures].join('\n').trimEnd()}\n`;
}

/** Runs and times a piece of work. */
export async function timed<T>(work: () => Promise<T>): Promise<T & { seconds: number }> {
  const started = Date.now();
  const result = await work();
  return { ...result, seconds: (Date.now() - started) / 1000 };
}
