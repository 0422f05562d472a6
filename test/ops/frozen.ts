// What the tests of commit and discard share: the command on a stack's mount, and a layer as a digest.
// Used by test/ops/commit*.test.ts and discard*.test.ts.
// The digest has everything: content, attributes, marks and times of every object.

import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, renameSync, rmSync, unlinkSync } from 'node:fs';
import { MAIN } from '../cli/cli.js';
import { run, type Stack } from '../overlay/stack.js';

/** What `varve commit --json` tells. */
export interface CommitAnswer {
  readonly live: boolean;
  readonly frozen: string;
  readonly layer: string;
  readonly lowerdirs: readonly string[];
  readonly copied: readonly string[];
  readonly changing: readonly string[];
  readonly parted: readonly string[];
  readonly options: string;
  readonly stallMilliseconds?: number;
}

/** Commits a stack's mount; from then on the stack knows its new lower. */
export function commit(stack: Stack, into: string, ...more: string[]): CommitAnswer {
  const said = run(process.execPath, [
    MAIN,
    'commit',
    stack.mnt,
    '--into',
    into,
    '--json',
    ...more,
  ]);
  const answer = JSON.parse(said) as CommitAnswer;
  stack.place(...answer.lowerdirs);
  stack.serverChanged();
  return answer;
}

export function discard(stack: Stack, ...paths: string[]): { stallMilliseconds?: number } {
  const flags = paths.flatMap((path) => ['--path', path]);
  const args = [MAIN, 'discard', stack.mnt, '--yes', '--json', ...flags];
  const answer = JSON.parse(run(process.execPath, args));
  stack.serverChanged();
  return answer;
}

/** Runs varve and returns everything; also what fails. */
export function varve(...args: string[]): { code: number | null; out: string; err: string } {
  const ran = spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8', timeout: 60_000 });
  return { code: ran.status, out: ran.stdout, err: ran.stderr };
}

/** The same, while this process goes on. */
export function startVarve(...args: string[]): Promise<{ code: number | null; err: string }> & {
  kill(): void;
} {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  let err = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  const ended = new Promise<{ code: number | null; err: string }>((resolve) => {
    child.once('close', (code) => resolve({ code, err }));
  });
  return Object.assign(ended, { kill: () => void child.kill('SIGKILL') });
}

/** What both change first: content, a deletion, a renamed and a replaced directory, a new one. */
export function changeMuch(s: Stack): void {
  s.write('new', 'new');
  s.write('d/x', 'changed');
  unlinkSync(s.path('gone'));
  renameSync(s.path('e'), s.path('e2'));
  rmSync(s.path('replaced'), { recursive: true });
  mkdirSync(s.path('replaced'));
  s.write('replaced/fresh', 'fresh');
  mkdirSync(s.path('made'));
}

/** Everything about a layer on disk, marks and contents. */
export function digest(stack: Stack, layer: string): string {
  const hash = createHash('sha256');
  for (const [path, line] of [...stack.rawTree(layer)].sort()) hash.update(`${path}\0${line}\0`);
  return hash.digest('hex');
}

/** Inode number and device of every name of a tree, by path. */
export function numbers(folder: string): Map<string, string> {
  const found = new Map<string, string>();
  const list = run('find', [folder, '-printf', '%P %i %D %y\\n']).trim().split('\n');
  for (const line of list) found.set(line.slice(0, line.indexOf(' ')), line);
  return found;
}
