// A layer that is here learns where else its chunks lie: after a push, or when it is pulled from another repository.
// Called by push/ and pull/. Its content, its id and the numbers of its chunks stay; readers go on with what they have.
// At each moment layer.json knows every origin of the table on disk: origins keep their numbers, and it is written first.

import { readFileSync } from 'node:fs';
import { syncPath } from '../linux/sync-path.js';
import { ChunkTable, NOWHERE } from './chunk-table.js';
import type { LayerFolder, LayerRecord, Origin, Source } from './layer-folder.js';
import { writeDurable } from './write-durable.js';

/**
 * @param table of the same layer (its layerId()), its origins by their numbers in `origins`. Whoever reads table and record
 * while this may run reads the table first.
 */
export function renewLayer(
  folder: LayerFolder,
  table: Uint8Array,
  origins: readonly Origin[],
  source: Source,
): void {
  const record = folder.read();
  const given = new ChunkTable(table);
  if (given.layerId() !== record.id) {
    throw new Error(`${folder.table}: is to be replaced by the table of another layer`);
  }
  const all = [...record.origins];
  const numbers = origins.map(({ digest, size, mediaType }) => {
    const known = all.findIndex((origin) => origin.digest === digest);
    return known >= 0 ? known : all.push({ digest, size, mediaType }) - 1;
  });
  if (all.length >= NOWHERE) {
    throw new Error(`${folder.path}: ${all.length} packs; remove the layer and pull it again`);
  }
  const renewed = given.renumbered(numbers, all.length);
  const [latest] = record.sources;
  const isKnown = latest !== undefined && isSameSource(latest, source);
  if (isKnown && readFileSync(folder.table).equals(renewed)) return;
  const others = record.sources.filter((other) => !isSameSource(other, source));
  const next: LayerRecord = { ...record, origins: all, sources: [source, ...others] };
  writeDurable(folder.record, `${JSON.stringify(next)}\n`);
  syncPath(folder.path);
  writeDurable(folder.table, renewed);
  syncPath(folder.path);
}

/** Whether two sources are one, spoken to in the same way. */
export const isSameSource = (a: Source, b: Source): boolean =>
  a.registry === b.registry && a.repository === b.repository && a.plainHttp === b.plainHttp;
