// What is wrong with a registry text, as a class that says in which line.
// Thrown by parse.ts, delta-text.ts and regedit.ts; whoever has read the file adds its name.
// The message is one line: what it is, and where.

export class RegistryError extends Error {
  /** From 1. */
  readonly line: number;
  readonly what: string;

  constructor(line: number, what: string) {
    super(`line ${line}: ${what}`);
    this.name = 'RegistryError';
    this.line = line;
    this.what = what;
  }
}
