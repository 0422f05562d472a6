// Many layers in one filesystem, found when they are asked for: MOUNT/base64(REFERENCE)/DIGEST/{diff,info,blob}.
// Served by stack/server.ts for `varve layer-store`; a layer's tree (diff) is an ImageFileSystem, numbered among the others.
// Follows: additional layer stores of containers/storage 1.43 and later (drivers/overlay/overlay.go), with `:ref`.

import { DT, S, SEEK } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { getBytes, u8, u32 } from '../linux/memory.js';
import { ATTR_SIZE, Attr, Entry, KSTATFS_SIZE, Kstatfs } from '../vfs/attr.js';
import type { DirSink, FileSystem, Host, OpenReply, Request } from '../vfs/filesystem.js';
import { OPEN, PARKED } from '../vfs/filesystem.js';
import { type ImageFileSystem, imageNumber } from './image-filesystem.js';
import { ReadOnlyFileSystem } from './read-only.js';

/** A layer that is there: its metadata at least. */
export interface StoredLayer {
  /** Above 0, below 2^20: it never means another layer. */
  readonly number: number;
  /** The image's name as whoever asked wrote it. */
  readonly reference: string;
  /** `sha256:HEX`, as the image's manifest names the layer. */
  readonly digest: string;
  /** Bytes of the blob as it lies in the registry. */
  readonly size: number;
  /** Content of `info`. */
  readonly info: Uint8Array;
}

/** Where layers come from. `done` is called later, on the server's thread. */
export interface LayerSource {
  /** Layers that are there, known to this process, and may be used. */
  all(): Iterable<StoredLayer>;
  find(reference: string, digest: string): StoredLayer | undefined;
  /** As find(), also of one that may not be used any more. */
  known(reference: string, digest: string): StoredLayer | undefined;
  byNumber(number: number): StoredLayer | undefined;
  /** Has a layer's metadata fetched. `done` gets false when there is no such layer, or it cannot be had. */
  fetch(reference: string, digest: string, done: (found: boolean) => void): void;
  /** The tree of a layer. @throws when it cannot be opened. */
  open(layer: StoredLayer): ImageFileSystem;
  /** As pread(2), of the layer as it lies in the registry; undefined: it is not here. */
  readBlob(layer: StoredLayer, out: number, size: number, offset: number): number | undefined;
  /** Has that fetched, whole. `done` gets 0 or -errno. */
  fetchBlob(layer: StoredLayer, done: (result: number) => void): void;
  /** Somebody uses a layer once more (1), or once less (-1). */
  count(layer: StoredLayer, by: 1 | -1): void;
  close(): void;
}

/** Kinds of nodes outside of `diff`, in bits 8 to 11 of a nodeid's upper half. The root is none of them. */
const KIND = { reference: 1, layer: 2, info: 3, blob: 4 } as const;
const KIND_SHIFT = 8;
const ROOT = 1;
const ROOT_REF = { kind: 0, lo: ROOT } as const;

/** Milliseconds for which a layer that was not found is not asked for again: whoever looks tries three names. */
const FAILED_FOR = 2000;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
const BASE64 = /^[A-Za-z0-9+]{4,}={0,2}$/;
const FILES = ['diff', 'info', 'blob'] as const;

interface Node {
  readonly kind: number;
  readonly lo: number;
  readonly hi: number;
}

/** A name in a directory of this filesystem's own. */
interface Name {
  readonly name: string;
  readonly type: number;
  readonly put: (out: number) => number;
}

export interface LayerStoreOptions {
  readonly source: LayerSource;
  /** A number of 40 bits for a reference, in halves of 8 and 32: always the same. */
  readonly hash: (reference: string) => { readonly hi: number; readonly lo: number };
  readonly log: (line: string) => void;
  readonly clock?: () => number;
}

