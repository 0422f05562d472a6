// Two boot images as two trees: `payload`, which is the union of the images, and `mini`, the mini-initramfs.
// Made for `varve boot diff`, which shows their difference as `varve diff` shows one; beside it what no file says by itself.
// A complete initramfs has a payload alone, so that a build can be held against what it was made of.

import { S } from '../../linux/constants.js';
import { add, makeNode, type TreeNode } from '../../tree/tree.js';
import { unionTree } from '../../union/flat.js';
import { viewImage } from '../../union/image-view.js';
import { Union } from '../../union/union.js';
import type { BootConfig, LayerConfig } from '../config.js';
import { type OpenBoot, type OpenImageFile, treeOf } from './open.js';
import { type BootParts, partsOf, type Sized } from './parts.js';

/** Names at the top of the trees that are compared. */
const PAYLOAD = 'payload';
const MINI = 'mini';

export interface PartSize {
  readonly part: string;
  readonly before?: number;
  readonly after?: number;
}

export interface SettingChange {
  readonly key: string;
  readonly before?: string;
  readonly after?: string;
}

export interface BootComparison {
  /** Bytes of files, where one side has them. */
  readonly sizes: readonly PartSize[];
  /** Of the configuration and, of unified kernel images, of the command line. */
  readonly settings: readonly SettingChange[];
  /** Of the mini-initramfs: names without folders of the kernel. */
  readonly modules: { readonly added: readonly string[]; readonly removed: readonly string[] };
}

/** @throws MountError of kind `option` where an image cannot be read, `absent` where it is not there. */
export function comparedTree(boot: OpenBoot, withMini: boolean): TreeNode {
  const root = makeNode(S.IFDIR | 0o755);
  const { initramfs, images } = boot;
  const isComplete = initramfs !== undefined && initramfs.config === undefined;
  add(root, PAYLOAD, isComplete ? initramfs.root : payloadOf(images));
  if (withMini && initramfs?.config !== undefined)
    add(root, MINI, withoutImages(initramfs.root, boot));
  return root;
}

function payloadOf(images: readonly OpenImageFile[]): TreeNode {
  const [only] = images;
  if (images.length === 1 && only !== undefined) return treeOf(only);
  const views = images.map((image) => {
    // Says what is the matter with one that cannot be read.
    if (image.erofs === undefined) treeOf(image);
    return viewImage(
      image.erofs as NonNullable<typeof image.erofs>,
      image.name,
      'trusted.overlay.',
      () => {},
    );
  });
  return unionTree(new Union(views.reverse()));
}

/** Embedded images are compared by what is in them. */
function withoutImages(root: TreeNode, { images }: OpenBoot): TreeNode {
  if (images.every(({ path }) => path !== undefined)) return root;
  const copy = makeNode(root.mode, root);
  for (const [name, node] of root.entries ?? []) {
    if (name !== 'images') copy.entries?.set(name, node);
  }
  return copy;
}

export function compareParts(before: OpenBoot, after: OpenBoot): BootComparison {
  const [old, now] = [partsOf(before), partsOf(after)];
  return {
    sizes: sizesOf(old, now),
    settings: settingsOf(old, now),
    modules: modulesOf(old, now),
  };
}

function sizesOf(old: BootParts, now: BootParts): PartSize[] {
  const list = ({ initramfs, images }: BootParts): [string, number][] => [
    ...(initramfs === undefined ? [] : [['initramfs', initramfs.size] as [string, number]]),
    ...images.map((image, i): [string, number] => [`image ${i + 1}`, image.size]),
  ];
  const [a, b] = [new Map(list(old)), new Map(list(now))];
  return [...new Set([...a.keys(), ...b.keys()])].map((part) => ({
    part,
    ...sides(a.get(part), b.get(part)),
  }));
}

function sides<T>(before: T | undefined, after: T | undefined): { before?: T; after?: T } {
  return { ...(before !== undefined && { before }), ...(after !== undefined && { after }) };
}

function settingsOf(old: BootParts, now: BootParts): SettingChange[] {
  const [a, b] = [said(old), said(now)];
  const changes: SettingChange[] = [];
  for (const key of new Set([...a.keys(), ...b.keys()])) {
    const [before, after] = [a.get(key), b.get(key)];
    if (before !== after) changes.push({ key, ...sides(before, after) });
  }
  return changes;
}

function said({ initramfs, uki }: BootParts): Map<string, string> {
  const values = new Map<string, string>();
  if (uki?.cmdline !== undefined) values.set('command line', uki.cmdline);
  if (uki?.uname !== undefined) values.set('kernel', uki.uname);
  const config = initramfs?.config;
  if (config !== undefined) sayConfig(config, values);
  return values;
}

function sayConfig(config: BootConfig, values: Map<string, string>): void {
  const { layers, fallback, ...common } = config;
  for (const [key, value] of Object.entries(common)) values.set(key, String(value));
  if (fallback !== undefined) values.set('fallback', fallback.path);
  for (const [i, layer] of layers.entries()) {
    for (const key of ['fs', 'fstype', 'verify', 'digest'] satisfies (keyof LayerConfig)[]) {
      values.set(`layer ${i + 1} ${key}`, String(layer[key]));
    }
  }
}

function modulesOf(old: BootParts, now: BootParts): BootComparison['modules'] {
  const names = (modules: readonly Sized[] = []): string[] =>
    modules.map(({ path }) => path.replace(/^.*\//, '').replace(/\.ko.*$/, ''));
  const [a, b] = [names(miniModules(old)), names(miniModules(now))];
  return {
    added: b.filter((name) => !a.includes(name)),
    removed: a.filter((name) => !b.includes(name)),
  };
}

/** A complete initramfs has those of its payload, which are compared as files. */
function miniModules({ initramfs }: BootParts): readonly Sized[] {
  return initramfs?.config === undefined ? [] : initramfs.modules;
}
