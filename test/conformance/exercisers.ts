// fsx and fsstress: random reads and writes of one file against a model, and random everything by
// several processes. Run by main.ts on a mount; the lower must be untouched afterwards.
// Follows: the usage texts of both programs as they stand in xfstests.

import { createHash } from 'node:crypto';
import { appendFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pattern } from '../oracle/layers.js';
import { differences, readTree, type Tree } from '../oracle/tree.js';
import { AT, must, O, sys } from '../support/sys.js';
import { command, onMount } from './commands.js';
import { progress, type Score, type Setting, timed } from './score.js';

/** Bytes of the file in the lower. */
const fileSize = 262_144;

interface Variant {
  name: string;
  /** The file starts in the lower. */
  lower: boolean;
  /** A byte is appended first, so that fsx meets a file just copied up. */
  copyUp: boolean;
  flags: readonly string[];
}

const places = [
  { name: 'upper', lower: false, copyUp: false, flags: [] },
  // -k keeps the content, so that the first change copies it up.
  { name: 'lower', lower: true, copyUp: false, flags: ['-k'] },
  { name: 'copied up', lower: true, copyUp: true, flags: ['-k'] },
] as const;

const variants: Variant[] = places.flatMap((place) => [
  { ...place, name: `${place.name}, mmap` },
  { ...place, name: `${place.name}, no mmap`, flags: [...place.flags, '-R', '-W'] },
]);

export async function runFsx(setting: Setting): Promise<Score[]> {
  const scores: Score[] = [];
  for (const variant of variants) {
    if (!variant.name.includes(setting.match)) continue;
    progress(`fsx ${variant.name}`);
    const { failures, seconds } = await timed(() => runOne(setting, variant));
    const base = { suite: 'fsx', variant: variant.name, unit: 'runs', total: 1, seconds };
    scores.push({ ...base, passed: failures.length === 0 ? 1 : 0, failures });
  }
  return scores;
}

async function runOne(setting: Setting, variant: Variant): Promise<{ failures: string[] }> {
  const name = variant.name.replace(/\W+/g, '-');
  const fill = (lower: string) => {
    if (!variant.lower) return;
    const content = pattern(1, fileSize);
    // At its start fsx copies byte 0 to byte 1 to see whether it can, and forgets that it did.
    content[1] = content[0];
    writeFileSync(join(lower, 'file'), content);
  };
  return onMount(setting, `fsx-${name}`, fill, async (mountpoint, lower) => {
    const file = join(mountpoint, 'file');
    const before = digestOf(lower);
    if (variant.copyUp) appendFileSync(file, 'x');
    const duration = `--duration=${setting.seconds}`;
    const args = ['-q', '-S', '7', '-l', String(fileSize), duration, '-P', setting.work];
    const { code, output } = await command(
      join(setting.folder, 'fsx'),
      [...args, ...variant.flags, file],
      { cwd: setting.work, limit: setting.seconds * 2 + 60 },
    );
    const failures: string[] = [];
    if (code !== 0) failures.push(`exit ${code}: ${output.slice(-400).replace(/\n/g, ' | ')}`);
    if (digestOf(lower) !== before) failures.push('the lower has changed');
    return { failures };
  });
}

function digestOf(folder: string): string {
  const hash = createHash('sha256');
  for (const name of readdirSync(folder).sort()) hash.update(readFileSync(join(folder, name)));
  return hash.digest('hex');
}

const processes = 4;
const operations = 4000;

export async function runFsstress(setting: Setting): Promise<Score[]> {
  progress('fsstress');
  const failures: string[] = [];
  const { seconds } = await timed(async () => {
    const stack = ['lower', 'upper', 'work', 'mnt'].map((part) => join(setting.work, part));
    const [lower, upper, work, mountpoint] = stack as [string, string, string, string];
    for (const path of stack) mkdirSync(path);
    for (let i = 0; i < 200; i++) {
      mkdirSync(join(lower, `p${i % 4}`, `d${i % 20}`), { recursive: true });
      writeFileSync(join(lower, `p${i % 4}`, `d${i % 20}`, `f${i}`), pattern(i, i * 300));
    }
    const untouched = treeOf(lower);
    const folders = { lowers: [lower], upper, work, mountpoint };
    const { subject } = setting.peer;
    subject.mount(folders);
    const { code, output } = await command(
      join(setting.folder, 'fsstress'),
      ['-d', mountpoint, '-p', String(processes), '-n', String(operations), '-s', '7'],
      { limit: 900 },
    );
    if (code !== 0) failures.push(`exit ${code}: ${output.slice(-400).replace(/\n/g, ' | ')}`);
    const left = treeOf(mountpoint);
    subject.unmount(mountpoint);
    subject.mount(folders);
    failures.push(...differences(treeOf(mountpoint), left).map((line) => `remounted: ${line}`));
    subject.unmount(mountpoint);
    failures.push(...differences(treeOf(lower), untouched).map((line) => `lower: ${line}`));
    return {};
  });
  const variant = `${processes} processes, ${operations} operations each`;
  const base = { suite: 'fsstress', variant, unit: 'runs', total: 1, seconds };
  return [{ ...base, passed: failures.length === 0 ? 1 : 0, failures }];
}

function treeOf(folder: string): Tree {
  const root = must(sys.open(AT.FDCWD, folder, O.DIRECTORY));
  try {
    return readTree(root, () => true);
  } finally {
    sys.close(root);
  }
}
