// How this command line is started once more, for what goes on when it has ended: the keeper of a Wine session.
// Used by wine-session.ts and wine-stop.ts.
// Words of execve(2), the first one absolute.

/** This command line, up to its first word. */
export function varveItself(): string[] {
  return [process.execPath, ...process.execArgv, process.argv[1] as string];
}
