// The question of `varve try`: what is to become of the changes.
// Used where somebody is there to answer: standard input and standard error are terminals.
// No answer (end of input, Ctrl-C) keeps them.

import { createInterface } from 'node:readline';
import type { TryResult } from '../ops/try/result.js';
import { showChanges } from './try-show.js';

export async function askOutcome(result: TryResult): Promise<'yes' | 'keep' | 'no'> {
  const lines = createInterface({ input: process.stdin, output: process.stderr, terminal: true });
  lines.setPrompt('[c]ommit, [k]eep, [d]iscard, [s]how as patch? ');
  // Ctrl-C ends it; lines that are there already are answers, too.
  lines.on('SIGINT', () => lines.close());
  try {
    lines.prompt();
    for await (const line of lines) {
      const answer = line.trim().toLowerCase();
      if (answer === 'c' || answer === 'commit') return 'yes';
      if (answer === 'k' || answer === 'keep') return 'keep';
      if (answer === 'd' || answer === 'discard') return 'no';
      if (answer === 's' || answer === 'show') showChanges('patch', result);
      lines.prompt();
    }
    process.stderr.write('\n');
    return 'keep';
  } finally {
    lines.close();
  }
}
