// `varve wine import`: a file becomes a base or a layer.
// Run by main.ts; wine/library/base.ts and import.ts read it.
// Manual: wine-library-commands.ts.

import { MountError } from '../stack/errors.js';
import { addBase } from '../wine/library/base.js';
import { importLayer, kindOfFile } from '../wine/library/import.js';
import { winePlaces } from '../wine/prefix/places.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, remark } from './output.js';
import { withProgress } from './wine-library.js';

export async function run(given: Arguments): Promise<number> {
  const [file = '', name = ''] = given.operands;
  if (given.has('base') && given.has('layer')) {
    throw new MountError('option', '--base and --layer: exclude each other: say one');
  }
  const { env } = process;
  const link = given.has('link');
  const unpack = given.has('unpack');
  if (link && unpack) {
    throw new MountError('option', '--link and --unpack: exclude each other: say one');
  }
  const done = await withProgress(given, file, async (onProgress) => {
    onProgress(`${file}: reading`);
    const kind = given.has('base') ? 'base' : given.has('layer') ? 'layer' : await kindOfFile(file);
    const request = { name, link, env, onProgress };
    const path =
      kind === 'base'
        ? (await addBase({ ...request, from: file, unpack, wine: noWine })).path
        : await importLayer({ ...request, file, unpack });
    return { kind, path };
  });
  if (given.has('json')) print(given, { version: 1, name, ...done }, () => '');
  else remark(given, `${file}: is the ${done.kind} ${name} now (${winePlaces(env).root})`);
  return EXIT.ok;
}

function noWine(): never {
  throw new RangeError('a file is imported without Wine');
}
