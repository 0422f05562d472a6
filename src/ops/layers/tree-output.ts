// Where a tree goes: a new directory, an EROFS image, an image of a store, a tar archive. Each appears when it is complete.
// Called by flatten and split; the writers are those of tree/, erofs/ and store/.
// Directories and files come to their names by one rename; a store names an image last.

import { readdirSync, statSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { inPieces } from '../../bytes/pieces.js';
import { writeComposefs } from '../../erofs/composefs.js';
import { buildImage } from '../../erofs/write.js';
import type { BuildOptions } from '../../erofs/write-options.js';
import { ImageFile } from '../../erofs/write-sink.js';
import { S } from '../../linux/constants.js';
import { MountError } from '../../stack/errors.js';
import { addImage } from '../../store/add.js';
import { requireName, requirePlace } from '../../store/images.js';
import { Store } from '../../store/store.js';
import { extractTree } from '../../tree/extract.js';
import { writeTar } from '../../tree/tar-write.js';
import { add, makeNode, remove, type TreeNode, walk } from '../../tree/tree.js';

export type TreeOutput =
  | { readonly kind: 'directory' | 'image' | 'tar'; readonly path: string }
  | { readonly kind: 'store'; readonly path: string; readonly name: string };

/** What was written. */
export interface Written {
  readonly kind: TreeOutput['kind'];
  readonly path: string;
  /** Of files; of directories the file system knows. */
  readonly bytes?: number;
  /** Of a store's image. */
  readonly digest?: string;
  /** What this user may not do, and was left out. */
  readonly warnings: readonly string[];
}

export interface OutputOptions {
  /** Of EROFS images. */
  readonly build?: BuildOptions;
  /** The tree is a layer: what cannot be in an archive goes on hiding what lies below. */
  readonly isLayer?: boolean;
  /** What is going on, for a terminal. */
  readonly onProgress?: (text: string) => void;
}

/**
 * What a person means: `STORE#NAME`, a name that ends in .erofs, .img or .tar, - (tar on standard output), else a directory.
 * @throws MountError when it is there already.
 */
export function outputNamed(into: string, force = false): TreeOutput {
  if (into === '') throw new MountError('option', '--into: is empty: name what is to be made');
  const hash = into.lastIndexOf('#');
  if (hash > 0 && isStore(into.slice(0, hash))) {
    return storeOutput(into.slice(0, hash), into.slice(hash + 1));
  }
  const kind = kindNamed(into);
  if (into === '-') return { kind, path: into };
  const stat = statSync(into, { throwIfNoEntry: false });
  if (stat === undefined) {
    if (statSync(dirname(into), { throwIfNoEntry: false })?.isDirectory() !== true) {
      throw new MountError('layer', `--into: ${dirname(into)}: no such directory: create it first`);
    }
    return { kind, path: into };
  }
  if (!stat.isDirectory()) {
    if (kind !== 'directory' && force && stat.isFile()) return { kind, path: into };
    throw new MountError('option', `--into: ${into}: is there already: name a new file`);
  }
  if (isStore(into)) {
    throw new MountError('option', `--into: ${into}: is a store: write ${into}#NAME`);
  }
  if (kind !== 'directory' || readdirSync(into).length > 0) {
    throw new MountError('option', `--into: ${into}: is there already: name a new directory`);
  }
  return { kind, path: into };
}

function kindNamed(into: string): 'directory' | 'image' | 'tar' {
  if (into === '-' || into.endsWith('.tar')) return 'tar';
  const packed = /\.(?:tar\.\w+|tgz|tzst|txz)$/.exec(into);
  if (packed !== null) {
    throw new MountError(
      'option',
      `--into: ${into}: archives are written uncompressed: write --into - | zstd > ${into}`,
    );
  }
  return /\.(?:erofs|img)$/.test(into) ? 'image' : 'directory';
}

function storeOutput(path: string, name: string): TreeOutput {
  requireName(name);
  requirePlace(new Store(path), name);
  return { kind: 'store', path, name };
}

function isStore(path: string): boolean {
  try {
    return statSync(path).isDirectory() && new Store(path).isRepository;
  } catch {
    return false;
  }
}

/**
 * @param tree is changed: of a store contents become objects, of an archive sockets go.
 * @throws MountError, StoreError, TreeError, SysError, RangeError: then there is nothing under the name.
 */
export async function writeTree(
  tree: TreeNode,
  output: TreeOutput,
  options: OutputOptions = {},
): Promise<Written> {
  const { kind, path } = output;
  switch (output.kind) {
    case 'directory': {
      const warnings = extractTree(tree, path, {
        onProgress: (names) => options.onProgress?.(`${path}: ${names} names`),
      });
      return {
        kind,
        path,
        warnings: warnings.map(({ problem, path: first, count }) =>
          count === 1 ? `${first}: ${problem}` : `${first} and ${count - 1} more: ${problem}`,
        ),
      };
    }
    case 'image': {
      const onProgress: BuildOptions['onProgress'] = (p) =>
        options.onProgress?.(`${path}: ${p.filesDone}/${p.files} files`);
      const { bytes } = await buildImage(tree, { ...options.build, onProgress }, path);
      return { kind, path, bytes, warnings: [] };
    }
    case 'tar': {
      const sockets = leaveSocketsOut(tree, options.isLayer === true);
      const warning = `${sockets} ${sockets === 1 ? 'socket' : 'sockets'} left out: tar holds none`;
      const bytes = path === '-' ? toStdout(tree) : await toTar(tree, path);
      return { kind, path, bytes, warnings: sockets === 0 ? [] : [warning] };
    }
    case 'store': {
      const store = new Store(path);
      const { digest, image } = await addImage(
        store,
        tree,
        (root, sink) => writeComposefs(root, {}, sink),
        {
          name: output.name,
          onProgress: (p) => options.onProgress?.(`${path}: ${p.filesDone}/${p.files} files`),
        },
      );
      return { kind, path, bytes: image.bytes, digest, warnings: [] };
    }
  }
}

/** @param isLayer a whiteout takes the place of each: it may hide something below. @returns how many there were. */
function leaveSocketsOut(tree: TreeNode, isLayer: boolean): number {
  let sockets = 0;
  walk(tree, (_path, node, parent, name) => {
    if (parent === undefined || (node.mode & S.IFMT) !== S.IFSOCK) return;
    remove(parent, name);
    if (isLayer) add(parent, name, makeNode(S.IFCHR));
    sockets++;
  });
  return sockets;
}

/** @param put takes bytes at once. @returns how many there were. */
const archive = (tree: TreeNode, put: (bytes: Uint8Array, at: number) => void): number =>
  inPieces((write) => writeTar(tree, write), put);

function toStdout(tree: TreeNode): number {
  return archive(tree, (bytes) => {
    for (let done = 0; done < bytes.length; ) done += writeSync(1, bytes, done);
  });
}

async function toTar(tree: TreeNode, path: string): Promise<number> {
  const file = new ImageFile(path);
  try {
    const bytes = archive(tree, (part, at) => file.write(at, part));
    await file.publish(bytes);
    return bytes;
  } catch (error) {
    await file.discard();
    throw error;
  }
}
