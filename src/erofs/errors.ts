// The one error of images that cannot be read: which structure, which field, at which byte, and why.
// Thrown by every file of this room; a server answers with EUCLEAN or EOPNOTSUPP and logs the message.
// Follows: fs/erofs of Linux 6.18, which answers -EFSCORRUPTED and -EOPNOTSUPP at the same places.

/** Where in an image something is wrong. */
export interface Place {
  /** Name as in erofs_fs.h, for example `erofs_super_block`. */
  readonly structure: string;
  /** Name of the field, for example `i_format`. */
  readonly field: string;
  /** Byte offset in the image, or in the metabox where `metabox` is set. */
  readonly at: number;
  readonly metabox?: boolean;
}

/** A malformed image, or one that uses what this reader does not know. */
export class ErofsError extends Error {
  readonly structure: string;
  readonly field: string;
  /** Byte offset in the image (or in the metabox). */
  readonly at: number;
  /** True when the image may be fine and only newer than this reader. */
  readonly unsupported: boolean;

  /** @param what what is wrong, in a few words that follow the place. */
  constructor(
    place: Place,
    what: string,
    options: { unsupported?: boolean; cause?: unknown } = {},
  ) {
    const space = place.metabox === true ? 'byte of the metabox' : 'byte';
    super(`${place.structure}.${place.field} at ${space} ${place.at}: ${what}`, {
      cause: options.cause,
    });
    this.name = 'ErofsError';
    this.structure = place.structure;
    this.field = place.field;
    this.at = place.at;
    this.unsupported = options.unsupported === true;
  }
}

/** Throws ErofsError: the image is malformed. */
export function corrupt(structure: string, field: string, at: number, what: string): never {
  throw new ErofsError({ structure, field, at }, what);
}

/** Throws ErofsError: the image uses something this reader does not know. */
export function unsupported(structure: string, field: string, at: number, what: string): never {
  throw new ErofsError({ structure, field, at }, what, { unsupported: true });
}
