// The mini-initramfs as a tree: storage-init, busybox, the modules in their order, and what checks the images.
// Called by build.ts, which writes it as cpio. Everything belongs to root and has one time, so that equal parts make equal bytes.
// Layout: docs/boot-format.md.

import { readFileSync, realpathSync } from 'node:fs';
import { S } from '../../linux/constants.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import { add, makeNode, memoryContent, type TreeNode } from '../../tree/tree.js';
import { needProgram } from '../run-tool.js';
import { shared } from '../share.js';
import { sharedLibraries } from './elf.js';
import { type KernelModules, type ModuleFile, moduleName } from './modules.js';

/** Commands of busybox that storage-init and who debugs it call by their names. */
const APPLETS = (
  '[ ash awk basename blockdev cat chmod chroot clear cmp cp cpio cut date dd df dirname dmesg du echo env expr false ' +
  'find findfs free grep gunzip gzip halt head hexdump id insmod kill less ln losetup ls lsmod lzcat md5sum mkdir mknod modprobe more ' +
  'mount mv od pivot_root poweroff printf ps pwd readlink realpath reboot rm rmdir rmmod sed seq setsid sh ' +
  'sha256sum sleep sort stat switch_root sync tail tar tee test timeout top touch tr true umount uname uniq unshare ' +
  'unxz unzip uptime usleep vi wc which xargs xxd xz xzcat yes zcat cttyhack'
).split(' ');

/** Folders that are mounted over or filled at boot. */
const FOLDERS = ['boot', 'dev', 'proc', 'run', 'sys', 'tmp', 'varve'];

export interface MiniParts {
  /** initoverlayfs.conf. */
  readonly config: string;
  readonly modules: { readonly from: KernelModules; readonly files: readonly ModuleFile[] };
  /** Programs besides busybox, with their libraries. */
  readonly programs: readonly string[];
  /** PEM, of `signature`. */
  readonly certificate: Uint8Array | undefined;
  /** Seconds since 1970, of everything. */
  readonly time: number;
}

/** The tree, and what of programs is in it. @throws MountError when a part of it is not on this machine. */
export function miniTree(parts: MiniParts): { root: TreeNode; programs: string[] } {
  const tree = new Tree(parts.time);
  for (const name of FOLDERS) tree.directory(name);
  tree.file('init', readPart(shared('storage-init'), 'install varve again'), 0o755);
  // fall-back also where nothing is to fall back to yet: `varve boot install` may name it.
  const names = /^verify (?!none$)/m.test(parts.config) ? ['checks', 'fall-back'] : ['fall-back'];
  for (const name of names) {
    tree.file(`etc/varve/${name}`, readPart(shared(name), 'install varve again'), 0o644);
  }
  // storage-init would make them, and starting a program for it takes longer than this.
  const layers = parts.config.match(/^layer$/gm) ?? [];
  for (const name of ['image', 'rw', ...layers.keys()]) {
    tree.directory(`varve/${typeof name === 'number' ? name + 1 : name}`);
  }
  const busybox = needProgram('busybox');
  tree.program('bin/busybox', busybox);
  for (const applet of APPLETS) tree.symlink(`bin/${applet}`, 'busybox');
  tree.symlink('sbin', 'bin');
  for (const library of sharedLibraries(busybox)) tree.program(library.slice(1), library);
  const programs = ['/bin/busybox'];
  for (const name of parts.programs) {
    const path = needProgram(name);
    tree.program(`bin/${name}`, path);
    programs.push(`/bin/${name}`);
    for (const library of sharedLibraries(path)) tree.program(library.slice(1), library);
  }
  tree.file('etc/initoverlayfs.conf', Buffer.from(parts.config), 0o644);
  if (parts.certificate !== undefined) tree.file('etc/varve/boot.crt', parts.certificate, 0o644);
  const { from, files } = parts.modules;
  const places = files.map(({ path }) => placeOf(path));
  tree.file('etc/varve/modules', Buffer.from(places.map((place) => `${place}\n`).join('')), 0o644);
  // modprobe finds files by it; what needs what is said by the order already.
  const table = places.map((place) => `${place}:\n`).join('');
  tree.file(`lib/modules/${from.folder.release}/modules.dep`, Buffer.from(table), 0o644);
  files.forEach(({ path }, i) => {
    const place = `lib/modules/${from.folder.release}/${places[i]}`;
    tree.file(place, from.folder.module(path), 0o644);
  });
  return { root: tree.root, programs };
}

/** Where a module is in the mini-initramfs, below /lib/modules/RELEASE: without compression. */
function placeOf(path: string): string {
  const below = path.startsWith('/') ? `extra/${moduleName(path)}.ko` : path;
  return below.replace(/\.ko\.(?:xz|zst|gz)$/, '.ko');
}

function readPart(path: string, remedy: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new MountError('layer', `${path}: ${reasonOf(error)}: ${remedy}`, { cause: error });
  }
}

/** A tree under construction: parents are made as they are needed. */
class Tree {
  readonly root: TreeNode;
  readonly #mtime: number;

  constructor(mtime: number) {
    this.#mtime = mtime;
    this.root = makeNode(S.IFDIR | 0o755, { mtime });
  }

  directory(path: string): TreeNode {
    let dir = this.root;
    for (const name of path.split('/').filter(Boolean)) {
      let next = dir.entries?.get(name);
      if (next === undefined) {
        next = makeNode(S.IFDIR | 0o755, { mtime: this.#mtime });
        add(dir, name, next);
      }
      dir = next;
    }
    return dir;
  }

  file(path: string, bytes: Uint8Array, permissions: number): void {
    this.#place(
      path,
      makeNode(S.IFREG | permissions, {
        mtime: this.#mtime,
        size: bytes.length,
        content: memoryContent(bytes),
      }),
    );
  }

  /** A program or library of this machine; a path that is there already is the same file. */
  program(path: string, source: string): void {
    const bytes = readPart(realpathSync(source), 'install it again');
    this.file(path, bytes, 0o755);
  }

  symlink(path: string, target: string): void {
    this.#place(path, makeNode(S.IFLNK | 0o777, { mtime: this.#mtime, target }));
  }

  #place(path: string, node: TreeNode): void {
    const cut = path.lastIndexOf('/');
    const dir = this.directory(path.slice(0, Math.max(cut, 0)));
    const name = path.slice(cut + 1);
    if (!dir.entries?.has(name)) add(dir, name, node);
  }
}
