// Changes of files and symlinks as a patch for `git apply` and GNU `patch -p1`.
// Run by `varve diff --patch`; the lines come from text-diff.ts.
// Follows: the extended diff headers of git-diff(1); names quoted as git's core.quotePath does.

import { constants } from 'node:buffer';
import { createHash } from 'node:crypto';
import { S } from '../linux/constants.js';
import { show, type TreeNode } from '../tree/tree.js';
import type { Change } from '../union/change.js';
import { ReportError } from './errors.js';
import { binaryPatch } from './patch-binary.js';
import { escapeName } from './quote.js';
import { bytesOf, diffTexts, type Hunk } from './text-diff.js';

/** Bytes of a file beyond which it counts as no text. */
const LIMIT = 64 * 1024 * 1024;

export interface PatchOptions {
  /** Write what is no text as git's binary patch, which git apply takes and patch(1) does not. */
  readonly binary?: boolean;
}

/**
 * One piece a changed file, bytes as a latin1 string: write it as such. What a patch has no words for (directories, devices,
 * owners, attributes, modes but for the executable bit, a mere time) is left out.
 * @param changes in the order in which they are to be applied; of files and symlinks: a directory is passed over.
 */
export function* patchOf(changes: Iterable<Change>, options: PatchOptions = {}): Generator<string> {
  for (const change of changes) {
    if (change.status === '=') continue;
    const before = patchable(change.before);
    const after = patchable(change.after);
    const section = new Section(change, options);
    // As git writes a file that became a symlink; and patch(1) renames no symlink.
    const moved = change.from !== undefined && change.from !== change.path;
    const apart = (a: TreeNode, b: TreeNode): boolean =>
      type(a) !== type(b) || (moved && type(a) === S.IFLNK);
    if (before !== undefined && after !== undefined && apart(before, after)) {
      yield* section.text(before, undefined);
      yield* section.text(undefined, after);
    } else if (before !== undefined || after !== undefined) {
      yield* section.text(before, after);
    }
  }
}

/** A file or symlink, which is all that a patch knows. */
function patchable(node: TreeNode | undefined): TreeNode | undefined {
  return node !== undefined && (type(node) === S.IFREG || type(node) === S.IFLNK)
    ? node
    : undefined;
}

function type(node: TreeNode): number {
  return node.mode & S.IFMT;
}

class Section {
  readonly #change: Change;
  readonly #options: PatchOptions;

  constructor(change: Change, options: PatchOptions) {
    this.#change = change;
    this.#options = options;
  }

  *text(before: TreeNode | undefined, after: TreeNode | undefined): Generator<string> {
    const path = this.#change.path;
    const from = this.#change.from ?? path;
    const renamed = before !== undefined && after !== undefined && from !== path;
    const oldName = before === undefined ? path : from;
    const newName = after === undefined ? from : path;
    const head: string[] = [`diff --git ${named(`a/${oldName}`)} ${named(`b/${newName}`)}\n`];
    const oldMode = before === undefined ? '' : modeText(before);
    const newMode = after === undefined ? '' : modeText(after);
    if (before === undefined) head.push(`new file mode ${newMode}\n`);
    else if (after === undefined) head.push(`deleted file mode ${oldMode}\n`);
    else if (oldMode !== newMode) head.push(`old mode ${oldMode}\nnew mode ${newMode}\n`);
    const body = this.#body(before, after, oldName, newName, oldMode === newMode ? newMode : '');
    if (renamed) {
      head.push(
        `similarity index ${body.similarity}%\nrename from ${quoted(from)}\nrename to ${quoted(path)}\n`,
      );
    }
    // Nothing that a patch could say: the owner, the times, attributes.
    if (head.length === 1 && body.text === '') return;
    yield head.join('') + body.text;
  }

