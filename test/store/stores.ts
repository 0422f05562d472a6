// Stores and trees for the tests of this folder.

import { mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { writeComposefs } from '../../src/erofs/composefs.js';
import { type AddOptions, type AddReport, addImage, type WriteImage } from '../../src/store/add.js';
import { initStore, Store } from '../../src/store/store.js';
import { openTreeSource } from '../../src/tree/source.js';
import { tempDir } from '../support/temp.js';

/** Bytes that no two seeds share, and that have no equal blocks. */
export function noise(seed: number, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** Writes files, all of one time. */
export function writeFiles(folder: string, files: Readonly<Record<string, string | Buffer>>): void {
  for (const [name, content] of Object.entries(files)) {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    utimesSync(path, 1700000000, 1700000000);
  }
}

export const writeImage: WriteImage = (tree, sink) =>
  writeComposefs(tree, { splitLinks: true }, sink);

/** An empty store, gone after the test. */
export function makeStore(t: Parameters<typeof tempDir>[0]): Store {
  const path = join(tempDir(t), 'store');
  initStore(path);
  return new Store(path);
}

export async function addFolder(
  store: Store,
  folder: string,
  options: AddOptions = {},
): Promise<AddReport> {
  const source = openTreeSource(folder);
  try {
    return await addImage(store, source.root, writeImage, options);
  } finally {
    source.close();
  }
}
