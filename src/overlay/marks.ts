// The overlay's own xattrs: which there are on an object, what they say, and how users' xattrs of that name are escaped.
// Used by lookup (reading), copy-up and rename (writing) and by the xattr operations (hiding).
// Follows: fs/overlayfs/{namei,util,xattrs}.c and "User xattr"/"Nesting" in Documentation/filesystems/overlayfs.rst.

import type { Layer } from '../layer/layer.js';
import { XATTR_SIZE_MAX } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { u8 } from '../linux/memory.js';
import { constant, XATTR_LIST, XATTR_VALUE } from './work.js';

/** What readMarks() found, as bits. */
export const MARK = {
  OPAQUE: 1,
  REDIRECT: 2,
  METACOPY: 4,
  ORIGIN: 8,
  IMPURE: 16,
  NLINK: 32,
  WHITEOUT: 64,
  /** system.posix_acl_default: new objects may not get the mode they ask for. */
  DEFAULT_ACL: 128,
  /** fuse-overlayfs's own opaque mark. */
  FUSE_OPAQUE: 256,
  /** overlay.opaque is "x": the directory may hold whiteouts in xattr form. */
  XWHITEOUTS: 512,
  /** Varve's own: the inode number, where an origin cannot tell it (own-number.ts). */
  NUMBER: 1024,
} as const;

const SUFFIXES: readonly (readonly [string, number])[] = [
  ['opaque', MARK.OPAQUE],
  ['redirect', MARK.REDIRECT],
  ['metacopy', MARK.METACOPY],
  ['origin', MARK.ORIGIN],
  ['impure', MARK.IMPURE],
  ['nlink', MARK.NLINK],
  ['whiteout', MARK.WHITEOUT],
  ['varve.ino', MARK.NUMBER],
];

const ESCAPE = 'overlay.';

function startsWith(at: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (u8[at + i] !== text.charCodeAt(i)) return false;
  return true;
}

/** The xattr names of one mount: `trusted.overlay.` or `user.overlay.`. */
export class Marks {
  readonly prefix: string;
  readonly opaque: number;
  readonly redirect: number;
  readonly metacopy: number;
  readonly origin: number;
  readonly impure: number;
  readonly nlink: number;
  readonly number: number;
  readonly aclDefault = constant('system.posix_acl_default');
  readonly capability = constant('security.capability');
  private readonly userxattr: boolean;

  constructor(userxattr: boolean) {
    this.userxattr = userxattr;
    this.prefix = userxattr ? 'user.overlay.' : 'trusted.overlay.';
    this.opaque = constant(`${this.prefix}opaque`);
    this.redirect = constant(`${this.prefix}redirect`);
    this.metacopy = constant(`${this.prefix}metacopy`);
    this.origin = constant(`${this.prefix}origin`);
    this.impure = constant(`${this.prefix}impure`);
    this.nlink = constant(`${this.prefix}nlink`);
    this.number = constant(`${this.prefix}varve.ino`);
  }

  /** Which marks `name` in `dir` carries (an empty name: `dir` itself). @returns MARK bits, or -errno. */
  read(layer: Layer, dir: number, name: number): number {
    const length = layer.listxattr(dir, name, XATTR_LIST, XATTR_SIZE_MAX);
    if (length <= 0) return length === -E.OPNOTSUPP || length === -E.NOSYS ? 0 : length;
    let found = 0;
    const end = XATTR_LIST + length;
    for (let at = XATTR_LIST; at < end; ) {
      if (startsWith(at, this.prefix)) {
        const suffix = at + this.prefix.length;
        for (const [text, bit] of SUFFIXES) {
          if (startsWith(suffix, text) && u8[suffix + text.length] === 0) found |= bit;
        }
      } else if (startsWith(at, 'system.posix_acl_default')) {
        found |= MARK.DEFAULT_ACL;
      } else if (this.userxattr && startsWith(at, 'user.fuseoverlayfs.opaque')) {
        found |= MARK.FUSE_OPAQUE;
      }
      while (u8[at] !== 0) at++;
      at++;
    }
    if (found & MARK.OPAQUE) {
      const n = layer.getxattr(dir, name, this.opaque, XATTR_VALUE, 8);
      // "y" is opaque, "x" announces xattr whiteouts; anything else counts for nothing, as in the kernel.
      if (n !== 1 || u8[XATTR_VALUE] !== 0x79) found &= ~MARK.OPAQUE;
      if (n === 1 && u8[XATTR_VALUE] === 0x78) found |= MARK.XWHITEOUTS;
    }
    if (found & MARK.FUSE_OPAQUE) found |= MARK.OPAQUE;
    return found;
  }

  /** Whether an xattr name that a user gave belongs to the overlay (and must be escaped). */
  isOwn(attr: number): boolean {
    return startsWith(attr, this.prefix);
  }

  /** Whether an own-looking name is the escaped form of a user's. */
  isEscaped(attr: number): boolean {
    return startsWith(attr + this.prefix.length, ESCAPE);
  }

  /** Writes the escaped form of an own-looking name to `at`: `trusted.overlay.X` becomes `trusted.overlay.overlay.X`. */
  escape(attr: number, length: number, at: number): number {
    const p = this.prefix.length;
    u8.copyWithin(at, attr, attr + p);
    for (let i = 0; i < ESCAPE.length; i++) u8[at + p + i] = ESCAPE.charCodeAt(i);
    u8.copyWithin(at + p + ESCAPE.length, attr + p, attr + length + 1);
    return length + ESCAPE.length;
  }

  /**
   * Rewrites a list of xattr names in place as a user sees it: own names go, escaped ones lose their escape.
   * @param hideTrusted the caller may not see `trusted.*` (ovl_can_list of fs/overlayfs/xattrs.c)
   * @returns the new length in bytes.
   */
  filterList(
    list: number,
    length: number,
    hideFuseOverlayfs: boolean,
    hideTrusted: boolean,
  ): number {
    let out = list;
    const end = list + length;
    for (let at = list; at < end; ) {
      let stop = at;
      while (u8[stop] !== 0) stop++;
      const size = stop - at + 1;
      if (hideTrusted && startsWith(at, 'trusted.')) {
        at = stop + 1;
        continue;
      }
      if (startsWith(at, this.prefix)) {
        const p = this.prefix.length;
        if (startsWith(at + p, ESCAPE)) {
          u8.copyWithin(out, at, at + p);
          u8.copyWithin(out + p, at + p + ESCAPE.length, stop + 1);
          out += size - ESCAPE.length;
        }
      } else if (!(hideFuseOverlayfs && startsWith(at, 'user.fuseoverlayfs.'))) {
        u8.copyWithin(out, at, stop + 1);
        out += size;
      }
      at = stop + 1;
    }
    return out - list;
  }
}
