// The profile of whoever uses a prefix whose base was made by another user: folders under drive_c/users, and where the registry
// says that they are.
// Called when a prefix is made. Wine makes profiles only when it makes a prefix, and goes by the user's name.
// Follows: Wine's shell folders (create_user_shared_data(), SHGetFolderPath) and ProfileList.

import { existsSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { S } from '../../linux/constants.js';
import { asUnion, findStack, openLayers } from '../../ops/open-stack.js';
import { extractTree } from '../../tree/extract.js';
import { nameOf } from '../../tree/path.js';
import { isDirectory, remove, type TreeNode, walk } from '../../tree/tree.js';
import { unionTree } from '../../union/flat.js';
import type { Union } from '../../union/union.js';
import type { Below } from '../prefix/below.js';
import { changeOwnRegistry, readBelow } from '../prefix/materialise.js';
import { pathsOf } from '../prefix/places.js';
import { compose } from '../registry/compose.js';
import type { HiveDelta, KeyDelta, RegistryDelta } from '../registry/delta.js';
import { escapeText } from '../registry/escape.js';
import type { Hive, RegistryValue } from '../registry/hive.js';
import { userName } from './user-name.js';
import { lowersOf } from './whole-prefix.js';

/** Gives a new prefix the profile of this user, unless a layer has it. */
export async function giveProfile(
  folder: string,
  below: readonly Below[],
  env: NodeJS.ProcessEnv,
  user = userName(env),
): Promise<void> {
  if (below.length === 0 || hasProfile(below, user)) return;
  const { driveC } = pathsOf(folder);
  const opened = openLayers(await findStack({ options: [lowersOf(driveC, below)], reads: true }));
  let other: string | undefined;
  try {
    const union = asUnion(opened);
    if (union.at(`users/${bytesOf(user)}`) !== undefined) return;
    other = onlyProfile(union);
    if (other === undefined) return;
    const users = join(driveC, 'users');
    mkdirSync(users);
    extractTree(profileFor(union, other, env['HOME'] || homedir()), join(users, user));
  } finally {
    opened.close();
  }
  const registry = readBelow(folder);
  if (registry === undefined) return;
  const name = Buffer.from(other, 'latin1').toString();
  const moved: RegistryDelta = {
    system: movedPaths(registry.system, name, user),
    user: movedPaths(registry.user, name, user),
    userdef: movedPaths(registry.userdef, name, user),
  };
  changeOwnRegistry(folder, (own) => compose(moved, own));
}

/** Asks the folders alone, which costs nothing: images are looked into afterwards. */
function hasProfile(below: readonly Below[], user: string): boolean {
  return below.some(({ isImage, driveC }) => !isImage && existsSync(join(driveC, 'users', user)));
}

/** The only one beside `Public`; undefined: there is none, or nobody can say which one is meant. */
function onlyProfile(union: Union): string | undefined {
  const users = union.at('users');
  if (users === undefined) return undefined;
  const names = union.children(users).map(({ path }) => nameOf(path));
  const others = names.filter((name) => name !== 'Public');
  return others.length === 1 ? others[0] : undefined;
}

/** The folders of another user's profile, without files, as this user's own; links lead to the home folder. */
function profileFor(union: Union, other: string, home: string): TreeNode {
  const from = union.at(`users/${other}`);
  if (from === undefined) throw new RangeError(`${other}: has no profile`);
  const root = unionTree(union, from);
  walk(root, (_path, node, parent, name) => {
    node.uid = process.geteuid?.() ?? 0;
    node.gid = process.getegid?.() ?? 0;
    node.xattrs = undefined;
    if (parent === undefined || isDirectory(node)) return;
    if ((node.mode & S.IFMT) !== S.IFLNK) remove(parent, name);
    else if (node.target?.startsWith('/') === true) {
      node.target = bytesOf(targetFor(home, Buffer.from(name, 'latin1').toString()));
      node.size = node.target.length;
    }
  });
  return root;
}

/** As Wine has them: the folder of that name in the home folder where there is one, else the home folder. */
function targetFor(home: string, name: string): string {
  const own = join(home, name);
  return existsSync(own) ? own : home;
}

/** Values that name the folder of one profile, with that of the other. */
export function movedPaths(hive: Hive, from: string, to: string): HiveDelta {
  const pattern = new RegExp(`(\\\\\\\\users\\\\\\\\)${escaped(from)}(?=\\\\\\\\|")`, 'gi');
  const moved = new Map<string, KeyDelta>();
  for (const [id, key] of hive.keys) {
    const set = new Map<string, RegistryValue>();
    for (const [name, value] of key.values) {
      if (!value.data.includes('users')) continue;
      const data = value.data.replace(pattern, (_all, users: string) => users + inString(to));
      if (data !== value.data) set.set(name, { name: value.name, data });
    }
    if (set.size > 0) moved.set(id, { path: key.path, stamp: key.stamp, set, removed: new Map() });
  }
  return moved;
}

const bytesOf = (text: string): string => Buffer.from(text).toString('latin1');

const escaped = (text: string): string => inString(text).replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** A name as it stands in a string of a registry file. */
const inString = (text: string): string => escapeText(text, '"');
