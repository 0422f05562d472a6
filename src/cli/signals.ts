// Which signals go on to a command that varve has started.
// Used by run-inside.ts, try.ts and wine-session.ts.
// See signal(7): those that end a process, or that programs give a meaning of their own.

import type { ChildProcess } from 'node:child_process';
import { isatty } from 'node:tty';

/** Signals that reach only this process when somebody sends them. */
export const FORWARDED: readonly NodeJS.Signals[] = [
  'SIGTERM',
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
];

/** Signals of a terminal reach the command as well. */
const OF_TERMINAL: readonly NodeJS.Signals[] = ['SIGINT', 'SIGQUIT'];

/** Sends what this process is sent on to a child. @returns how to end it. */
export function forwardSignals(child: () => Pick<ChildProcess, 'kill'>): () => void {
  const terminal = isatty(0);
  const handlers = FORWARDED.map((signal) => {
    const handler = (): void => {
      if (!terminal || !OF_TERMINAL.includes(signal)) child().kill(signal);
    };
    process.on(signal, handler);
    return { signal, handler };
  });
  return () => {
    for (const { signal, handler } of handlers) process.off(signal, handler);
  };
}
