// Whether a command that lists changes does so in colours.
// Used by diff.ts and wine-diff.ts, whose --color says auto, always or never.
// Follows: https://no-color.org.

import type { Arguments } from './args.js';

/** @param out where the text goes. */
export function coloursFor(given: Arguments, out: NodeJS.WriteStream): boolean {
  const color = given.value('color') ?? 'auto';
  // Present and not empty.
  const unwanted = (process.env['NO_COLOR'] ?? '') !== '' || process.env['TERM'] === 'dumb';
  return color === 'always' || (color === 'auto' && out.isTTY === true && !unwanted);
}
