// A layer as data: single objects by path, without a server and without reading what nobody asks for.
// Made by directory-view.ts and image-view.ts; union.ts stacks them, changes.ts walks the topmost.
// Paths and names are bytes, one code unit a byte (latin1), relative, without a leading slash; the root is ''.

import type { TreeNode } from '../tree/tree.js';

/** Which xattrs are overlayfs's own. */
export type MarkPrefix = 'trusted.overlay.' | 'user.overlay.';

/** What lies at a path of one layer, marks included. */
export interface Seen {
  /** Of directories `entries` is empty: LayerView.list() tells them. `content` can be opened until the view is closed. */
  readonly node: TreeNode;
  /** Of the object inside this view: hard links have the same. */
  readonly id: string;
  /** st_nlink. */
  readonly links: number;
}

export interface LayerView {
  /** What to call it in messages: the path as given. */
  readonly label: string;
  readonly marks: MarkPrefix;
  /** undefined: nothing there; no symlink on the way is followed. @throws SysError, TreeError, ErofsError. */
  look(path: string): Seen | undefined;
  /** Names of a directory in byte order; empty when it is gone or none. @throws as look(). */
  list(path: string): string[];
  /**
   * File handle of an object as an origin mark holds it after its 21 bytes of head: type in `type`, bytes in `handle`.
   * undefined: the layer has none, or this user may not ask.
   */
  handle(path: string): Handle | undefined;
  /**
   * The id of what a handle names, which need not be in this layer, but on its filesystem. undefined: nobody knows, or this
   * user may not ask.
   */
  named?(handle: Handle): string | undefined;
  /**
   * All paths of objects that are no directories, by the id of Seen. Reads every directory of the layer; absent where
   * nothing has several names. @throws as look().
   */
  namesOf?(ids: ReadonlySet<string>): Map<string, string[]>;
  close(): void;
}

export interface Handle {
  readonly type: number;
  readonly bytes: Uint8Array;
  /** Of the filesystem, 16 bytes; absent or zeros where nobody knows it. */
  readonly uuid?: Uint8Array;
}
