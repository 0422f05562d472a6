// What the loader does for layer stores: finds layers by an image's name and a digest, and fetches blobs whole.
// Given to stack/run-loader.ts by the program stack/loader.ts; one client of registries for each way of speaking to them.
// A failure goes back as a line; the server of the layer store answers its readers.

import { createWriteStream, mkdirSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { parseReference } from '../../oci/reference.js';
import { Registry, type RegistryOptions } from '../../oci/registry.js';
import type { FurtherCommands } from '../load/connection.js';
import type { LoaderCommand } from '../protocol.js';
import { LayerFinder } from './find-layer.js';
import { blobPath, readNote } from './records.js';

type Asked<Op> = Extract<LoaderCommand, { readonly op: Op }>;

/** @param options of each Registry but what a layer store says itself. */
export function layerStoreCommands(
  options: Omit<RegistryOptions, 'plainHttp' | 'authFile' | 'policyFile'>,
): FurtherCommands {
  const registries = new Map<string, Registry>();
  const finders = new Map<string, LayerFinder>();

  const registryOf = (plainHttp: boolean, authFile?: string, policyFile?: string): Registry => {
    const key = JSON.stringify([plainHttp, authFile, policyFile]);
    const registry =
      registries.get(key) ?? new Registry({ ...options, plainHttp, authFile, policyFile });
    registries.set(key, registry);
    return registry;
  };

  const findLayer = async (asked: Asked<'layer'>): Promise<object> => {
    const { store, plainHttp, authFile, policyFile, trustIndex } = asked;
    const key = JSON.stringify([store, plainHttp, authFile, policyFile, trustIndex]);
    const finder =
      finders.get(key) ??
      new LayerFinder({
        registry: registryOf(plainHttp, authFile, policyFile),
        store,
        plainHttp,
        trustIndex,
        policyFile,
      });
    finders.set(key, finder);
    return (await finder.find(asked.reference, asked.digest)) ?? {};
  };

  const fetchBlob = async ({ store, number, authFile }: Asked<'blob'>): Promise<object> => {
    const note = readNote(store, number);
    if (note === undefined) throw new Error(`there is no layer ${number}`);
    const registry = registryOf(note.plainHttp === true, authFile);
    const path = blobPath(store, note.blob.digest);
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const part = `${path}.${process.pid}`;
    try {
      // Verified before its last piece is given.
      await pipeline(
        await registry.blob(parseReference(note.reference), note.blob),
        createWriteStream(part, { mode: 0o600 }),
      );
      renameSync(part, path);
    } finally {
      rmSync(part, { force: true });
    }
    return {};
  };

  return (command) => {
    if (command.op === 'layer') return findLayer(command);
    return command.op === 'blob' ? fetchBlob(command) : undefined;
  };
}
