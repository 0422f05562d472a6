// Starts a sandbox and says how its command ended: the side that stays outside.
// Called by ops/try. The sandbox ends with this process, and with the connection to it.
// Follows: unshare(1) of util-linux 2.36, user_namespaces(7) for who may write id maps.

import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { lineReader, toLine } from '../supervisor/protocol.js';
import {
  CONTROL,
  EXIT_SANDBOX,
  type Order,
  type Report,
  type SandboxPlan,
  type SandboxStart,
} from './plan.js';

const SMALL_HEAP = ['--max-semi-space-size=1'];

/** How it ended. failed: the command did not run; `code` is 125, 126 or 127. */
export type SandboxEnd =
  | { readonly kind: 'ended'; readonly code: number | null; readonly signal: NodeJS.Signals | null }
  | { readonly kind: 'failed'; readonly code: number; readonly text: string };

export interface Sandbox {
  readonly end: Promise<SandboxEnd>;
  /** Sends a signal to the process group of the command, as soon as it runs. */
  signal(name: NodeJS.Signals): void;
  /** Ends the sandbox, whatever it does. */
  kill(): void;
}

export interface Launch {
  readonly plan: SandboxPlan;
  /** A file for the plan, that only this user can reach. */
  readonly planFile: string;
  readonly start: SandboxStart;
  readonly ownNetwork: boolean;
  remark(text: string): void;
}

export function launch({ plan, planFile, start, ownNetwork, remark }: Launch): Sandbox {
  writeFileSync(planFile, JSON.stringify(plan), { mode: 0o600 });
  const script = fileURLToPath(new URL('./enter.js', import.meta.url));
  const args = [
    ...(plan.map === undefined ? [] : ['--user', '--map-current-user', '--keep-caps']),
    ...['--mount', '--pid', '--ipc', '--fork', '--kill-child'],
    ...(ownNetwork ? ['--net'] : []),
    ...(plan.hostname === undefined ? [] : ['--uts']),
    ...['--', process.execPath, ...SMALL_HEAP, script, planFile],
  ];
  const child = spawn(plan.unshare, args, {
    cwd: '/',
    detached: true,
    stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
    env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin' },
  });
  const control = child.stdio[CONTROL] as unknown as Socket;
  const send = (order: Order): void => void control.write(toLine(order));
  let waiting: NodeJS.Signals[] | undefined = [];
  control.on('error', () => {});
  const end = new Promise<SandboxEnd>((done) => {
    let last: SandboxEnd | undefined;
    let told = false;
    const obey = (report: Report): void => {
      switch (report.state) {
        case 'remark':
          remark(printable(report.text));
          break;
        case 'waiting':
          if (told) return;
          told = true;
          if (plan.map === undefined) writeMaps(child);
          send({ start });
          break;
        case 'started':
          for (const signal of waiting ?? []) send({ signal });
          waiting = undefined;
          break;
        case 'failed':
          last = { kind: 'failed', code: exitCode(report.code), text: printable(report.text) };
          break;
        case 'ended':
          last = endedAs(report.code, report.signal);
          break;
        default:
      }
    };
    control.on(
      'data',
      lineReader(
        (line) => obey(line as unknown as Report),
        () => control.destroy(),
      ),
    );
    child.once('error', (error) => {
      done({
        kind: 'failed',
        code: EXIT_SANDBOX.failed,
        text: `${plan.unshare}: ${error.message}`,
      });
    });
    // By then every process of the sandbox is gone.
    child.once('close', (code, signal) => {
      const how = signal ?? `exit code ${code}`;
      const text = `the sandbox was not made, or was killed (unshare: ${how})`;
      done(last ?? { kind: 'failed', code: EXIT_SANDBOX.failed, text });
    });
  });
  const signal = (name: NodeJS.Signals): void => {
    if (waiting === undefined) send({ signal: name });
    else waiting.push(name);
  };
  const kill = (): void => {
    const first = childOf(child.pid as number);
    if (first !== 0) process.kill(first, 'SIGKILL');
    child.kill('SIGKILL');
  };
  return { end, signal, kill };
}

// A hostile command that is root of its sandbox may speak for init.ts: what is said is at worst how it ended.

function endedAs(code: unknown, signal: unknown): SandboxEnd {
  const name = Object.keys(constants.signals).find((known) => known === signal);
  if (name !== undefined) return { kind: 'ended', code: null, signal: name as NodeJS.Signals };
  return { kind: 'ended', code: exitCode(code), signal: null };
}

function exitCode(code: unknown): number {
  return Number.isInteger(code) ? (code as number) & 0xff : EXIT_SANDBOX.failed;
}

function printable(text: unknown): string {
  return String(text).replace(/[\x00-\x1f\x7f-\x9f]/g, '?');
}

/** Every id of this user namespace is itself in the sandbox: the process that waits in it gets its maps. */
function writeMaps(unshare: ChildProcess): void {
  const pid = childOf(unshare.pid as number);
  for (const name of ['uid_map', 'gid_map']) {
    const lines = readFileSync(`/proc/self/${name}`, 'latin1').trim().split('\n');
    const map = lines.map((line) => {
      const [inside, , count] = line.trim().split(/\s+/);
      return `${inside} ${inside} ${count}\n`;
    });
    writeFileSync(`/proc/${pid}/${name}`, map.join(''));
  }
}

/** The one child of a process. */
function childOf(pid: number): number {
  const found = readdirSync('/proc').find((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
      return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === pid;
    } catch {
      // It has ended.
      return false;
    }
  });
  return Number(found ?? 0);
}
