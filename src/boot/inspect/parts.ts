// What is in which part of a boot image, as one document: sizes, files, modules, programs, configuration, hash trees.
// Made for `varve boot inspect`; all metadata is read, none of the content but that of small texts.
// Version 1 of its form, described in docs/boot-install.md.

import { reportImage, type Share } from '../../erofs/report.js';
import { S } from '../../linux/constants.js';
import { readContent } from '../../tree/read-content.js';
import { count, find, type TreeNode, walk } from '../../tree/tree.js';
import type { BootConfig, LayerConfig } from '../config.js';
import {
  type BootKind,
  type OpenBoot,
  type OpenImageFile,
  type OpenInitramfs,
  treeOf,
} from './open.js';

/** Names and bytes, the largest first. */
export interface Sized {
  readonly path: string;
  readonly bytes: number;
}

export interface InitramfsParts {
  readonly path: string;
  /** Bytes of the file; of them microcode and tables that the early kernel reads. */
  readonly size: number;
  readonly early: number;
  readonly compression: string;
  /** Unpacked, in memory. */
  readonly files: number;
  readonly bytes: number;
  /** Modules of the kernel; of a mini-initramfs in the order of loading. */
  readonly modules: readonly Sized[];
  /** Programs and libraries. */
  readonly programs: readonly Sized[];
  readonly largest: readonly Sized[];
  readonly folders: readonly Sized[];
  readonly config?: BootConfig;
}

export interface ImageParts {
  readonly name: string;
  readonly path?: string;
  readonly size: number;
  readonly isThere: boolean;
  readonly layer?: LayerConfig;
  /** Of an EROFS image. */
  readonly erofs?: {
    readonly inodes: number;
    /** Bytes of files as they are shown. */
    readonly fileBytes: number;
    /** Bytes of the image itself, and of them what is no data of files. */
    readonly imageBytes: number;
    readonly metadataBytes: number;
    readonly algorithms: Readonly<Record<string, Share>>;
    readonly folders: readonly ({ readonly name: string } & Share)[];
    readonly largest: readonly Sized[];
  };
  /** A hash tree of dm-verity lies behind the image: its bytes. */
  readonly hashTree?: number;
}

export interface BootParts {
  readonly version: 1;
  readonly path: string;
  readonly kind: BootKind;
  readonly uki?: {
    readonly sections: readonly { readonly name: string; readonly bytes: number }[];
    readonly cmdline?: string;
    readonly uname?: string;
    readonly os?: string;
    /** Bytes of signatures; 0: not signed. */
    readonly signatures: number;
  };
  readonly initramfs?: InitramfsParts;
  readonly images: readonly ImageParts[];
}

/** Of lists of the largest. */
const MOST = 20;

export function partsOf(boot: OpenBoot): BootParts {
  const { uki, initramfs } = boot;
  return {
    version: 1,
    path: boot.path,
    kind: boot.kind,
    ...(uki && { uki: ukiParts(uki) }),
    ...(initramfs && { initramfs: initramfsParts(initramfs) }),
    images: boot.images.map(imageParts),
  };
}

function ukiParts({ pe, texts }: NonNullable<OpenBoot['uki']>): NonNullable<BootParts['uki']> {
  const { cmdline, uname, osrel } = texts;
  const os = /^PRETTY_NAME="?(.*?)"?$/m.exec(osrel ?? '')?.[1];
  return {
    sections: pe.sections.map(({ name, virtualSize, rawSize }) => ({
      name,
      bytes: Math.min(virtualSize, rawSize),
    })),
    ...(cmdline !== undefined && { cmdline }),
    ...(uname !== undefined && { uname }),
    ...(os !== undefined && { os }),
    signatures: pe.certificates,
  };
}

const MODULE = /\.ko(?:\.(?:gz|xz|zst))?$/;

