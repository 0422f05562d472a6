// A tree becomes a tar archive: PAX format, the same bytes for the same tree.
// Called by diff and export; content is read once, in order. tar-read is the way back.
// Follows: pax(1) of POSIX.1-2017; xattrs as SCHILY.xattr.* and holes as PAX version 1.0, both as GNU tar 1.34 writes them.

import { S } from '../linux/constants.js';
import { majorOf, minorOf } from '../linux/device.js';
import { TreeError } from './errors.js';
import { BLOCK, TarHeader } from './tar-header.js';
import { dataExtents, type Extent, type OpenContent, show, type TreeNode, walk } from './tree.js';

const CHUNK = 256 * 1024;

/** Octal digits that fit into the fields of 8 and of 12 bytes, with a NUL behind them. */
const MAX_7_DIGITS = 0o7777777;
const MAX_11_DIGITS = 0o77777777777;

export interface TarWriteOptions {
  /** Bytes of files that are objects of a store. */
  readonly openBacking?: (node: TreeNode) => OpenContent;
}

/**
 * Writes all names of a tree, parents first, in byte order, and the end mark. A file with several names is written under
 * the first, the others are hard links.
 * @param write takes the bytes at once: the buffer is used again.
 * @throws TreeError for a socket, which tar cannot hold, or the error of a content.
 */
export function writeTar(
  root: TreeNode,
  write: (bytes: Uint8Array) => void,
  options: TarWriteOptions = {},
): void {
  const firstNames = new Map<TreeNode, string>();
  walk(root, (path, node) => {
    const isDir = node.entries !== undefined;
    const name = path === '/' ? './' : `${path.slice(1)}${isDir ? '/' : ''}`;
    const first = firstNames.get(node);
    if (first !== undefined) {
      writeHeader(write, name, node, '1', { linkName: first });
      return;
    }
    if (!isDir && node.links > 1) firstNames.set(node, name);
    writeMember(write, name, node, options);
  });
  write(new Uint8Array(2 * BLOCK));
}

const TYPES: ReadonlyMap<number, string> = new Map([
  [S.IFREG, '0'],
  [S.IFLNK, '2'],
  [S.IFCHR, '3'],
  [S.IFBLK, '4'],
  [S.IFDIR, '5'],
  [S.IFIFO, '6'],
]);

type Write = (bytes: Uint8Array) => void;

function writeMember(write: Write, name: string, node: TreeNode, options: TarWriteOptions): void {
  const type = TYPES.get(node.mode & S.IFMT);
  if (type === undefined) throw new TreeError(`${show(name)} is a socket, which tar cannot hold`);
  if (type !== '0') {
    writeHeader(write, name, node, type, { linkName: node.target ?? '' });
    return;
  }
  const extents = node.backing === undefined ? dataExtents(node) : wholeOf(node);
  const isSparse = extents.length !== 1 || (extents[0] as Extent).length !== node.size;
  if (!isSparse || node.size === 0) {
    writeHeader(write, name, node, type, { size: node.size });
    writeData(write, name, node, wholeOf(node), options);
    return;
  }
  const map = sparseMap(extents, node.size);
  const data = extents.reduce((sum, { length }) => sum + length, 0);
  writeHeader(write, name, node, type, { size: map.length + data, realSize: node.size });
  write(map);
  writeData(write, name, node, extents, options);
}

function wholeOf(node: TreeNode): Extent[] {
  return node.size === 0 ? [] : [{ at: 0, length: node.size }];
}

/** The map in front of the data: how many parts, then offset and length of each, padded to a block. */
function sparseMap(extents: readonly Extent[], size: number): Buffer {
  const last = extents[extents.length - 1];
  const reachesEnd = last !== undefined && last.at + last.length === size;
  // A part without length says where the file ends.
  const parts = reachesEnd ? extents : [...extents, { at: size, length: 0 }];
  const text = [parts.length, ...parts.flatMap(({ at, length }) => [at, length])].join('\n');
  const map = Buffer.alloc(padded(text.length + 1));
  map.write(`${text}\n`, 'latin1');
  return map;
}

