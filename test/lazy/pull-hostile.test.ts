// Images that are not what they should be: each is refused with one line that says why, and leaves nothing.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { MemorySource } from '../../src/bytes/source.js';
import { checkImage } from '../../src/erofs/check.js';
import { ErofsImage } from '../../src/erofs/image.js';
import { buildLayer } from '../../src/lazy/build/build-layer.js';
import { type ChunkRecord, ChunkTable, encodeChunkTable } from '../../src/lazy/chunk-table.js';
import { listImages } from '../../src/lazy/image-record.js';
import { checkMeta } from '../../src/lazy/pull/check-layer.js';
import { pullImage } from '../../src/lazy/pull/pull.js';
import { pushLayers } from '../../src/lazy/push/push.js';
import { mapMemory } from '../../src/linux/memory.js';
import { ZstdFrames } from '../../src/linux/zstd-frame.js';
import { RegistryError, type RegistryErrorKind } from '../../src/oci/errors.js';
import type { Descriptor } from '../../src/oci/manifest.js';
import { parseReference } from '../../src/oci/reference.js';
import type { Registry } from '../../src/oci/registry.js';
import { type FakeRegistry, startFakeRegistry } from '../oci/fake-registry.js';
import { plainClient } from '../oci/plain-client.js';
import { tempDir } from '../support/temp.js';
import { recordsOf } from './records-of.js';
import { sampleTree } from './sample-tree.js';

mapMemory();

const OCI = 'application/vnd.oci.image.manifest.v1+json';
const CONFIG = 'application/vnd.oci.image.config.v1+json';
const META = 'application/vnd.varve.layer.meta.v1+zstd';
const CHUNKS = 'application/vnd.varve.layer.chunks.v1+zstd';
const ORDER = 'application/vnd.varve.order.v1';
const PACK = 'application/vnd.varve.pack.v1';

const zstd = new ZstdFrames(3);
const frame = (bytes: Uint8Array): Uint8Array => zstd.compress(bytes).slice();
const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();

/** An image whose parts can be exchanged. */
interface Parts {
  readonly fake: FakeRegistry;
  readonly meta: Buffer;
  readonly records: ChunkRecord[];
  readonly blobSize: number;
  readonly pack: Descriptor;
}

async function goodParts(t: TestContext, folder: string): Promise<Parts> {
  const fake = await startFakeRegistry(t);
  const registry = once(t);
  const layer = await buildLayer(sampleTree({ files: 30 }), join(folder, 'built'));
  await pushLayers(registry, parseReference(`${fake.host}/good:latest`), [layer]);
  const table = new ChunkTable(readFileSync(layer.table));
  const records = recordsOf(table);
  const { digest, size } = layer.read().origins[0] as Descriptor;
  const meta = readFileSync(layer.meta);
  return { fake, meta, records, blobSize: table.blobSize, pack: { mediaType: PACK, digest, size } };
}

const once = (t: TestContext): Registry => plainClient(t, { retries: 0 });

/** What differs from a good image. */
interface Change {
  readonly meta?: Uint8Array;
  readonly records?: (records: ChunkRecord[]) => ChunkRecord[];
  readonly blobSize?: number;
  /** Of the table. */
  readonly bytes?: (table: Uint8Array) => Uint8Array;
  /** Of the blob that should be one zstd frame of the table. */
  readonly frame?: (frame: Uint8Array) => Uint8Array;
  readonly order?: Uint8Array;
  readonly config?: (ids: string[]) => unknown;
  readonly layers?: (layers: Descriptor[]) => Descriptor[];
}

function put(parts: Parts, change: Change, tag: string): void {
  const { fake, pack } = parts;
  const add = (mediaType: string, bytes: Uint8Array): Descriptor => {
    const digest = fake.addBlob(bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const meta = change.meta ?? parts.meta;
  const records = change.records?.(parts.records) ?? parts.records;
  const plain = encodeChunkTable(records, change.blobSize ?? parts.blobSize, 1, sha256(meta));
  const table = change.bytes?.(plain) ?? plain;
  let id = 'sha256:0';
  try {
    id = new ChunkTable(table).layerId();
  } catch {
    // It is no table: that is the point.
  }
  const config = { os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [id] } };
  const document = change.config?.([id]) ?? config;
  const layers = [add(META, frame(meta))];
  layers.push(add(CHUNKS, change.frame?.(frame(table)) ?? frame(table)));
  if (change.order !== undefined) layers.push(add(ORDER, change.order));
  layers.push(pack);
  fake.addManifest('bad', tag, OCI, {
    schemaVersion: 2,
    mediaType: OCI,
    config: add(
      CONFIG,
      Buffer.from(typeof document === 'string' ? document : JSON.stringify(document)),
    ),
    layers: change.layers?.(layers) ?? layers,
  });
}

/** The records with one of them changed. */
const one = (k: number, fields: Partial<ChunkRecord>) => (records: ChunkRecord[]) =>
  records.map((record, i) => (i === k ? { ...record, ...fields } : record));

/** A copy with a number written into it. */
function patched(bytes: Uint8Array, at: number, value: number): Uint8Array {
  const copy = Uint8Array.from(bytes);
  new DataView(copy.buffer).setUint32(at, value, true);
  return copy;
}

/** A zstd frame that says it has more content than is taken. */
const BOMB = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0);

