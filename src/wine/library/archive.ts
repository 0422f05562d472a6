// An archive as a base or a layer: what export.ts writes, or a prefix that somebody has packed with tar.
// Called by base.ts and import.ts; whiteouts of OCI layers become those of overlayfs.
// The drive_c is the root of the archive, or stands beside the .reg files at its top or in its only folder.

import { S } from '../../linux/constants.js';
import { MountError } from '../../stack/errors.js';
import { readContent } from '../../tree/read-content.js';
import { openTreeSource } from '../../tree/source.js';
import { isDirectory, type TreeNode } from '../../tree/tree.js';
import { fromOciForm } from '../../union/oci-form.js';
import { TIMESTAMP } from '../prefix/materialise.js';
import { fileOf, HIVES } from '../registry/hive.js';
import { type OpenForm, putBeside } from './form.js';

/** @throws MountError, TreeError, SysError. */
export function openArchiveForm(file: string): OpenForm {
  const tree = openTreeSource(file);
  try {
    fromOciForm(tree.root, ['trusted.overlay.', 'user.overlay.']);
    return { root: prefixIn(tree.root) ?? tree.root, close: () => tree.close() };
  } catch (error) {
    tree.close();
    throw error;
  }
}

/** The drive_c of a packed prefix, with its registry in `.wine`; undefined: it is none. */
function prefixIn(root: TreeNode): TreeNode | undefined {
  const [only] = root.entries?.values() ?? [];
  const isNested = root.entries?.size === 1 && only !== undefined && isDirectory(only);
  for (const top of isNested ? [root, only] : [root]) {
    const driveC = top.entries?.get('drive_c');
    if (driveC === undefined) continue;
    if (!isDirectory(driveC)) {
      throw new MountError(
        'layer',
        'drive_c of the archive is no directory: pack the prefix itself',
      );
    }
    const beside = new Map<string, Uint8Array>();
    for (const name of [...HIVES.map(fileOf), TIMESTAMP]) {
      const node = top.entries?.get(name);
      if (node !== undefined && (node.mode & S.IFMT) === S.IFREG)
        beside.set(name, readContent(node));
    }
    if (beside.size === 0) continue;
    putBeside(driveC, beside);
    return driveC;
  }
  return undefined;
}
