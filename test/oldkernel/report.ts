// One step of the scenario as a line on the virtual machine's console, among what its kernel prints there.
// Written by guest.ts, read by oldkernel.test.ts.

import { writeSync } from 'node:fs';

export interface StepReport {
  name: string;
  passed: boolean;
  milliseconds: number;
  /** What the step found worth telling, or its error. */
  text: string;
}

const mark = '@@ ';

export function report(step: StepReport): void {
  writeSync(1, `\n${mark}${JSON.stringify(step)}\n`);
}

/** @returns undefined for a line that is none. */
export function parseReport(line: string): StepReport | undefined {
  return line.startsWith(mark) ? (JSON.parse(line.slice(mark.length)) as StepReport) : undefined;
}
