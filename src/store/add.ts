// A tree becomes an image of a store: its files objects, its metadata an image that is an object too, with a link and a name.
// Called by `store add`. The name appears last, by a rename, when all that it needs is on disk.
// Follows: the layout of images.ts; what writes the image is handed in (erofs/composefs.ts).

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { S } from '../linux/constants.js';
import { errnoName, SysError } from '../linux/errno.js';
import { fsync, Statx, statAt, statBuffer, syncfs } from '../linux/files.js';
import { getU64, mapMemory, putBytes, scratch } from '../linux/memory.js';
import { show, type TreeNode, walk } from '../tree/tree.js';
import { DigestSet } from './digest-set.js';
import { StoreError } from './errors.js';
import { publishImage, requireName } from './images.js';
import { type IngestOptions, type IngestStats, ingestTree } from './ingest.js';
import { ObjectWriter, PRESENT } from './object-writer.js';
import { digestOfPath, Objects, objectPath } from './objects.js';
import type { Store } from './store.js';

/** What an image writer tells. */
export interface ImageReport {
  readonly version: number;
  readonly inodes: number;
  readonly bytes: number;
}

export type WriteImage = (tree: TreeNode, sink: (bytes: Uint8Array) => void) => ImageReport;

export interface AddOptions extends IngestOptions {
  readonly name?: string;
  /** Contents of the tree stay in the image, as those of a dump do. */
  readonly keepContent?: boolean;
}

export interface AddReport {
  /** Of the image. */
  readonly digest: string;
  /** The store had the image. */
  readonly known: boolean;
  readonly image: ImageReport;
  readonly files: IngestStats;
}

/** Scratch for a path, above the fixed places of src/linux. */
const PATH_AT = 0x1000;

/**
 * @param tree is changed: contents become objects.
 * @throws StoreError, TreeError when the source changes, SysError; the store is as before, but for objects that nobody needs.
 */
export async function addImage(
  store: Store,
  tree: TreeNode,
  write: WriteImage,
  options: AddOptions = {},
): Promise<AddReport> {
  store.requireWritable();
  if (options.name !== undefined) requireName(options.name);
  if (store.algorithm !== 'sha256') {
    throw new StoreError(
      'store',
      `${store.path}: its objects are named by SHA-512, images by SHA-256 are what is written: make another store by \`varve store init\``,
    );
  }
  mapMemory();
  const lock = store.lock(true);
  const objects = new Objects(store.objects);
  try {
    const files =
      options.keepContent === true
        ? countFiles(tree)
        : await ingestTree(tree, store.objects, { verity: store.hasVerity, ...options });
    requireObjects(objects, tree);
    const added = addImageObject(store, objects, (sink) => write(tree, sink));
    // The names of objects are on disk before that of the image.
    const r = syncfs(objects.fd);
    if (r < 0) throw new SysError('sync', r, store.path);
    publishImage(store, added.digest, options.name);
    return { ...added, files };
  } finally {
    objects.close();
    lock.release();
  }
}

function addImageObject(
  store: Store,
  objects: Objects,
  write: (sink: (bytes: Uint8Array) => void) => ImageReport,
): { digest: string; known: boolean; image: ImageReport } {
  const writer = new ObjectWriter(objects.fd, {
    algorithm: store.algorithm,
    verity: store.hasVerity,
    seen: new DigestSet(DigestSet.memory(1, 32)),
    token: randomBytes(6).toString('hex'),
    thread: 0,
  });
  let image: ImageReport | undefined;
  const fd = writer.takeStream((sink) => {
    image = write(sink);
  });
  const digest = writer.digest.toString('hex');
  const named = fd >= 0 ? nameSynced(writer, fd, digest) : fd;
  if (named < 0 && named !== PRESENT) {
    throw new StoreError('store', `${store.path}: cannot store the image: ${errnoName(named)}`, {
      cause: new SysError('store', named),
    });
  }
  return { digest, known: named !== 0, image: image as ImageReport };
}

function nameSynced(writer: ObjectWriter, fd: number, digest: string): number {
  const { temporary } = writer;
  const r = fsync(fd);
  if (r >= 0) return writer.name(fd, temporary, digest);
  writer.drop(fd, temporary);
  return r;
}

/** Files of a tree whose content stays where it is. */
function countFiles(root: TreeNode): IngestStats {
  const stats = { files: 0, bytes: 0, inlineFiles: 0, newObjects: 0, newBytes: 0 };
  const seen = new Set<TreeNode>();
  walk(root, (_path, node) => {
    if ((node.mode & S.IFMT) !== S.IFREG || seen.has(node)) return;
    if (node.links > 1) seen.add(node);
    stats.files++;
    stats.bytes += node.size;
    if (node.backing === undefined) stats.inlineFiles++;
  });
  return stats;
}

/** A store never has an image whose objects it lacks. */
function requireObjects(objects: Objects, root: TreeNode): void {
  walk(root, (path, { mode: type, content, backing, digest, size }) => {
    if (backing === undefined) {
      if ((type & S.IFMT) !== S.IFREG || size === 0 || content !== undefined) return;
      throw new StoreError(
        'store',
        `${show(path)}: has ${size} bytes, and nothing says which object they are: name it in PAYLOAD`,
      );
    }
    const hex = digestOfPath(backing.path);
    if (hex === undefined) {
      throw new StoreError(
        'store',
        `${show(path)}: its content is said to be in ${show(backing.path)}, which names no object of a store`,
      );
    }
    if (digest !== undefined && digest !== hex) {
      throw new StoreError('store', `${show(path)}: its digest is ${digest}, its object ${hex}`);
    }
    putBytes(scratch + PATH_AT, objectPath(hex));
    const mode = statAt(objects.fd, scratch + PATH_AT);
    const where = join(objects.path, objectPath(hex));
    if (mode < 0) {
      throw new StoreError(
        'store',
        `${show(path)}: its object ${where} is missing (${errnoName(mode)}): add the files first`,
      );
    }
    const found = getU64(statBuffer() + Statx.size);
    if ((mode & S.IFMT) === S.IFREG && found === size) return;
    throw new StoreError('store', `${show(path)}: has ${size} bytes, its object ${where} ${found}`);
  });
}
