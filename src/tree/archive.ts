// A tree from an archive of any kind, which its first bytes tell: tar, cpio, or a composefs dump.
// Called by source, for files and for standard input: nothing is read twice, so a pipe will do.
// Names of files tell nothing here.

import { type ArchiveOptions, openArchive } from './archive-input.js';
import { readCpioParts } from './cpio-read.js';
import { readDump } from './dump-read.js';
import { TreeError } from './errors.js';
import { looksLikeHeader } from './tar-header.js';
import { readTarMembers } from './tar-read.js';
import type { SourceTree } from './tree.js';
import type { Window } from './window.js';

type ArchiveKind = 'tar' | 'cpio' | 'dump';

/** Bytes of a dump, which is text and held in memory while it is read. */
const DUMP_MAX = 1024 * 1024 * 1024;

/**
 * Reads what `fd` holds; compressed by gzip, zstd, xz, lzma or lz4, or not. The descriptor stays the caller's and must
 * stay open until the tree is closed.
 * @throws TreeError, also when it is nothing that is known.
 */
export function readArchive(fd: number, options: ArchiveOptions = {}): SourceTree {
  return openArchive(fd, options, (archive) => {
    const kind = kindOf(archive.window);
    switch (kind) {
      case 'tar':
        return { kind, root: readTarMembers(archive) };
      case 'cpio':
        return { kind, root: readCpioParts(archive) };
      case 'dump':
        return { kind, root: readDump(readAll(archive.window, archive.name)) };
      default:
        throw new TreeError(
          `${archive.name} is no tar or cpio archive (plain, gzip, zstd, xz or lz4) and no composefs dump`,
        );
    }
  });
}

function kindOf(window: Window): ArchiveKind | undefined {
  const head = window.peek(512);
  const text = Buffer.from(head).toString('latin1');
  if (/^0707(?:01|02|07)/.test(text)) return 'cpio';
  if (looksLikeHeader(head)) return 'tar';
  if (/^\/ [0-9]+ [0-7]+ /.test(text)) return 'dump';
  // An empty archive is two blocks of zeros.
  return head.length === 512 && /^\0+$/.test(text) ? 'tar' : undefined;
}

function readAll(window: Window, name: string): Buffer {
  const parts: Buffer[] = [];
  let size = 0;
  for (let some = window.peekSome(); some.length > 0; some = window.peekSome()) {
    size += some.length;
    if (size > DUMP_MAX) throw new TreeError(`${name} is a dump of more than ${DUMP_MAX} bytes`);
    parts.push(Buffer.from(some));
    window.pass(some.length);
  }
  return Buffer.concat(parts);
}
