// What a command is, as data: the form of the tables in commands.ts and image-commands.ts.
// Read by main.ts, help.ts, man.ts and completion.ts.
// A type only.

import type { FlagRecord } from './args.js';

export interface CommandRecord {
  /** One word, or more for one of a group: `image build`, `wine base add`. */
  readonly name: string;
  /** One line, without a full stop. */
  readonly summary: string;
  /** What stands behind the flags: `MOUNTPOINT`, `[MOUNTPOINT]`, `PATH...`. */
  readonly operands: string;
  /** Least and most operands. */
  readonly count: readonly [number, number];
  /** After so many operands flags are no longer varve's: what follows belongs to a command that it runs. */
  readonly verbatim?: number;
  /** Exit code of everything that varve itself cannot do, where the others are those of a command that it runs. */
  readonly failure?: number;
  /** Paragraphs. */
  readonly description: readonly string[];
  readonly flags: readonly FlagRecord[];
  /** Command and what it is for. */
  readonly examples: readonly (readonly [string, string])[];
  /** What an operand is, for completion. */
  readonly completes: 'directory' | 'mount' | 'stack' | 'path' | 'command' | 'shell' | 'nothing';
}
