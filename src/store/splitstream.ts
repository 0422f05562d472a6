// The objects that a split stream of composefs-rs needs: gc must leave them alone.
// Asked by gc and check for what lies in streams/; the stream itself is never read.
// Follows: composefs-rs 0.3, doc of splitstream_format.rs: header, info section, arrays of digests; and the header before 0.3.

import { type ByteSource, requireRange } from '../bytes/source.js';
import { SHA_SIZE } from '../linux/sha.js';

const MAGIC = 'SplitStream';

/** Byte offsets in the header; `magic` may be at either place. Ranges are a u64 start and a u64 end. */
const HEADERS = [
  { size: 32, magic: 0, version: 11, algorithm: 14, info: 16 },
  { size: 32, magic: 18, version: 29, algorithm: 30, info: 0 },
] as const;
const Info = { stream_refs: 0, object_refs: 16, size: 32 } as const;
/** Digests of a stream, at most: what a gigabyte of them is. */
const MOST_BYTES = 1 << 30;

/** @returns digests (hex) of objects, streams among them; undefined when it is no split stream. */
export function splitstreamObjects(source: ByteSource): string[] | undefined {
  const header = HEADERS.find((h) => {
    if (source.size < h.size) return false;
    const bytes = read(source, 0, h.size);
    return bytes.toString('latin1', h.magic, h.magic + MAGIC.length) === MAGIC;
  });
  if (header === undefined) return undefined;
  const bytes = read(source, 0, header.size);
  const size = [0, SHA_SIZE.sha256, SHA_SIZE.sha512][bytes[header.algorithm] as number];
  if (bytes[header.version] !== 0 || !size) return undefined;
  const info = range(source, bytes, header.info, Info.size);
  if (info === undefined) return undefined;
  const found: string[] = [];
  for (const at of [Info.stream_refs, Info.object_refs]) {
    const digests = range(source, info, at, 0);
    if (digests === undefined || digests.length % size !== 0) return undefined;
    for (let i = 0; i < digests.length; i += size) found.push(digests.toString('hex', i, i + size));
  }
  return found;
}

/** What the range at byte `at` of `bytes` names; undefined when it is less than `least` bytes, or outside of the file. */
function range(source: ByteSource, bytes: Buffer, at: number, least: number): Buffer | undefined {
  const start = Number(bytes.readBigUInt64LE(at));
  const length = Number(bytes.readBigUInt64LE(at + 8)) - start;
  if (length < least || length > MOST_BYTES || start + length > source.size) return undefined;
  return read(source, start, length);
}

function read(source: ByteSource, at: number, length: number): Buffer {
  requireRange(at, length, source.size);
  const bytes = Buffer.alloc(length);
  source.read(at, bytes);
  return bytes;
}
