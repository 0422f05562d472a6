// A mount as data: what the command line understood, what the supervisor keeps, what the server starts from (JSON).
// Made by stack/options.ts, read by stack/open.ts (layers and overlay) and stack/server.ts (session).
// Options follow Documentation/filesystems/overlayfs.rst and the manual page fuse-overlayfs(1).

import type { LoadPolicy } from '../lazy/protocol.js';

/** One range of a uid or gid mapping: `count` ids from `inside` (as seen on the mount) to `outside` (on disk). */
export interface IdRange {
  readonly inside: number;
  readonly outside: number;
  readonly count: number;
}

/** A composefs image to be served by FUSE. Plain JSON. */
export interface ComposefsSpec {
  /** Path of the image file, absolute. */
  readonly image: string;
  /** Object directories, absolute, first looked in first. */
  readonly objects: readonly string[];
  /** `metadata`: for a kernel overlayfs on top; `follow`: with content. */
  readonly serve: 'metadata' | 'follow';
  /** follow: objects are compared with their digests when they are opened. */
  readonly verify: boolean;
  /** fs-verity digest that the image must have: hex, 64 digits (SHA-256) or 128 (SHA-512). */
  readonly digest?: string;
}

/** A filesystem of layers that are found when they are asked for: an additional layer store of podman. Plain JSON. */
export interface LayerStoreSpec {
  /** Folder of the image store, absolute. */
  readonly store: string;
  readonly plainHttp: boolean;
  readonly authFile?: string;
  /** The only policy.json: absolute. Also what is here already is held to it. */
  readonly policyFile?: string;
  /** Indexes that lie beside images are believed: see PullOptions.index of lazy/pull/. */
  readonly trustIndex: boolean;
}

/** How a mounted stack behaves; absent keys mean the documented default. Plain JSON. */
export interface MountSpec {
  /** Absolute path of the mount point. */
  readonly mountpoint: string;
  /** Absolute paths, topmost first. */
  readonly lowerdirs: readonly string[];
  /** Data-only layers (after `::`), topmost first. */
  readonly datadirs: readonly string[];
  /** Further devices of the images, absolute; see devicesOfImages(). */
  readonly devices: readonly string[];
  /** `sha256:HEX`: every image and further device has one of these, if any is named. */
  readonly digests: readonly string[];
  readonly upperdir?: string;
  readonly workdir?: string;

  /** Default `on`: directories of lowers are renamed by a redirect. */
  readonly redirectDir: 'on' | 'off' | 'follow' | 'nofollow';
  /** Default false: a metadata change copies the data up too. */
  readonly metacopy: boolean;
  /** Default true: hard links of lowers stay hard links after copy-up. */
  readonly index: boolean;
  /** Taken by the kernel's overlayfs only. */
  readonly xino: 'on' | 'off' | 'auto';
  /** Inode numbers of 32 bits. */
  readonly ino32: boolean;
  readonly uuid: 'on' | 'off' | 'auto' | 'null';
  readonly volatile: boolean;
  /** `user.overlay.*` instead of `trusted.overlay.*`; always so without CAP_SYS_ADMIN in the initial namespace. */
  readonly userxattr: boolean;
  /** `aufs`: `.wh.NAME` files and `.wh..wh..opq` are whiteouts too. */
  readonly whiteouts: 'kernel' | 'aufs';
  readonly nfsExport: boolean;

  readonly uidMapping: readonly IdRange[];
  readonly gidMapping: readonly IdRange[];
  /** Every file appears to belong to this uid. */
  readonly squashUid?: number;
  readonly squashGid?: number;
  /** Directories report nlink 1. */
  readonly staticNlink: boolean;
  readonly acl: boolean;
  /** false: fsync is answered without doing it. */
  readonly fsync: boolean;
  readonly xattrs: boolean;
  /** 1: mode and owner live in `security.fuseoverlayfs.override_stat`, 2: `user.fuseoverlayfs.override_stat`. */
  readonly xattrPermissions: 0 | 1 | 2;

  /** Seconds the kernel may keep names and attributes. */
  readonly timeout: number;
  /** undefined: writeback cache where passthrough is not permitted. */
  readonly writeback?: boolean;
  readonly allowOther: boolean;
  readonly defaultPermissions: boolean;
  readonly readOnly: boolean;
  readonly nosuid: boolean;
  readonly nodev: boolean;
  readonly noexec: boolean;
  readonly noatime: boolean;
  /** SELinux label for the whole mount. */
  readonly context?: string;
  readonly fsname: string;
  readonly subtype: string;
  /** The one layer is an image, and is shown as it is: whiteouts and marks mean nothing. */
  readonly raw: boolean;
  /** The one layer is a composefs image, the data-only layers are its objects. */
  readonly composefs?: ComposefsSpec;
  /** How layers of an image store are loaded that are not complete. */
  readonly load?: LoadPolicy;
  /** No stack: the layers of many images, each by itself. The one layer is the image store's folder. */
  readonly layerStore?: LayerStoreSpec;
  /** A lower that is being detached: its path, and its place counted from the bottom of the lowers, from 1. */
  readonly detaching?: { readonly lower: string; readonly place: number };
  /** Heights (overlay/heights.ts) of layers that were detached since the stack was mounted, ascending. */
  readonly gone?: readonly number[];
  /** Print every request, readable, to the server's log. */
  readonly trace: boolean;
}
