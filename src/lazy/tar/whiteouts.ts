// The tree of a tar layer becomes one of overlayfs: `.wh.` files become whiteouts and opaque marks, marks of its own none.
// Called for every tar layer, whatever its tree was made from; the tree is changed in place.
// Follows: OCI image-spec v1.1, layer.md, "Whiteouts"; Documentation/filesystems/overlayfs.rst, "Nesting".

import { S } from '../../linux/constants.js';
import { add, makeNode, nameProblem, remove, type TreeNode, walk } from '../../tree/tree.js';

const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';
/**
 * The marks of such layers, whoever pulls them (layer-folder.ts, hasTrustedMarks): kernel overlayfs hides the marks of its own
 * namespace, and shows and copies up those of the other one. Where the stack's are `user.overlay.*` servers show these so.
 */
const PREFIX = 'trusted.overlay.';

/** Of a member's name, without its folders. */
export const isWhiteout = (name: string): boolean => name.startsWith(WHITEOUT);

export function applyWhiteouts(root: TreeNode): void {
  const seen = new Set<TreeNode>();
  walk(root, (_path, node, parent, name) => {
    // A layer must not tell the overlay on top of it what to do.
    if (!seen.has(node)) node.xattrs = escapeMarks(node.xattrs);
    seen.add(node);
    if (parent === undefined || !isWhiteout(name)) return true;
    remove(parent, name);
    if (name === OPAQUE) makeOpaque(parent, seen);
    // Others of the kind `.wh..wh.` are aufs's own, and mean nothing here.
    else if (!name.startsWith(WHITEOUT + WHITEOUT)) hide(parent, name.slice(WHITEOUT.length), seen);
    return false;
  });
}

/** What is below the name in lower layers is hidden; what this layer has of that name stays. */
function hide(dir: TreeNode, name: string, seen: Set<TreeNode>): void {
  const there = dir.entries?.get(name);
  if (there?.entries !== undefined) makeOpaque(there, seen);
  else if (there === undefined && nameProblem(name) === undefined)
    add(dir, name, makeNode(S.IFCHR));
}

function makeOpaque(dir: TreeNode, seen: Set<TreeNode>): void {
  const own = seen.has(dir) ? dir.xattrs : escapeMarks(dir.xattrs);
  seen.add(dir);
  dir.xattrs = sorted([...(own ?? []), [`${PREFIX}opaque`, Buffer.from('y')]]);
}

type Xattrs = TreeNode['xattrs'];

function escapeMarks(xattrs: Xattrs): Xattrs {
  if (xattrs === undefined) return undefined;
  if (![...xattrs.keys()].some((name) => name.startsWith(PREFIX))) return xattrs;
  return sorted(
    [...xattrs].map(([name, value]) => {
      const isMark = name.startsWith(PREFIX);
      return [isMark ? `${PREFIX}overlay.${name.slice(PREFIX.length)}` : name, value];
    }),
  );
}

const sorted = (xattrs: (readonly [string, Uint8Array])[]): Map<string, Uint8Array> =>
  new Map(xattrs.sort(([a], [b]) => (a < b ? -1 : 1)));
