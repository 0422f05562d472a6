// A node:test reporter that writes one JSON line an event, for test/run.ts to read while a file runs.
// Only what the runner shows crosses: errors are made into text here, where their classes are known.

import { appendFileSync } from 'node:fs';
import { inspect } from 'node:util';

/** One line of the report. `run` tells that a test began (test/support/preload.ts writes it). */
export interface ReportLine {
  kind: 'run' | 'pass' | 'fail' | 'skip';
  name: string;
  /** Milliseconds; 0 in a `run` line. */
  duration: number;
  /** Why it was skipped, or the error as text. */
  text: string;
}

interface TestEvent {
  type: string;
  data: {
    name: string;
    skip?: string | boolean;
    todo?: string | boolean;
    details?: { duration_ms?: number; type?: string; error?: TestFailure };
  };
}

interface TestFailure extends Error {
  failureType?: string;
}

/** Node 20 reports what --test-name-pattern leaves out as skipped, with this reason. */
const unselected = 'test name does not match pattern';

/** Written at once and not yielded: a test that blocks its thread would hold back what came before. */
export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const file = process.env['VARVE_TEST_REPORT'];
  if (file === undefined) throw new Error('VARVE_TEST_REPORT names no file');
  for await (const event of events) {
    const line = toLine(event);
    if (line !== undefined) appendFileSync(file, `${JSON.stringify(line)}\n`);
  }
  // A reporter is a generator; the destination, standard output, belongs to the tests.
  yield '';
}

function toLine({ type, data }: TestEvent): ReportLine | undefined {
  const base = { name: data.name, duration: data.details?.duration_ms ?? 0 };
  if (type !== 'test:pass' && type !== 'test:fail') return undefined;
  const { skip, todo, details } = data;
  const absent = skip ?? todo;
  if (absent !== undefined && absent !== false) {
    if (absent === unselected) return undefined;
    return { kind: 'skip', ...base, text: typeof absent === 'string' ? absent : 'no reason given' };
  }
  // A suite only sums up its tests, and so does the failure of a test whose subtests failed.
  const error = details?.error;
  if (error?.failureType === 'subtestsFailed' || (details?.type === 'suite' && !error)) {
    return undefined;
  }
  if (error === undefined) return { kind: 'pass', ...base, text: '' };
  return { kind: 'fail', ...base, text: inspect(error.cause ?? error, { depth: 6 }) };
}
