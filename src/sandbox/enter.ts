// The half of a sandbox that may mount: makes its file tree, takes that as root directory, gives up every right, becomes init.ts.
// A program of its own, started by launch.ts through unshare(1) as the first process of its namespaces.
// Follows: pivot_root(2), user_namespaces(7). What it starts after the pivot may be the sandbox's own: it has no rights by then.

import { readFileSync, writeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  closeOnExecFrom,
  dropCapabilities,
  forbidNewPrivileges,
  setHostName,
} from '../linux/confine.js';
import { check, errnoName } from '../linux/errno.js';
import { raiseLoopback } from '../linux/loopback.js';
import { execute, pivotToWorkingDirectory } from '../linux/namespace.js';
import { showDevices } from './devices.js';
import { showKernelFiles } from './kernel-files.js';
import { NewRoot } from './new-root.js';
import { CONTROL, EXIT_SANDBOX, type Report, type SandboxPlan } from './plan.js';

/** Node options of a process that does little: its heap stays small. */
const SMALL_HEAP = ['--max-semi-space-size=1'];

function report(message: Report): void {
  writeSync(CONTROL, `${JSON.stringify(message)}\n`);
}

function build(plan: SandboxPlan): void {
  const remark = (text: string): void => report({ state: 'remark', text });
  process.umask(0);
  const root = new NewRoot(plan);
  root.cover(remark);
  showKernelFiles(root, plan.map === undefined);
  showDevices(root, plan.dev);
  for (const path of plan.hidden) root.tmpfs(path, 'mode=755,size=4k');
  for (const bind of plan.binds) root.bind(bind, remark);
  root.finish();
  process.chdir(`/proc/self/fd/${root.fd}`);
  check(pivotToWorkingDirectory(), 'pivot_root');
}

/** @returns only when that failed. */
function become(plan: SandboxPlan): number {
  if (plan.loopback) raiseLoopback();
  if (plan.hostname !== undefined) check(setHostName(plan.hostname), 'sethostname', plan.hostname);
  check(forbidNewPrivileges(), 'prctl');
  check(dropCapabilities(), 'capset');
  check(closeOnExecFrom(0), 'close_range');
  const script = fileURLToPath(new URL('./init.js', import.meta.url));
  const map = plan.map === undefined ? [] : [plan.map];
  const args = ['--user', ...map, '--keep-caps', '--', process.execPath, ...SMALL_HEAP, script];
  return execute(plan.unshare, ['unshare', ...args], process.env, [0, 1, 2, CONTROL]);
}

try {
  const plan = JSON.parse(readFileSync(process.argv[2] as string, 'utf8')) as SandboxPlan;
  build(plan);
  const r = become(plan);
  throw new Error(`${plan.unshare} cannot be started in the sandbox: ${errnoName(r)}`);
} catch (error) {
  const text = error instanceof Error ? error.message : String(error);
  report({ state: 'failed', code: EXIT_SANDBOX.failed, text });
  process.exit(EXIT_SANDBOX.failed);
}
