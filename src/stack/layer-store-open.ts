// Opens a layer store: the layers that it has by their records, and the loader for those that it has not.
// Called by open.ts in the server of the mount; imagefs/layer-store.ts is the filesystem.
// Everything slow is the loader's: this thread answers requests.

import { createHash } from 'node:crypto';
import { closeSync, openSync, rmSync, unlinkSync } from 'node:fs';
import { METADATA, RAW } from '../erofs/composefs-view.js';
import { passthroughPermitted } from '../fuse/server.js';
import { ImageFileSystem } from '../imagefs/image-filesystem.js';
import {
  type LayerSource,
  LayerStoreFileSystem,
  type StoredLayer,
} from '../imagefs/layer-store.js';
import type { LoaderClient } from '../lazy/client.js';
import { LayerFolder } from '../lazy/layer-folder.js';
import {
  blobPath,
  blobsFolder,
  countUse,
  type LayerNote,
  policyDigest,
  readNotes,
} from '../lazy/podman/records.js';
import type { LoaderCommand } from '../lazy/protocol.js';
import { E } from '../linux/errno.js';
import { pread } from '../linux/files.js';
import { mapMemory } from '../linux/memory.js';
import type { FileSystem } from '../vfs/filesystem.js';
import { openImage } from './image-open.js';
import { privilege } from './privilege.js';
import type { LayerStoreSpec } from './spec.js';

/** Blobs that are kept, as they came from the registry, for whoever reads on. */
const BLOBS = 8;
/** Media types of containers/storage's archive.Compression. */
const GZIP = 2;
const ZSTD = 4;

/** @param loading undefined: there is no loader, and nothing is found that is not there. */
export function openLayerStore(
  spec: LayerStoreSpec,
  loading: LoaderClient | undefined,
): FileSystem {
  mapMemory();
  return new LayerStoreFileSystem({
    source: new StoredLayers(spec, loading),
    hash: (reference) => {
      const digest = createHash('sha256').update(reference, 'latin1').digest();
      return { hi: digest.readUInt8(0), lo: digest.readUInt32LE(1) };
    },
    log,
  });
}

const log = (line: string): void => console.error(`varve: ${line}`);

interface Known extends StoredLayer {
  readonly note: LayerNote;
}

class StoredLayers implements LayerSource {
  readonly #spec: LayerStoreSpec;
  readonly #loading: LoaderClient | undefined;
  /** Of the policy.json that was named. */
  readonly #policy: string | undefined;
  /** An engine that is not root has overlays with `userxattr`. */
  readonly #view = privilege().full ? RAW : METADATA;
  readonly #byNumber = new Map<number, Known>();
  readonly #byName = new Map<string, Known>();
  /** Descriptors by digest, the one that was read last behind the others. */
  readonly #blobs = new Map<string, number>();

  constructor(spec: LayerStoreSpec, loading: LoaderClient | undefined) {
    this.#spec = spec;
    this.#loading = loading;
    this.#policy = policyDigest(spec.policyFile);
    for (const note of readNotes(spec.store)) {
      if (LayerFolder.of(spec.store, note.layer).exists) this.#add(note);
    }
    // What a predecessor's readers have left.
    rmSync(blobsFolder(spec.store), { recursive: true, force: true });
    loading?.stay();
  }

