// Whether the base of a prefix was made by the Wine that runs in it.
// Called by examine.ts; a base that is an image does not tell without being read, and is not asked.
// Follows: programs/wineboot of Wine: .update-timestamp has the time of the wine.inf that the prefix was made from.

import { readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { MountError } from '../../stack/errors.js';
import { basePlace } from '../prefix/below.js';
import { findWine } from '../prefix/build.js';
import { readRecord } from '../prefix/record.js';
import type { Finding } from './finding.js';

/** @param env where Wine is looked for. A base or a Wine that is missing is told of elsewhere. */
export function baseFindings(folder: string, env: NodeJS.ProcessEnv): Finding[] {
  try {
    const record = readRecord(folder);
    if (record?.base === undefined) return [];
    const path = join(dirname(basePlace(record.base, env)), '.update-timestamp');
    const madeBy = Number(readFileSync(path, 'latin1'));
    const { inf, name } = findWine(record.wine, env);
    if (inf === undefined || !Number.isInteger(madeBy)) return [];
    const runs = Math.floor(statSync(inf).mtimeMs / 1000);
    if (runs === madeBy) return [];
    const [base] = record.base.split('@');
    return [
      {
        name: 'base-wine',
        verdict: 'note',
        what: `base ${record.base} was made by ${runs > madeBy ? 'an older' : 'a newer'} Wine than ${name}, which runs here`,
        paths: [path],
        remedy: `varve wine update ${base}`,
        fixable: false,
      },
    ];
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    if (isMissing || error instanceof MountError) return [];
    throw error;
  }
}
