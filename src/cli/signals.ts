// Which signals go on to a command that varve has started.
// Used by run-inside.ts and try.ts.
// See signal(7): those that end a process, or that programs give a meaning of their own.

/** Signals that reach only this process when somebody sends them. */
export const FORWARDED: readonly NodeJS.Signals[] = [
  'SIGTERM',
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
];