  #add(note: LayerNote): void {
    const { number, reference, digest, blob } = note;
    const known = { number, reference, digest, size: blob.size, info: infoOf(note), note };
    this.#byNumber.set(number, known);
    this.#byName.set(`${reference} ${digest}`, known);
  }

  #ask(command: LoaderCommand, done: (reply: object) => void): void {
    if (this.#loading === undefined) done({ error: 'there is no loader' });
    else this.#loading.command(command, done);
  }

  *all(): Iterable<StoredLayer> {
    for (const known of this.#byNumber.values()) if (this.#isAccepted(known)) yield known;
  }

  find(reference: string, digest: string): StoredLayer | undefined {
    const known = this.known(reference, digest);
    return known !== undefined && this.#isAccepted(known) ? known : undefined;
  }

  known(reference: string, digest: string): Known | undefined {
    return this.#byName.get(`${reference} ${digest}`);
  }

  /** What came by another policy than the one that is named is asked for again. */
  #isAccepted({ note }: Known): boolean {
    if (this.#spec.policyFile === undefined) return true;
    return this.#policy !== undefined && note.policy === this.#policy;
  }

  byNumber(number: number): StoredLayer | undefined {
    return this.#byNumber.get(number);
  }

  fetch(reference: string, digest: string, done: (found: boolean) => void): void {
    const { store, plainHttp, authFile, policyFile, trustIndex } = this.#spec;
    const what = {
      store,
      reference,
      digest,
      plainHttp,
      trustIndex,
      ...(authFile ? { authFile } : {}),
      ...(policyFile ? { policyFile } : {}),
    };
    this.#ask({ op: 'layer', ...what }, (reply) => {
      const { error } = reply as { error?: string };
      if (error !== undefined) log(`${reference}: layer ${digest}: ${error}`);
      const found = 'number' in reply;
      if (found) this.#add(reply as LayerNote);
      done(found);
    });
  }

  open({ number }: StoredLayer): ImageFileSystem {
    const { note } = this.#byNumber.get(number) as Known;
    const folder = LayerFolder.of(this.#spec.store, note.layer);
    const serving = { keepAs: `number ${number}`, loading: this.#loading };
    const { image, close } = openImage(folder.meta, [folder.blob], undefined, serving);
    const trusted = passthroughPermitted();
    const label = folder.meta;
    return new ImageFileSystem({ image, label, log, close, trusted, number, view: this.#view });
  }

  readBlob(layer: StoredLayer, out: number, size: number, offset: number): number | undefined {
    const { digest } = (layer as Known).note.blob;
    const fd = this.#blobs.get(digest) ?? this.#openBlob(digest);
    if (fd === undefined) return undefined;
    this.#blobs.delete(digest);
    this.#blobs.set(digest, fd);
    let done = 0;
    while (done < size) {
      const n = pread(fd, out + done, size - done, offset + done);
      if (n === -E.INTR) continue;
      if (n < 0) return n;
      if (n === 0) break;
      done += n;
    }
    return done;
  }

  /** It is compared with its digest before it has this name. Without a name it goes when it is closed. */
  #openBlob(digest: string): number | undefined {
    const path = blobPath(this.#spec.store, digest);
    let fd: number;
    try {
      fd = openSync(path, 'r');
      unlinkSync(path);
    } catch {
      return undefined;
    }
    if (this.#blobs.size >= BLOBS) {
      const [oldest] = this.#blobs;
      if (oldest !== undefined) {
        closeSync(oldest[1]);
        this.#blobs.delete(oldest[0]);
      }
    }
    return fd;
  }

  fetchBlob({ number }: StoredLayer, done: (result: number) => void): void {
    const { store, authFile } = this.#spec;
    this.#ask({ op: 'blob', store, number, ...(authFile ? { authFile } : {}) }, (reply) => {
      const { error } = reply as { error?: string };
      if (error !== undefined) log(`layer ${number}: ${error}`);
      done(error === undefined ? 0 : -E.IO);
    });
  }

  count({ number }: StoredLayer, by: 1 | -1): void {
    try {
      countUse(this.#spec.store, number, by);
    } catch (error) {
      // The engine is not to fail for that.
      log(`layer ${number}: its users cannot be counted: ${(error as Error).message}`);
    }
  }

  close(): void {
    for (const fd of this.#blobs.values()) closeSync(fd);
    this.#blobs.clear();
  }
}

/** A layer as containers/storage writes it to its own layers.json. */
function infoOf({ blob, diffId, bytes }: LayerNote): Uint8Array {
  const compression = /[+.]gzip$/.test(blob.mediaType)
    ? GZIP
    : /[+.]zstd$/.test(blob.mediaType)
      ? ZSTD
      : 0;
  return Buffer.from(
    JSON.stringify({
      'compressed-diff-digest': blob.digest,
      'compressed-size': blob.size,
      'diff-digest': diffId,
      'diff-size': bytes,
      compression,
    }),
  );
}
