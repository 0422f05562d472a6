// Paths in a tree, taken apart and put together as text: relative, without a leading slash, the root is ''.
// Used by everything that knows objects by path: union/, ops/, stack/discard.ts.
// Bytes as latin1: `.` and `..` mean nothing here.

export const join = (directory: string, name: string): string =>
  directory === '' ? name : `${directory}/${name}`;

/** The directory that an object lies in; of the root: the root. */
export const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/')));

/** The last name of a path. */
export const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