type Row = readonly [
  what: string,
  change: Change | ((parts: Parts) => Change),
  says: RegExp,
  kind?: RegistryErrorKind,
];

const ROWS: readonly Row[] = [
  ['no table', { bytes: () => Buffer.alloc(300) }, /chunk table: is none/],
  ['a table of a later version', { bytes: (table) => patched(table, 8, 2) }, /version 2/],
  ['a table that is cut off', { bytes: (table) => table.slice(0, -1) }, /bytes for 3\d chunks/],
  [
    'a table with more chunks than bytes',
    { bytes: (table) => patched(table, 12, 1e9) },
    /1000000000 chunks/,
  ],
  ['no zstd frame', { frame: () => Buffer.from('plain') }, /is no zstd frame/],
  ['half a zstd frame', { frame: (whole) => whole.slice(0, -20) }, /is no zstd frame of the size/],
  ['a frame of 4 GiB', { frame: () => BOMB }, /at most 1073741824 are taken/, 'limit'],
  ['chunks that overlap', { records: (all) => [all[1] as ChunkRecord, ...all] }, /chunk 1 at byte/],
  ['a chunk without a pack', { records: one(3, { origin: 0xffff }) }, /chunk 3 lies in no pack/],
  ['a chunk behind its pack', { records: one(3, { from: 1e9 }) }, /chunk 3 lies outside of pack 0/],
  ['a chunk of no bytes', { records: one(3, { stored: 0 }) }, /chunk 3 lies outside of pack 0/],
  ['a codec that packs have not', { records: one(3, { codec: 3 }) }, /chunk 3 has codec 3/],
  [
    'a raw chunk that is too short',
    { records: one(3, { codec: 0, stored: 1 }) },
    /chunk 3 is longer than/,
  ],
  [
    'a table for two packs',
    { bytes: (table) => patched(table, 24, 2) },
    /for 2 packs, the manifest has 1/,
  ],
  [
    'a file without its chunks',
    { records: (all) => all.filter((_, i) => i !== 7) },
    /no chunk has all of/,
  ],
  [
    'a file without its last byte',
    { records: (all) => one(7, { length: (all[7]?.length ?? 0) - 1 })(all) },
    /no chunk has all of/,
  ],
  [
    'a blob of another size',
    ({ blobSize }) => ({ blobSize: blobSize + 4096 }),
    /the chunk table one of/,
  ],
  [
    'metadata of another table',
    { bytes: (table) => patched(table, 32, 1) },
    /that of another metadata image/,
  ],
  ['no metadata image', { meta: Buffer.alloc(8192) }, /erofs_super_block/],
  [
    'metadata that is cut off',
    ({ meta }) => ({ meta: meta.subarray(0, 4096) }),
    /2 blocks, the image has 4096 bytes/,
  ],
  [
    'a superblock that was changed',
    ({ meta }) => ({ meta: Buffer.from(patched(meta, 1024 + 64, 1)) }),
    /checksum/,
  ],
  [
    'an order of other chunks',
    { order: Uint8Array.of(0xff, 0xff, 0, 0) },
    /the order names chunk 65535/,
  ],
  [
    'an order that is cut off',
    { order: Uint8Array.of(1, 0, 0) },
    /the order of first use is cut off/,
  ],
  [
    'a configuration of another layer',
    { config: () => ({ rootfs: { diff_ids: ['sha256:1'] } }) },
    /the configuration says sha256:1/,
  ],
  [
    'a configuration of two layers',
    { config: ([id]) => ({ rootfs: { diff_ids: [id, id] } }) },
    /names 2 layers, there are 1/,
  ],
  ['a configuration that is none', { config: () => '{' }, /the configuration: it is no JSON/],
  [
    'an environment that is none',
    { config: () => ({ config: { Env: 'A=B' } }) },
    /Env is no list of texts/,
  ],
  [
    'a table without metadata',
    { layers: (all) => all.slice(1) },
    /chunks\.v1\+zstd has no place there/,
  ],
  [
    'metadata without a table',
    { layers: ([meta, , pack]) => [meta, pack] as Descriptor[] },
    /has no chunk table/,
  ],
  [
    'a layer of another kind among them',
    { layers: (all) => [...all, { ...(all[2] as Descriptor), mediaType: 'text/plain' }] },
    /text\/plain has no place there/,
  ],
  [
    'metadata that is larger than it may be',
    { layers: ([meta, ...rest]) => [{ ...(meta as Descriptor), size: 1 }, ...rest] },
    /size|bytes/,
  ],
];