function padded(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

function writeData(
  write: Write,
  name: string,
  node: TreeNode,
  extents: readonly Extent[],
  options: TarWriteOptions,
): void {
  if (extents.length === 0) return;
  const opened = openContent(name, node, options);
  const buffer = Buffer.alloc(Math.min(CHUNK, node.size));
  let total = 0;
  try {
    for (const { at, length } of extents) {
      for (let done = 0; done < length; done += buffer.length) {
        const part = buffer.subarray(0, Math.min(buffer.length, length - done));
        opened?.read(at + done, part);
        write(part);
      }
      total += length;
    }
  } finally {
    opened?.close();
  }
  const padding = padded(total) - total;
  if (padding > 0) write(new Uint8Array(padding));
}

/** undefined: the file is a hole. */
function openContent(
  name: string,
  node: TreeNode,
  options: TarWriteOptions,
): OpenContent | undefined {
  if (node.content !== undefined || node.backing === undefined) return node.content?.open();
  if (options.openBacking === undefined) {
    throw new TreeError(
      `${show(name)} is an object of a store (${show(node.backing.path)}): name the store`,
    );
  }
  return options.openBacking(node);
}

interface HeaderFields {
  readonly linkName?: string;
  /** Bytes in the archive. */
  readonly size?: number;
  /** Of a sparse file, with its holes. */
  readonly realSize?: number;
}

/** A header, behind an extended one where the fields are too small for what they should hold. */
function writeHeader(
  write: Write,
  name: string,
  node: TreeNode,
  type: string,
  fields: HeaderFields,
): void {
  const { linkName = '', size = 0, realSize } = fields;
  const records: string[] = [];
  const add = (key: string, value: string | number) => void records.push(record(key, `${value}`));
  const isLink = type === '1';
  if (realSize !== undefined) {
    add('GNU.sparse.major', 1);
    add('GNU.sparse.minor', 0);
    add('GNU.sparse.name', name);
    add('GNU.sparse.realsize', realSize);
  } else if (!fitsName(name)) add('path', name);
  if (!fitsName(linkName)) add('linkpath', linkName);
  if (size > MAX_11_DIGITS) add('size', size);
  if (!isLink) {
    if (node.uid > MAX_7_DIGITS) add('uid', node.uid);
    if (node.gid > MAX_7_DIGITS) add('gid', node.gid);
    if (node.mtimeNsec !== 0 || node.mtime < 0 || node.mtime > MAX_11_DIGITS) {
      add('mtime', decimalTime(node.mtime, node.mtimeNsec));
    }
    for (const [attr, value] of node.xattrs ?? []) {
      const key = attr.replace(/%/g, '%25').replace(/=/g, '%3D');
      add(`SCHILY.xattr.${key}`, Buffer.from(value).toString('latin1'));
    }
  }
  if (records.length > 0) {
    const body = Buffer.from(records.join(''), 'latin1');
    const head = { size: body.length, mode: 0o644, uid: 0, gid: 0, mtime: 0 };
    write(block(ascii('PaxHeaders/', name), '', 'x', head));
    const whole = Buffer.alloc(padded(body.length));
    body.copy(whole);
    write(whole);
  }
  const isDevice = type === '3' || type === '4';
  write(
    block(
      fitsName(name) && realSize === undefined ? name : ascii('', name),
      linkName.slice(0, 100),
      type,
      {
        size: Math.min(size, MAX_11_DIGITS),
        mode: node.mode & 0o7777,
        uid: Math.min(node.uid, MAX_7_DIGITS),
        gid: Math.min(node.gid, MAX_7_DIGITS),
        mtime: Math.min(Math.max(node.mtime, 0), MAX_11_DIGITS),
        major: isDevice ? majorOf(node.rdev) : 0,
        minor: isDevice ? minorOf(node.rdev) : 0,
      },
    ),
  );
}

/** Whether a name can stand in the header: 100 bytes, of ASCII, as other bytes mean UTF-8 in PAX archives. */
function fitsName(name: string): boolean {
  return name.length <= 100 && /^[\x20-\x7e]*$/.test(name);
}

/** What stands in the header where a record says the name: nobody should see it. */
function ascii(prefix: string, name: string): string {
  return prefix + name.replace(/[^\x21-\x7e]/g, '_').slice(-(100 - prefix.length));
}

function record(key: string, value: string): string {
  const rest = key.length + value.length + 3;
  let length = rest + 1;
  while (`${length}`.length + rest !== length) length = rest + `${length}`.length;
  return `${length} ${key}=${value}\n`;
}

/** Seconds and nanoseconds as a decimal fraction: 0.75 s after -2 is -1.25. */
function decimalTime(seconds: number, nanoseconds: number): string {
  const isNegative = seconds < 0 && nanoseconds > 0;
  const whole = isNegative ? seconds + 1 : seconds;
  const fraction = isNegative ? 1e9 - nanoseconds : nanoseconds;
  const digits = fraction === 0 ? '' : `.${String(fraction).padStart(9, '0').replace(/0+$/, '')}`;
  return `${isNegative && whole === 0 ? '-' : ''}${whole}${digits}`;
}

interface Numbers {
  readonly size: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number;
  readonly major?: number;
  readonly minor?: number;
}

function block(name: string, linkName: string, type: string, numbers: Numbers): Uint8Array {
  const octal = (value: number, digits: number) =>
    Buffer.from(`${value.toString(8).padStart(digits, '0')}\0`, 'latin1');
  const bytes = TarHeader.bytes({
    name: Buffer.from(name, 'latin1'),
    mode: octal(numbers.mode, 7),
    uid: octal(numbers.uid, 7),
    gid: octal(numbers.gid, 7),
    size: octal(numbers.size, 11),
    mtime: octal(numbers.mtime, 11),
    chksum: Buffer.from('        ', 'latin1'),
    typeflag: type.charCodeAt(0),
    linkname: Buffer.from(linkName, 'latin1'),
    magic: Buffer.from('ustar\0', 'latin1'),
    version: Buffer.from('00', 'latin1'),
    devmajor: octal(numbers.major ?? 0, 7),
    devminor: octal(numbers.minor ?? 0, 7),
  });
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.set(Buffer.from(`${sum.toString(8).padStart(6, '0')}\0 `, 'latin1'), TarHeader.at.chksum);
  return bytes;
}
