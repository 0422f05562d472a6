// An open archive: its bytes, what they hold when they are compressed, and where members' data is kept.
// Shared by tar-read, cpio-read and archive, which make a tree of it and leave the clean-up to openArchive().
// The descriptor belongs to the caller, everything else to the tree that is made.

import { MemberStore } from './stored.js';
import type { SourceTree, TreeNode } from './tree.js';
import { decode, FileWindow, type Window } from './window.js';

export interface ArchiveOptions {
  /** For messages: the path, or `standard input`. */
  readonly name?: string;
  /** Where data of compressed archives and pipes is kept until close(); default TMPDIR, else /var/tmp. */
  readonly spoolFolder?: string;
  /** Told the number of members so far, now and then. */
  readonly onProgress?: (members: number) => void;
}

export interface Archive {
  /** For messages. */
  readonly name: string;
  /** The bytes of the file or pipe. */
  readonly input: Window;
  /** What its first compressed part holds; `input` itself when that is not compressed. */
  readonly window: Window;
  readonly store: Pick<MemberStore, 'keep'>;
  readonly onProgress: (members: number) => void;
  /** As Assembly has it. */
  readonly isMark?: (name: string) => boolean;
}

/**
 * Opens `fd` and has `read` make a tree of it, in one pass. A regular file is read from its beginning; the descriptor must
 * stay open until the tree is closed.
 * @throws what `read` throws, and TreeError for bytes that cannot be read or decompressed.
 */
export function openArchive(
  fd: number,
  options: ArchiveOptions,
  read: (archive: Archive) => { readonly kind: SourceTree['kind']; readonly root: TreeNode },
): SourceTree {
  const name = options.name ?? `descriptor ${fd}`;
  const input = new FileWindow(fd, name);
  const store = new MemberStore(options.spoolFolder);
  let window: Window = input;
  try {
    window = decode(input, name);
    const made = read({ name, input, window, store, onProgress: options.onProgress ?? (() => {}) });
    return { ...made, close: () => store.close() };
  } catch (error) {
    store.close();
    throw error;
  } finally {
    if (window !== input) window.close();
    input.close();
  }
}
