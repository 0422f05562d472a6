// `varve wine du`: what bases, layers and prefixes take, and what they would take unshared.
// Run by main.ts; wine/library/usage.ts counts.
// Manual: wine-library-commands.ts.

import { bytesText } from '../report/words.js';
import { usageOf } from '../wine/library/usage.js';
import { winePlaces } from '../wine/prefix/places.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, table } from './output.js';

export function run(given: Arguments): number {
  const places = winePlaces();
  const usage = usageOf(places);
  const show = (bytes: number): string => (given.has('bytes') ? String(bytes) : bytesText(bytes));
  print(given, { version: 1, root: places.root, ...usage }, () => {
    const { bases, layers, prefixes, bytes, sharedBytes, unsharedBytes } = usage;
    const rows = [
      ...prefixes.map((one) => ['prefix', one.name, show(one.bytes), show(one.belowBytes)]),
      ...layers.map((one) => ['layer', one.name, show(one.bytes), usedBy(one.users)]),
      ...bases.map((one) => ['base', one.name, show(one.bytes), usedBy(one.users)]),
    ];
    if (rows.length === 0) return `${places.root}: nothing yet`;
    return [
      table([['', 'NAME', 'OWN', 'BELOW / USED BY'], ...rows]),
      `in all ${show(bytes)}, ${show(sharedBytes)} of it shared; unshared the prefixes would take ${show(unsharedBytes)}`,
    ].join('\n');
  });
  return EXIT.ok;
}

const usedBy = (users: number): string => `${users} ${users === 1 ? 'prefix' : 'prefixes'}`;