test('malformed images are refused with their reason, and leave nothing', async (t) => {
  const folder = tempDir(t);
  const parts = await goodParts(t, folder);
  const registry = once(t);
  for (const [i, [what, change, says, kind = 'wrong']] of ROWS.entries()) {
    const tag = `row-${i}`;
    const store = join(folder, tag);
    put(parts, typeof change === 'function' ? change(parts) : change, tag);
    const ref = parseReference(`${parts.fake.host}/bad:${tag}`);
    await assert.rejects(pullImage(registry, ref, store, { lazy: true }), (error: Error) => {
      assert.ok(error instanceof RegistryError, `${what}: ${error.stack}`);
      assert.match(error.message, says, what);
      assert.doesNotMatch(error.message, /\n/, what);
      assert.equal(error.kind, kind, what);
      return true;
    });
    assert.deepEqual(listImages(store), [], what);
    const layers = join(store, 'layers');
    assert.deepEqual(existsSync(layers) ? readdirSync(layers) : [], [], what);
  }
  // The parts as they were are an image.
  put(parts, { order: Uint8Array.of(2, 0, 0, 0) }, 'good');
  const good = parseReference(`${parts.fake.host}/bad:good`);
  const { layers } = await pullImage(registry, good, join(folder, 'store'), { lazy: false });
  assert.equal(layers.length, 1);
});

test('content that is not what the table says is not kept', async (t) => {
  const folder = tempDir(t);
  const parts = await goodParts(t, folder);
  put(parts, {}, 'latest');
  const pack = parts.fake.blobs.get(parts.pack.digest) as Buffer;
  const target = parts.records[9] as ChunkRecord;
  const damaged = Buffer.from(pack);
  damaged.fill(0, target.from, target.from + target.stored);
  parts.fake.blobs.set(parts.pack.digest, damaged);
  const store = join(folder, 'store');
  const ref = parseReference(`${parts.fake.host}/bad:latest`);
  await assert.rejects(pullImage(once(t), ref, store, { lazy: false }), /not what the image says/);
  assert.deepEqual(listImages(store), []);
  // What was right stays, and the rest comes when the registry is in order again.
  parts.fake.blobs.set(parts.pack.digest, pack);
  await pullImage(once(t), ref, store, { lazy: false });
  assert.equal(listImages(store).length, 1);
});

test('a table or an image with bytes changed is refused by name, or covers all that readers read', async (t) => {
  const folder = tempDir(t);
  const layer = await buildLayer(sampleTree({ files: 60 }), folder);
  const plain = new ChunkTable(readFileSync(layer.table));
  const good = { meta: readFileSync(layer.meta), table: plain.renumbered([], 0) };
  let seed = 1;
  const next = (below: number): number => {
    seed = (Math.imul(seed, 0x41c64e6d) + 12345) >>> 0;
    return (seed >>> 8) % below;
  };
  const seen = new Map<string, number>();
  for (let i = 0; i < 300; i++) {
    const meta = Uint8Array.from(good.meta);
    const bytes = Uint8Array.from(good.table);
    const target = i % 2 === 0 ? meta : bytes;
    for (let k = next(3); k >= 0; k--) {
      // Half of the changes of the image are in its superblock and what lies behind it.
      const at = next(next(2) === 0 ? Math.min(target.length, 2048) : target.length);
      target[at] = next(4) === 0 ? 0xff : next(256);
    }
    let outcome = 'accepted';
    try {
      const table = new ChunkTable(bytes);
      checkMeta(new MemorySource(meta), table);
      const image = ErofsImage.open(new MemorySource(meta), [
        {
          size: table.blobSize,
          read(at, out) {
            const last = table.find(at + out.length - 1);
            let end = at;
            for (let k = table.find(at); k <= last; k++) {
              assert.ok(table.at(k) <= end, `byte ${end} lies in no chunk`);
              end = table.at(k) + table.length(k);
            }
            assert.ok(end >= at + out.length);
          },
        },
      ]);
      assert.deepEqual([...checkImage(image)], []);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      outcome = (error as Error).constructor.name;
    }
    seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
  }
  // What is damaged of an image is a problem that its check finds; little is left to be thrown.
  const known = ['accepted', 'ChunkTableError', 'LayerCheckError', 'ErofsError', 'LayerImageError'];
  assert.deepEqual(
    [...seen.keys()].filter((name) => !known.includes(name)),
    [],
  );
  for (const name of known.slice(0, 3)) assert.ok((seen.get(name) ?? 0) > 20, name);
});
