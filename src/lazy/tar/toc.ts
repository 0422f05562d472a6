// Tables of contents that layers carry: of eStargz and of zstd:chunked. JSON becomes entries, each checked.
// Used by toc-layer.ts, which has compared the bytes with the digest in the manifest.
// Follows: stargz-snapshotter docs/estargz.md (version 1), containers/storage pkg/chunked/internal (version 1): one vocabulary.

import { createHash } from 'node:crypto';
import { MAX_CHUNK } from '../chunk-table.js';

/** Bytes of a table, and entries in it. */
export const MAX_TOC = 128 << 20;
const MAX_ENTRIES = 4 << 20;
/** Bytes of a file that are looked at for being zeros: those of half a second. */
const MOST_ZEROS = 256 << 20;

/** A table that is not understood: the layer is read without it. */
export class TocError extends Error {
  constructor(message: string) {
    super(`table of contents: ${message}`);
    this.name = 'TocError';
  }
}

/** A run of a file. */
export interface TocChunk {
  /** Byte of the file, and how many. */
  readonly at: number;
  readonly length: number;
  /** Byte of the layer where the gzip member or zstd frame begins that has it, and where at the latest it ends. */
  readonly offset: number;
  readonly end: number | undefined;
  /** Where it begins in that. */
  readonly skip: number;
  /** SHA-256, 32 bytes; undefined: zeros, which need not be fetched. */
  readonly digest: Uint8Array | undefined;
}

export type TocType = 'dir' | 'reg' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo';

export interface TocEntry {
  /** latin1 */
  readonly name: string;
  readonly type: TocType;
  readonly size: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since 1970, nanoseconds. */
  readonly mtime: number;
  readonly mtimeNsec: number;
  /** latin1 */
  readonly link: string;
  readonly major: number;
  readonly minor: number;
  readonly xattrs: Map<string, Uint8Array> | undefined;
  /** SHA-256 of a file, hexadecimal; undefined: not said. */
  readonly digest: string | undefined;
  readonly chunks: readonly TocChunk[];
}

type Json = Readonly<Record<string, unknown>>;
const TYPES = new Set<string>(['dir', 'reg', 'symlink', 'hardlink', 'char', 'block', 'fifo']);

/** @param bytes JSON, verified. @throws TocError. */
export function parseToc(bytes: Uint8Array): TocEntry[] {
  let toc: unknown;
  try {
    toc = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new TocError((error as Error).message);
  }
  const { version, entries } = objectOf(toc, 'it');
  if (version !== 1) {
    throw new TocError(typeof version === 'number' ? `version ${version}` : 'it has no version');
  }
  if (!Array.isArray(entries)) throw new TocError('it has no entries');
  if (entries.length > MAX_ENTRIES) throw new TocError(`${entries.length} entries`);
  const out: TocEntry[] = [];
  for (let i = 0; i < entries.length; ) {
    const entry = objectOf(entries[i], `entry ${i}`);
    const parts = [entry];
    const name = textOf(entry, 'name', i);
    while (++i < entries.length) {
      const next = objectOf(entries[i], `entry ${i}`);
      if (next['type'] !== 'chunk') break;
      if (textOf(next, 'name', i) !== name) throw new TocError(`entry ${i} is part of no file`);
      parts.push(next);
    }
    out.push(entryOf(entry, parts, i - parts.length));
  }
  return out;
}

function entryOf(entry: Json, parts: readonly Json[], i: number): TocEntry {
  const type = entry['type'];
  if (typeof type !== 'string' || !TYPES.has(type)) throw bad(i, 'type');
  const size = numberOf(entry, 'size', i);
  const [mtime, mtimeNsec] = timeOf(entry, i);
  const isFile = type === 'reg';
  if (!isFile && parts.length > 1) throw bad(i, 'type');
  return {
    name: textOf(entry, 'name', i),
    type: type as TocType,
    size: isFile ? size : 0,
    mode: numberOf(entry, 'mode', i) & 0o7777,
    uid: idOf(entry, 'uid', i),
    gid: idOf(entry, 'gid', i),
    mtime,
    mtimeNsec,
    link: textOf(entry, 'linkName', i),
    major: numberOf(entry, 'devMajor', i),
    minor: numberOf(entry, 'devMinor', i),
    xattrs: xattrsOf(entry, i),
    digest: digestOf(entry, 'digest', i)?.toString('hex'),
    chunks: isFile && size > 0 ? chunksOf(entry, parts, size, i) : [],
  };
}

