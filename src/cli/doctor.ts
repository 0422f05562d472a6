// `varve doctor`: what this machine offers, and what varve does without what it lacks.
// Run by main.ts; the probes are in stack/doctor.ts.
// Exit code 4 when something is missing that no mount can do without.

import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { type DoctorReport, examine } from '../stack/doctor.js';
import type { Feature } from '../stack/doctor-feature.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, table } from './output.js';

export function run(given: Arguments): number {
  const directories =
    given.operands.length > 0 ? given.operands.map((path) => resolve(path)) : [tmpdir()];
  const report = examine(directories);
  print(given, report, () => doctorText(report));
  const missing = report.features.some((feature) => feature.verdict === 'missing');
  return missing ? EXIT.permission : EXIT.ok;
}

function doctorText(report: DoctorReport): string {
  const { user } = report;
  const who = user.euid === 0 ? 'root' : `user ${user.euid}`;
  const where = user.initialNamespace ? '' : ', in a user namespace';
  return [
    `Linux ${report.kernel}, Node ${report.node}, ${who}${where}`,
    '',
    featureTable(report.features),
    ...report.directories.flatMap((d) => [
      '',
      `${d.directory} as the place of an upper (${d.filesystem}):`,
      featureTable(d.features),
    ]),
  ].join('\n');
}

function featureTable(features: readonly Feature[]): string {
  return table(
    features.map((f) => [
      f.verdict === 'yes' ? 'yes' : f.verdict === 'no' ? 'no' : 'MISSING',
      f.name,
      [f.detail, f.without].filter((text) => text !== undefined && text !== '').join(': '),
    ]),
    '  ',
  );
}