export class LayerStoreFileSystem extends ReadOnlyFileSystem implements FileSystem {
  readonly listsAhead = true;
  readonly #options: LayerStoreOptions;
  readonly #source: LayerSource;
  readonly #clock: () => number;
  readonly #uid = process.geteuid?.() ?? 0;
  readonly #gid = process.getegid?.() ?? 0;
  #host!: Host;
  readonly #images = new Map<number, ImageFileSystem>();
  /** References by the nodeid of their directory. */
  readonly #references = new Map<number, string>();
  /** Layers that were not found, and until when that counts. */
  readonly #failed = new Map<string, number>();
  /** Requests that wait for a layer or a blob. */
  readonly #waiting = new Map<string, object[]>();

  constructor(options: LayerStoreOptions) {
    super();
    this.#options = options;
    this.#source = options.source;
    this.#clock = options.clock ?? (() => performance.now());
  }

  start(host: Host): void {
    this.#host = host;
  }

  /** Nodeids mean the same in every process: references are known by their hash, layers by their number. */
  succeed(host: Host): void {
    this.#host = host;
  }

  stop(): void {
    for (const image of this.#images.values()) image.stop();
    this.#source.close();
  }

  forget(): void {}

  lookup(r: Request, name: number, nameLen: number, out: number): number {
    const image = this.#imageOf(r.nodeHi);
    if (image !== undefined) return image.lookup(r, name, nameLen, out);
    const node = nodeOf(r);
    const text = getBytes(name, nameLen);
    if (node === undefined) return -E.STALE;
    // What is not there now may be later: a negative answer without an errno would be remembered.
    switch (node.kind) {
      case 0:
        return this.#lookUpReference(text, out);
      case KIND.reference:
        return this.#lookUpLayer(r, node, text, out);
      case KIND.layer:
        return this.#lookUpFile(node, text, out);
      default:
        return -E.NOTDIR;
    }
  }

  #lookUpReference(name: string, out: number): number {
    const reference = referenceOf(name);
    return reference === undefined ? -E.NOENT : this.#putReference(reference, out);
  }

