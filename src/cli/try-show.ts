// What `varve try` tells: the changes on stderr in the form that was asked for, conflicts, and the document for programs.
// Used by try.ts and try-ask.ts. Standard output belongs to the command.
// The document is version 1 of its form, described in docs/try.md; `changes` in it is that of `varve diff --json`.

import { closeSync, openSync, writeSync } from 'node:fs';
import type { TryConflict } from '../ops/try/conflicts.js';
import type { TryResult } from '../ops/try/result.js';
import { type DiffDocument, documentOf, entryOf, summaryOf } from '../report/document.js';
import { nameStatus } from '../report/name-status.js';
import { outline, summaryLine } from '../report/outline.js';
import { patchOf } from '../report/patch.js';
import { readable } from '../report/readable.js';
import { statText } from '../report/stat.js';
import { plain } from '../report/words.js';
import { MountError, reasonOf } from '../stack/errors.js';
import { isNews } from '../union/change.js';
import type { Arguments } from './args.js';
import type { Form } from './try-flags.js';

/** What --json writes. */
export interface TryDocument {
  readonly version: 1;
  readonly command: readonly string[];
  /** Of the command; null where a signal ended it, and where it did not run. */
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** Exit code of varve itself, but for failures of the commit. */
  readonly status: number;
  readonly outcome: 'committed' | 'kept' | 'discarded' | 'unchanged' | 'failed';
  /** Folder of the kept changes. */
  readonly kept?: string;
  readonly conflicts?: readonly { readonly path: string; readonly message: string }[];
  readonly changes?: DiffDocument;
  readonly error?: string;
}

export function showChanges(form: Form, result: TryResult): void {
  const news = result.changes.filter(isNews);
  const colours = process.stderr.isTTY === true && (process.env['NO_COLOR'] ?? '') === '';
  switch (form) {
    case 'none':
      return;
    case 'json':
      say(`${JSON.stringify(changesDocument(result))}\n`);
      return;
    case 'name-status':
      write(nameStatus(news));
      return;
    case 'stat':
      say(statText(news, { colours, width: process.stderr.columns ?? 80 }));
      return;
    case 'patch':
      for (const piece of patchOf(news)) write(piece);
      return;
    default:
      if (news.length === 0) return;
      say(outline(news.map(entryOf), { colours }));
      say(`${summaryLine(summaryOf(news))}\n`);
  }
}

/** Paths are from the root directory. */
export function changesDocument(result: TryResult): DiffDocument {
  const lowerdirs = result.parts.map(({ upper }) => readable(upper.path).text);
  const document = documentOf(result.changes.filter(isNews), { lowerdirs, upperdir: '' });
  return { ...document, summary: summaryOf(result.changes) };
}

export function showConflicts(conflicts: readonly TryConflict[]): void {
  for (const { path, message } of conflicts) {
    say(`varve: conflict: ${plain(readable(path).text)}: ${message}\n`);
  }
}

/** Writes the result for programs, once. */
export type Report = (document: TryDocument) => void;

/** Opens the file of --json before anything is done. @throws MountError where it cannot be written. */
export function openReport(given: Arguments): Report {
  const file = given.value('json');
  if (file === undefined) return () => {};
  if (file === '') return (document) => say(`${JSON.stringify(document)}\n`);
  let fd: number;
  try {
    fd = openSync(file, 'w');
  } catch (error) {
    throw new MountError('layer', `--json=${file}: cannot be written: ${reasonOf(error)}`);
  }
  return (document) => {
    writeSync(fd, `${JSON.stringify(document)}\n`);
    closeSync(fd);
  };
}

function say(text: string): void {
  process.stderr.write(text);
}

/** @param latin1 bytes, one code unit a byte. */
function write(latin1: string): void {
  process.stderr.write(Buffer.from(latin1, 'latin1'));
}
