// The mini-initramfs as it is installed: that of the build, and behind it one more archive with its configuration.
// Used by install.ts. The kernel unpacks archives one after the other and the last file of a name stays, so that nothing has to
// be built anew for names that are only known here; a unified kernel image takes the build's own configuration.
// Follows: Documentation/driver-api/early-userspace/buffer-format.rst of Linux 6.18.

import { S } from '../../linux/constants.js';
import { writeCpio } from '../../tree/cpio-write.js';
import { add, makeNode, memoryContent } from '../../tree/tree.js';
import { CONFIG_FILE } from '../config.js';
import type { Bytes } from './publish.js';

/** An archive begins at a multiple of 4; lz4 wants zeros behind its last block. */
const ALIGN = 512;

/** @param mini bytes of the build's, in pieces. @param config text of its configuration. */
export function* withConfig(mini: Bytes, config: string): Bytes {
  let size = 0;
  for (const piece of mini) {
    size += piece.length;
    yield piece;
  }
  yield Buffer.alloc(2 * ALIGN - (size % ALIGN));
  yield configArchive(config);
}

function configArchive(config: string): Buffer {
  const root = makeNode(S.IFDIR | 0o755);
  const etc = makeNode(S.IFDIR | 0o755);
  const content = Buffer.from(config);
  const file = makeNode(S.IFREG | 0o644, { size: content.length, content: memoryContent(content) });
  add(root, 'etc', etc);
  add(etc, CONFIG_FILE, file);
  const pieces: Buffer[] = [];
  writeCpio(root, (piece) => pieces.push(Buffer.from(piece)));
  return Buffer.concat(pieces);
}
