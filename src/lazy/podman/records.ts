// Which layers a layer store shows, under which image's name: one file a layer of an image, NUMBER.json in STORE/layer-store.
// Written by find-layer.ts in the loader, which is the only writer; read by the server of the layer store at its start and
// whenever the loader has found one. Numbers never mean another layer again: nodeids are made of them.
// How often engines use one stands in NUMBER.uses, written by the server of the layer store alone.
// What podman has of a layer is a link into the layer store: records outlive mounts and reboots.

import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { syncPath } from '../../linux/sync-path.js';
import { writeDurable } from '../write-durable.js';

export interface LayerNote {
  readonly version: 1;
  readonly number: number;
  /** The image's name as it was asked for. */
  readonly reference: string;
  /** `sha256:HEX`, the name of the layer for whoever asks: the digest of its blob, or of the table of contents in it. */
  readonly digest: string;
  /** Its blob in the registry. */
  readonly blob: { readonly digest: string; readonly size: number; readonly mediaType: string };
  /** `sha256:HEX` of the uncompressed tar archive. */
  readonly diffId: string;
  /** The layer in the image store. */
  readonly layer: string;
  /** Bytes of that archive; about so many (those of all files) where nobody has said it. */
  readonly bytes: number;
  readonly plainHttp?: boolean;
  /** policyDigest() of the file that accepted the image; absent: that of the machine or the user did. */
  readonly policy?: string;
}

/** What a policy.json says, as a digest; undefined where none is named, or it cannot be read. */
export function policyDigest(file: string | undefined): string | undefined {
  if (file === undefined) return undefined;
  try {
    return createHash('sha256').update(readFileSync(file)).digest('hex');
  } catch {
    return undefined;
  }
}

/** Numbers are of 20 bits, and 0 is none. */
const MOST = (1 << 20) - 1;

const folderOf = (store: string): string => join(store, 'layer-store');

/** All that can be read; what cannot is no record. */
export function readNotes(store: string): LayerNote[] {
  const notes: LayerNote[] = [];
  for (const file of numbersIn(store)) {
    const note = readNote(store, file);
    if (note !== undefined) notes.push(note);
  }
  return notes;
}

/** @returns undefined where there is none of that number. */
export function readNote(store: string, number: number): LayerNote | undefined {
  try {
    const path = join(folderOf(store), `${number}.json`);
    const note = JSON.parse(readFileSync(path, 'utf8')) as LayerNote;
    return note.version === 1 && note.number === number ? note : undefined;
  } catch {
    return undefined;
  }
}

/** Gives a layer of an image a number, or the one that it has. On disk when this returns. */
export function writeNote(store: string, note: Omit<LayerNote, 'version' | 'number'>): LayerNote {
  const folder = folderOf(store);
  mkdirSync(folder, { recursive: true });
  const known = readNotes(store).find(
    ({ reference, digest }) => reference === note.reference && digest === note.digest,
  );
  const number = known?.number ?? Math.max(lastNumber(store), ...numbersIn(store), 0) + 1;
  if (number > MOST) throw new Error(`${folder}: has had ${MOST} layers, and takes no more`);
  const written: LayerNote = { version: 1, number, ...note };
  writeDurable(join(folder, 'last'), `${Math.max(number, lastNumber(store))}\n`);
  writeDurable(join(folder, `${number}.json`), `${JSON.stringify(written)}\n`);
  syncPath(folder);
  return written;
}

/** Takes away the records of an image's layers. @returns whether there were any. */
export function forgetLayers(store: string, reference: string): boolean {
  const notes = readNotes(store).filter((note) => note.reference === reference);
  for (const { number } of notes) {
    rmSync(join(folderOf(store), `${number}.json`), { force: true });
    rmSync(usesPath(store, number), { force: true });
  }
  return notes.length > 0;
}

const usesPath = (store: string, number: number): string => join(folderOf(store), `${number}.uses`);

/**
 * An engine uses a layer once more (1) or once less (-1). Called by the server of the layer store between two requests, so nothing is
 * synced: after a crash of the machine the number is about right.
 */
export function countUse(store: string, number: number, by: 1 | -1): void {
  const uses = Math.max(0, usesOf(store, number) + by);
  const path = usesPath(store, number);
  if (uses === 0) {
    rmSync(path, { force: true });
    return;
  }
  writeFileSync(`${path}.new`, `${uses}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** How often engines use a layer: layers of their own that are links to it, and lookups that go on. */
export function usesOf(store: string, number: number): number {
  try {
    return Number.parseInt(readFileSync(usesPath(store, number), 'utf8'), 10) || 0;
  } catch {
    return 0;
  }
}

/** Layers of an image that engines use. */
export function usedLayers(store: string, reference: string): number {
  return readNotes(store).filter(
    (note) => note.reference === reference && usesOf(store, note.number) > 0,
  ).length;
}

/** Where a layer lies as it came from the registry, while somebody reads it so. */
export function blobPath(store: string, digest: string): string {
  return join(blobsFolder(store), digest.replace(':', '-'));
}

/** All of these: nobody reads them when a server begins. */
export function blobsFolder(store: string): string {
  return join(folderOf(store), 'blobs');
}

function lastNumber(store: string): number {
  try {
    return Number.parseInt(readFileSync(join(folderOf(store), 'last'), 'utf8'), 10) || 0;
  } catch {
    return 0;
  }
}

function numbersIn(store: string): number[] {
  let names: string[];
  try {
    names = readdirSync(folderOf(store));
  } catch {
    return [];
  }
  return names
    .filter((name) => /^[0-9]+\.json$/.test(name))
    .map((name) => Number.parseInt(name, 10));
}
