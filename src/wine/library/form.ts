// A base or a layer as one tree, whatever it is stored as: drive_c is the root, everything else lies in its `.wine` directory.
// That is the form of an image, which a folder is given here; digest, export and import work on it.
// Follows: the layout of the Wine proposal (registry files in drive_c/.wine).

import { createHash, type Hash } from 'node:crypto';
import { join } from 'node:path';
import { imageTree } from '../../erofs/to-tree.js';
import { S } from '../../linux/constants.js';
import { asUnion, findStack, openLayers } from '../../ops/open-stack.js';
import { MountError } from '../../stack/errors.js';
import { openImage } from '../../stack/image-open.js';
import { isComposefs } from '../../stack/images.js';
import { joinLayers } from '../../stack/option-text.js';
import { readContent } from '../../tree/read-content.js';
import { scan } from '../../tree/scan.js';
import {
  add,
  find,
  makeNode,
  memoryContent,
  remove,
  type TreeNode,
  walk,
} from '../../tree/tree.js';
import { unionTree } from '../../union/flat.js';
import { TIMESTAMP } from '../prefix/materialise.js';
import { DELTA_FILE, INNER, readIfThere } from '../prefix/registry-source.js';
import { fileOf, HIVES } from '../registry/hive.js';
import {
  BASE_FILE,
  type BaseManifest,
  LAYER_FILE,
  type LayerManifest,
  parseBase,
  parseLayer,
} from './manifest.js';
import type { LayerEntry, Shelved } from './shelf.js';

/** What stands beside drive_c in a base or a layer. */
export const BESIDE: readonly string[] = [
  ...HIVES.map(fileOf),
  TIMESTAMP,
  DELTA_FILE,
  BASE_FILE,
  LAYER_FILE,
];

/** Where something is stored. */
interface Stored extends Pick<Shelved, 'path' | 'isImage'> {
  /** Of a composefs image, where they are not beside it. */
  readonly objects?: string;
}

export interface OpenForm {
  /** drive_c; the caller's to change. */
  readonly root: TreeNode;
  close(): void;
}

/** @throws MountError, TreeError, SysError, ErofsError. */
export async function openForm(entry: Stored): Promise<OpenForm> {
  if (entry.isImage && isComposefs(entry.path)) {
    return openComposefs(entry.path, entry.objects ?? `${entry.path}.objects`);
  }
  if (entry.isImage) {
    const { image, close } = openImage(entry.path);
    try {
      return { root: imageTree(image, image.inode(image.rootNid)), close };
    } catch (error) {
      close();
      throw error;
    }
  }
  const tree = scan(join(entry.path, 'drive_c'));
  try {
    putBeside(tree.root, readBeside(entry.path));
    return tree;
  } catch (error) {
    tree.close();
    throw error;
  }
}

/** A whole tree, whose content is in the store beside it. */
async function openComposefs(path: string, objects: string): Promise<OpenForm> {
  const layers = joinLayers([path], [objects]);
  const opened = openLayers(await findStack({ options: [`lowerdir=${layers}`], reads: true }));
  try {
    return { root: unionTree(asUnion(opened)), close: opened.close };
  } catch (error) {
    opened.close();
    throw error;
  }
}

/** Of a folder: what stands beside its drive_c, by name. */
function readBeside(folder: string): Map<string, Uint8Array> {
  const found = new Map<string, Uint8Array>();
  for (const name of BESIDE) {
    const bytes = readIfThere(join(folder, name));
    if (bytes !== undefined) found.set(name, bytes);
  }
  return found;
}

/** Puts files into the `.wine` of a tree, in place of one that is there. Their time is that of the newest thing known: the root. */
export function putBeside(root: TreeNode, files: ReadonlyMap<string, Uint8Array>): void {
  remove(root, INNER);
  const { uid, gid, mtime, mtimeNsec } = root;
  const dir = makeNode(S.IFDIR | 0o755, { uid, gid, mtime, mtimeNsec });
  add(root, INNER, dir);
  for (const [name, bytes] of files) {
    const content = bytes.length === 0 ? undefined : memoryContent(bytes);
    const fields = { uid, gid, mtime, mtimeNsec, size: bytes.length, content };
    add(dir, name, makeNode(S.IFREG | 0o644, fields));
  }
}

