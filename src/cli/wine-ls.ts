// `varve wine ls`: prefixes, bases and layers, and what stands on what.
// Run by main.ts; wine/library/listing.ts looks.
// Manual: wine-library-commands.ts.

import { type Listing, listLibrary } from '../wine/library/listing.js';
import { labelOf, listPrefixes } from '../wine/library/shelf.js';
import { winePlaces } from '../wine/prefix/places.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, table } from './output.js';
import { dateText } from './wine-library.js';

export async function run(given: Arguments): Promise<number> {
  const places = winePlaces();
  if (given.has('quiet')) {
    process.stdout.write(
      listPrefixes(places)
        .map((prefix) => `${labelOf(prefix)}\n`)
        .join(''),
    );
    return EXIT.ok;
  }
  const listing = await listLibrary(places);
  print(given, { version: 1, ...listing }, () => textOf(listing));
  return EXIT.ok;
}

function textOf({ root, bases, layers, prefixes }: Listing): string {
  const parts: string[] = [];
  if (prefixes.length > 0) {
    const rows = prefixes.map(({ name, state, base, newer, layers: own, problem }) => [
      name,
      state,
      newer === undefined ? (base ?? '-') : `${base} (next ${newer})`,
      problem ?? (own.length === 0 ? '-' : own.join(', ')),
    ]);
    parts.push(table([['PREFIX', 'STATE', 'BASE', 'LAYERS'], ...rows]));
  }
  if (layers.length > 0) {
    const rows = layers.map(({ name, kind, manifest, users, problem }) => [
      name,
      kind,
      dateText(manifest?.made),
      problem ?? (users.length === 0 ? '-' : users.join(', ')),
    ]);
    parts.push(table([['LAYER', 'KIND', 'MADE', 'USED BY'], ...rows]));
  }
  if (bases.length > 0) {
    const rows = bases.map(({ reference, isCurrent, kind, manifest, users, problem }) => [
      isCurrent ? `${reference} *` : reference,
      kind,
      manifest?.wine ?? '-',
      problem ?? (users.length === 0 ? '-' : users.join(', ')),
    ]);
    parts.push(table([['BASE', 'KIND', 'WINE', 'USED BY'], ...rows]));
  }
  return parts.length === 0
    ? `${root}: nothing yet: \`varve wine create NAME\``
    : parts.join('\n\n');
}
