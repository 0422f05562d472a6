// The folder of an apply: made where the target can be reached by renames, filled with all that is new, found again.
// Called by apply.ts before the journal is published; until then, removing the folder is all that undoes it.
// Follows: rename(2) and link(2), which need one filesystem and one mount; flock(2) tells the living from the killed.

import { mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { S } from '../../linux/constants.js';
import { E, SysError } from '../../linux/errno.js';
import { mountOf } from '../../linux/mountinfo.js';
import { lockFile } from '../../linux/peer.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import { applyFolders, findApplyFolder, INNER_APPLY_FOLDER } from '../../stack/pending-apply.js';
import { extractTree } from '../../tree/extract.js';
import { nameOf, parentOf } from '../../tree/path.js';
import { find, remove, show, type TreeNode } from '../../tree/tree.js';
import { isMark, readAttributes } from '../attributes.js';
import { Held } from '../held.js';
import { type Journal, PARTS, type Put } from './journal.js';
import type { ApplyPlan } from './plan.js';

export interface Stage {
  readonly folder: string;
  readonly held: Held;
  /** It lies in the target, whose time it changes by coming and going. */
  readonly isInside: boolean;
}

/**
 * Makes the folder of an apply to `target` (absolute, without symlinks) and locks it.
 * @throws MountError `busy` when there is one, `permission` when there can be none.
 */
export function makeStage(target: string): Stage {
  const folders = applyFolders(target).filter((folder, i, all) => {
    // Beside a mount point is another filesystem.
    return i === all.length - 1 || mountOf(target)?.mountpoint !== target || folder === target;
  });
  let failed: unknown;
  for (const folder of folders) {
    try {
      mkdirSync(folder, { mode: 0o700 });
      return lockStage(folder);
    } catch (error) {
      if (error instanceof MountError) throw error;
      // One of somebody else is in the way, and means nothing.
      if (
        (error as NodeJS.ErrnoException).code === 'EEXIST' &&
        findApplyFolder(target) === folder
      ) {
        throw new MountError(
          'busy',
          `${folder}: is there: run \`varve apply --recover ${target}\``,
        );
      }
      failed = error;
    }
  }
  throw new MountError(
    'permission',
    `${target}: no folder can be made beside it or in it (${reasonOf(failed)}): take a directory that you may change`,
    { cause: failed },
  );
}

/** Opens the folder of an apply that nobody is at work on. @throws MountError `busy`. */
export function lockStage(folder: string): Stage {
  const held = Held.open(folder);
  const r = lockFile(held.fd);
  if (r === 0) return { folder, held, isInside: basename(folder) === INNER_APPLY_FOLDER };
  held.close();
  if (r !== -E.AGAIN) throw new SysError('flock', r, folder);
  throw new MountError('busy', `${folder}: another \`varve apply\` is at work: wait for it`);
}

export interface StageOptions {
  /** The upper, where its files may become the target's own instead of being copied. */
  readonly upper?: Held;
  /** Told how many names have been staged. */
  readonly onProgress?: (names: number) => void;
}

/**
 * Makes everything that is new, with all its attributes.
 * @returns the journal of the plan. @throws MountError `permission` where an attribute cannot be set; SysError, TreeError.
 */
export function fillStage(
  stage: Stage,
  plan: ApplyPlan,
  options: StageOptions,
): Omit<Journal, 'emptied'> {
  const { held, folder } = stage;
  held.mkdir(PARTS.held);
  const linked = options.upper === undefined ? [] : linkFiles(plan, options.upper, held);
  const warnings = extractTree(plan.news, join(folder, PARTS.news), {
    onProgress: options.onProgress,
  });
  const [warning] = warnings;
  if (warning !== undefined) {
    const path = unionPath(plan, warning.path);
    throw new MountError('permission', `${show(path)}: ${warning.problem}: run it as root`);
  }
  linked.forEach(({ staged }, i) => {
    held.rename(`${LINKED}/${i}`, held, `${PARTS.news}/${staged}`);
  });
  const puts = plan.puts.map((put): Put => {
    if (!put.from.startsWith(`${PARTS.news}/`)) return put;
    const met = held.look(put.from);
    if (met === undefined) throw new SysError('stat', E.NOENT, `${folder}/${put.from}`);
    return { ...put, id: met.id };
  });
  const { takes, sets, restores, opened } = plan;
  const unmark = linked.map(({ path }) => path);
  return { version: 1, opened, takes, puts, sets, restores, unmark };
}

interface Linked {
  /** Path in `news`. */
  readonly staged: string;
  /** In the upper and the union. */
  readonly path: string;
}

/** Where files of the upper get a further name, until their directories are made. */
const LINKED = 'linked';

/** Links the files that the upper has whole, on the same filesystem, and takes them out of what is to be made. */
function linkFiles(plan: ApplyPlan, upper: Held, stage: Held): Linked[] {
  stage.mkdir(LINKED);
  const linked: Linked[] = [];
  for (const [staged, path] of plan.files) {
    const parent = find(plan.news, parentOf(staged));
    const node = parent?.entries?.get(nameOf(staged));
    if (parent === undefined || node === undefined || !isWhole(upper, path, node)) continue;
    try {
      if (!upper.link(path, stage, `${LINKED}/${linked.length}`)) continue;
    } catch (error) {
      const { errno } = error as SysError;
      // Another mount, or a file of somebody else (protected_hardlinks): it is copied.
      if (errno === E.XDEV || errno === E.PERM) continue;
      throw error;
    }
    linked.push({ staged, path });
    remove(parent, nameOf(staged));
  }
  return linked;
}

/** Whether a file of the upper has nothing but marks that the union does not show. */
function isWhole(upper: Held, path: string, node: TreeNode): boolean {
  const met = upper.look(path);
  if (met === undefined || (met.mode & S.IFMT) !== S.IFREG || met.size !== node.size) return false;
  const { xattrs } = readAttributes(upper, path);
  // An indexed file has a name in the work directory, too; a metacopy file has no data.
  const isBare = xattrs.every(([name]) => !/\.overlay\.(nlink|metacopy|overlay\.)/.test(name));
  return isBare && ![...(node.xattrs?.keys() ?? [])].some(isMark);
}

/** The path in the union of a path in `news`. */
function unionPath(plan: ApplyPlan, staged: string): string {
  const cut = staged.indexOf('/');
  const index = cut < 0 ? staged : staged.slice(0, cut);
  const put = plan.puts.find(({ from }) => from === `${PARTS.news}/${index}`);
  return `${put?.path ?? ''}${cut < 0 ? '' : staged.slice(cut)}`;
}
