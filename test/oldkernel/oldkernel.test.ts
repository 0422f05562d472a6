// Varve on Debian's kernel (6.1 on Debian 12), which lacks much of what a newer one has: mount, copy-up, rename, umount.
// Boots that kernel in a virtual machine without KVM; the steps are in scenario.ts and run inside it.
// How old a feature is stands in scenario.ts, so that a newer Debian passes as well.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { requires } from '../support/requires.js';
import { withTempDir } from '../support/temp.js';
import { debianKernel, type Kernel, NoKernelError } from '../vm/kernel.js';
import { boot, modules } from './machine.js';
import { parseReport, type StepReport } from './report.js';
import { scenario } from './scenario.js';

const packages = ['busybox-static', 'e2fsprogs', 'kmod', 'qemu-system-x86'];
const skip = process.arch === 'x64' ? requires({ packages }) : 'needs an x86-64 processor';

/**
 * Milliseconds after which the machine is ended. It needs about 60 s of processor time in all, which took 94 s with
 * four programs a core beside it; the rest is for worse days.
 */
const limit = 400_000;

const steps = new Map<string, StepReport>();
const printed: string[] = [];
let absent: string | undefined;
let ending: string | undefined;

before(async () => {
  if (skip) return;
  let kernel: Kernel;
  try {
    kernel = debianKernel(modules);
  } catch (error) {
    if (!(error instanceof NoKernelError)) throw error;
    absent = error.message;
    return;
  }
  console.log(`booting Linux ${kernel.release}`);
  const program = fileURLToPath(new URL('./guest.js', import.meta.url));
  ending = await withTempDir((folder) =>
    boot({ kernel, program, folder, limit, onLine: (line) => note(line) }),
  );
});

function note(line: string): void {
  const step = parseReport(line);
  if (step === undefined) {
    printed.push(line);
    return;
  }
  steps.set(step.name, step);
  // Also a sign of life for the test runner.
  console.log(`${step.passed ? 'ok' : 'not ok'} ${step.name}, ${step.milliseconds / 1000} s`);
  if (step.text !== '') console.log(step.text);
}

for (const name of Object.keys(scenario)) {
  test(name, { skip }, (t) => {
    if (absent !== undefined) {
      t.skip(absent);
      return;
    }
    const step = steps.get(name);
    assert.ok(step !== undefined, `not reached: ${ending ?? 'a step before it failed'}`);
    assert.ok(step.passed, step.text);
  });
}

test('the machine ends in order', { skip }, (t) => {
  if (absent !== undefined) t.skip(absent);
  else assert.equal(ending, undefined, printed.slice(-40).join('\n'));
});
