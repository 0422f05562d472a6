// Anything that has to do with a boot image, opened: a build, an initramfs, a unified kernel image, or an image alone.
// Used by parts.ts (what is in it) and compare.ts (what differs); everything stays open, for content is read when it is shown.
// Images are looked for where the mini-initramfs says, beside it or above: in an OUTDIR as well as in a boot filesystem.

import { closeSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { type ByteSource, eachPiece } from '../../bytes/source.js';
import { ErofsImage } from '../../erofs/image.js';
import { imageTree } from '../../erofs/to-tree.js';
import { FileSource } from '../../linux/file-source.js';
import { mapMemory } from '../../linux/memory.js';
import { streamFormat } from '../../linux/stream-codecs.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import { isErofs } from '../../stack/images.js';
import { readContent } from '../../tree/read-content.js';
import { find, type TreeNode } from '../../tree/tree.js';
import { type PeImage, readPe, sectionSource } from '../auth/pe.js';
import { openInitramfs } from '../build/input.js';
import { MINI_FILE } from '../build/manifest.js';
import { type BootConfig, CONFIG_FILE, type LayerConfig, parseConfig } from '../config.js';

export type BootKind = 'build' | 'mini-initramfs' | 'initramfs' | 'unified kernel image' | 'image';

export interface OpenBoot {
  readonly path: string;
  readonly kind: BootKind;
  /** Of a unified kernel image. */
  readonly uki?: { readonly pe: PeImage; readonly texts: Readonly<Record<string, string>> };
  /** Of everything but an image alone. */
  readonly initramfs?: OpenInitramfs;
  /** Lowest first. */
  readonly images: readonly OpenImageFile[];
  close(): void;
}

export interface OpenInitramfs {
  readonly path: string;
  /** Bytes, and of them the early archives. */
  readonly size: number;
  readonly early: number;
  /** Of the archive behind the early ones; `none`. */
  readonly compression: string;
  readonly root: TreeNode;
  /** undefined: it is a complete one. */
  readonly config?: BootConfig;
}

export interface OpenImageFile {
  readonly name: string;
  /** undefined: it lies in the mini-initramfs. */
  readonly path?: string;
  /** Bytes. */
  readonly size: number;
  /** As the mini-initramfs is told. */
  readonly layer?: LayerConfig;
  /** undefined: it is btrfs, or it is not there. */
  readonly erofs?: ErofsImage;
  readonly source?: ByteSource;
  /** undefined: nothing was found. */
  readonly isThere: boolean;
}

/** @throws MountError. */
export function openBoot(path: string): OpenBoot {
  mapMemory();
  const closers: (() => void)[] = [];
  const close = (): void => {
    for (const closer of closers.reverse()) closer();
  };
  try {
    return { ...opened(path, closers), close };
  } catch (error) {
    close();
    throw error;
  }
}

function opened(path: string, closers: (() => void)[]): Omit<OpenBoot, 'close'> {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) throw new MountError('absent', `${path}: no such file or directory`);
  if (stat.isDirectory()) {
    const file = join(path, MINI_FILE);
    if (statSync(file, { throwIfNoEntry: false }) === undefined) {
      throw new MountError(
        'absent',
        `${path}: has no ${MINI_FILE}: name a folder that varve boot build made`,
      );
    }
    return { ...ofInitramfs(file, file, closers), path, kind: 'build' };
  }
  if (isErofs(path)) return { path, kind: 'image', images: [imageFile(path, undefined, closers)] };
  if (startsWithMz(path)) return ofUki(path, closers);
  return ofInitramfs(path, path, closers);
}

function startsWithMz(path: string): boolean {
  const source = FileSource.open(path);
  try {
    const head = Buffer.alloc(2);
    if (source.size >= 2) source.read(0, head);
    return head.toString('latin1') === 'MZ';
  } finally {
    source.close();
  }
}

/** Sections that are text. */
const TEXTS = ['.cmdline', '.uname', '.osrel'];

function ofUki(path: string, closers: (() => void)[]): Omit<OpenBoot, 'close'> {
  const source = FileSource.open(path);
  closers.push(() => source.close());
  const pe = readPe(source, path);
  const texts: Record<string, string> = {};
  for (const section of pe.sections) {
    if (!TEXTS.includes(section.name)) continue;
    const { size } = sectionSource(source, section);
    const bytes = Buffer.alloc(size);
    sectionSource(source, section).read(0, bytes);
    texts[section.name.slice(1)] = bytes.toString('utf8').replace(/\0+$/, '').trim();
  }
  const initrd = pe.sections.find(({ name }) => name === '.initrd');
  const uki = { pe, texts };
  if (initrd === undefined) return { path, kind: 'unified kernel image', uki, images: [] };
  // An initramfs is read as a file from its beginning.
  const folder = mkdtempSync(join(tmpdir(), 'varve-boot-'));
  closers.push(() => rmSync(folder, { recursive: true, force: true }));
  const copied = join(folder, 'initrd');
  const fd = openSync(copied, 'wx', 0o600);
  try {
    const inside = sectionSource(source, initrd);
    eachPiece(inside, 0, inside.size, (piece) => {
      for (let done = 0; done < piece.length; ) done += writeSync(fd, piece, done);
    });
  } finally {
    closeSync(fd);
  }
  const made = ofInitramfs(copied, path, closers);
  return { ...made, path, kind: 'unified kernel image', uki };
}

