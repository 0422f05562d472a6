// Programs of a payload that switch the root and insist on leaving a ramfs are replaced by a script that leaves an overlay.
// Called by build.ts for each tree before it becomes an image; what is replaced stays beside it, in a folder `.varve`.
// Which programs: switch_root of busybox and util-linux, run-init of klibc and busybox. Why: docs/boot.md.

import { readFileSync } from 'node:fs';
import { S } from '../../linux/constants.js';
import { readContent } from '../../tree/read-content.js';
import {
  add,
  find,
  isDirectory,
  makeNode,
  memoryContent,
  remove,
  type TreeNode,
  walk,
} from '../../tree/tree.js';
import { needProgram } from '../run-tool.js';
import { shared } from '../share.js';

const NAMES = ['switch_root', 'run-init'] as const;
/** Where the script is, by both names, with its shell. */
const HOME = 'usr/lib/varve';
const BESIDE = '.varve';

/** Such a name where a shell takes it for a command; a busybox may be asked for it. */
const CALL =
  /(^[ \t]*|[;&|(][ \t]*|\b(?:exec|then|do|else|if)[ \t]+|![ \t]+)(?:(?:\/\S*\/)?busybox[ \t]+)?(switch_root|run-init)(?=[ \t])/gm;
/** Bytes of a script that is looked into. */
const SCRIPT_MAX = 1024 * 1024;

/** @returns the paths of what was replaced. */
export function replaceSwitchRoot(root: TreeNode): string[] {
  const replaced: string[] = [];
  const found: { path: string; dir: TreeNode; name: string }[] = [];
  walk(root, (path, node, dir, name) => {
    const isProgram = /\/s?bin\/(?:switch_root|run-init)$/.test(path) && !isDirectory(node);
    // An image that was built here before has the script already.
    if (!isProgram || dir === undefined || isOurs(node)) return;
    found.push({ path, dir, name });
  });
  for (const { path, dir, name } of found) {
    const original = remove(dir, name) as TreeNode;
    keep(dir, name, original);
    add(dir, name, symlink(`/${HOME}/${name}`, original));
    replaced.push(path);
  }
  if (rewriteInit(root)) replaced.push('/init');
  if (replaced.length > 0) addScript(root);
  return replaced;
}

const isOurs = ({ target }: TreeNode): boolean => target?.startsWith(`/${HOME}/`) ?? false;

/** A busybox that prefers what is built in never looks for a program: a path makes it. */
function rewriteInit(root: TreeNode): boolean {
  const init = find(root, 'init');
  if (init === undefined || (init.mode & S.IFMT) !== S.IFREG || init.size > SCRIPT_MAX)
    return false;
  const text = readContent(init).toString('latin1');
  if (!/^#! *\/\S*sh\b|^#! *\/\S*busybox\b/.test(text)) return false;
  const changed = text.replace(CALL, `$1/${HOME}/$2`);
  if (changed === text) return false;
  remove(root, 'init');
  keep(root, 'init', init);
  const bytes = Buffer.from(changed, 'latin1');
  add(root, 'init', file(bytes, init));
  return true;
}

/** Moves an original one folder deeper, where a relative symlink must lead further up. */
function keep(dir: TreeNode, name: string, original: TreeNode): void {
  const { target } = original;
  const isRelative = target !== undefined && !target.startsWith('/');
  const moved = isRelative ? symlink(`../${target}`, original) : original;
  put(directory(dir, BESIDE, original), name, moved);
}

function addScript(root: TreeNode): void {
  const home = HOME.split('/').reduce((dir, name) => directory(dir, name, root), root);
  put(home, 'busybox', file(readFileSync(needProgram('busybox')), root));
  const [first, ...further] = NAMES;
  put(home, first, file(readFileSync(shared('switch-root')), root));
  for (const name of further) put(home, name, symlink(first, root));
}

function put(dir: TreeNode, name: string, node: TreeNode): void {
  remove(dir, name);
  add(dir, name, node);
}

function directory(parent: TreeNode, name: string, { mtime }: TreeNode): TreeNode {
  const there = parent.entries?.get(name);
  if (there?.entries !== undefined) return there;
  const made = makeNode(S.IFDIR | 0o755, { mtime });
  put(parent, name, made);
  return made;
}

/** Times are those of the payload, so that the same payload makes the same image. */
function file(bytes: Uint8Array, { mtime }: TreeNode): TreeNode {
  return makeNode(S.IFREG | 0o755, { mtime, size: bytes.length, content: memoryContent(bytes) });
}

function symlink(target: string, { mtime }: TreeNode): TreeNode {
  return makeNode(S.IFLNK | 0o777, { mtime, target });
}
