// A layer that is here learns where else its chunks lie: after a push, or when it is pulled from another repository.
// Called by push/, pull/ and tar/. Its content, its id and the numbers of its chunks stay; readers go on with what they have.
// At each moment layer.json knows every origin of each table on disk: origins keep their numbers, and it is written first. The table that
// is replaced stays beside it: what the other registry has may be wrong.

import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs';
import { lockFileSoon } from '../linux/peer.js';
import { syncPath } from '../linux/sync-path.js';
import { ChunkTable, NOWHERE } from './chunk-table.js';
import type { LayerFolder, LayerRecord, Origin, Source } from './layer-folder.js';
import { writeDurable } from './write-durable.js';

/** Tables that are kept beside the one in use. */
const MOST_OLDER = 3;

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
  alone(folder, (record) => {
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
    const before = readFileSync(folder.table);
    const [latest] = record.sources;
    const isKnown = latest !== undefined && isSameSource(latest, source);
    if (isKnown && isSamePlaces(before, renewed)) return;
    const others = record.sources.filter((other) => !isSameSource(other, source));
    const older = keepOlder(folder, record, before, renewed);
    const next: LayerRecord = { ...record, origins: all, sources: [source, ...others], older };
    writeDurable(folder.record, `${JSON.stringify(next)}\n`);
    syncPath(folder.path);
    writeDurable(folder.table, renewed);
    syncPath(folder.path);
    for (const name of record.older ?? []) {
      if (!older.includes(name)) rmSync(folder.olderTable(name), { force: true });
    }
  });
}

/** Puts the table `before` beside the new one. @returns the names of those that are there now, the latest first. */
function keepOlder(
  folder: LayerFolder,
  { older = [] }: LayerRecord,
  before: Uint8Array,
  renewed: Uint8Array,
): readonly string[] {
  const others = older.filter((name) => name !== nameOf(renewed));
  const known = new ChunkTable(before);
  // A layer that was built here lies nowhere before it is pushed.
  if (known.origins === 0 || isSamePlaces(before, renewed)) return others;
  const name = nameOf(before);
  writeDurable(folder.olderTable(name), before);
  return [name, ...others.filter((other) => other !== name)].slice(0, MOST_OLDER);
}

/** Another repository that has the same blobs. */
export function addSource(folder: LayerFolder, source: Source): void {
  alone(folder, (record) => {
    if (record.sources.some((one) => isSameSource(one, source))) return;
    const more: LayerRecord = { ...record, sources: [...record.sources, source] };
    writeDurable(folder.record, `${JSON.stringify(more)}\n`);
  });
}

/** One at a time: what two write at once would be no record of either's table. @throws Error. */
function alone(folder: LayerFolder, change: (record: LayerRecord) => void): void {
  const fd = openSync(folder.path, 'r');
  try {
    if (lockFileSoon(fd) < 0) {
      throw new Error(`${folder.path}: is being changed by another process: try again`);
    }
    change(folder.read());
  } finally {
    closeSync(fd);
  }
}

/** By what it says of places, however many origins there are beside those. */
function nameOf(table: Uint8Array): string {
  return createHash('sha256').update(withoutCount(table)).digest('hex').slice(0, 32);
}

const isSamePlaces = (a: Uint8Array, b: Uint8Array): boolean =>
  Buffer.from(withoutCount(a)).equals(withoutCount(b));

function withoutCount(bytes: Uint8Array): Uint8Array {
  const table = new ChunkTable(bytes);
  const same = Array.from({ length: table.origins }, (_, number) => number);
  return table.renumbered(same, 0);
}

/** Whether two sources are one, spoken to in the same way. */
export const isSameSource = (a: Source, b: Source): boolean =>
  a.registry === b.registry && a.repository === b.repository && a.plainHttp === b.plainHttp;
