// What a frozen directory is made into when a commit asks for more: an image, an image of a store, or a copy elsewhere.
// Called by commit.ts once the layer is frozen: nothing in it changes any more, however long this takes.
// Images keep whiteouts and marks as they are: they are layers.

import { writeComposefs } from '../../erofs/composefs.js';
import { buildImage } from '../../erofs/write.js';
import { MountError } from '../../stack/errors.js';
import type { MountSpec } from '../../stack/spec.js';
import { addImage } from '../../store/add.js';
import { requireName, requirePlace } from '../../store/images.js';
import { Store } from '../../store/store.js';
import { extractTree } from '../../tree/extract.js';
import { scan } from '../../tree/scan.js';
import { isWhiteout, show, type TreeNode, walk } from '../../tree/tree.js';
import type { CommitTarget } from './target.js';

export interface BuiltLayer {
  /** What to name as a lowerdir. */
  readonly path: string;
  /** Data-only layer that it needs. */
  readonly objects?: string;
  readonly digest?: string;
  readonly bytes: number;
}

/** Marks without which a layer says something else. */
const MARKS = /^(trusted|user)\.overlay\.(opaque|redirect|metacopy|whiteout)$/;

/**
 * A composefs image is a whole tree: it shows whiteouts and marks to an overlay inside of it, and a stack over it would
 * show again what they hide. @throws MountError.
 */
export function requireNoMarks(root: TreeNode): void {
  walk(root, (path, node) => {
    const marked = isWhiteout(node) || [...(node.xattrs?.keys() ?? [])].some((x) => MARKS.test(x));
    if (!marked) return;
    throw new MountError(
      'option',
      `--into: ${show(path)}: a composefs image cannot say that something was deleted, replaced or renamed: take a directory or an .erofs image`,
    );
  });
}

/** @throws what the writers throw. */
export async function buildLayer(
  frozen: string,
  target: CommitTarget,
  _next: MountSpec,
  onProgress: ((text: string) => void) | undefined,
): Promise<BuiltLayer> {
  const tree = scan(frozen);
  try {
    switch (target.kind) {
      case 'directory': {
        const [warning] = extractTree(tree.root, target.path);
        if (warning !== undefined) {
          throw new MountError('permission', `${warning.path}: ${warning.problem}`);
        }
        return { path: target.path, bytes: 0 };
      }
      case 'image': {
        const report = await buildImage(
          tree.root,
          {
            onProgress: (p) => onProgress?.(`${target.path}: ${p.filesDone}/${p.files} files`),
          },
          target.path,
        );
        return { path: target.path, bytes: report.bytes };
      }
      case 'store': {
        requireNoMarks(tree.root);
        const store = new Store(target.path);
        requireName(target.name);
        requirePlace(store, target.name);
        const report = await addImage(
          store,
          tree.root,
          (root, sink) => writeComposefs(root, { splitLinks: true }, sink),
          { name: target.name },
        );
        return {
          path: `${target.path}/images/${report.digest}`,
          objects: store.objects,
          digest: report.digest,
          bytes: report.image.bytes,
        };
      }
    }
  } finally {
    tree.close();
  }
}
