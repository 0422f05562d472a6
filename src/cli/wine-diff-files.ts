// The files that `varve wine diff` writes: a page, and the registry's changes for regedit.
// Called by wine-diff.ts; each appears under its name when it is complete.
// Forms: report/html.ts; wine/registry/regedit.ts.

import { documentOf } from '../report/document.js';
import { pageOf } from '../report/html.js';
import { keysDocument } from '../report/keys.js';
import { textsOf } from '../report/page-texts.js';
import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import type { Comparison } from '../wine/diff/compare.js';
import { withoutNoise } from '../wine/registry/noise.js';
import { writeRegedit } from '../wine/registry/regedit.js';
import type { Arguments } from './args.js';
import { counted, remark } from './output.js';
import { writeFile } from './output-file.js';

export async function writeFiles(given: Arguments, compared: Comparison): Promise<void> {
  const html = given.value('html');
  const reg = given.value('reg');
  if (reg !== undefined) await writeReg(given, compared, reg);
  if (html !== undefined) await writePage(given, compared, html);
}

async function writeReg(given: Arguments, { registry }: Comparison, target: string): Promise<void> {
  if (registry === undefined) {
    throw new MountError('option', '--reg: tells the registry: leave --files out');
  }
  const delta = given.has('noise') ? registry.delta : withoutNoise(registry.delta).delta;
  const bytes = writeRegedit(delta);
  await writeFile(target, (write) => write(bytes));
  if (target !== '-') remark(given, `${target}: ${bytesText(bytes.length)}`);
}

async function writePage(
  given: Arguments,
  { files, registry, names }: Comparison,
  target: string,
): Promise<void> {
  const changes = files?.changes ?? [];
  const texts = textsOf(changes);
  const keys = registry && {
    title: 'Registry',
    document: keysDocument(registry.keys, true),
    alone: files === undefined,
  };
  const document = documentOf(changes, names);
  const bytes = await writeFile(target, (write) => {
    for (const piece of pageOf(document, texts, keys)) write(Buffer.from(piece));
  });
  if (target !== '-') remark(given, `${target}: ${bytesText(bytes)}`);
  if (texts.leftOut === 0) return;
  const left = counted(texts.leftOut, 'file');
  remark(given, `the page has no room for the lines of ${left}: --patch has them`);
}
