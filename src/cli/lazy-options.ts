// The flags of lazy mounts as mount options: one meaning, whichever way it is written.
// Used by mount-registry.ts, run-registry.ts and record.ts.
// The options themselves: stack/option-table.ts.

import type { Arguments } from './args.js';

/** Options for -o. */
export function lazyOptions(given: Arguments): string[] {
  const stall = given.value('stall');
  return [
    ...(stall === undefined ? [] : [`stall=${stall}`]),
    ...(given.has('no-fill') ? ['fill=off'] : []),
    ...(given.has('no-prefetch') ? ['prefetch=off'] : []),
  ];
}
