// The first process of a sandbox: runs the command, passes signals on, collects orphans, tells how the command ended, and ends.
// A program of its own, that enter.ts becomes through unshare(1); what is left in the sandbox is killed by the kernel with it.
// Has no more rights than the command. Follows: pid_namespaces(7), wait(2); env(1) for 126 and 127.

import { type ChildProcess, spawn } from 'node:child_process';
import { openSync } from 'node:fs';
import { Socket } from 'node:net';
import {
  bequeathLittle,
  closeOnExecFrom,
  newKeyring,
  reapOrphans,
  scopeAbstractSockets,
} from '../linux/confine.js';
import { O } from '../linux/constants.js';
import { mapMemory } from '../linux/memory.js';
import { lineReader, toLine } from '../supervisor/protocol.js';
import { isFound } from './find-command.js';
import { CONTROL, EXIT_SANDBOX, type Order, type Report, type SandboxStart } from './plan.js';

const control = new Socket({ fd: CONTROL, readable: true, writable: true });
let child: ChildProcess | undefined;

function report(message: Report): void {
  control.write(toLine(message));
}

/** Once everything is told. */
function end(message: Report): void {
  control.end(toLine(message), () => process.exit(0));
}

function fail(code: number, text: string): void {
  end({ state: 'failed', code, text });
}

/** @returns why not. */
function enter(cwd: string): string | undefined {
  try {
    // The path is bytes, and process.chdir() takes text.
    const fd = openSync(Buffer.from(cwd, 'latin1'), O.PATH | O.DIRECTORY);
    process.chdir(`/proc/self/fd/${fd}`);
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

function start(wanted: SandboxStart): void {
  const why = enter(wanted.cwd);
  if (why !== undefined) {
    fail(EXIT_SANDBOX.failed, `the working directory is not in the sandbox (${why})`);
    return;
  }
  process.umask(wanted.umask);
  mapMemory();
  newKeyring();
  if (!wanted.abstractSockets) scopeAbstractSockets();
  // Root of the sandbox has capabilities in its own user namespace, which owns nothing; anybody else none.
  bequeathLittle();
  closeOnExecFrom(CONTROL);
  const { command, args, env } = wanted;
  child = spawn(command, args, { stdio: 'inherit', env, detached: true });
  child.once('error', (error) => {
    const missing =
      (error as NodeJS.ErrnoException).code === 'ENOENT' || !isFound(command, '', env['PATH']);
    const text = missing ? 'no such command' : error.message;
    fail(missing ? EXIT_SANDBOX.notFound : EXIT_SANDBOX.notRunnable, `${command}: ${text}`);
  });
  child.once('spawn', () => report({ state: 'started' }));
  child.once('exit', (code, signal) => end({ state: 'ended', code, signal }));
}

function obey(order: Order): void {
  if ('start' in order) start(order.start);
  else pass(order.signal);
}

function pass(signal: NodeJS.Signals): void {
  const pid = child?.pid;
  if (pid === undefined) return;
  try {
    // Its whole session, as a terminal would.
    process.kill(-pid, signal);
  } catch {
    // It has just ended.
  }
}

// Node would open its debugger.
process.on('SIGUSR1', () => {});
process.on('SIGCHLD', () => setImmediate(() => reapOrphans(child?.pid ?? 0)));
// Whoever started the sandbox is gone: so is the sandbox.
control.on('close', () => process.exit(EXIT_SANDBOX.failed));
control.on('error', () => process.exit(EXIT_SANDBOX.failed));
control.on(
  'data',
  lineReader(
    (line) => obey(line as unknown as Order),
    () => process.exit(EXIT_SANDBOX.failed),
  ),
);
report({ state: 'waiting' });
