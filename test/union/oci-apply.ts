// An applier of OCI layers that owes nothing to ours: GNU tar unpacks, a few lines know what `.wh.` means.
// Used by diff-property.test.ts to put a diff over a copy of the lowers.
// Follows: OCI image-spec v1.1, layer.md: whiteouts concern what was there before, and are done first.

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmdirSync,
  rmSync,
  type Stats,
} from 'node:fs';
import { must, O, sys } from '../support/sys.js';

/** Everything that an archive can hold comes out again, whoever owns it. */
const KEEP = ['--xattrs', '--xattrs-include=*', '--numeric-owner', '--same-owner', '-p'];

export function untar(archive: string, folder: string, ...flags: string[]): void {
  run('tar', ['-x', ...KEEP, ...flags, '-f', archive, '-C', folder]);
}

/** Copies a tree through tar, as people do. */
export function copyByTar(from: string, archive: string, to: string): void {
  run('tar', [
    '-c',
    ...KEEP.slice(0, 3),
    '--sparse',
    '--format=posix',
    '-f',
    archive,
    '-C',
    from,
    '.',
  ]);
  untar(archive, to);
}

/** @param staging an empty folder of this call's own. */
export function applyOciLayer(archive: string, target: string, staging: string): void {
  mkdirSync(staging);
  untar(archive, staging);
  forgetAttributes(Buffer.from(target));
  makeRoom(Buffer.from(staging), Buffer.from(target));
  // What was there was unlinked, so nothing is written into a file that has other names.
  untar(archive, target, '--exclude=.wh.*');
}

const slash = Buffer.from('/');
const under = (dir: Buffer, name: Buffer): Buffer => Buffer.concat([dir, slash, name]);

/** Removes from `target` what the layer deletes or replaces. */
function makeRoom(layer: Buffer, target: Buffer): void {
  const names = readdirSync(layer, { encoding: 'buffer' });
  if (names.some((name) => name.toString('latin1') === '.wh..wh..opq')) {
    for (const name of namesIn(target)) remove(under(target, name));
  }
  for (const name of names) {
    const text = name.toString('latin1');
    if (text === '.wh..wh..opq') continue;
    if (text.startsWith('.wh.')) {
      remove(under(target, name.subarray(4)));
      continue;
    }
    const own = lstatSync(under(layer, name));
    const other = look(under(target, name));
    if (own.isDirectory() && other?.isDirectory() === true) {
      forgetAttributes(under(target, name));
      makeRoom(under(layer, name), under(target, name));
    } else remove(under(target, name));
  }
}

/**
 * A directory has the attributes that the layer says: tar only adds to those that are there, and leaves new directories
 * the set-gid bit that they inherit.
 */
function forgetAttributes(path: Buffer): void {
  chmodSync(path, 0o700);
  const dir = openSync(path, O.DIRECTORY);
  const names = sys.listxattr(dir, '');
  for (const name of typeof names === 'number' ? [] : names) must(sys.removexattr(dir, '', name));
  closeSync(dir);
}

function namesIn(folder: Buffer): Buffer[] {
  return look(folder)?.isDirectory() === true ? readdirSync(folder, { encoding: 'buffer' }) : [];
}

function look(path: Buffer): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

function remove(path: Buffer): void {
  // rm -r of node:fs takes no bytes for what is inside.
  if (look(path)?.isDirectory() === true) {
    for (const name of namesIn(path)) remove(under(path, name));
    rmdirSync(path);
  } else rmSync(path, { force: true });
}

function run(command: string, args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
}
