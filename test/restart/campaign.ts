// Programs at work on a mount while its server is killed again and again: what they saw, how long they waited, what it took.
// Used by kill.test.ts; the loads are processes of their own (load.ts), the server is found anew through its supervisor.
// Clients are killed at random too: none of them may be left waiting.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findSupervisor, type Supervisor } from '../../src/supervisor/client.js';
import type { MountStatus } from '../../src/supervisor/protocol.js';
import { Random } from '../oracle/random.js';
import { killProcess } from '../support/processes.js';

export interface Load {
  readonly kind: string;
  /** Where it writes; a folder of its own on the mount. */
  readonly folder: string;
  /** A tree that it reads. */
  readonly source?: string;
}

export interface Plan {
  readonly mountpoint: string;
  readonly loads: readonly Load[];
  readonly kills: number;
  /** Milliseconds between a successor's first answers and its end, at most. */
  readonly longestPause: number;
  readonly seed: number;
  /** A folder off the mount. */
  readonly base: string;
  /** A command that clients run which are killed. */
  readonly victims?: readonly string[];
  /** What is done instead of two of three kills. */
  readonly disturb?: () => Promise<void>;
}

export interface Outcome {
  /** By kind. */
  readonly rounds: Readonly<Record<string, number>>;
  /** Milliseconds of the longest single call that the load `stalls` made. */
  readonly longest: number;
  /** Milliseconds from the end of a server to the moment at which its successor took requests: median, 9 of 10, most. */
  readonly starts: readonly [median: number, nine: number, most: number];
  readonly restarts: number;
  readonly killedClients: number;
  /** Bytes of both processes after the first tenth of the kills, and at the end. */
  readonly memory: readonly [early: number, late: number];
}

/** Milliseconds that a program may need to end its round, and a killed one to be gone. */
const PATIENCE = 120_000;
const loadScript = fileURLToPath(new URL('./load.js', import.meta.url));

interface Running {
  readonly load: Load;
  readonly child: ChildProcess;
  readonly ended: Promise<{ code: number | null; said: string }>;
}

/** Runs the loads, kills the server as often as asked, then has the loads finish. Fails at the first fault of a load. */
export async function killWhileWorking(plan: Plan): Promise<Outcome> {
  const stop = join(plan.base, 'stop');
  const random = new Random(plan.seed);
  const running = plan.loads.map((load) => start(load, stop, plan));
  let early: string | undefined;
  for (const { load, ended } of running) {
    void ended.then(({ said }) => (early ??= `${load.kind} ended: ${said}`));
  }
  const supervisor = await findSupervisor();
  assert.ok(supervisor !== undefined);
  const clients: Promise<void>[] = [];
  let firstMemory = 0;
  const starts: number[] = [];
  let last: MountStatus | undefined;
  let killed: number | undefined;
  try {
    await pause(500);
    for (let kill = 0; kill < plan.kills; kill++) {
      await pause(20 + random.below(random.oneIn(4) ? 150 : plan.longestPause));
      if (plan.victims !== undefined && random.oneIn(3)) clients.push(victim(plan.victims, random));
      assert.equal(early, undefined);
      // Now and then one that has just been started, and has not answered yet.
      last = await serving(supervisor, plan.mountpoint, killed, random.oneIn(8));
      const stall = last.lastRestart?.stallMilliseconds;
      if (stall !== undefined) starts.push(stall);
      if (plan.disturb !== undefined && !random.oneIn(3)) {
        await plan.disturb();
      } else {
        killed = last.pid;
        // What was begun for a killed command may have had it replaced.
        killProcess(killed);
      }
      if (kill === Math.floor(plan.kills / 10))
        firstMemory = await memory(supervisor, plan, killed);
    }
    const late = await memory(supervisor, plan, killed);
    writeFileSync(stop, '');
    const rounds: Record<string, number> = {};
    let longest = 0;
    for (const { load, ended } of running) {
      const { code, said } = await within(ended, `${load.kind} does not end`);
      assert.equal(code, 0, `${load.kind}: ${said}`);
      const result = JSON.parse(said) as { rounds: number; longest: number };
      rounds[load.kind] = (rounds[load.kind] ?? 0) + result.rounds;
      longest = Math.max(longest, result.longest);
    }
    await within(Promise.all(clients), 'a killed client is left waiting');
    const { restarts } = await serving(supervisor, plan.mountpoint, undefined);
    return {
      rounds,
      longest,
      starts: spread(starts),
      restarts,
      killedClients: clients.length,
      memory: [firstMemory, late],
    };
  } catch (error) {
    const log = last === undefined ? '' : readFileSync(last.log, 'utf8').slice(-3000);
    throw new Error(`${error instanceof Error ? error.message : error}\nlog: ${log}`);
  } finally {
    writeFileSync(stop, '');
    for (const { child } of running) if (child.exitCode === null) child.kill('SIGKILL');
    supervisor.close();
  }
}

function start(load: Load, stop: string, plan: Plan): Running {
  mkdirSync(load.folder, { recursive: true });
  const args = [loadScript, load.kind, load.folder, stop];
  if (load.source !== undefined) args.push(load.source);
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, VARVE_LOAD_SEED: String(plan.seed), TMPDIR: plan.base },
  });
  let said = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const ended = new Promise<{ code: number | null; said: string }>((resolve) => {
    child.once('close', (code) => resolve({ code, said }));
  });
  return { load, child, ended };
}

/** A client that is killed in the middle of what it does. Resolves when it is gone. */
function victim(command: readonly string[], random: Random): Promise<void> {
  const [program, ...args] = command as [string, ...string[]];
  const child = spawn(program, args, { stdio: 'ignore', detached: true });
  setTimeout(() => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It was faster.
    }
  }, random.below(80));
  return new Promise((resolve) => child.once('exit', () => resolve()));
}

/** The mount's status once another server than `before` answers its requests. */
async function serving(
  supervisor: Supervisor,
  mountpoint: string,
  before: number | undefined,
  unready = false,
): Promise<MountStatus> {
  for (const until = Date.now() + PATIENCE; Date.now() < until; await pause(2)) {
    const { mounts, error } = await supervisor.ask({ op: 'status', mountpoint });
    assert.equal(error, undefined, error?.message);
    const status = mounts?.[0] as MountStatus;
    assert.notEqual(status.state, 'failed', status.why);
    const ready = status.restarts === 0 || status.lastRestart?.stallMilliseconds !== undefined;
    const there = status.state === 'mounted' && status.pid !== before && status.pid > 0;
    if (there && (ready || unready)) return status;
  }
  assert.fail('no successor came up');
}

/** Bytes that the supervisor and the mount's next server have in memory of their own. */
async function memory(
  supervisor: Supervisor,
  plan: Plan,
  before: number | undefined,
): Promise<number> {
  const { pid } = await serving(supervisor, plan.mountpoint, before);
  await pause(300);
  const { supervisor: own } = await supervisor.ask({ op: 'list' });
  return [pid, own as number].reduce((sum, each) => sum + privateBytes(each), 0);
}

function privateBytes(pid: number): number {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
    return Number(/^Rss:\s+(\d+) kB/m.exec(text)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

function spread(values: readonly number[]): [number, number, number] {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.floor((sorted.length - 1) * share)] ?? 0;
  return [at(0.5), at(0.9), at(1)];
}

async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(what)), PATIENCE);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
