// Some layers of a stack become one layer that can stand in their place: whiteouts, opaque marks and redirects stay.
// Used by flatten --keep-whiteouts, and by apply where several layers lie above the one that it changes.
// What lies below is asked for through a layer that has every directory: where it is merged, something may show through.

import { S } from '../../linux/constants.js';
import { TreeError } from '../../tree/errors.js';
import { join } from '../../tree/path.js';
import { add, find, isDirectory, makeNode, show, type TreeNode, walk } from '../../tree/tree.js';
import { escaped } from '../../union/marks.js';
import { type Place, Union, type UnionOptions } from '../../union/union.js';
import type { LayerView, MarkPrefix, Seen } from '../../union/view.js';

export interface MergeOptions extends UnionOptions {
  /** Under which names marks are written. */
  readonly marks: MarkPrefix;
  /** What the result is put over, where that is known; default: any layers. */
  readonly below?: LayerView;
}

/**
 * @param layers topmost first. @param data data-only layers.
 * @returns the root of a layer that shows over whatever lies below what the layers show over it.
 * @throws TreeError for a file without its data, which may lie in several places.
 */
export function mergeLayers(
  layers: readonly LayerView[],
  data: readonly LayerView[],
  options: MergeOptions,
): TreeNode {
  return new Merge(layers, data, options).run();
}

const ANY_DIRECTORY: Seen = { node: makeNode(S.IFDIR | 0o755), id: '', links: 2 };

/** A layer that has a directory at every path, and tells the entries of none. */
function everything(marks: MarkPrefix): LayerView {
  return {
    label: '',
    marks,
    look: () => ANY_DIRECTORY,
    list: () => [],
    handle: () => undefined,
    namesOf: () => new Map(),
    close: () => {},
  };
}

class Merge {
  readonly #union: Union;
  readonly #below: number;
  readonly #options: MergeOptions;
  readonly #linked = new Map<string, TreeNode>();

  constructor(layers: readonly LayerView[], data: readonly LayerView[], options: MergeOptions) {
    const below = options.below ?? everything(options.marks);
    this.#union = new Union([...layers, below], data, options);
    this.#below = layers.length;
    this.#options = options;
  }

  run(): TreeNode {
    const root = this.#union.root();
    const top = this.#node(root);
    const pending: [Place, TreeNode][] = [[root, top]];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const [directory, dir] = next;
      for (const name of this.#names(directory)) {
        const place = this.#union.enter(directory, name);
        if (place === undefined) {
          // Where nothing shows through there is nothing to hide.
          if (this.#shown(directory) !== undefined) add(dir, name, makeNode(S.IFCHR));
        } else if (place.spots[0].layer === this.#below) {
          // A name of aufs whiteouts alone, or one that vanished meanwhile.
        } else if (isDirectory(place.seen.node)) {
          const node = this.#directory(directory, place, name);
          add(dir, name, node);
          pending.push([place, node]);
        } else add(dir, name, this.#object(place));
      }
    }
    return top;
  }

  #names(directory: Place): string[] {
    const names = new Set<string>();
    for (const { layer, at } of directory.spots) {
      for (const name of this.#union.layers[layer]?.list(at) ?? []) {
        if (this.#options.aufs !== true || !name.startsWith('.wh.')) names.add(name);
        else if (name !== '.wh..wh..opq') names.add(name.slice(4));
      }
    }
    return [...names].sort();
  }

  /** Where in the layers below a directory is that shows through; undefined: none does. */
  #shown(directory: Place): string | undefined {
    return directory.spots.find(({ layer }) => layer === this.#below)?.at;
  }

  #directory(parent: Place, place: Place, name: string): TreeNode {
    const node = this.#node(place);
    const above = this.#shown(parent);
    const natural = above === undefined ? undefined : join(above, name);
    const shown = this.#shown(place);
    if (shown === natural) return node;
    const { marks } = this.#options;
    const mark: [string, Uint8Array] =
      shown === undefined
        ? [`${marks}opaque`, Buffer.from('y')]
        : [`${marks}redirect`, Buffer.from(`/${shown}`, 'latin1')];
    node.xattrs = new Map([...(node.xattrs ?? []), mark].sort(([a], [b]) => (a < b ? -1 : 1)));
    return node;
  }

  #object(place: Place): TreeNode {
    const id = place.seen.links > 1 ? this.#union.identity(place) : '';
    const known = this.#linked.get(id);
    if (known !== undefined) return known;
    if (place.marks.metacopy && place.data === undefined && place.seen.node.size > 0) {
      throw new TreeError(
        `${show(place.path)}: only its metadata is in these layers: name the layer that has its data as well`,
      );
    }
    const node = this.#node(place);
    if (id !== '') this.#linked.set(id, node);
    return node;
  }

  /** As the union shows it, so that a layer shows the same. */
  #node(place: Place): TreeNode {
    const node = this.#union.node(place);
    node.xattrs = escaped(node.xattrs, this.#options.marks);
    return node;
  }
}

/** A tree as a layer. */
export function viewTree(root: TreeNode, label: string, marks: MarkPrefix): LayerView {
  const ids = new Map<TreeNode, string>();
  const idOf = (node: TreeNode): string => {
    const known = ids.get(node);
    if (known !== undefined) return known;
    const id = String(ids.size);
    ids.set(node, id);
    return id;
  };
  return {
    label,
    marks,
    look(path) {
      const node = lookIn(root, path);
      return node && { node, id: idOf(node), links: node.links };
    },
    list: (path) => [...(lookIn(root, path)?.entries?.keys() ?? [])].sort(),
    handle: () => undefined,
    namesOf(wanted) {
      const names = new Map<string, string[]>();
      walk(root, (path, node) => {
        const id = idOf(node);
        if (node.entries !== undefined || !wanted.has(id)) return;
        names.set(id, [...(names.get(id) ?? []), path.slice(1)]);
      });
      return names;
    },
    close: () => {},
  };
}

function lookIn(root: TreeNode, path: string): TreeNode | undefined {
  return find(root, path);
}