function initramfsParts({
  path,
  size,
  early,
  root,
  config,
  compression,
}: OpenInitramfs): InitramfsParts {
  const counts = count(root);
  const files = filesOf(root);
  const order = find(root, 'etc/varve/modules');
  const modules = files.filter(({ path: name }) => MODULE.test(name));
  return {
    path,
    size,
    early,
    compression,
    files: counts.names,
    bytes: counts.bytes,
    modules:
      config === undefined || order === undefined ? modules.map(plain) : inOrder(modules, order),
    programs: files.filter(({ path: name, node }) => isProgram(name, node)).map(plain),
    largest: largest(files),
    folders: folderSizes(files),
    ...(config && { config }),
  };
}

interface FoundFile extends Sized {
  readonly node: TreeNode;
}

const plain = ({ path, bytes }: Sized): Sized => ({ path, bytes });

/** Regular files; of several names of one the first. */
function filesOf(root: TreeNode): FoundFile[] {
  const seen = new Set<TreeNode>();
  const found: FoundFile[] = [];
  walk(root, (path, node) => {
    if ((node.mode & S.IFMT) !== S.IFREG || seen.has(node)) return;
    seen.add(node);
    found.push({ path: path.slice(1), bytes: node.size, node });
  });
  return found;
}

/** As /etc/varve/modules lists them, by path below the folder of the kernel. */
function inOrder(modules: readonly FoundFile[], list: TreeNode): Sized[] {
  const names = readContent(list).toString('utf8').split('\n').filter(Boolean);
  const ordered = names.flatMap((name) => modules.filter(({ path }) => path.endsWith(`/${name}`)));
  return [...new Set([...ordered, ...modules])].map(plain);
}

function isProgram(path: string, { mode }: TreeNode): boolean {
  if (MODULE.test(path)) return false;
  return (mode & 0o111) !== 0 || /\.so(?:\.[0-9.]+)?$/.test(path);
}

function largest(files: readonly Sized[]): Sized[] {
  return [...files].sort(byBytes).slice(0, MOST).map(plain);
}

const byBytes = (a: Sized, b: Sized): number => b.bytes - a.bytes || (a.path < b.path ? -1 : 1);

function folderSizes(files: readonly Sized[]): Sized[] {
  const sums = new Map<string, number>();
  for (const { path, bytes } of files) {
    const at = path.indexOf('/');
    const top = at < 0 ? '.' : path.slice(0, at);
    sums.set(top, (sums.get(top) ?? 0) + bytes);
  }
  return [...sums].map(([path, bytes]) => ({ path, bytes })).sort(byBytes);
}

function imageParts(image: OpenImageFile): ImageParts {
  const { name, path, size, isThere, layer, erofs } = image;
  const common: ImageParts = {
    name,
    size,
    isThere,
    ...(path !== undefined && { path }),
    ...(layer && { layer }),
  };
  if (erofs === undefined) return common;
  const report = reportImage(erofs);
  const { objects } = report;
  const inodes =
    objects.directories +
    objects.files +
    objects.symlinks +
    objects.devices +
    objects.fifos +
    objects.sockets;
  const hashTree = hashTreeBytes(image, report.imageBytes);
  return {
    ...common,
    erofs: {
      inodes,
      fileBytes: report.fileBytes,
      imageBytes: report.imageBytes,
      metadataBytes: report.metadataBytes,
      algorithms: report.algorithms,
      folders: report.folders,
      largest: largest(filesOf(treeOf(image))),
    },
    ...(hashTree > 0 && { hashTree }),
  };
}

/** What lies behind the image, if that is a hash tree. */
function hashTreeBytes({ source, size }: OpenImageFile, imageBytes: number): number {
  const magic = Buffer.alloc(8);
  const at = Math.ceil(imageBytes / 4096) * 4096;
  if (source === undefined || at + magic.length > size) return 0;
  source.read(at, magic);
  return magic.toString('latin1') === 'verity\0\0' ? size - at : 0;
}
