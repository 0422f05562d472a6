// What `varve wine diff` prints of a comparison, in the form that was asked for.
// Called by wine-diff.ts and wine-diff-trial.ts; report/ words it, wine-diff-files.ts writes files.
// The document of --json: docs/wine-diff.md.

import { documentOf, entryOf, summaryOf } from '../report/document.js';
import { changesIn, keysDocument } from '../report/keys.js';
import { keysNameStatus, keysStat } from '../report/keys-lines.js';
import { keysOutline, keysSummaryLine } from '../report/keys-outline.js';
import { nameStatus } from '../report/name-status.js';
import { outline, summaryLine } from '../report/outline.js';
import { statText } from '../report/stat.js';
import { type Change, isNews } from '../union/change.js';
import type { Comparison, Wanted } from '../wine/diff/compare.js';
import type { Arguments } from './args.js';
import { coloursFor } from './colours.js';

/** Forms of what is printed: one of them at most. */
export const FORMS = ['tree', 'stat', 'name-status', 'json', 'patch'] as const;
type Form = (typeof FORMS)[number] | 'nothing';

export function wantedOf(given: Arguments): Wanted {
  const [files, registry] = [given.has('files'), given.has('registry')];
  return files || registry ? { files, registry } : { files: true, registry: true };
}

/** @param out where a terminal's width and colours are asked, and text goes. @returns whether there are changes. */
export async function tell(
  given: Arguments,
  compared: Comparison,
  out: NodeJS.WriteStream,
): Promise<boolean> {
  if (given.has('html') || given.has('reg')) {
    await (await import('./wine-diff-files.js')).writeFiles(given, compared);
  }
  const { files, registry } = compared;
  const all = files?.changes ?? [];
  const news = all.filter(isNews);
  const shown = given.has('all') ? all.filter(hasObject) : news;
  const noise = given.has('noise');
  const keys = registry && keysDocument(registry.keys, noise);
  // Bytes, as names are: text that is no UTF-8 stays what it is.
  const write = (latin1: string): void => void out.write(Buffer.from(latin1, 'latin1'));
  const options = { colours: coloursFor(given, out), width: out.columns ?? 80 };
  switch (formOf(given)) {
    case 'nothing':
      break;
    case 'json': {
      const document = {
        version: 1,
        ...(files && {
          files: { ...documentOf(shown, compared.names), summary: summaryOf(all) },
        }),
        ...(keys && { registry: keys }),
      };
      out.write(`${JSON.stringify(document, undefined, 2)}\n`);
      break;
    }
    case 'name-status': {
      const z = given.has('null');
      write(nameStatus(shown, { z }));
      if (keys !== undefined) write(keysNameStatus(keys, { z }));
      break;
    }
    case 'stat':
      out.write(statText(shown, options));
      if (keys === undefined) break;
      out.write(keysStat(keys, options));
      out.write(` ${keysSummaryLine(keys.summary, noise)}\n`);
      break;
    case 'patch': {
      const { patchOf } = await import('../report/patch.js');
      for (const piece of patchOf(files?.each(shown) ?? [])) write(piece);
      break;
    }
    default: {
      const both = files !== undefined && keys !== undefined;
      if (files !== undefined) {
        if (both) out.write(`Files of ${compared.names.upperdir}\n`);
        out.write(outline(shown.map(entryOf), options));
        out.write(`${summaryLine(summaryOf(all), { prunes: false })}\n`);
      }
      if (both) out.write('\nRegistry\n');
      if (keys !== undefined) {
        out.write(keysOutline(keys, options));
        out.write(`${keysSummaryLine(keys.summary, noise)}\n`);
      }
    }
  }
  const keyChanges =
    keys === undefined ? 0 : changesIn(keys.summary) + (noise ? keys.summary.noise : 0);
  return shown.length > 0 || keyChanges > 0;
}

/** A whiteout of nothing is in no tree. */
function hasObject({ before, after }: Change): boolean {
  return before !== undefined || after !== undefined;
}

function formOf(given: Arguments): Form {
  if (given.has('quiet')) return 'nothing';
  const form = FORMS.find((name) => given.has(name));
  if (form !== undefined) return form;
  return given.has('html') || given.has('reg') ? 'nothing' : 'tree';
}
