// Makes a prefix keep to itself: folders in place of the links to $HOME, no menu entries, on request no drive of the whole machine.
// Called by `varve wine doctor --fix` and `varve wine create --isolate`; the prefix must be down, and the caller holds its lock.
// Each step is one rename or one unlink in the prefix's own files; the layers below are never written.

import { lstatSync, mkdirSync, openSync, realpathSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { AT, O, RENAME } from '../../linux/constants.js';
import { check, E } from '../../linux/errno.js';
import { close } from '../../linux/files.js';
import { mapMemory } from '../../linux/memory.js';
import * as named from '../../linux/named.js';
import { nameOf, parentOf } from '../../tree/path.js';
import type { Union } from '../../union/union.js';
import type { Below } from '../prefix/below.js';
import { drivesOf } from './drives.js';
import { type OutwardLink, outwardLinks, withUnion } from './links.js';
import { menuFiles, moveAway } from './menus.js';
import { quietMenus } from './quiet-menus.js';

export interface IsolateOptions {
  /** Takes away drives that show the host's files (z:), too. */
  readonly drives?: boolean;
}

export interface Isolated {
  /** Links of the profile that are folders of the prefix now; below drive_c, latin1. */
  readonly links: readonly OutwardLink[];
  /** Names of the drives that are gone. */
  readonly drives: readonly string[];
}

/** Everything of it. @param below what the prefix stands on; nothing for a plain one. @throws MountError, SysError. */
export async function isolate(
  folder: string,
  below: readonly Below[],
  { env, ...options }: IsolateOptions & { readonly env: NodeJS.ProcessEnv },
): Promise<Isolated & { readonly menus: readonly string[] }> {
  const lowers = below.map(({ driveC }) => driveC);
  const files = await isolateFiles(folder, lowers, options);
  quietMenus(folder, below);
  const names = [...new Set([folder, realpathSync(folder)])];
  const menus = moveAway(menuFiles(names, env), join(folder, 'menu-entries'), env);
  return { ...files, menus };
}

/** In place of a link, while it is made: what a killed run has left is taken away by the next. */
const STAGED = '.varve-isolate';

/** The folder of a prefix that has its own files of drive_c, mounted or not. */
export function ownFiles(folder: string): string {
  const moved = join(folder, '.varve/upper');
  return lstatSync(moved, { throwIfNoEntry: false })?.isDirectory()
    ? moved
    : join(folder, 'drive_c');
}

/**
 * Links and drives.
 * @param lowers drive_c folders and images below the prefix's own, topmost first. @throws MountError, SysError.
 */
export async function isolateFiles(
  folder: string,
  lowers: readonly string[],
  { drives = false }: IsolateOptions = {},
): Promise<Isolated> {
  const own = ownFiles(folder);
  mkdirSync(own, { recursive: true });
  const links = await withUnion([own, ...lowers], (union) => {
    const found = outwardLinks(union, folder).filter(({ profile }) => profile);
    const root = openSync(own, O.RDONLY | O.DIRECTORY);
    try {
      for (const { path } of found) replaceByFolder(root, path, union);
    } finally {
      close(root);
    }
    return found;
  });
  const gone = drives ? drivesOf(folder).filter(({ outside }) => outside) : [];
  for (const { name } of gone) unlinkSync(join(folder, 'dosdevices', name));
  return { links, drives: gone.map(({ name }) => name) };
}

/** @param path of a link of the union. */
function replaceByFolder(root: number, path: string, union: Union): void {
  mapMemory();
  const parent = openOwn(root, parentOf(path), union);
  try {
    stageFolder(parent, '');
    const name = nameOf(path);
    const isOwn = named.look(parent, name) !== undefined;
    const flags = isOwn ? RENAME.EXCHANGE : RENAME.NOREPLACE;
    check(named.renameName(parent, STAGED, parent, name, flags), 'rename', path);
    if (isOwn) named.unlinkName(parent, STAGED);
  } finally {
    close(parent);
  }
}

/** A directory of the prefix's own files; what only the layers below have is made as they have it. @returns a descriptor. */
function openOwn(root: number, path: string, union: Union): number {
  let at = check(named.openName(root, '.', O.RDONLY | O.DIRECTORY), 'open');
  let done = '';
  for (const name of path.split('/')) {
    done = done === '' ? name : `${done}/${name}`;
    const flags = O.RDONLY | O.DIRECTORY | O.NOFOLLOW;
    let next = named.openName(at, name, flags);
    if (next === -E.NOENT) {
      stageFolder(at, done, union);
      check(named.renameName(at, STAGED, at, name, RENAME.NOREPLACE), 'rename', done);
      next = named.openName(at, name, flags);
    }
    close(at);
    at = check(next, 'open', done);
  }
  return at;
}

/** Makes the folder STAGED, with owner, mode and attributes of the directory `path` of the union, or of `dir` itself. */
function stageFolder(dir: number, path: string, union?: Union): void {
  if (named.unlinkName(dir, STAGED) !== 0) named.unlinkName(dir, STAGED, AT.REMOVEDIR);
  check(named.makeDirectory(dir, STAGED, 0o700), 'mkdir', path);
  const fd = check(named.openName(dir, STAGED, O.RDONLY | O.DIRECTORY | O.NOFOLLOW), 'open');
  try {
    const place = union?.at(path);
    const facts = named.look(dir, '');
    if (union !== undefined && place !== undefined) {
      for (const [name, value] of union.node(place).xattrs ?? []) {
        named.setXattr(fd, '', name, value);
      }
    }
    if (facts !== undefined) {
      const mode = place?.seen.node.mode ?? facts.mode;
      const uid = place?.seen.node.uid ?? facts.uid;
      const gid = place?.seen.node.gid ?? facts.gid;
      named.setFacts(fd, { ...facts, mode, uid, gid }, false);
    }
  } finally {
    close(fd);
  }
}
