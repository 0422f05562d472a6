// `varve wine base ls`: the bases and their versions, and whether anybody has written to them.
// Run by main.ts; wine/library/listing.ts looks, library/form.ts takes digests.
// Manual: wine-library-commands.ts.

import { digestOf, openForm } from '../wine/library/form.js';
import { type ListedBase, listedBases } from '../wine/library/listing.js';
import { winePlaces } from '../wine/prefix/places.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, print, table } from './output.js';
import { dateText, withProgress } from './wine-library.js';

/** `unknown`: nothing says what it was. */
type Checked = 'intact' | 'changed' | 'unknown';

export async function run(given: Arguments): Promise<number> {
  const places = winePlaces();
  const bases = await listedBases(places);
  const states = new Map<ListedBase, Checked>();
  if (given.has('check')) {
    for (const base of bases) states.set(base, await checked(given, base));
  }
  const wrong = [...states.values()].includes('changed');
  if (given.has('quiet')) {
    const names = [...new Set(bases.map(({ name }) => name))];
    process.stdout.write(names.map((name) => `${name}\n`).join(''));
    return wrong ? EXIT.layer : EXIT.ok;
  }
  const records = bases.map((base) => {
    const state = states.get(base);
    return state === undefined ? base : { ...base, checked: state };
  });
  print(given, { version: 1, root: places.root, bases: records }, () => {
    if (bases.length === 0) return 'no bases: `varve wine base add NAME` makes one';
    const rows = bases.map((base) => [
      base.reference,
      base.isCurrent ? 'current' : '-',
      base.kind,
      dateText(base.manifest?.made),
      counted(base.users.length, 'prefix').replace(/prefixs$/, 'prefixes'),
      [base.problem ?? base.manifest?.wine ?? '-', states.get(base) ?? ''].join('  ').trim(),
    ]);
    return table([['BASE', '', 'KIND', 'MADE', 'USED BY', 'WINE'], ...rows]);
  });
  return wrong ? EXIT.layer : EXIT.ok;
}

async function checked(given: Arguments, base: ListedBase): Promise<Checked> {
  const { manifest, path, kind, reference } = base;
  if (manifest === undefined) return 'unknown';
  return withProgress(given, reference, async (onProgress) => {
    onProgress(`${reference}: reading`);
    const form = await openForm({ path, isImage: kind === 'image' });
    try {
      return digestOf(form.root) === manifest.digest ? 'intact' : 'changed';
    } finally {
      form.close();
    }
  });
}