  #lookUpLayer(r: Request, node: Node, digest: string, out: number): number {
    const reference = this.#referenceAt(node);
    if (reference === undefined) return -E.STALE;
    if (!DIGEST.test(digest)) return -E.NOENT;
    const found = this.#source.find(reference, digest);
    if (found !== undefined) return this.#putNode(KIND.layer, found.number, out);
    const key = `${reference} ${digest}`;
    const until = this.#failed.get(key);
    if (until !== undefined && this.#clock() < until) return -E.NOENT;
    this.#failed.delete(key);
    // A practised request (fuse/rehearse.ts) asks nobody.
    if (r.uniqueLo === 0 && r.uniqueHi === 0) return -E.NOENT;
    return this.#park(key, (resume) =>
      this.#source.fetch(reference, digest, (isThere) => {
        if (isThere) this.#added(reference);
        else this.#failed.set(key, this.#clock() + FAILED_FOR);
        resume();
      }),
    );
  }

  /** Saves the current request until what it needs has been fetched, once for all who wait for that. */
  #park(key: string, fetch: (resume: () => void) => void): number {
    const saved = this.#host.defer();
    const others = this.#waiting.get(key);
    if (others !== undefined) {
      others.push(saved);
      return PARKED;
    }
    const waiting = [saved];
    this.#waiting.set(key, waiting);
    fetch(() => {
      this.#waiting.delete(key);
      for (const one of waiting) this.#host.resume(one);
    });
    return PARKED;
  }

  /** The kernel may remember listings. */
  #added(reference: string): void {
    this.#host.invalInode(ROOT, 0, 0, 0);
    const { lo, hi } = this.#referenceNode(reference);
    this.#host.invalInode(lo, hi, 0, 0);
  }

  #lookUpFile(node: Node, name: string, out: number): number {
    const layer = this.#source.byNumber(node.lo);
    if (layer === undefined) return -E.STALE;
    switch (name) {
      case 'diff':
        return this.#putRoot(layer, out);
      case 'info':
        return this.#putNode(KIND.info, layer.number, out);
      case 'blob':
        return this.#putNode(KIND.blob, layer.number, out);
      default:
        return -E.NOENT;
    }
  }

  #putRoot(layer: StoredLayer, out: number): number {
    const image = this.#imageOf(layer.number << 12);
    return image === undefined ? -E.IO : image.rootEntry(out);
  }

  /** The tree of a layer; undefined for a nodeid outside of all of them, or where it cannot be opened. */
  #imageOf(nodeHi: number): ImageFileSystem | undefined {
    const number = imageNumber(nodeHi);
    if (number === 0) return undefined;
    const known = this.#images.get(number);
    if (known !== undefined) return known;
    const layer = this.#source.byNumber(number);
    if (layer === undefined) return undefined;
    try {
      const image = this.#source.open(layer);
      image.start(this.#host);
      this.#images.set(number, image);
      return image;
    } catch (error) {
      const what = error instanceof Error ? error.message : String(error);
      this.#options.log(`${layer.reference}: layer ${layer.digest}: ${what}`);
      return undefined;
    }
  }

  #referenceNode(reference: string): { lo: number; hi: number } {
    const { hi, lo } = this.#options.hash(reference);
    return { lo, hi: (KIND.reference << KIND_SHIFT) | hi };
  }

  #putReference(reference: string, out: number): number {
    const { lo, hi } = this.#referenceNode(reference);
    this.#references.set(keyOf(lo, hi), reference);
    return this.#put({ kind: KIND.reference, lo, hi }, out);
  }

  /** A successor has not heard of the name: a layer of it may be there. */
  #referenceAt({ lo, hi }: Node): string | undefined {
    const known = this.#references.get(keyOf(lo, hi));
    if (known !== undefined) return known;
    for (const { reference } of this.#source.all()) {
      const node = this.#referenceNode(reference);
      this.#references.set(keyOf(node.lo, node.hi), reference);
    }
    return this.#references.get(keyOf(lo, hi));
  }

  #putNode(kind: number, number: number, out: number): number {
    return this.#put({ kind, lo: number, hi: kind << KIND_SHIFT }, out);
  }

  #put(node: Node, out: number): number {
    const k = out >>> 2;
    u32[k] = node.lo;
    u32[k + 1] = node.hi;
    u32[k + 2] = 0;
    u32[k + 3] = 0;
    return this.#attr(node, out + Entry.attr);
  }

  getattr(r: Request, hasFh: boolean, fhLo: number, fhHi: number, out: number): number {
    const image = this.#imageOf(r.nodeHi);
    if (image !== undefined) return image.getattr(r, hasFh, fhLo, fhHi, out);
    const node = nodeOf(r);
    return node === undefined ? -E.STALE : this.#attr(node, out);
  }

  #attr({ kind, lo, hi }: Node, out: number): number {
    const isFile = kind === KIND.info || kind === KIND.blob;
    const size = this.#sizeOf({ kind, lo, hi });
    if (size < 0) return -E.STALE;
    const k = out >>> 2;
    u32.fill(0, k, (out + ATTR_SIZE) >>> 2);
    u32[k] = lo;
    u32[k + 1] = hi;
    u32[k + (Attr.size >>> 2)] = size >>> 0;
    u32[k + (Attr.size >>> 2) + 1] = Math.floor(size / 0x1_0000_0000);
    u32[k + (Attr.blocks >>> 2)] = Math.ceil(size / 512);
    u32[k + (Attr.mode >>> 2)] = isFile ? S.IFREG | 0o444 : S.IFDIR | 0o755;
    u32[k + (Attr.nlink >>> 2)] = isFile ? 1 : 2;
    u32[k + (Attr.uid >>> 2)] = this.#uid;
    u32[k + (Attr.gid >>> 2)] = this.#gid;
    u32[k + (Attr.blksize >>> 2)] = 4096;
    return 0;
  }

  /** Of a file, 0 for directories; negative: of a layer that is not there. */
  #sizeOf(node: Node | undefined): number {
    if (node?.kind !== KIND.info && node?.kind !== KIND.blob) return 0;
    const layer = this.#source.byNumber(node.lo);
    if (layer === undefined) return -1;
    return node.kind === KIND.info ? layer.info.length : layer.size;
  }

  readlink(r: Request, out: number, size: number): number {
    return this.#imageOf(r.nodeHi)?.readlink(r, out, size) ?? -E.INVAL;
  }

  statfs(r: Request, out: number): number {
    const image = this.#imageOf(r.nodeHi);
    if (image !== undefined) return image.statfs(r, out);
    u32.fill(0, out >>> 2, (out + KSTATFS_SIZE) >>> 2);
    u32[(out + Kstatfs.bsize) >>> 2] = 4096;
    u32[(out + Kstatfs.frsize) >>> 2] = 4096;
    u32[(out + Kstatfs.namelen) >>> 2] = 255;
    return KSTATFS_SIZE;
  }

  /** As an image alone: the kernel opens files itself. */
  open(_r: Request, _flags: number, _reply: OpenReply): number {
    return -E.NOSYS;
  }

  read(r: Request, lo: number, hi: number, out: number, size: number, offset: number): number {
    const image = this.#imageOf(r.nodeHi);
    if (image !== undefined) return image.read(r, lo, hi, out, size, offset);
    const node = nodeOf(r);
    const layer = node === undefined ? undefined : this.#source.byNumber(node.lo);
    if (node === undefined || layer === undefined) return -E.STALE;
    if (node.kind === KIND.info) {
      const bytes = layer.info.subarray(offset, offset + size);
      u8.set(bytes, out);
      return bytes.length;
    }
    return node.kind === KIND.blob ? this.#readBlob(layer, out, size, offset) : -E.ISDIR;
  }

  #readBlob(layer: StoredLayer, out: number, size: number, offset: number): number {
    const read = this.#source.readBlob(layer, out, size, offset);
    if (read !== undefined) return read;
    const key = `blob ${layer.digest}`;
    const until = this.#failed.get(key);
    if (until !== undefined && this.#clock() < until) return -E.IO;
    this.#failed.delete(key);
    return this.#park(key, (resume) =>
      this.#source.fetchBlob(layer, (result) => {
        if (result < 0) this.#failed.set(key, this.#clock() + FAILED_FOR);
        resume();
      }),
    );
  }

  lseek(r: Request, lo: number, hi: number, offset: number, whence: number): number {
    const image = this.#imageOf(r.nodeHi);
    if (image !== undefined) return image.lseek(r, lo, hi, offset, whence);
    const size = this.#sizeOf(nodeOf(r));
    if (whence !== SEEK.DATA && whence !== SEEK.HOLE) return -E.INVAL;
    if (offset >= size) return -E.NXIO;
    return whence === SEEK.HOLE ? size : offset;
  }

  opendir(_r: Request, _flags: number, reply: OpenReply): number {
    if (this.#host.noOpendir) return -E.NOSYS;
    reply.flags = OPEN.CACHE_DIR | OPEN.KEEP_CACHE;
    return 0;
  }

  readdir(r: Request, lo: number, hi: number, offset: number, sink: DirSink): number {
    const image = this.#imageOf(r.nodeHi);
    if (image !== undefined) return image.readdir(r, lo, hi, offset, sink);
    const node = nodeOf(r);
    if (node === undefined) return -E.STALE;
    const names = this.#list(node);
    if (typeof names === 'number') return names;
    for (let i = offset; i < names.length; i++) {
      const { name, type, put } = names[i] as Name;
      const bytes = Buffer.from(name, 'latin1');
      if (!sink.fits(bytes.length)) break;
      // Nothing of what is listed must fail to be looked up: of what cannot be opened only the name is shown.
      if (sink.plus && put(sink.entry) < 0) u32.fill(0, sink.entry >>> 2, (sink.entry >>> 2) + 2);
      const at = sink.plus ? sink.entry + Entry.attr : -1;
      const lo = at < 0 ? i + 1 : (u32[at >>> 2] as number);
      const hi = at < 0 ? node.hi : (u32[(at >>> 2) + 1] as number);
      sink.add(lo, hi, i + 1, type, 0, bytes.length, bytes);
    }
    return 0;
  }

  #list(node: Node): readonly Name[] | number {
    switch (node.kind) {
      case 0: {
        const references = new Set([...this.#source.all()].map(({ reference }) => reference));
        return [...references].sort().map((reference) => ({
          name: Buffer.from(reference, 'latin1').toString('base64'),
          type: DT.DIR,
          put: (out) => this.#putReference(reference, out),
        }));
      }
      case KIND.reference: {
        const reference = this.#referenceAt(node);
        if (reference === undefined) return -E.STALE;
        const layers = [...this.#source.all()].filter((layer) => layer.reference === reference);
        return layers.map(({ digest, number }) => ({
          name: digest,
          type: DT.DIR,
          put: (out) => this.#putNode(KIND.layer, number, out),
        }));
      }
      case KIND.layer:
        return FILES.map((name) => ({
          name,
          type: name === 'diff' ? DT.DIR : DT.REG,
          put: (out) => this.#lookUpFile(node, name, out),
        }));
      default:
        return -E.NOTDIR;
    }
  }

  getxattr(r: Request, name: number, nameLen: number, out: number, size: number): number {
    return this.#imageOf(r.nodeHi)?.getxattr(r, name, nameLen, out, size) ?? -E.NODATA;
  }

  listxattr(r: Request, out: number, size: number): number {
    return this.#imageOf(r.nodeHi)?.listxattr(r, out, size) ?? 0;
  }

  /** Creating `use` in a layer's directory says that it is used once more; ENOENT says that this was understood. */
  override create(r?: Request, name = 0, nameLen = 0): number {
    const layer = r === undefined ? undefined : this.#layerAt(r);
    if (layer === undefined || getBytes(name, nameLen) !== 'use') return -E.ROFS;
    this.#source.count(layer, 1);
    return -E.NOENT;
  }

  /** Removing a layer's directory says that it is used once less; ENOENT again. */
  override rmdir(r?: Request, name = 0, nameLen = 0): number {
    const node = r === undefined ? undefined : nodeOf(r);
    if (node?.kind !== KIND.reference) return -E.ROFS;
    const reference = this.#referenceAt(node);
    if (reference === undefined) return -E.STALE;
    const layer = this.#source.known(reference, getBytes(name, nameLen));
    if (layer !== undefined) this.#source.count(layer, -1);
    return -E.NOENT;
  }

  #layerAt(r: Request): StoredLayer | undefined {
    const node = nodeOf(r);
    return node?.kind === KIND.layer ? this.#source.byNumber(node.lo) : undefined;
  }
}

/** A node outside of all trees; undefined for what is none. */
function nodeOf({ nodeLo: lo, nodeHi: hi }: Request): Node | undefined {
  if (imageNumber(hi) !== 0) return undefined;
  if (lo === ROOT && hi === 0) return { ...ROOT_REF, hi };
  const kind = hi >>> KIND_SHIFT;
  return kind >= KIND.reference && kind <= KIND.blob ? { kind, lo, hi } : undefined;
}

const keyOf = (lo: number, hi: number): number => hi * 0x1_0000_0000 + lo;

/** @returns undefined for a name that is not the base64 of a printable text. */
function referenceOf(name: string): string | undefined {
  if (!BASE64.test(name) || name.length % 4 !== 0) return undefined;
  const text = Buffer.from(name, 'base64').toString('latin1');
  return /^[!-~]+$/.test(text) ? text : undefined;
}
