// Changes one a line: a letter, a tab, the path; for scripts that read git's output already.
// Printed by `varve diff --name-status`.
// Follows: git-diff(1) --name-status and -z, and core.quotePath of git-config(1).

import type { Change } from '../union/change.js';
import { escapeName } from './quote.js';
import { similarity } from './similarity.js';

export interface NameStatusOptions {
  /** Paths as they are, each ended by a NUL. */
  readonly z?: boolean;
}

/** @returns bytes as a latin1 string. Of R the path before comes first, as there. */
export function nameStatus(changes: readonly Change[], options: NameStatusOptions = {}): string {
  const [tab, end] = options.z === true ? ['\0', '\0'] : ['\t', '\n'];
  const name = options.z === true ? (path: string): string => path : quotePath;
  const lines: string[] = [];
  for (const change of changes) {
    const path = change.path === '' ? '.' : change.path;
    if (change.status === 'R' && change.from !== undefined) {
      const score = String(similarity(change)).padStart(3, '0');
      lines.push(`R${score}${tab}${name(change.from)}${tab}${name(path)}${end}`);
    } else {
      lines.push(`${change.status}${tab}${name(path)}${end}`);
    }
  }
  return lines.join('');
}

/** A path as git writes it: in quotes, with escapes, when it has bytes that are not printable ASCII. */
export function quotePath(path: string): string {
  const escaped = escapeName(path);
  return escaped === path ? path : `"${escaped}"`;
}
