// A tree becomes a composefs dump: text, one line a name, in one form only, so that equal trees give equal bytes.
// Called by `image dump`, by store/ and by tests, which compare trees as text; dump-read.ts is the way back.
// Follows: composefs-dump(5) of composefs 1.0.8, with the escapes that composefs-info writes.

import { S } from '../linux/constants.js';
import { INLINE_MAX } from './dump-read.js';
import { isDirectory, type TreeNode, walk } from './tree.js';

export interface DumpWriteOptions {
  /**
   * Content up to this many bytes is written into the line (INLINE_MAX at most, the default). A larger file that has no
   * backing object is written with its size and digest alone.
   */
  readonly inlineMax?: number;
  /** The digest of a file that does not name its own. @returns hex, or undefined for none. */
  readonly digest?: (node: TreeNode) => string | undefined;
}

/**
 * The dump of a tree, in pieces of about 64 KiB: parents first, names in byte order. The home of a hard link, or else its
 * first name, carries its fields; the others point there.
 * @throws the error of a content that cannot be read.
 */
export function writeDump(
  root: TreeNode,
  write: (text: Buffer) => void,
  options: DumpWriteOptions = {},
): void {
  const inlineMax = Math.min(options.inlineMax ?? INLINE_MAX, INLINE_MAX);
  const ownPaths = new Map<TreeNode, string>();
  let folders: Map<TreeNode, string> | undefined;
  let text = '';
  walk(root, (path, node) => {
    let own: string | undefined;
    if (node.entries === undefined && node.links > 1) {
      own = ownPaths.get(node);
      if (own === undefined) {
        const { home } = node;
        own = path;
        if (home !== undefined) own = (folders ??= folderPaths(root)).get(home.dir) + home.name;
        ownPaths.set(node, own);
      }
    }
    text += dumpLine(path, node, own === path ? undefined : own, inlineMax, options.digest);
    if (text.length >= 65_536) {
      write(Buffer.from(text, 'latin1'));
      text = '';
    }
  });
  if (text !== '') write(Buffer.from(text, 'latin1'));
}

/** As writeDump(), as one piece. */
export function dumpText(root: TreeNode, options: DumpWriteOptions = {}): Buffer {
  const pieces: Buffer[] = [];
  writeDump(root, (piece) => void pieces.push(piece), options);
  return Buffer.concat(pieces);
}

/** Paths of all directories, with the slash behind them. */
function folderPaths(root: TreeNode): Map<TreeNode, string> {
  const paths = new Map([[root, '/']]);
  // What is added meanwhile is visited too.
  for (const [dir, path] of paths) {
    for (const [name, node] of dir.entries ?? []) {
      if (isDirectory(node)) paths.set(node, `${path}${name}/`);
    }
  }
  return paths;
}

/** @param own the path that carries the fields, of a hard link's other names. */
function dumpLine(
  path: string,
  node: TreeNode,
  own: string | undefined,
  inlineMax: number,
  digestOf: DumpWriteOptions['digest'],
): string {
  const isFile = (node.mode & S.IFMT) === S.IFREG;
  const digest = node.digest ?? (isFile ? digestOf?.(node) : undefined);
  const fields = [
    escapeBytes(path, ' '),
    node.size,
    `${own === undefined ? '' : '@'}${node.mode.toString(8)}`,
    node.statedLinks ?? node.links,
    node.uid,
    node.gid,
    node.rdev,
    `${node.mtime}.${node.mtimeNsec}`,
    escapeOptional(own ?? node.target ?? node.backing?.path),
    escapeOptional(inlineContent(node, inlineMax)),
    digest ?? '-',
  ];
  for (const [name, value] of node.xattrs ?? []) {
    fields.push(
      `${escapeBytes(name, '=')}=${escapeBytes(Buffer.from(value).toString('latin1'), '=')}`,
    );
  }
  return `${fields.join(' ')}\n`;
}

/** The bytes that stand in the line, latin1. */
function inlineContent(node: TreeNode, max: number): string | undefined {
  if (node.content === undefined || node.size > max) return undefined;
  const opened = node.content.open();
  try {
    const bytes = Buffer.alloc(node.size);
    opened.read(0, bytes);
    return bytes.toString('latin1');
  } finally {
    opened.close();
  }
}

function escapeOptional(text: string | undefined): string {
  if (text === undefined) return '-';
  return text === '-' ? '\\x2d' : escapeBytes(text, ' ');
}

/** Escapes what a field cannot hold, and `also`, as hex. */
function escapeBytes(text: string, also: '=' | ' '): string {
  const unsafe = also === '=' ? /[^\x21-\x3c\x3e-\x5b\x5d-\x7e]/g : /[^\x21-\x5b\x5d-\x7e]/g;
  return text.replace(unsafe, (char) => {
    switch (char) {
      case '\\':
        return '\\\\';
      case '\n':
        return '\\n';
      case '\r':
        return '\\r';
      case '\t':
        return '\\t';
      default:
        return `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
    }
  });
}
