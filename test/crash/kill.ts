// Kills the server of a mount at one chosen system call, by fault injection from outside: strace(1).
// Used by kill.test.ts. The product needs no hook: the call is never executed, as if the power had gone before it.
// Follows: strace(1), inject=CALL:signal=KILL:when=N, where N counts the calls of that name in each thread.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { unmountFuse } from '../../src/linux/mount.js';
import { makeTree, type Tree } from '../layer/tree.js';
import { differences, type Tree as SeenTree } from '../oracle/tree.js';
import { Stack } from '../overlay/stack.js';

/**
 * Calls that change what is on disk. Not openat(2): how often the runtime itself calls it is not fixed, and what it
 * has just made is seen by a kill at the next of these calls.
 */
const CHANGING = [
  ...['mkdirat', 'mknodat', 'symlinkat', 'linkat', 'unlinkat', 'renameat', 'renameat2'],
  ...['setxattr', 'lsetxattr', 'setxattrat', 'removexattr', 'lremovexattr', 'removexattrat'],
  ...['ftruncate', 'fchownat', 'fchmodat', 'utimensat', 'pwrite64', 'copy_file_range'],
  ...['fallocate', 'fsync', 'fdatasync'],
];
/** Kills of one operation in the short form; `--rounds` makes them all. */
const SHORT = 4;

/** `?`: a name that an older strace does not know, and then does not trace. */
const TRACED = CHANGING.map((name) => `?${name}`).join(',');

/** A system call that the undisturbed operation makes: the `nth` of this name in its thread, counted from 1. */
interface Call {
  name: string;
  nth: number;
}

export interface Scenario {
  name: string;
  lowers: readonly Tree[];
  upper?: Tree;
  options?: string;
  /** One operation on the mount; whether it succeeded does not matter. */
  run(s: Stack): void;
}

/** Attributes of folders that a copy-up below them touches for a moment are left out. */
function comparable(tree: SeenTree): SeenTree {
  const lines = new Map<string, string>();
  for (const [path, line] of tree.lines) {
    lines.set(path, line.startsWith('dir ') ? line.replace(/ [ma]time=\S+/g, '') : line);
  }
  return { lines, contradictions: [] };
}

const same = (a: SeenTree, b: SeenTree) => differences(a, b, 1).length === 0;

export interface Tally {
  kills: number;
  old: number;
  new: number;
}

/**
 * Runs the scenario once undisturbed, then once for each of its calls, killed before that call.
 * @param replaced another server takes over, and nobody notices; else there is no supervisor either, as after a loss of
 * power, and the next mount is looked at.
 */
export async function killAtEveryStep(
  base: string,
  scenario: Scenario,
  everything: boolean,
  replaced = false,
): Promise<Tally> {
  const { lowers, upper = {}, options } = scenario;
  const s = new Stack(base, { lowers, upper, options });
  const before = kernelTree(s);
  reset(s, upper);
  await s.mount();
  const log = join(base, 'calls');
  const recorder = await attach(s.server, ['-o', log, '-e', `trace=${TRACED}`]);
  scenario.run(s);
  await detach(recorder, s.server);
  await s.unmount();
  const after = kernelTree(s);
  assert.ok(!same(before, after), 'the operation changes something');
  const all = callsOf(readProc(log), everything);
  const calls = everything ? all : spread(all, SHORT);

  const tally: Tally = { kills: 0, old: 0, new: 0 };
  const checked = new Set<string>();
  for (const { name, nth } of calls) {
    const where = `${scenario.name}, killed at ${name} ${nth}`;
    reset(s, upper);
    await s.mount();
    if (!replaced) process.kill(s.supervisor, 'SIGKILL');
    const inject = `inject=${name}:signal=KILL:when=${nth}`;
    const tracer = await attach(s.server, ['-o', '/dev/null', '-e', `trace=${name}`, '-e', inject]);
    const started = Date.now();
    scenario.run(s);
    const took = Date.now() - started;
    assert.ok(took < 20_000, `${where}: the operation hung for ${took} ms`);
    assert.ok(await detach(tracer, s.server, 10_000), `${where}: the server lives on`);
    tally.kills += 1;
    if (replaced) {
      assert.deepEqual(differences(comparable(s.tree()), after), [], `${where}: on the mount`);
      await s.unmount();
      assert.deepEqual(differences(kernelTree(s), after), [], `${where}: on disk`);
      tally.new += 1;
      continue;
    }
    unmountFuse(s.mnt, true);
    const leftovers = readdirSync(join(s.work, 'work'));
    const state = `${diskState(s)} ${leftovers.length}`;
    if (checked.has(state)) continue;
    checked.add(state);
    // The next mount by varve cleans up; the kernel, mounted afterwards, finds nothing to do.
    await s.mount();
    const ours = comparable(s.tree());
    assert.deepEqual(readdirSync(join(s.work, 'work')), [], `${where}: left in the workdir`);
    await s.unmount();
    const theirs = kernelTree(s);
    const which = same(ours, before) ? before : after;
    assert.deepEqual(differences(ours, which), [], `${where}: neither old nor new`);
    assert.deepEqual(differences(theirs, which), [], `${where}: the kernel sees another tree`);
    tally[which === before ? 'old' : 'new'] += 1;
  }
  return tally;
}