function chunksOf(entry: Json, parts: readonly Json[], size: number, i: number): TocChunk[] {
  const last = numberOf(entry, 'endOffset', i);
  let done = 0;
  const chunks = parts.map((part, k): TocChunk => {
    const at = numberOf(part, 'chunkOffset', i + k);
    const length = numberOf(part, 'chunkSize', i + k) || size - at;
    if (at !== done || length <= 0) throw bad(i + k, 'chunkOffset');
    done += length;
    const whole = parts.length === 1 ? digestOf(entry, 'digest', i) : undefined;
    const digest = digestOf(part, 'chunkDigest', i + k) ?? whole;
    // zstd:chunked does not say so of a file that is nothing else, and has that in one piece.
    const isZero =
      part['chunkType'] === 'zeros' || (length > MAX_CHUNK && areZeros(digest, length));
    if (digest === undefined && !isZero) throw bad(i + k, 'chunkDigest');
    return {
      at,
      length,
      offset: numberOf(part, 'offset', i + k),
      end: k === parts.length - 1 && last > 0 ? last : undefined,
      skip: numberOf(part, 'innerOffset', i + k),
      digest: isZero ? undefined : digest,
    };
  });
  if (done !== size) throw bad(i, 'size');
  return chunks;
}

/** Whether this is the digest of so many zeros. */
function areZeros(digest: Uint8Array | undefined, length: number): boolean {
  if (digest === undefined || length > MOST_ZEROS) return false;
  const hash = createHash('sha256');
  const piece = Buffer.alloc(Math.min(length, MAX_CHUNK));
  for (let left = length; left > 0; left -= piece.length) {
    hash.update(piece.subarray(0, Math.min(left, piece.length)));
  }
  return hash.digest().equals(digest);
}

const bad = (i: number, field: string): TocError => new TocError(`entry ${i}: its ${field}`);

function objectOf(value: unknown, what: string): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw new TocError(`${what} is no object`);
}

function textOf(entry: Json, field: string, i: number): string {
  const value = entry[field] ?? '';
  // JSON has no names that are not UTF-8: what stands for their bytes says no more which they were.
  if (typeof value !== 'string' || value.includes('\ufffd')) throw bad(i, field);
  return Buffer.from(value, 'utf8').toString('latin1');
}

function numberOf(entry: Json, field: string, i: number): number {
  const value = entry[field] ?? 0;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw bad(i, field);
}

function idOf(entry: Json, field: string, i: number): number {
  const value = numberOf(entry, field, i);
  if (value > 0xffff_fffe) throw bad(i, field);
  return value;
}

function digestOf(entry: Json, field: string, i: number): Buffer | undefined {
  const value = entry[field] ?? '';
  if (value === '') return undefined;
  const [, hex] = (typeof value === 'string' && /^sha256:([0-9a-f]{64})$/.exec(value)) || [];
  if (hex === undefined) throw bad(i, field);
  return Buffer.from(hex, 'hex');
}

function timeOf(entry: Json, i: number): [number, number] {
  const value = entry['modtime'] ?? '';
  if (value === '') return [0, 0];
  const form = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/;
  const match = typeof value === 'string' ? form.exec(value) : null;
  if (match === null) throw bad(i, 'modtime');
  const seconds = Date.parse(`${match[1]}${match[3]}`) / 1000;
  if (!Number.isSafeInteger(seconds)) throw bad(i, 'modtime');
  return [seconds, Number((match[2] ?? '').padEnd(9, '0'))];
}

function xattrsOf(entry: Json, i: number): Map<string, Uint8Array> | undefined {
  const value = entry['xattrs'];
  if (value === undefined || value === null) return undefined;
  const out: [string, Uint8Array][] = [];
  for (const [name, text] of Object.entries(objectOf(value, `entry ${i}: xattrs`))) {
    if (typeof text !== 'string' || name === '' || name.includes('\0')) throw bad(i, 'xattrs');
    out.push([Buffer.from(name, 'utf8').toString('latin1'), Buffer.from(text, 'base64')]);
  }
  if (out.length === 0) return undefined;
  return new Map(out.sort(([a], [b]) => (a < b ? -1 : 1)));
}
