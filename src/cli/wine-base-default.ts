// The base that is meant where none is named: `default`, which is made when it is needed first.
// Used by `wine create` and `wine layer add`.
// Making it takes seconds, so it is said.

import { listBases } from '../wine/library/shelf.js';
import { winePlaces } from '../wine/prefix/places.js';
import type { Arguments } from './args.js';
import { remark } from './output.js';
import { withProgress } from './wine-library.js';

const DEFAULT = 'default';

/** @param named what --base says. @throws MountError when the base cannot be made. */
export async function baseOrDefault(given: Arguments, named: string | undefined): Promise<string> {
  const { env } = process;
  if (named !== undefined) return named;
  if (listBases(winePlaces(env)).some(({ name }) => name === DEFAULT)) return DEFAULT;
  remark(given, `there is no base \`${DEFAULT}\` yet: making it by wineboot, once`);
  // Most prefixes are made over a base that is there, and need not load this.
  const { addBase } = await import('../wine/library/base.js');
  const { findWine } = await import('../wine/prefix/build.js');
  const wine = (): ReturnType<typeof findWine> => findWine(given.value('wine'), env);
  await withProgress(given, DEFAULT, (onProgress) =>
    addBase({ name: DEFAULT, wine, env, onProgress }),
  );
  return DEFAULT;
}
