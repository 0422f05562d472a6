// Is what a registry gave as a layer's metadata and chunk table what readers rely on? Asked before either is published.
// Called by own-layer.ts. The kernel reads what passes here: nothing is taken on trust but the content of chunks, which is
// compared with its digest when it comes.
// Follows: fsck of erofs/check.ts; docs/lazy-format.md for the rest.

import { type ByteSource, holeSource } from '../../bytes/source.js';
import { checkImage } from '../../erofs/check.js';
import { ErofsImage, type Inode } from '../../erofs/image.js';
import { type ChunkTable, Codec, NOWHERE } from '../chunk-table.js';
import { type ImageRuns, RunWalk } from '../image-runs.js';
import type { Origin } from '../layer-folder.js';
import type { ProgramCollector } from '../programs.js';

/** Metadata and table that make no layer; the message says what does not fit. */
export class LayerCheckError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'LayerCheckError';
  }
}

/** @throws LayerCheckError when a chunk lies nowhere in `packs`. */
export function checkTable(table: ChunkTable, packs: readonly Origin[]): void {
  if (table.origins !== packs.length) {
    refuse(`the chunk table is for ${table.origins} packs, the manifest has ${packs.length}`);
  }
  for (let i = 0; i < table.count; i++) {
    const origin = table.origin(i);
    const pack = origin === NOWHERE ? undefined : packs[origin];
    if (pack === undefined) refuse(`chunk ${i} lies in no pack`);
    const codec = table.codec(i);
    const stored = table.stored(i);
    if (codec > Codec.ZSTD) refuse(`chunk ${i} has codec ${codec}, which packs have not`);
    if (stored === 0 || table.from(i) + stored > pack.size) {
      refuse(`chunk ${i} lies outside of pack ${origin}`);
    }
    if (codec === Codec.RAW && stored < table.skip(i) + table.length(i)) {
      refuse(`chunk ${i} is longer than what is stored of it`);
    }
  }
}

/**
 * @param meta the image, which has the digest that the table says.
 * @param programs is shown every file. @throws LayerCheckError, LayerImageError or ErofsError.
 */
export function checkMeta(
  meta: ByteSource,
  table: ChunkTable,
  programs?: ProgramCollector,
): ImageRuns {
  const image = ErofsImage.open(meta, [holeSource(table.blobSize)]);
  const [device] = image.superblock.devices;
  const size = (device?.blocks ?? 0) * image.blockSize;
  if (size !== table.blobSize) {
    refuse(`the image has a blob of ${size} bytes, the chunk table one of ${table.blobSize}`);
  }
  const gaps = gapsOf(table);
  const walk = new RunWalk(image, (at, length) => {
    const first = table.find(at);
    const last = table.find(at + length - 1);
    const isCovered =
      last < table.count &&
      table.at(first) <= at &&
      table.at(last) < at + length &&
      gaps[first] === gaps[last];
    if (!isCovered) refuse(`no chunk has all of the ${length} bytes at byte ${at} of the blob`);
  });
  const visit = (path: string, inode: Inode): void => {
    walk.visit(path, inode);
    programs?.see(image, path, inode);
  };
  for (const problem of checkImage(image, { data: false, visit })) refuse(problem.message);
  return walk.found;
}

/** For each chunk, how many gaps there are before it: two chunks with as many have none between them. */
function gapsOf(table: ChunkTable): Uint32Array {
  const gaps = new Uint32Array(table.count);
  for (let i = 1; i < table.count; i++) {
    const end = table.at(i - 1) + table.length(i - 1);
    gaps[i] = (gaps[i - 1] as number) + (table.at(i) === end ? 0 : 1);
  }
  return gaps;
}

function refuse(what: string): never {
  throw new LayerCheckError(what);
}
