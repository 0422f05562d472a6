// Members of an archive, in its order, become a tree: paths made safe, parents made, duplicates settled, links resolved.
// Called by tar-read and cpio-read, once a member.
// Follows: what GNU tar 1.34 extracts; a later member replaces an earlier one of the same name.

import { S } from '../linux/constants.js';
import { ArchiveError } from './errors.js';
import { add, makeNode, nameProblem, remove, show, type TreeNode } from './tree.js';

/** Bytes of a member's path: more than any tool writes, and a bound for the depth of a hostile tree. */
const PATH_MAX = 1024 * 1024;

/** What a message says about the member at hand. */
export interface Where {
  readonly structure: string;
  readonly offset: number;
}

interface PendingLink {
  readonly where: Where;
  readonly path: readonly string[];
  readonly target: readonly string[];
}

/** The tree under construction. */
export class Assembly {
  readonly root = makeNode(S.IFDIR | 0o755);
  readonly #pending: PendingLink[] = [];
  /** The directory of the last member: the next one is mostly there too. */
  #lastPath: readonly string[] = [];
  #lastDir: TreeNode = this.root;
  readonly #isMark: (name: string) => boolean;

  /** @param isMark tells by its name a member that only says something of its directory: where that is none, nothing is said. */
  constructor(isMark: (name: string) => boolean = () => false) {
    this.#isMark = isMark;
  }

  /** Puts a member to its place. A directory that is there already takes over what the member says of it. */
  place(path: string, node: TreeNode, where: Where): void {
    const parts = splitPath(path, where);
    const name = parts.pop();
    if (name === undefined) {
      if (node.entries === undefined)
        throw bad(where, 'name', `${show(path)} is the root, which is a directory`);
      describe(this.root, node);
      return;
    }
    if (this.#isMark(name) && this.#isBelowFile(parts)) return;
    const dir = this.#directory(parts, node, where);
    const before = dir.entries?.get(name);
    if (before?.entries !== undefined && node.entries !== undefined) {
      describe(before, node);
      return;
    }
    this.#replace(dir, name, node);
  }

  /** Gives the member at `target` one more name; a target that is still to come is looked for at the end. */
  link(path: string, target: string, where: Where): void {
    const from = splitPath(path, where);
    const to = splitPath(target, where);
    if (!this.#tryLink(from, to, where)) {
      this.#pending.push({ where, path: from, target: to });
    }
  }

  /** Resolves what is left. @returns the root. @throws ArchiveError for a hard link to nothing. */
  finish(): TreeNode {
    const waiting = new Map<string, PendingLink[]>();
    const ready: PendingLink[] = [];
    for (const link of this.#pending) {
      const target = link.target.join('/');
      const others = waiting.get(target);
      if (this.#find(link.target) !== undefined) ready.push(link);
      else if (others === undefined) waiting.set(target, [link]);
      else others.push(link);
    }
    for (let link = ready.pop(); link !== undefined; link = ready.pop()) {
      this.#tryLink(link.path, link.target, link.where);
      const path = link.path.join('/');
      ready.push(...(waiting.get(path) ?? []));
      waiting.delete(path);
    }
    for (const [target, [link]] of waiting) {
      throw bad(
        (link as PendingLink).where,
        'link name',
        `${show(target)} is no file of the archive`,
      );
    }
    return this.root;
  }

  #tryLink(path: readonly string[], target: readonly string[], where: Where): boolean {
    const found = this.#find(target);
    if (found === undefined) return false;
    if (found.entries !== undefined) {
      throw bad(
        where,
        'link name',
        `${show(target.join('/'))} is a directory, which has one name only`,
      );
    }
    const name = path[path.length - 1];
    if (name === undefined) throw bad(where, 'name', 'is that of the root');
    const dir = this.#directory(path.slice(0, -1), found, where);
    if (dir.entries?.get(name) !== found) this.#replace(dir, name, found);
    return true;
  }

  #isBelowFile(parts: readonly string[]): boolean {
    let node: TreeNode | undefined = this.root;
    for (const part of parts) {
      node = node.entries?.get(part);
      if (node === undefined) return false;
      if (node.entries === undefined) return true;
    }
    return false;
  }

  #replace(dir: TreeNode, name: string, node: TreeNode): void {
    if (remove(dir, name)?.entries !== undefined) {
      this.#lastPath = [];
      this.#lastDir = this.root;
    }
    add(dir, name, node);
  }

  #find(parts: readonly string[]): TreeNode | undefined {
    let node: TreeNode | undefined = this.root;
    for (const part of parts) node = node?.entries?.get(part);
    return node;
  }

  /** The directory at a path; those that are missing are made, 0755 of root, with the time of what is put there. */
  #directory(parts: readonly string[], member: TreeNode, where: Where): TreeNode {
    const last = this.#lastPath;
    if (parts.length === last.length && parts.every((part, i) => part === last[i])) {
      return this.#lastDir;
    }
    let dir: TreeNode = this.root;
    parts.forEach((part, i) => {
      let next = dir.entries?.get(part);
      if (next === undefined) {
        next = makeNode(S.IFDIR | 0o755, { mtime: member.mtime, mtimeNsec: member.mtimeNsec });
        add(dir, part, next);
      } else if (next.entries === undefined) {
        const prefix = show(parts.slice(0, i + 1).join('/'));
        throw bad(where, 'name', `lies below ${prefix}, which is no directory`);
      }
      dir = next;
    });
    this.#lastPath = parts;
    this.#lastDir = dir;
    return dir;
  }
}

/** Gives a directory the attributes of another. */
function describe(dir: TreeNode, from: TreeNode): void {
  dir.mode = from.mode;
  dir.uid = from.uid;
  dir.gid = from.gid;
  dir.mtime = from.mtime;
  dir.mtimeNsec = from.mtimeNsec;
  dir.xattrs = from.xattrs;
}

/**
 * The names of a path below the root: leading slashes, `.` and empty parts go, `..` takes the name before it and never
 * more, so that nothing is outside.
 */
function splitPath(path: string, where: Where): string[] {
  if (path.length > PATH_MAX) throw bad(where, 'name', `has ${path.length} bytes`);
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      parts.pop();
      continue;
    }
    const problem = nameProblem(part);
    if (problem !== undefined) throw bad(where, 'name', `${show(part.slice(0, 300))} ${problem}`);
    parts.push(part);
  }
  return parts;
}

function bad(where: Where, field: string, problem: string): ArchiveError {
  return new ArchiveError(where.structure, field, where.offset, problem);
}
