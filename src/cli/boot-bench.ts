// `varve boot bench`: reads what is to be compared, has it measured, prints a table and writes results and charts.
// Run by main.ts; boot/bench measures.
// Manual: boot-bench-commands.ts.

import { mkdirSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { writeCharts } from '../boot/bench/charts.js';
import { type BenchReport, type BenchRequest, runBench } from '../boot/bench/run.js';
import { checkVariants, isOurs, USUAL_VARIANTS } from '../boot/bench/variants.js';
import { openModuleFolder } from '../boot/build/modules.js';
import { needProgram } from '../boot/run-tool.js';
import { MountError, reasonOf } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, remark, table } from './output.js';

export async function run(given: Arguments): Promise<number> {
  const request = readRequest(given);
  const folder = given.value('output');
  // What is missing is said before minutes have passed.
  needProgram('qemu-system-x86_64');
  if (folder !== undefined) {
    needProgram('rsvg-convert');
    makeFolder(folder);
  }
  const report = await runBench(request);
  if (folder !== undefined) {
    writeFileSync(join(folder, 'results.json'), `${JSON.stringify(report, undefined, 2)}\n`);
    await writeCharts(report, folder);
  }
  print(given, report, () => tableText(report));
  return EXIT.ok;
}

const USUAL_PAYLOADS = '10M,100M,300M';

function readRequest(given: Arguments): BenchRequest {
  const variants = listOf(given, 'variants');
  if (variants.length === 0) variants.push(...USUAL_VARIANTS);
  checkVariants(variants);
  const payloads: (number | string)[] = listOf(given, 'payload').map(payloadSize);
  payloads.push(...given.values('initramfs'));
  if (payloads.length === 0) payloads.push(...USUAL_PAYLOADS.split(',').map(payloadSize));
  const rounds = numberOf(given, 'rounds', 3, 1);
  const memory = numberOf(given, 'memory', 1536, 64);
  const seconds = numberOf(given, 'timeout', 120, 1);
  const kver = given.value('kver');
  const folder = given.value('kernel-modules') ?? '/lib/modules';
  const modules = variants.some(isOurs)
    ? { folder, release: openModuleFolder(folder, kver ?? ownRelease(given)).release }
    : undefined;
  return {
    kernel: given.value('kernel') ?? `/boot/vmlinuz-${kver ?? release()}`,
    modules,
    payloads,
    variants,
    rounds,
    memory,
    leastMemory: given.has('least-memory'),
    seconds,
    onProgress: (text) => remark(given, text),
  };
}

/** The running kernel's modules are meant where no others are named. */
const ownRelease = (given: Arguments): string | undefined =>
  given.has('kernel-modules') ? undefined : release();

const listOf = (given: Arguments, name: string): string[] =>
  given.values(name).flatMap((text) => text.split(',').filter((one) => one !== ''));

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 1e3, M: 1e6, G: 1e9 };

function payloadSize(text: string): number {
  const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?)([KMG]?)B?$/i.exec(text) ?? [];
  const bytes = Math.round(Number(digits) * (UNITS[unit.toUpperCase()] as number));
  // Less is not even the program that reports.
  if (digits !== '' && bytes >= 4e6 && bytes <= 3e9) return bytes;
  throw new MountError('option', `--payload ${text}: write sizes from 4M to 3G, as 10M,300M`);
}

function numberOf(given: Arguments, name: string, usual: number, least: number): number {
  const text = given.value(name);
  if (text === undefined) return usual;
  const value = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (value >= least) return value;
  throw new MountError('option', `--${name} ${text}: must be a whole number from ${least} on`);
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    const isFile = (error as NodeJS.ErrnoException).code === 'EEXIST';
    const reason = isFile ? 'not a directory' : reasonOf(error);
    throw new MountError('option', `${folder}: ${reason}: name another folder by -o`, {
      cause: error,
    });
  }
}

function tableText(report: BenchReport): string {
  const mb = (bytes: number): string => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
  const hasLeast = report.results.some(({ leastMemory }) => leastMemory !== undefined);
  const rows = report.results.map(({ payload, variant, stored, best, leastMemory }) => [
    payload,
    variant,
    `${mb(stored)} MB`,
    `${best.init.toFixed(2)} s`,
    `${best.wall.toFixed(2)} s`,
    `${mb(best.memory)} MB`,
    `${mb(best.read)} MB`,
    ...(hasLeast ? [leastMemory === undefined ? '-' : `${leastMemory} MB`] : []),
  ]);
  const head = ['PAYLOAD', 'VARIANT', 'STORED', 'INIT', 'WALL', 'MEMORY', 'READ'];
  return table([[...head, ...(hasLeast ? ['BOOTS IN'] : [])], ...rows]);
}
