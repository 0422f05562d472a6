// A program that is started: all that it needs comes before anybody asks for it, and nothing else does.
// Under test: src/lazy/programs.ts, src/lazy/load/guess.ts, through a pull from a registry and a loader as a library.
// The oracle is what the loader of this machine would take (boot/build/elf.ts, tested against the machine's own there).

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { sharedLibraries } from '../../src/boot/build/elf.js';
import { holeSource } from '../../src/bytes/source.js';
import { eachInode } from '../../src/erofs/each-inode.js';
import { ErofsImage } from '../../src/erofs/image.js';
import { buildLayer } from '../../src/lazy/build/build-layer.js';
import { ChunkTable } from '../../src/lazy/chunk-table.js';
import { LayerFolder } from '../../src/lazy/layer-folder.js';
import { Loader } from '../../src/lazy/load/loader.js';
import { registryRanges } from '../../src/lazy/load/registry-ranges.js';
import { ProgramList } from '../../src/lazy/programs.js';
import { pullImage } from '../../src/lazy/pull/pull.js';
import { pushLayers } from '../../src/lazy/push/push.js';
import { ResidencyMap } from '../../src/lazy/residency.js';
import { FileSource } from '../../src/linux/file-source.js';
import { mapMemory } from '../../src/linux/memory.js';
import { parseReference } from '../../src/oci/reference.js';
import { Registry } from '../../src/oci/registry.js';
import { openTreeSource } from '../../src/tree/source.js';
import { startFakeRegistry } from '../oci/fake-registry.js';
import { tempDir } from '../support/temp.js';
import { use } from './users.js';

mapMemory();

/** Puts a program's file under `root` at its own path, and the link by which it is called. */
function put(root: string, path: string, as = path): void {
  const real = realpathSync(path);
  const target = as === path ? real : as;
  mkdirSync(dirname(join(root, target)), { recursive: true });
  copyFileSync(real, join(root, target));
  if (as !== path || basename(real) === basename(path)) return;
  symlinkSync(basename(real), join(root, dirname(real), basename(path)));
}

async function layerOf(root: string, store: string): Promise<LayerFolder> {
  const { root: tree, close } = await openTreeSource(root);
  try {
    // A chunk of its own for each 16 KiB: programs of the essential packages are small.
    return await buildLayer(tree, store, { chunkSize: 16 << 10 });
  } finally {
    close();
  }
}

/** Chunks of each regular file. */
function chunksOf(folder: LayerFolder): Map<string, number[]> {
  const table = new ChunkTable(readFileSync(folder.table));
  const meta = FileSource.open(folder.meta);
  const image = ErofsImage.open(meta, [holeSource(table.blobSize)]);
  const files = new Map<string, number[]>();
  eachInode(image, (path, inode) => {
    const chunks = [...image.extents(inode)]
      .filter(({ device }) => device === 1)
      .flatMap(({ storedAt, length }) => {
        const [first, last] = [table.find(storedAt), table.find(storedAt + length - 1)];
        return Array.from({ length: last - first + 1 }, (_, k) => first + k);
      });
    if (chunks.length > 0) files.set(path, [...new Set(chunks)]);
  });
  meta.close();
  return files;
}

interface Place {
  readonly loader: Loader;
  /** The program's layer, and that of the libraries. */
  readonly upper: LayerFolder;
  readonly lower: LayerFolder;
  /** Whether all of the file is here; @returns undefined for a file that is not in the layer. */
  isHere(folder: LayerFolder, path: string): boolean | undefined;
}

const PROGRAM = '/bin/ls';
/** A library that it does not need. */
const UNUSED = join(dirname(sharedLibraries(PROGRAM)[0] as string), 'libm.so.6');

