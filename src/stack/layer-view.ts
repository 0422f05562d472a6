// A layer as someone who asks about single paths sees it: what is there, and its attributes.
// Used by why.ts; reads the layer itself, a directory or an image, without a server.
// A layer is never walked through a symlink: fs/overlayfs/namei.c looks names up one at a time.

import { closeSync, constants, lstatSync, openSync, type Stats } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { ErofsImage, Inode } from '../erofs/image.js';
import { O, S } from '../linux/constants.js';
import { getBytes, mapMemory, putBytes, scratch } from '../linux/memory.js';
import { getxattrAt } from '../linux/xattr.js';
import { openImage } from './image-open.js';
import { isImage } from './images.js';

export type ObjectKind = 'file' | 'directory' | 'symlink' | 'other';

/** What lies at a path. */
export interface LayerObject {
  readonly found: ObjectKind;
  /** Bytes. */
  readonly size: number;
  /** A character device 0/0. */
  readonly isWhiteout: boolean;
}

/** Paths are relative to the layer's root, as Node writes them (UTF-8); the root is ''. */
export interface LayerView {
  /** A composefs image: its marks are trusted.*, whoever mounts it; its server translates them. */
  readonly isComposefs: boolean;
  look(path: string): LayerObject | undefined;
  /** The value as text, or undefined when there is none or it may not be read. */
  attribute(path: string, name: string): string | undefined;
  close(): void;
}

/** @throws MountError when an image cannot be read. */
export function viewLayer(root: string): LayerView {
  mapMemory();
  return isImage(root) ? imageView(root) : directoryView(root);
}

function kindOf(mode: number): ObjectKind {
  switch (mode & S.IFMT) {
    case S.IFREG:
      return 'file';
    case S.IFDIR:
      return 'directory';
    case S.IFLNK:
      return 'symlink';
    default:
      return 'other';
  }
}

function directoryView(root: string): LayerView {
  const statOf = (path: string): Stats | undefined => {
    const stat = lstatSync(join(root, path), { throwIfNoEntry: false });
    return stat === undefined || crossesSymlink(root, dirname(path)) ? undefined : stat;
  };
  return {
    isComposefs: false,
    look(path) {
      const stat = path === '' ? lstatSync(root, { throwIfNoEntry: false }) : statOf(path);
      if (stat === undefined) return undefined;
      const isDevice = (stat.mode & constants.S_IFMT) === constants.S_IFCHR;
      return {
        found: kindOf(stat.mode),
        size: stat.size,
        isWhiteout: isDevice && stat.rdev === 0,
      };
    },
    attribute: (path, name) => readAttribute(join(root, path), name),
    close() {},
  };
}

/** A redirect may name a path that leads over a symlink. */
function crossesSymlink(root: string, directory: string): boolean {
  let path = root;
  for (const part of directory.split('/')) {
    if (part === '' || part === '.') continue;
    path = join(path, part);
    if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) return true;
  }
  return false;
}

// Scratch of this thread: file name, attribute name, value.
const FILE_AT = 0x20000;
const ATTR_AT = 0x20200;
const VALUE_AT = 0x20400;
const VALUE_SIZE = 4096;

function readAttribute(path: string, attribute: string): string | undefined {
  const isDirectory = lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
  let fd: number;
  try {
    fd = openSync(isDirectory ? path : dirname(path), O.PATH | O.DIRECTORY);
  } catch {
    return undefined;
  }
  try {
    // Names are bytes; Node gives and takes them as UTF-8.
    const file = isDirectory ? '' : Buffer.from(basename(path)).toString('latin1');
    putBytes(scratch + FILE_AT, file);
    putBytes(scratch + ATTR_AT, attribute);
    const n = getxattrAt(fd, scratch + FILE_AT, scratch + ATTR_AT, scratch + VALUE_AT, VALUE_SIZE);
    return n < 0 ? undefined : text(getBytes(scratch + VALUE_AT, n));
  } finally {
    closeSync(fd);
  }
}

const text = (latin1: string): string => Buffer.from(latin1, 'latin1').toString();

function imageView(path: string): LayerView {
  const { image, close } = openImage(path);
  return {
    isComposefs: image.superblock.composefsVersion !== undefined,
    look(inside) {
      const inode = walk(image, inside);
      if (inode === undefined) return undefined;
      const isDevice = (inode.mode & S.IFMT) === S.IFCHR;
      return {
        found: kindOf(inode.mode),
        size: inode.size,
        isWhiteout: isDevice && inode.rdev === 0,
      };
    },
    attribute(inside, name) {
      const inode = walk(image, inside);
      const value = inode === undefined ? undefined : image.getxattr(inode, name);
      return value === undefined ? undefined : Buffer.from(value).toString();
    },
    close,
  };
}

/** The inode at a path; symlinks are not followed. */
function walk(image: ErofsImage, path: string): Inode | undefined {
  let inode = image.inode(image.rootNid);
  for (const name of path.split('/')) {
    if (name === '') continue;
    if ((inode.mode & S.IFMT) !== S.IFDIR) return undefined;
    const nid = image.lookup(inode, Buffer.from(name));
    if (nid === undefined) return undefined;
    inode = image.inode(nid);
  }
  return inode;
}