/** Takes the `.wine` out of a tree. @returns its files by name; those that nobody knows here are left out. */
export function takeBeside(root: TreeNode): Map<string, Buffer> {
  const found = new Map<string, Buffer>();
  const dir = find(root, INNER);
  for (const name of BESIDE) {
    const node = dir?.entries?.get(name);
    if (node !== undefined && (node.mode & S.IFMT) === S.IFREG) found.set(name, readContent(node));
  }
  remove(root, INNER);
  return found;
}

/** One file beside drive_c; undefined where there is none. @throws MountError of kind `layer`. */
export async function readShelved(
  { path, isImage }: Stored,
  name: string,
): Promise<Buffer | undefined> {
  if (!isImage) return readIfThere(join(path, name));
  const { root, close } = await openForm({ path, isImage });
  try {
    return takeBeside(root).get(name);
  } finally {
    close();
  }
}

/** @returns undefined for a base that was not made here. */
export async function manifestOfBase(entry: Shelved): Promise<BaseManifest | undefined> {
  const text = (await readShelved(entry, BASE_FILE))?.toString();
  return text === undefined ? undefined : parseBase(text, `${entry.path}: ${BASE_FILE}`);
}

export async function manifestOfLayer(entry: Shelved): Promise<LayerManifest | undefined> {
  const text = (await readShelved(entry, LAYER_FILE))?.toString();
  return text === undefined ? undefined : parseLayer(text, `${entry.path}: ${LAYER_FILE}`);
}

/** A layer whose files are still in the prefix that it is made of. @throws MountError of kind `busy`. */
export async function refusePending(layer: LayerEntry): Promise<void> {
  const pending = (await manifestOfLayer(layer))?.pending;
  if (pending === undefined) return;
  throw new MountError(
    'busy',
    `layer ${layer.name}: its commit was cut off: \`varve wine commit ${pending.prefix} ${layer.name}\` completes it`,
  );
}

/**
 * SHA-256 over names, types, modes, times, targets, attributes and contents of everything but the manifest: the same for
 * a folder and an image of it, and for whoever owns the files. Hex.
 * @throws TreeError, SysError, ErofsError.
 */
export function digestOf(root: TreeNode): string {
  const hash = createHash('sha256');
  const piece = Buffer.alloc(1024 * 1024);
  walk(root, (path, node) => {
    if (path === `/${INNER}/${BASE_FILE}` || path === `/${INNER}/${LAYER_FILE}`) return;
    const { mode, mtime, mtimeNsec, size, target = '', rdev } = node;
    const isDir = node.entries !== undefined;
    const facts = [path, mode.toString(8), `${mtime}.${mtimeNsec}`, isDir ? 0 : size, rdev, target];
    hash.update(Buffer.from(`${facts.join('\0')}\n`, 'latin1'));
    for (const [name, value] of [...(node.xattrs ?? [])].sort(([a], [b]) => (a < b ? -1 : 1))) {
      // Labels belong to the machine, and overlayfs's own notes to the place.
      if (!name.startsWith('user.') || name.startsWith('user.overlay.')) continue;
      hash.update(Buffer.from(`${name}=${Buffer.from(value).toString('hex')}\n`, 'latin1'));
    }
    hashContent(node, hash, piece);
  });
  return hash.digest('hex');
}

function hashContent(node: TreeNode, hash: Hash, piece: Buffer): void {
  const open = node.content?.open();
  if (open === undefined) return;
  try {
    for (let at = 0; at < node.size; ) {
      const part = piece.subarray(0, Math.min(piece.length, node.size - at));
      open.read(at, part);
      hash.update(part);
      at += part.length;
    }
    open.check?.();
  } finally {
    open.close();
  }
}