/**
 * The changing calls of a trace in their order. Those that only prepare something in the workdir (`#` and a number)
 * differ in what they leave behind there; unless `everything` is asked for, the first of them stands for all.
 */
function callsOf(log: string, everything: boolean): Call[] {
  const counts = new Map<string, number>();
  const calls: Call[] = [];
  let prepared = false;
  for (const line of log.split('\n')) {
    const [, thread, name, args] = /^(\d+) +(\w+)\((.*)/.exec(line) ?? [];
    if (name === undefined || name.startsWith('syscall_')) continue;
    const key = `${thread} ${name}`;
    const nth = (counts.get(key) ?? 0) + 1;
    counts.set(key, nth);
    const publishes = /^(rename|link)/.test(name);
    const prepares =
      !publishes &&
      (/^-?\d+, "#/.test(args) || /^(ftruncate|copy_file_range|fallocate|fsync)/.test(name));
    if (prepares && prepared && !everything) continue;
    prepared ||= prepares;
    calls.push({ name, nth });
  }
  return calls;
}

/** At most `limit` of them, from all over the list, the last one included. */
function spread<T>(list: readonly T[], limit: number): T[] {
  if (list.length <= limit) return [...list];
  return Array.from({ length: limit }, (_, i) => {
    const k = Math.floor(((i + 1) * list.length) / limit) - 1;
    return list[k];
  });
}

function kernelTree(s: Stack): SeenTree {
  s.kernelMount('redirect_dir=on,index=on,metacopy=on');
  try {
    return comparable(s.tree(false));
  } finally {
    s.kernelUnmount();
  }
}

function reset(s: Stack, upper: Tree): void {
  for (const folder of [s.upper, s.work]) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
  }
  makeTree(s.upper, upper);
}

/** What lies in the upper and in the index, as a digest: equal states need no second look. */
function diskState(s: Stack): string {
  const hash = createHash('sha1');
  for (const folder of [s.upper, join(s.work, 'index')]) {
    const root = s.rawTree(folder);
    for (const [path, line] of [...root].sort()) hash.update(`${path}\0${line}\n`);
  }
  return hash.digest('hex');
}

/** Resolves once every thread of the process is traced. */
async function attach(pid: number, options: readonly string[]): Promise<ChildProcess> {
  const args = ['-f', '-qqq', ...options, '-p', String(pid)];
  const tracer = spawn('strace', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const deadline = Date.now() + 20_000;
  let said = '';
  tracer.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  while (!tracedWhole(pid)) {
    assert.ok(tracer.exitCode === null && Date.now() < deadline, `strace: ${said}`);
    await pause(5);
  }
  return tracer;
}

function tracedWhole(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).every((tid) => {
    const status = readProc(`/proc/${pid}/task/${tid}/status`);
    return !/^TracerPid:\t0$/m.test(status);
  });
}

/** Ends the tracing. @param patience milliseconds to wait for the end of the process. @returns whether it was killed. */
async function detach(tracer: ChildProcess, pid: number, patience = 0): Promise<boolean> {
  const ended = new Promise<void>((resolve) => {
    if (tracer.exitCode !== null || tracer.signalCode !== null) resolve();
    else tracer.once('exit', () => resolve());
  });
  // A killed server takes its tracer along; a living one is let go.
  const isAlive = (): boolean => {
    const state = /^State:\t(\S)/m.exec(readProc(`/proc/${pid}/status`))?.[1];
    return state !== undefined && state !== 'Z' && state !== 'X';
  };
  // Who waited for an answer may be told before the process has come to its end.
  for (const until = Date.now() + patience; isAlive() && Date.now() < until; ) await pause(5);
  const alive = isAlive();
  if (alive) tracer.kill('SIGINT');
  await ended;
  return !alive;
}

function readProc(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
