// Ctrl-C while something is fetched and mounted: it is broken off, what was begun is taken away, and the command ends by the same signal.
// Used by pull.ts, mount.ts and run-registry.ts; a command that runs gets signals by signals.ts.
// Follows: signal(7); who ends by SIGINT is 130 for a shell, and a script that called it stops, too.

import { type Ended, endAs } from './run-command.js';

const CAUGHT = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export class Interrupt {
  readonly #abort = new AbortController();
  #caught: NodeJS.Signals | undefined;
  #isDone = false;
  readonly #take = (name: NodeJS.Signals): void => {
    if (this.#isDone) return;
    if (this.#caught === undefined) {
      this.#caught = name;
      this.#abort.abort();
    } else {
      // Asked for twice: at once. The next call takes away what is left.
      this.disarm();
      process.kill(process.pid, name);
    }
  };

  constructor() {
    for (const name of CAUGHT) process.on(name, this.#take);
  }

  /** Breaks off what listens to it. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get isCaught(): boolean {
    return this.#caught !== undefined;
  }

  /** How the command ends that was interrupted. */
  get end(): Ended {
    return { code: 1, ...(this.#caught === undefined ? {} : { signal: this.#caught }) };
  }

  /** It is done, and the command about to end: a signal comes too late, and must not make it look undone. */
  settle(): void {
    this.#isDone = true;
  }

  /** Signals mean what they meant before. */
  disarm(): void {
    if (this.#isDone) return;
    for (const name of CAUGHT) process.off(name, this.#take);
  }
}

/**
 * Does work that can be interrupted until it disarms the interrupt.
 * @param work throws, or returns whatever, when it was interrupted, and has taken back what it had begun.
 * @returns its exit code, or does not return.
 */
export async function interruptibly(
  work: (interrupt: Interrupt) => Promise<number>,
): Promise<number> {
  const interrupt = new Interrupt();
  let code: number;
  try {
    code = await work(interrupt);
  } catch (error) {
    if (!interrupt.isCaught) throw error;
    code = interrupt.end.code;
  } finally {
    interrupt.disarm();
  }
  return interrupt.isCaught ? endAs(interrupt.end) : code;
}
