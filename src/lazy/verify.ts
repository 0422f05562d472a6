// Reads a layer back from the disk: table, metadata and every chunk that is here, compared with its digest.
// Called by `varve images --verify` and by mounts that name a layer's digest; pull/repair.ts makes good what is damaged.
// Nobody is kept from using the layer meanwhile, and nothing is written.

import { createHash } from 'node:crypto';
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { holeSource } from '../bytes/source.js';
import { eachInode } from '../erofs/each-inode.js';
import { ErofsImage } from '../erofs/image.js';
import { S } from '../linux/constants.js';
import { FileSource } from '../linux/file-source.js';
import { forgetPages } from '../linux/page-cache.js';
import { ChunkTable } from './chunk-table.js';
import type { LayerFolder, LayerRecord } from './layer-folder.js';
import { LoadedLayer } from './load/layer.js';
import { ResidencyMap } from './residency.js';

/** What was found in a layer. */
export interface LayerReport {
  /** Chunks and bytes of content that were compared. */
  readonly chunks: number;
  readonly bytes: number;
  /** Chunks that are not what the table says, ascending. */
  readonly damaged: readonly number[];
  /** Files that have a part in one of them, latin1; at most MOST_FILES. */
  readonly files: readonly string[];
  /** What is wrong with record, table or metadata: nothing can be said about content then. */
  readonly fault?: string;
}

export interface VerifyOptions {
  /** Told the bytes that were just compared. */
  readonly onProgress?: (bytes: number) => void;
}

const MOST_FILES = 1000;
/** Bytes between two looks at what else there is to do. */
const TURN = 8 << 20;

export async function verifyLayer(
  folder: LayerFolder,
  options: VerifyOptions = {},
): Promise<LayerReport> {
  let table: ChunkTable;
  try {
    table = requireMetadata(folder);
  } catch (error) {
    const fault = error instanceof Error ? error.message : String(error);
    return { chunks: 0, bytes: 0, damaged: [], files: [], fault };
  }
  const found = await verifyContent(folder, table, options);
  const files = found.damaged.length === 0 ? [] : filesWith(folder, table, found.damaged);
  return { ...found, files };
}

/**
 * Compares record, table and metadata with each other and, of our own form, with the layer's id, which covers all of them.
 * @returns the table. @throws Error that says what does not fit.
 */
export function requireMetadata(folder: LayerFolder): ChunkTable {
  const table = new ChunkTable(readFileSync(folder.table));
  const { id, form, origins } = readRecord(folder);
  if (id !== folder.namedId) throw new Error(`${folder.record}: is that of ${id}`);
  if (origins.length < table.origins) throw new Error(`${folder.record}: names too few origins`);
  if (form === 'varve' && table.layerId() !== id) {
    throw new Error(`${folder.table}: is that of ${table.layerId()}`);
  }
  if (!digestOfFile(folder.meta).equals(table.metaDigest)) {
    throw new Error(`${folder.meta}: is not what the chunk table says`);
  }
  return table;
}

function readRecord(folder: LayerFolder): LayerRecord {
  try {
    return folder.read();
  } catch (error) {
    if (error instanceof SyntaxError) throw new Error(`${folder.record}: is no JSON`);
    throw error;
  }
}

function digestOfFile(path: string): Buffer {
  const fd = openSync(path, 'r');
  try {
    forgetPages(fd);
    const hash = createHash('sha256');
    const part = Buffer.alloc(1 << 20);
    for (let n = readSync(fd, part); n > 0; n = readSync(fd, part))
      hash.update(part.subarray(0, n));
    return hash.digest();
  } finally {
    closeSync(fd);
  }
}

type Content = Pick<LayerReport, 'chunks' | 'bytes' | 'damaged'>;

async function verifyContent(
  folder: LayerFolder,
  table: ChunkTable,
  { onProgress }: VerifyOptions,
): Promise<Content> {
  const map = folder.isComplete ? undefined : openMap(folder, table.count);
  const isHere = (i: number): boolean => folder.isComplete || map?.isHere(i) === true;
  const damaged: number[] = [];
  let chunks = 0;
  let bytes = 0;
  if (!folder.isComplete && map === undefined) return { chunks, bytes, damaged };
  const blob = openSync(folder.blob, 'r');
  try {
    // Of what is in memory nobody knows whether the disk still has it.
    forgetPages(blob);
    let untold = 0;
    for (let i = 0; i < table.count; i++) {
      // `complete` once, not for every chunk: it is a file.
      if (map?.isHere(i) === false) continue;
      // What is taken back while it is read was not damaged.
      if (!isContent(blob, table, i) && isHere(i) && !isContent(blob, table, i)) damaged.push(i);
      chunks++;
      untold += table.length(i);
      if (untold < TURN && i + 1 < table.count) continue;
      bytes += untold;
      onProgress?.(untold);
      untold = 0;
      await turn();
    }
    return { chunks, bytes: bytes + untold, damaged };
  } finally {
    closeSync(blob);
    map?.close();
  }
}

/** Of a layer that is not complete, and that somebody has begun to load. */
function openMap(folder: LayerFolder, count: number): ResidencyMap | undefined {
  if (!existsSync(folder.map)) return undefined;
  try {
    // Takes back what a crash of the machine has left in doubt.
    LoadedLayer.open(folder).close();
  } catch {
    // A loader has done so.
  }
  return ResidencyMap.open(folder.map, count, false);
}

let space = Buffer.alloc(0);

function isContent(blob: number, table: ChunkTable, i: number): boolean {
  const length = table.length(i);
  if (space.length < length) space = Buffer.alloc(length);
  const content = space.subarray(0, length);
  try {
    if (fstatSync(blob).size < table.at(i) + length) return false;
    for (let done = 0; done < length; ) {
      const n = readSync(blob, content, done, length - done, table.at(i) + done);
      if (n === 0) return false;
      done += n;
    }
  } catch {
    // A sector that cannot be read any more.
    return false;
  }
  return createHash('sha256').update(content).digest().equals(table.digest(i));
}

/** Files of the layer with content in these chunks. */
function filesWith(folder: LayerFolder, table: ChunkTable, chunks: readonly number[]): string[] {
  const isDamaged = new Set(chunks);
  const meta = FileSource.open(folder.meta);
  const files: string[] = [];
  try {
    const image = ErofsImage.open(meta, [holeSource(table.blobSize)]);
    eachInode(image, (path, inode) => {
      if ((inode.mode & S.IFMT) !== S.IFREG || files.length >= MOST_FILES) return;
      for (const { where, device, storedAt, length } of image.extents(inode)) {
        if (where !== 'device' || device !== 1) continue;
        for (
          let i = table.find(storedAt);
          i < table.count && table.at(i) < storedAt + length;
          i++
        ) {
          if (!isDamaged.has(i)) continue;
          files.push(path);
          return;
        }
      }
    });
    return files;
  } finally {
    meta.close();
  }
}
