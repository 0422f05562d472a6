// A stack becomes one tree: what it shows, or, of some of its layers, one layer that can stand in their place.
// Called by `varve flatten`; the tree is written by tree-output.ts while the layers are open.
// Attributes that look like marks are escaped, so that the result shows the same as a layer.

import { type TreeNode, walk } from '../../tree/tree.js';
import { unionTree } from '../../union/flat.js';
import { escaped } from '../../union/marks.js';
import { asUnion, type OpenLayers } from '../open-stack.js';
import { mergeLayers } from './merge.js';

export interface FlattenOptions {
  /** The layers are to be put over others: whiteouts, opaque marks and redirects stay. */
  readonly keepWhiteouts?: boolean;
}

/** @throws SysError, TreeError, ErofsError. */
export function flatten(opened: OpenLayers, options: FlattenOptions = {}): TreeNode {
  const { layers, data, marks } = opened;
  if (options.keepWhiteouts === true) return mergeLayers(layers, data, opened);
  const root = unionTree(asUnion(opened));
  const done = new Set<TreeNode>();
  walk(root, (_path, node) => {
    if (done.has(node)) return;
    node.xattrs = escaped(node.xattrs, marks);
    if (node.links > 1) done.add(node);
  });
  return root;
}
