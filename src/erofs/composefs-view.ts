// What of an image is shown, and under which names: as it is, to a kernel overlayfs on top, or as the finished tree.
// Used by image-filesystem.ts for every extended attribute and every name; pure functions of names (Latin-1) and modes.
// Follows: fs/overlayfs/xattrs.c of Linux 6.18 for escapes, fs/xattr.c xattr_permission() for what can be read at all.

import { S } from '../linux/constants.js';
import { OVERLAY as TRUSTED, USER } from './composefs-marks.js';

export interface ImageView {
  /** Whiteouts (character devices 0/0) do not exist. */
  readonly hidesWhiteouts: boolean;
  /**
   * @param mode of the inode.
   * @returns the name under which an attribute of the image is listed, undefined: it is not.
   */
  shown(name: string, mode: number): string | undefined;
  /** @returns the name in the image of what is asked for by a name that shown() may have given. */
  stored(name: string): string;
}

/** Behind one of the two: the attribute belongs to a layer, not to the overlay that is mounted. */
const ESCAPE = 'overlay.';
const XATTR_NAME_MAX = 255;

/** The VFS answers ENODATA for `user.*` of other types, whatever the filesystem has. */
function hasUserXattrs(mode: number): boolean {
  const type = mode & S.IFMT;
  return type === S.IFREG || type === S.IFDIR;
}

/** A name that can be asked for, or undefined. */
function readable(name: string, mode: number): string | undefined {
  if (name.length > XATTR_NAME_MAX) return undefined;
  return name.startsWith('user.') && !hasUserXattrs(mode) ? undefined : name;
}

/** As it is. */
export const RAW: ImageView = {
  hidesWhiteouts: false,
  shown: (name) => name,
  stored: (name) => name,
};

/**
 * For a kernel overlayfs with `userxattr` on top, which takes `user.overlay.X` as its own marks and undoes one escape of
 * `user.overlay.overlay.X`. An escaped trusted mark of the image is nobody's mark there, so its escape is undone here.
 *
 * | image                     | here                     | seen through the overlay |
 * |---------------------------|--------------------------|--------------------------|
 * | trusted.overlay.X         | user.overlay.X           | (a mark)                 |
 * | trusted.overlay.overlay.X | trusted.overlay.X        | trusted.overlay.X        |
 * | user.overlay.X            | user.overlay.overlay.X   | user.overlay.X           |
 */
export const METADATA: ImageView = {
  hidesWhiteouts: false,
  shown(name, mode) {
    let shown = name;
    if (name.startsWith(TRUSTED)) {
      const rest = name.slice(TRUSTED.length);
      shown = rest.startsWith(ESCAPE) ? TRUSTED + rest.slice(ESCAPE.length) : USER + rest;
    } else if (name.startsWith(USER)) {
      shown = USER + ESCAPE + name.slice(USER.length);
    }
    return readable(shown, mode);
  },
  stored(name) {
    if (name.startsWith(TRUSTED)) return TRUSTED + ESCAPE + name.slice(TRUSTED.length);
    if (!name.startsWith(USER)) return name;
    const rest = name.slice(USER.length);
    return rest.startsWith(ESCAPE) ? USER + rest.slice(ESCAPE.length) : TRUSTED + rest;
  },
};

/** The finished tree, as the kernel's own mount of a composefs image shows it. */
export const FOLLOW: ImageView = {
  hidesWhiteouts: true,
  shown(name, mode) {
    if (!name.startsWith(TRUSTED)) return readable(name, mode);
    const rest = name.slice(TRUSTED.length);
    return rest.startsWith(ESCAPE) ? TRUSTED + rest.slice(ESCAPE.length) : undefined;
  },
  stored(name) {
    return name.startsWith(TRUSTED) ? TRUSTED + ESCAPE + name.slice(TRUSTED.length) : name;
  },
};
