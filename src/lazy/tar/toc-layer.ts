// An eStargz or zstd:chunked layer becomes a lazy layer by its table of contents: nothing else of it is read.
// Called by index.ts. The table's digest stands in the manifest, so all that follows from it is as good as the image itself.
// Follows: stargz-snapshotter docs/estargz.md; containers/storage pkg/chunked, whose annotations are used.

import { closeSync, fsyncSync, ftruncateSync, openSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { zstdDecompress } from '../../linux/codecs.js';
import { S } from '../../linux/constants.js';
import { encodeDevice } from '../../linux/device.js';
import { digestOf } from '../../oci/digest.js';
import type { Descriptor } from '../../oci/manifest.js';
import { Assembly } from '../../tree/assemble.js';
import { makeNode, type TreeNode } from '../../tree/tree.js';
import { type ChunkRecord, Codec, MAX_CHUNK } from '../chunk-table.js';
import { LayerFolder } from '../layer-folder.js';
import { wrong } from '../untrusted.js';
import { writeDurable } from '../write-durable.js';
import type { TarLayerOptions } from './options.js';
import { BLOCK, Places, wholeBits, writeLayer } from './places.js';
import { inheritRoot } from './root.js';
import { MAX_TOC, parseToc, type TocChunk, type TocEntry, TocError } from './toc.js';
import { applyWhiteouts, isWhiteout } from './whiteouts.js';

const ESTARGZ_DIGEST = 'containerd.io/snapshot/stargz/toc.digest';
/** Prefixes of zstd:chunked: what tools write now, and what those of 2022 wrote (podman 4.3, buildah 1.28, skopeo 1.9). */
const ZSTD = ['io.github.containers.zstd-chunked', 'io.containers.zstd-chunked'] as const;

/** A gzip member without content whose extra field is `SG`, 22 bytes: the table's place in hexadecimal digits and a word. */
const FOOTER = 51;
/** What stargz had before that: the same without a subfield. */
const OLD_FOOTER = 47;
const TAR_BLOCK = 512;
/** Files in front of this one are those that its maker has seen used at the start. */
const LANDMARK = '.prefetch.landmark';
/** What eStargz has in the archive for itself: its table, and which files to fetch first, if any. */
export const OWN_FILES: readonly string[] = [
  'stargz.index.json',
  LANDMARK,
  '.no.prefetch.landmark',
];

/** A table that was found. */
interface Found {
  readonly entries: readonly TocEntry[];
  /** Byte of the layer where it begins: content ends before. */
  readonly end: number;
  readonly codec: number;
  readonly form: string;
}

/** Whether a layer has a table of contents that its manifest vouches for. */
export function hasToc(descriptor: Descriptor): boolean {
  return (
    descriptor.annotations?.[ESTARGZ_DIGEST] !== undefined || zstdSays(descriptor) !== undefined
  );
}

/** What the manifest says of a table of zstd:chunked: its digest, and where it is. */
function zstdSays({ annotations }: Descriptor): { digest: string; place: string } | undefined {
  for (const prefix of ZSTD) {
    const digest = annotations?.[`${prefix}.manifest-checksum`];
    if (digest !== undefined) {
      return { digest, place: annotations?.[`${prefix}.manifest-position`] ?? '' };
    }
  }
  return undefined;
}

/** @returns false when the layer has no table. @throws TocError, TreeError, RegistryError. */
export async function takeToc(options: TarLayerOptions, staged: string): Promise<boolean> {
  const zstd = zstdSays(options.descriptor);
  const estargz = options.descriptor.annotations?.[ESTARGZ_DIGEST];
  if (zstd !== undefined) await write(options, staged, await zstdToc(options, zstd));
  else if (estargz !== undefined) await write(options, staged, await estargzToc(options, estargz));
  else return false;
  return true;
}

function verify(options: TarLayerOptions, bytes: Uint8Array, digest: string): void {
  const is = digestOf(bytes);
  if (is === digest) return;
  throw wrong(options.ref, options.descriptor, `its table of contents is ${is}, not ${digest}`);
}

async function estargzToc(options: TarLayerOptions, digest: string): Promise<Found> {
  const { registry, ref, descriptor, signal } = options;
  const { size } = descriptor;
  if (size < FOOTER) throw new TocError('the layer is shorter than a footer');
  const footer = await registry.range(ref, descriptor, size - FOOTER, FOOTER, signal);
  const { place, length } = readFooter(footer);
  const end = size - length;
  if (place >= end || end - place > MAX_TOC) throw new TocError('its place');
  const packed = await registry.range(ref, descriptor, place, end - place, signal);
  let tar: Buffer;
  try {
    tar = gunzipSync(packed, { maxOutputLength: MAX_TOC + 16 * TAR_BLOCK });
  } catch (error) {
    throw new TocError((error as Error).message);
  }
  // One member of a tar archive, whose name is known.
  const text = tar.toString('latin1', 124, 136).replace(/[\0 ]+$/, '');
  const bytes = /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : 0;
  const json = tar.subarray(TAR_BLOCK, TAR_BLOCK + bytes);
  if (json.length !== bytes || bytes === 0) throw new TocError('it is cut off');
  verify(options, json, digest);
  return { entries: parseToc(json), end: place, codec: Codec.GZIP, form: 'estargz' };
}

function readFooter(footer: Uint8Array): { place: number; length: number } {
  for (const length of [FOOTER, OLD_FOOTER]) {
    const text = Buffer.from(footer)
      .toString('latin1')
      .slice(FOOTER - length);
    const match = /^\x1f\x8b\x08\x04.{6}(?:\x1a\0SG\x16\0|\x16\0)([0-9a-f]{16})STARGZ/s.exec(text);
    const place = match === null ? Number.NaN : Number.parseInt(match[1] as string, 16);
    if (Number.isSafeInteger(place)) return { place, length };
  }
  throw new TocError('there is no footer');
}

async function zstdToc(
  options: TarLayerOptions,
  { digest, place }: { digest: string; place: string },
): Promise<Found> {
  const { registry, ref, descriptor, signal } = options;
  const [at = 0, length = 0, size = 0, type] = place.split(':').map(Number);
  const isPlace = [at, length, size].every((n) => Number.isSafeInteger(n) && n > 0);
  if (!isPlace || type !== 1 || at + length > descriptor.size) throw new TocError('its place');
  if (length > MAX_TOC || size > MAX_TOC) throw new TocError(`it has ${size} bytes`);
  const frame = await registry.range(ref, descriptor, at, length, signal);
  verify(options, frame, digest);
  const json = new Uint8Array(size);
  if (!zstdDecompress(frame, 0, length, json, 0, size, false)) {
    throw new TocError('it is no zstd frame');
  }
  return { entries: parseToc(json), end: at, codec: Codec.ZSTD, form: 'zstd:chunked' };
}

async function write(options: TarLayerOptions, staged: string, found: Found): Promise<void> {
  const { descriptor, source, store, below } = options;
  const { entries, end, codec, form } = found;
  const places = new Places();
  const starts = unitStarts(entries, end);
  const assembly = new Assembly(isWhiteout);
  for (const [i, entry] of entries.entries()) {
    if (OWN_FILES.includes(plainName(entry))) continue;
    const where = { structure: 'table of contents', offset: i };
    if (entry.type === 'hardlink') {
      assembly.link(entry.name, entry.link, where);
      continue;
    }
    const node = nodeOf(entry);
    if (entry.size > 0) placeFile(places, node, entry, (chunk) => unitOf(chunk, starts, codec));
    assembly.place(entry.name, node, where);
  }
  const tree = assembly.finish();
  inheritRoot(tree, below === undefined ? undefined : LayerFolder.of(store, below));
  applyWhiteouts(tree);
  const { digest: id, size, mediaType } = descriptor;
  const records = await writeLayer(staged, {
    tree,
    places,
    keyOf: (node) => node,
    record: { id, origins: [{ digest: id, size, mediaType }], sources: [source], form },
  });
  const folder = new LayerFolder(staged);
  writeOrder(folder, entries, records);
  const blob = openSync(folder.blob, 'wx', 0o600);
  ftruncateSync(blob, places.blocks * BLOCK);
  fsyncSync(blob);
  closeSync(blob);
}

/** Where units begin, ascending, and behind them where the last one ends. */
function unitStarts(entries: readonly TocEntry[], end: number): number[] {
  const starts = new Set<number>([end]);
  for (const { chunks } of entries) for (const { offset } of chunks) starts.add(offset);
  const sorted = [...starts].sort((a, b) => a - b);
  if (sorted.at(-1) !== end) throw new TocError('content behind its end');
  return sorted;
}

/** The unit of a chunk: to the next one, but no more than the chunk can need, as headers of other files may follow. */
function unitOf(
  { offset, end, skip, length }: TocChunk,
  starts: readonly number[],
  codec: number,
): Pick<ChunkRecord, 'from' | 'stored' | 'skip' | 'origin' | 'codec'> {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((starts[middle] as number) > offset) high = middle;
    else low = middle + 1;
  }
  const next = Math.min(starts[low] as number, end ?? Number.POSITIVE_INFINITY);
  if (next <= offset) throw new TocError(`content at byte ${offset} has no end`);
  if (skip + length > MAX_CHUNK) throw new TocError(`a piece of ${length} bytes`);
  return { from: offset, stored: Math.min(next - offset, 2 * MAX_CHUNK), skip, origin: 0, codec };
}

