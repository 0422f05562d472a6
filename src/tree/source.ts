// A tree from whatever a person names: a folder, an archive of some kind, a dump, or one of the latter on standard input.
// Called by `image build`. What is excluded is left out whatever the source.
// Names are looked up as everywhere: symlinks on the way to the source are followed, none in it.

import { closeSync, openSync, statSync } from 'node:fs';
import { mapMemory } from '../linux/memory.js';
import { readArchive } from './archive.js';
import type { Excludes } from './exclude.js';
import { scan } from './scan.js';
import { remove, type SourceTree, type TreeNode, walk } from './tree.js';

export interface SourceOptions {
  readonly excludes?: Excludes;
  /** Directories of other file systems become empty ones; for folders. */
  readonly oneFileSystem?: boolean;
  /** As ScanOptions has it; for folders. */
  readonly repeatedXattrs?: boolean;
  /** Told the number of names so far, now and then. */
  readonly onProgress?: (names: number) => void;
}

/**
 * @param path `-`: standard input.
 * @throws TreeError, SysError or the error of node:fs when it cannot be read or is nothing that is known.
 */
export function openTreeSource(path: string, options: SourceOptions = {}): SourceTree {
  mapMemory();
  const { excludes, oneFileSystem, repeatedXattrs, onProgress } = options;
  const isInput = path === '-';
  if (!isInput && statSync(path).isDirectory()) {
    return scan(path, { excludes, oneFileSystem, repeatedXattrs, onProgress });
  }
  const fd = isInput ? 0 : openSync(path, 'r');
  const closeFile = () => {
    if (!isInput) closeSync(fd);
  };
  try {
    const source = readArchive(fd, { name: isInput ? 'standard input' : path, onProgress });
    if (excludes !== undefined) leaveOut(source.root, excludes);
    return {
      root: source.root,
      kind: source.kind,
      close: () => {
        source.close();
        closeFile();
      },
    };
  } catch (error) {
    closeFile();
    throw error;
  }
}

/** Takes out of a tree what is not wanted. */
function leaveOut(root: TreeNode, excludes: Excludes): void {
  walk(root, (path, node, parent, name) => {
    if (parent === undefined || !excludes(path.slice(1), node.entries !== undefined)) return true;
    remove(parent, name);
    return false;
  });
}