async function place(t: { after(fn: () => void | Promise<void>): void }): Promise<Place> {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const [above, below] = [join(folder, 'above'), join(folder, 'below')];
  put(above, PROGRAM, '/opt/bin/prog');
  put(above, '/bin/cat', '/opt/bin/cat');
  writeFileSync(join(above, 'opt/table'), randomBytes(200_000));
  writeFileSync(join(above, 'opt/large'), randomBytes(5_000_000));
  for (const path of [...sharedLibraries(PROGRAM), UNUSED]) put(below, path);
  const layers = [await layerOf(below, folder), await layerOf(above, folder)];
  const registry = new Registry({ plainHttp: true, env: {} });
  t.after(() => registry.close());
  const ref = parseReference(`${fake.host}/programs:1`);
  await pushLayers(registry, ref, layers);
  const store = join(folder, 'store');
  const image = await pullImage(registry, ref, store, { lazy: true, plainHttp: true });
  const [lower, upper] = image.layers.map((id) => LayerFolder.of(store, id));
  const loader = new Loader({ ...registryRanges({ env: {} }), syncAfter: 5 });
  t.after(() => loader.end());
  const known = new Map<string, Map<string, number[]>>();
  return {
    loader,
    upper: upper as LayerFolder,
    lower: lower as LayerFolder,
    isHere: (of, path) => {
      const files = known.get(of.path) ?? chunksOf(of);
      known.set(of.path, files);
      const chunks = files.get(path);
      const { count } = new ChunkTable(readFileSync(of.table));
      const map = ResidencyMap.open(of.map, count, false);
      try {
        return chunks?.every((i) => map.isHere(i));
      } finally {
        map.close();
      }
    },
  };
}

const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await sleep(5);
};

test('the first chunk of a program brings all of it, its loader and its libraries, from whichever layer has them', async (t) => {
  const at = await place(t);
  const upper = await use(at.loader, at.upper.path, { prefetch: true });
  await use(at.loader, at.lower.path, { prefetch: true });
  const chunks = chunksOf(at.upper).get('/opt/bin/prog') as number[];
  assert.ok(chunks.length > 4);
  upper.open.want(chunks[0] as number, 1);
  const needed = sharedLibraries(PROGRAM).map((path) => realpathSync(path));
  assert.ok(needed.length > 2);
  await until(() => at.isHere(at.upper, '/opt/bin/prog') === true);
  for (const path of needed) await until(() => at.isHere(at.lower, path) === true);
  // What nothing needs does not come: one more chunk asked for comes behind everything that was guessed.
  const large = chunksOf(at.upper).get('/opt/large') as number[];
  upper.open.want(large[100] as number, 1);
  await upper.told.until(({ arrived }) => arrived.has(large[100] as number));
  assert.equal(at.isHere(at.upper, '/opt/bin/cat'), false);
  assert.equal(at.isHere(at.upper, '/opt/table'), false);
  assert.equal(at.isHere(at.upper, '/opt/large'), false);
  assert.equal(at.isHere(at.lower, realpathSync(UNUSED)), false);
  // A file of a few chunks is read whole.
  upper.open.want((chunksOf(at.upper).get('/opt/table') as number[])[0] as number, 1);
  await until(() => at.isHere(at.upper, '/opt/table') === true);
});

test('a program that is about to be started is named before anybody reads it', async (t) => {
  const at = await place(t);
  const folders = [at.upper.path, at.lower.path];
  for (const folder of folders) await use(at.loader, folder, { prefetch: true });
  await at.loader.perform({
    op: 'starts',
    programs: ['no-such-program', '/opt/bin/prog'],
    folders,
  });
  const needed = sharedLibraries(PROGRAM).map((path) => realpathSync(path));
  await until(() => at.isHere(at.upper, '/opt/bin/prog') === true);
  for (const path of needed) await until(() => at.isHere(at.lower, path) === true);
});

