// What an overlay is made of: its layers and the options that change its behaviour.
// Filled by stack/open.ts; read-only afterwards.
// Option names and defaults: stack/spec.ts; meaning: Documentation/filesystems/overlayfs.rst.

import type { Layer, UpperLayer } from '../layer/layer.js';

export interface IdMap {
  /** From the id on disk to the id shown. */
  show(id: number): number;
  /** From the id shown to the id on disk. */
  store(id: number): number;
}

/** A lower whose content is on its way into the upper (fill.ts). */
export interface Detaching {
  /** Its index. */
  readonly index: number;
  /** Called once, when all of it is there. */
  done(): void;
}

export interface OverlayConfig {
  /** Topmost first; absent: a read-only overlay. */
  readonly upper: UpperLayer | undefined;
  /** Topmost first; their index is 1 + position. */
  readonly lowers: readonly Layer[];
  /** Data-only layers; searched for the content of metacopy files with an absolute redirect. */
  readonly dataLayers: readonly Layer[];
  /** Descriptor of `workdir/work`, and of `workdir/index` when hard links are indexed. */
  readonly workFd: number;
  readonly indexFd: number;

  /** Follow redirects of directories in lowers and the upper. */
  readonly redirectFollow: boolean;
  /** Make redirects, so that directories of lowers can be renamed. */
  readonly redirectCreate: boolean;
  readonly metacopy: boolean;
  readonly userxattr: boolean;
  /** `.wh.` names are whiteouts too. */
  readonly aufsWhiteouts: boolean;
  /** Whether a staged copy is synced before it is published. */
  readonly sync: boolean;
  /** Whether fsync and syncfs do anything. */
  readonly fsync: boolean;
  readonly xattrs: boolean;
  readonly staticNlink: boolean;
  /** What is shown of inode numbers is folded to 32 bits; here they have 64. */
  readonly ino32: boolean;
  readonly uids: IdMap | undefined;
  readonly gids: IdMap | undefined;
  readonly squashUid: number | undefined;
  readonly squashGid: number | undefined;
  /** The server may change owners (root, or root of its user namespace). */
  readonly privileged: boolean;
  /** Passthrough for files of the upper, and of lowers when there is no upper. */
  readonly passthrough: boolean;
  /** File handles outlive the server: nodeids are inode numbers. */
  readonly nfsExport: boolean;
  /** Heights (heights.ts) of layers that are in the stack no more, ascending. */
  readonly gone: readonly number[];
  /** A lower that is being detached. */
  readonly detaching: Detaching | undefined;
  /** Name of the xattr that keeps mode and owner, or undefined. */
  readonly overrideStat: string | undefined;
}
