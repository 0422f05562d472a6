// `varve wine export`: a base, a layer or a prefix as one file.
// Run by main.ts; wine/library/export.ts writes.
// Manual: wine-library-commands.ts.

import { BuildOptionError, type Compression, parseCompression } from '../erofs/write-options.js';
import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import { exportThing, type Kind } from '../wine/library/export.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, remark } from './output.js';
import { withProgress } from './wine-library.js';

export async function run(given: Arguments): Promise<number> {
  const [what = '', file = ''] = given.operands;
  const kinds = (['base', 'layer', 'prefix'] as const).filter((kind) => given.has(kind));
  if (kinds.length > 1) {
    throw new MountError('option', `--${kinds.join(' and --')}: exclude each other: say one`);
  }
  const [kind] = kinds as Kind[];
  const compression = compressionOf(given.value('compress'));
  const done = await withProgress(given, file, (onProgress) =>
    exportThing({
      what,
      kind,
      own: given.has('own'),
      file,
      force: given.has('force'),
      compression,
      env: process.env,
      onProgress,
    }),
  );
  for (const warning of done.warnings) remark(given, warning);
  if (given.has('json')) print(given, { version: 1, ...done }, () => '');
  else remark(given, `${file}: ${done.kind} ${what}, ${bytesText(done.bytes)}`);
  return EXIT.ok;
}

function compressionOf(text: string | undefined): Compression[] {
  if (text === undefined) return [];
  try {
    const compression = parseCompression(text);
    return compression === undefined ? [] : [compression];
  } catch (error) {
    if (error instanceof BuildOptionError) throw new MountError('option', `-z: ${error.message}`);
    throw error;
  }
}