test('libraries come from layers of the same mount alone, also where a layer has got its list since it was begun', async (t) => {
  const at = await place(t);
  const folders = [at.upper.path, at.lower.path];
  const list = readFileSync(at.upper.programs);
  rmSync(at.upper.programs);
  const upper = await use(at.loader, at.upper.path, { prefetch: true }, 'process 1');
  await use(at.loader, at.lower.path, { prefetch: true }, 'process 2');
  const chunks = chunksOf(at.upper).get('/opt/bin/prog') as number[];
  upper.open.want(chunks[0] as number, 1);
  await upper.told.until(({ arrived }) => arrived.has(chunks[0] as number));
  assert.equal(at.isHere(at.upper, '/opt/bin/prog'), false);
  writeFileSync(at.upper.programs, list);
  await at.loader.perform({ op: 'starts', programs: ['prog'], folders });
  await until(() => at.isHere(at.upper, '/opt/bin/prog') === true);
  const large = chunksOf(at.upper).get('/opt/large') as number[];
  upper.open.want(large[100] as number, 1);
  await upper.told.until(({ arrived }) => arrived.has(large[100] as number));
  const [library] = sharedLibraries(PROGRAM);
  assert.equal(at.isHere(at.lower, realpathSync(library as string)), false);
});

test('prefetch=off: what is wanted comes, and nothing that was guessed', async (t) => {
  const at = await place(t);
  const folders = [at.upper.path, at.lower.path];
  const upper = await use(at.loader, at.upper.path, { prefetch: false });
  await use(at.loader, at.lower.path, { prefetch: false });
  await at.loader.perform({ op: 'starts', programs: ['prog'], folders });
  const chunks = chunksOf(at.upper).get('/opt/bin/prog') as number[];
  upper.open.want(chunks[0] as number, 1);
  await upper.told.until(({ arrived }) => arrived.has(chunks[0] as number));
  const large = chunksOf(at.upper).get('/opt/large') as number[];
  upper.open.want(large[100] as number, 1);
  await upper.told.until(({ arrived }) => arrived.has(large[100] as number));
  assert.equal(at.isHere(at.upper, '/opt/bin/prog'), false);
  const [library] = sharedLibraries(PROGRAM);
  assert.equal(at.isHere(at.lower, realpathSync(library as string)), false);
});

test('files are found by any byte of theirs, libraries by name and through links, also where files share content', (t) => {
  const folder = new LayerFolder(tempDir(t));
  const recorded = {
    version: 1,
    files: [
      ['/usr/lib/gcc/libx.so.1', 90_000, 500],
      ['/usr/lib/x86_64-linux-gnu/libx.so.1.2', 0, 60_000],
      ['/usr/bin/same', 4096, 100],
      ['/usr/lib/libx.so.1.2', 200_000, 70],
      ['/usr/bin/dash', 100_000, 1000],
    ],
    links: [
      ['/usr/lib/x86_64-linux-gnu/liby.so', 'liby.so.1'],
      ['/usr/lib/x86_64-linux-gnu/liby.so.1', '../libx.so.1.2'],
      ['/usr/bin/sh', 'dash'],
      ['/usr/bin/loop', 'loop'],
    ],
    data: [[300_000, 150_000]],
  };
  writeFileSync(folder.programs, JSON.stringify(recorded));
  const list = ProgramList.read(folder);
  assert.ok(list !== undefined);
  const at = (from: number, to = from + 1) => list.in(from, to).map(({ at: start }) => start);
  assert.deepEqual(at(59_999), [0]);
  assert.deepEqual(at(60_000), []);
  assert.deepEqual(at(4100), [0, 4096]);
  assert.deepEqual(at(5000), [0]);
  assert.deepEqual(at(59_000, 90_001), [0, 90_000]);
  assert.deepEqual(at(449_999), [300_000]);
  assert.deepEqual(at(450_000), []);
  assert.equal(list.named('libx.so.1.2')?.path, '/usr/lib/x86_64-linux-gnu/libx.so.1.2');
  assert.equal(list.named('liby.so')?.path, '/usr/lib/x86_64-linux-gnu/libx.so.1.2');
  assert.equal(list.named('sh')?.path, '/usr/bin/dash');
  assert.equal(list.named('loop'), undefined);
  writeFileSync(folder.programs, '{"version":1,');
  assert.equal(ProgramList.read(folder), undefined);
});
