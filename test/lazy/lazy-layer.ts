// A lazy layer for tests: a tree as a layer of which nothing is here yet, and a file that holds all of its content.
// Used by tests of the loader's ways in; what a registry would give is read from that file by kernel-loader.ts.

import { copyFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { buildLayer } from '../../src/lazy/build/build-layer.js';
import { ChunkTable, Codec, encodeChunkTable } from '../../src/lazy/chunk-table.js';
import { LayerFolder, type LayerRecord } from '../../src/lazy/layer-folder.js';
import { scan } from '../../src/tree/scan.js';
import { recordsOf } from './records-of.js';

export interface LazyLayer {
  readonly folder: LayerFolder;
  readonly table: ChunkTable;
  /** Folder of the files that tell its registry what to do; see kernel-loader.ts. */
  readonly control: string;
  /** The same layer, complete. */
  readonly complete: LayerFolder;
}

/** @param place a folder of the test's. @param store where the lazy one lies, if elsewhere. */
export async function lazyLayer(
  tree: string,
  place: string,
  { chunkSize = 131072, store = join(place, 'lazy') } = {},
): Promise<LazyLayer> {
  const complete = await buildLayer(scan(tree).root, join(place, 'complete'), { chunkSize });
  const folder = new LayerFolder(join(store, 'layers', basename(complete.path)));
  mkdirSync(folder.path, { recursive: true });
  const control = join(place, 'control');
  mkdirSync(control, { recursive: true });
  const whole = new ChunkTable(readFileSync(complete.table));
  const records = recordsOf(whole).map((record) => ({
    ...record,
    stored: record.length,
    from: record.at,
    skip: 0,
    origin: 0,
    codec: Codec.RAW,
  }));
  const table = encodeChunkTable(records, whole.blobSize, 1, whole.metaDigest);
  writeFileSync(folder.table, table);
  const record: LayerRecord = {
    ...complete.read(),
    origins: [{ digest: `sha256:${'0'.repeat(64)}`, size: whole.blobSize, mediaType: 'test' }],
    sources: [{ registry: control, repository: complete.blob }],
  };
  writeFileSync(folder.record, JSON.stringify(record));
  copyFileSync(complete.meta, folder.meta);
  writeFileSync(folder.blob, '');
  truncateSync(folder.blob, whole.blobSize);
  return { folder, table: new ChunkTable(table), control, complete };
}