  #body(
    before: TreeNode | undefined,
    after: TreeNode | undefined,
    oldName: string,
    newName: string,
    mode: string,
  ): { text: string; similarity: number } {
    if (before !== undefined && after !== undefined && !this.#change.differs.content) {
      return { text: '', similarity: 100 };
    }
    const was = this.#bytes(before, LIMIT);
    const is = this.#bytes(after, LIMIT);
    const labels: [string, string] = [
      before === undefined ? '/dev/null' : `a/${oldName}`,
      after === undefined ? '/dev/null' : `b/${newName}`,
    ];
    if (was === undefined || is === undefined || was.includes(0) || is.includes(0)) {
      return { text: this.#noText(before, after, labels, mode), similarity: 0 };
    }
    const diff = diffTexts(was.toString('latin1'), is.toString('latin1'));
    // patch(1) removes and makes an empty file only when this line names its content.
    let text = indexLine(was, is, before, after, mode);
    if (diff.hunks.length > 0) text += `--- ${label(labels[0])}\n+++ ${label(labels[1])}\n`;
    else if (before !== undefined && after !== undefined) text = '';
    text += diff.hunks.map(hunkText).join('');
    return { text, similarity: diff.similarity };
  }

  #noText(
    before: TreeNode | undefined,
    after: TreeNode | undefined,
    labels: readonly [string, string],
    mode: string,
  ): string {
    if (this.#options.binary === true) {
      const was = this.#bytes(before, constants.MAX_LENGTH);
      const is = this.#bytes(after, constants.MAX_LENGTH);
      if (was === undefined || is === undefined) {
        throw new ReportError(
          `${show(this.#change.path)}: its content cannot be read: leave out --binary`,
        );
      }
      return indexLine(was, is, before, after, mode) + binaryPatch(was, is);
    }
    return `Binary files ${quoted(labels[0])} and ${quoted(labels[1])} differ\n`;
  }
  /** undefined: too large, or elsewhere. @throws ReportError: a patch that lacks a file must not look complete. */
  #bytes(node: TreeNode | undefined, limit: number): Buffer | undefined {
    const bytes = bytesOf(node, limit);
    if (Buffer.isBuffer(bytes)) return bytes;
    if (bytes.why !== 'unreadable') return undefined;
    throw new ReportError(`${show(this.#change.path)}: cannot be read: ${bytes.detail ?? ''}`);
  }
}

/** Names of both contents as git objects, so that `git apply --3way` finds the old one; and the mode if it stays. */
function indexLine(
  was: Buffer,
  is: Buffer,
  before: TreeNode | undefined,
  after: TreeNode | undefined,
  mode: string,
): string {
  const names = [before && was, after && is].map((bytes) =>
    bytes === undefined ? '0'.repeat(40) : blobName(bytes),
  );
  return `index ${names.join('..')}${mode === '' ? '' : ` ${mode}`}\n`;
}

function blobName(bytes: Buffer): string {
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
}

/** Git knows three modes of a file. */
function modeText(node: TreeNode): string {
  if (type(node) === S.IFLNK) return '120000';
  return (node.mode & 0o100) !== 0 ? '100755' : '100644';
}

function hunkText(hunk: Hunk): string {
  const range = (start: number, lines: number): string =>
    lines === 1 ? String(start) : `${start},${lines}`;
  const old = range(hunk.oldStart, hunk.oldLines);
  const now = range(hunk.newStart, hunk.newLines);
  return `@@ -${old} +${now} @@\n${hunk.lines.join('\n')}\n`;
}

/** As git shows a name: in quotes where it holds what is no printable ASCII, or a quote. */
function quoted(name: string): string {
  const escaped = escapeName(name);
  // patch(1) would cut spaces off the end.
  return escaped === name && !name.endsWith(' ') ? name : `"${escaped}"`;
}

/** On the first line patch(1) takes a space for the end of a name; git reads a quoted one as well. */
function named(name: string): string {
  return name.includes(' ') && !quoted(name).startsWith('"') ? `"${name}"` : quoted(name);
}

/** A tab ends a name with a space, which patch(1) would take for the end of it. */
function label(name: string): string {
  const text = quoted(name);
  return text === name && name.includes(' ') ? `${name}\t` : text;
}
