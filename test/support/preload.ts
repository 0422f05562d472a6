// Loaded into every test file by test/support/sandbox.ts: notes each test's name as it begins.
// node:test's own events leave a process only when its event loop turns, and a test that hangs in
// a system call never lets it: this hook lets it turn first, so that what went before is reported.

import { appendFileSync } from 'node:fs';
import { beforeEach } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { ReportLine } from './reporter.js';

const file = process.env['VARVE_TEST_REPORT'];

beforeEach(async (t) => {
  await setImmediate();
  if (file === undefined) return;
  const line: ReportLine = { kind: 'run', name: t.name, duration: 0, text: '' };
  appendFileSync(file, `${JSON.stringify(line)}\n`);
});