function placeFile(
  places: Places,
  node: TreeNode,
  { size, digest, chunks }: TocEntry,
  unit: (chunk: TocChunk) => Pick<ChunkRecord, 'from' | 'stored' | 'skip' | 'origin' | 'codec'>,
): void {
  const content = digest === undefined ? undefined : `${size}:${digest}`;
  if (content !== undefined && places.share(node, content)) return;
  const first = places.claim(Math.ceil(size / BLOCK));
  const records: ChunkRecord[] = [];
  for (const chunk of chunks) {
    // What is zero is a hole of the blob, and here already.
    if (chunk.digest === undefined) continue;
    const at = first * BLOCK + chunk.at;
    records.push({ at, length: chunk.length, digest: chunk.digest, ...unit(chunk) });
  }
  const place = { chunkBits: wholeBits(size), blocks: Uint32Array.of(first) };
  places.take(node, place, records, content);
}

const TYPES = {
  dir: S.IFDIR,
  reg: S.IFREG,
  symlink: S.IFLNK,
  char: S.IFCHR,
  block: S.IFBLK,
  fifo: S.IFIFO,
} as const;

function nodeOf(entry: TocEntry): TreeNode {
  const { type, size, mode, uid, gid, mtime, mtimeNsec, xattrs, link, major, minor } = entry;
  const node = makeNode(TYPES[type as keyof typeof TYPES] | mode, {
    uid,
    gid,
    mtime,
    mtimeNsec,
    xattrs,
  });
  if (type === 'reg') node.size = size;
  else if (type === 'symlink') {
    if (link === '') throw new TocError('a symbolic link to nothing');
    node.target = link;
    node.size = link.length;
  } else if (type === 'char' || type === 'block') {
    if (major > 0xfff || minor > 0xfffff) throw new TocError(`device ${major}:${minor}`);
    node.rdev = encodeDevice(major, minor);
  }
  return node;
}

const plainName = ({ name }: TocEntry): string => name.replace(/^(?:\.?\/)+/, '');

/** The order of first use, as far as the layer's maker has told it. */
function writeOrder(
  folder: LayerFolder,
  entries: readonly TocEntry[],
  records: readonly ChunkRecord[],
): void {
  const landmark = entries.find((entry) => plainName(entry) === LANDMARK);
  const until = landmark?.chunks[0]?.offset;
  if (until === undefined) return;
  const chunks = [...records.keys()].filter((i) => (records[i] as ChunkRecord).from < until);
  if (chunks.length === 0) return;
  writeDurable(folder.order, Buffer.from(Uint32Array.from(chunks).buffer));
}