/** @param place where images are looked for from. */
function ofInitramfs(
  path: string,
  place: string,
  closers: (() => void)[],
): Omit<OpenBoot, 'close'> {
  const input = openInitramfs(path);
  closers.push(() => input.close());
  const node = find(input.root, `etc/${CONFIG_FILE}`);
  const config =
    node === undefined
      ? undefined
      : parseConfig(readContent(node).toString('utf8'), `${place}: /etc/${CONFIG_FILE}`);
  const initramfs: OpenInitramfs = {
    path: place,
    size: statSync(path).size,
    early: input.early.length,
    compression: compressionAt(path, input.early.length),
    root: input.root,
    ...(config && { config }),
  };
  if (config === undefined) return { path: place, kind: 'initramfs', initramfs, images: [] };
  const images = config.layers.map((layer) =>
    layerImage(layer, config, input.root, place, closers),
  );
  return { path: place, kind: 'mini-initramfs', initramfs, images };
}

function compressionAt(path: string, at: number): string {
  const source = FileSource.open(path);
  try {
    const head = Buffer.alloc(Math.min(8, source.size - at));
    source.read(at, head);
    return streamFormat(head) ?? 'none';
  } finally {
    source.close();
  }
}

function layerImage(
  layer: LayerConfig,
  config: BootConfig,
  root: TreeNode,
  place: string,
  closers: (() => void)[],
): OpenImageFile {
  const name = config.raw ? config.bootfs : basename(layer.fs);
  const none = { name, size: layer.size, layer, isThere: false };
  if (config.bootfs === 'initrd') {
    const content = find(root, layer.fs)?.content?.open();
    if (content === undefined) return none;
    closers.push(() => content.close());
    const erofs = layer.fstype === 'erofs' ? ErofsImage.open(content) : undefined;
    return {
      name,
      size: content.size,
      layer,
      source: content,
      isThere: true,
      ...(erofs && { erofs }),
    };
  }
  const path = config.raw ? rawImage(layer, config, place) : fileOf(layer, place);
  return path === undefined ? none : { ...imageFile(path, layer, closers), name };
}

/** A device that is an image is opened where it is; in an OUTDIR the file that is to be written there. */
function rawImage(layer: LayerConfig, { bootfs }: BootConfig, place: string): string | undefined {
  const beside = join(dirname(place), 'initoverlayfs.img');
  if (statSync(beside, { throwIfNoEntry: false })?.size === layer.size) return beside;
  return bootfs.startsWith('/dev/') && statSync(bootfs, { throwIfNoEntry: false })
    ? bootfs
    : undefined;
}

/** The image has its path in a filesystem of which only some folder is known: the one it is in, or one above. */
function fileOf({ fs, size }: LayerConfig, place: string): string | undefined {
  const steps = fs.split('/').filter(Boolean);
  for (let folder = dirname(resolve(place)); ; folder = dirname(folder)) {
    for (let skip = 0; skip < steps.length; skip++) {
      const path = join(folder, ...steps.slice(skip));
      const stat = statSync(path, { throwIfNoEntry: false });
      if (stat?.isFile() && stat.size === size) return path;
    }
    if (folder === '/') return undefined;
  }
}

function imageFile(
  path: string,
  layer: LayerConfig | undefined,
  closers: (() => void)[],
): OpenImageFile {
  const source = FileSource.open(path);
  closers.push(() => source.close());
  const common = { name: basename(path), path, size: source.size, source, isThere: true };
  const described = layer === undefined ? common : { ...common, layer };
  if (layer !== undefined && layer.fstype !== 'erofs') return described;
  try {
    return { ...described, erofs: ErofsImage.open(source) };
  } catch (error) {
    throw new MountError('layer', `${path}: cannot be read as an EROFS image: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

/** The files of an image. @throws MountError of kind `option` for one that only the kernel can read. */
export function treeOf(image: OpenImageFile): TreeNode {
  if (image.erofs !== undefined)
    return imageTree(image.erofs, image.erofs.inode(image.erofs.rootNid));
  throw new MountError(
    image.isThere ? 'option' : 'absent',
    image.isThere
      ? `${image.path ?? image.name}: is a btrfs image: mount it, and compare the folders by varve diff --trees`
      : `${image.name}: the mini-initramfs names it as ${image.layer?.fs}, and it is not there: name the folder of the build`,
  );
}
