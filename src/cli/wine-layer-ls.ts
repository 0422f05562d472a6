// `varve wine layer ls`: the layers of the library.
// Run by main.ts; wine/library/listing.ts looks.
// Manual: wine-library-commands.ts.

import { listedLayers } from '../wine/library/listing.js';
import { winePlaces } from '../wine/prefix/places.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, table } from './output.js';
import { dateText } from './wine-library.js';

export async function run(given: Arguments): Promise<number> {
  const places = winePlaces();
  const layers = await listedLayers(places);
  if (given.has('quiet')) {
    process.stdout.write(layers.map(({ name }) => `${name}\n`).join(''));
    return EXIT.ok;
  }
  print(given, { version: 1, root: places.root, layers }, () => {
    if (layers.length === 0) return 'no layers: `varve wine layer add NAME -- SETUP` records one';
    const rows = layers.map((layer) => [
      layer.name,
      layer.kind,
      dateText(layer.manifest?.made),
      layer.users.length === 0 ? '-' : layer.users.join(', '),
      layer.problem ?? layer.manifest?.from ?? '-',
    ]);
    return table([['LAYER', 'KIND', 'MADE', 'USED BY', 'FROM'], ...rows]);
  });
  return EXIT.ok;
}
