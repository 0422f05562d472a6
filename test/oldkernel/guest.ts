// The program inside the virtual machine: runs the scenario and prints one JSON line a step on the console.
// Started by the machine's init (machine.ts); ends after the first step that fails, since each goes on from the last.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { report } from './report.js';
import { scenario } from './scenario.js';

const runtime = '/run/varve-test';

for (const folder of ['/tmp', '/run']) spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', folder]);
mkdirSync(runtime, { mode: 0o700 });
process.env['XDG_RUNTIME_DIR'] = runtime;
// Starting node takes seconds here: the supervisor stays from one mount to the next.
process.env['VARVE_SUPERVISOR_IDLE'] = '600000';

let began = Date.now();
for (const [name, step] of Object.entries(scenario)) {
  let error: unknown;
  let text = '';
  try {
    text = String(step() ?? '');
  } catch (caught) {
    error = caught;
    text = `${inspect(caught)}\n${logs(runtime)}`;
  }
  const now = Date.now();
  report({ name, passed: error === undefined, milliseconds: now - began, text });
  began = now;
  if (error !== undefined) break;
}

/** What the supervisor and its servers printed. */
function logs(folder: string): string {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.log'))
    .map((path) => `--- ${path}\n${readFileSync(join(folder, path), 'utf8')}`)
    .join('\n');
}
