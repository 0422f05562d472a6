// `varve image ls`: what lies in an image, as names, as ls -l, as a tree or as JSON.
// Run by main.ts.
// Manual: image-commands.ts.

import type { ErofsImage, Inode } from '../erofs/image.js';
import { S } from '../linux/constants.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import {
  deviceText,
  entriesOf,
  inodeAt,
  isDir,
  modeText,
  shown,
  typeWord,
  withImage,
} from './image.js';
import { print, table } from './output.js';

export function run(given: Arguments): Promise<number> {
  return withImage(given, (image) => {
    const path = given.operands[1] ?? '/';
    const deep = given.has('recursive') || given.has('tree');
    // As ls(1): a symlink that is named is followed unless it is to be described.
    const start = inodeAt(image, path, !given.has('long'));
    if (given.has('json')) {
      const rows = [...walk(image, start, '', deep)].map(([name, inode]) =>
        described(image, name, inode),
      );
      print(given, isDir(start) ? rows : described(image, path, start), () => '');
    } else if (given.has('tree') && isDir(start)) {
      process.stdout.write(`${path}\n`);
      drawTree(image, start, '');
    } else if (given.has('long')) {
      const rows = isDir(start) ? walk(image, start, '', deep) : [[path, start] as const];
      process.stdout.write(`${longTable(image, [...rows])}\n`);
    } else if (isDir(start)) {
      let text = '';
      for (const [name] of walk(image, start, '', deep)) {
        text += `${shown(name)}\n`;
        if (text.length > 65536) {
          process.stdout.write(text);
          text = '';
        }
      }
      process.stdout.write(text);
    } else {
      process.stdout.write(`${path}\n`);
    }
    return EXIT.ok;
  });
}

/** Paths below `dir`, parents first. */
function* walk(
  image: ErofsImage,
  dir: Inode,
  prefix: string,
  deep: boolean,
): Generator<readonly [string, Inode]> {
  for (const [name, nid] of entriesOf(image, dir)) {
    const inode = image.inode(nid);
    yield [prefix + name, inode];
    if (deep && isDir(inode)) yield* walk(image, inode, `${prefix}${name}/`, deep);
  }
}

const target = (image: ErofsImage, inode: Inode): string | undefined =>
  (inode.mode & S.IFMT) === S.IFLNK ? image.readlink(inode) : undefined;

const isDevice = (inode: Inode): boolean =>
  (inode.mode & S.IFMT) === S.IFCHR || (inode.mode & S.IFMT) === S.IFBLK;

function described(image: ErofsImage, name: string, inode: Inode): object {
  const link = target(image, inode);
  return {
    path: shown(name),
    type: typeWord(inode.mode),
    nid: inode.nid,
    mode: (inode.mode & 0o7777).toString(8).padStart(4, '0'),
    links: inode.nlink,
    uid: inode.uid,
    gid: inode.gid,
    size: inode.size,
    mtime: inode.mtime + inode.mtimeNsec / 1e9,
    ...(link === undefined ? {} : { target: shown(link) }),
    ...(isDevice(inode) ? { device: deviceText(inode.rdev) } : {}),
    xattrs: image.listxattr(inode).map(shown),
  };
}

function longTable(image: ErofsImage, rows: readonly (readonly [string, Inode])[]): string {
  return table(
    rows.map(([name, inode]) => {
      const link = target(image, inode);
      const time = new Date(inode.mtime * 1000);
      return [
        modeText(inode.mode) + (image.listxattr(inode).length > 0 ? '@' : ''),
        String(inode.nlink),
        String(inode.uid),
        String(inode.gid),
        isDevice(inode) ? deviceText(inode.rdev) : String(inode.size),
        Number.isNaN(time.getTime())
          ? `@${inode.mtime}`
          : time.toISOString().slice(0, 16).replace('T', ' '),
        shown(name) + (link === undefined ? '' : ` -> ${shown(link)}`),
      ];
    }),
  );
}

function drawTree(image: ErofsImage, dir: Inode, indent: string): void {
  const entries = entriesOf(image, dir);
  entries.forEach(([name, nid], i) => {
    const inode = image.inode(nid);
    const last = i + 1 === entries.length;
    const link = target(image, inode);
    const tail = link === undefined ? '' : ` -> ${shown(link)}`;
    process.stdout.write(`${indent}${last ? '└── ' : '├── '}${shown(name)}${tail}\n`);
    if (isDir(inode)) drawTree(image, inode, indent + (last ? '    ' : '│   '));
  });
}
