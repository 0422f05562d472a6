// Images of tar layers for tests: an archive of a folder in every form that layers have, in a registry of the test's own.
// eStargz and zstd:chunked are made here as their documents say, for no program of Debian makes them.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { ZstdFrames } from '../../src/linux/zstd-frame.js';
import type { Descriptor } from '../../src/oci/manifest.js';
import { decodeHeader, isZeroBlock } from '../../src/tree/tar-header.js';
import type { FakeRegistry } from '../oci/fake-registry.js';

export const sha256 = (bytes: Uint8Array): string =>
  createHash('sha256').update(bytes).digest('hex');

/** Bytes that half compress, from a seed. */
export function mixed(size: number, seed: number): Buffer {
  const out = Buffer.alloc(size);
  for (let at = 0, i = 0; at < size; i++) {
    const digest = createHash('sha256').update(`${seed}:${i}`).digest();
    at += i % 3 === 0 ? digest.copy(out, at) : out.write(`line ${i} of ${seed}, `.repeat(9), at);
  }
  return out;
}

/** A folder with what layers have: files of many sizes, equal ones, links, whiteouts, holes, long names. */
export function layerFolder(parent: string): string {
  const folder = join(parent, 'tree');
  mkdirSync(join(folder, 'etc/deep'), { recursive: true });
  mkdirSync(join(folder, 'opaque'));
  writeFileSync(join(folder, 'opaque/.wh..wh..opq'), '');
  writeFileSync(join(folder, 'opaque/kept'), 'kept\n');
  writeFileSync(join(folder, 'etc/.wh.gone'), '');
  for (let i = 0; i < 150; i++) {
    writeFileSync(join(folder, `etc/file-${i}`), mixed((i * 7919) % 20_000, i));
  }
  writeFileSync(join(folder, 'large'), mixed(700_000, 1));
  writeFileSync(join(folder, 'etc/equal'), mixed(700_000, 1));
  writeFileSync(join(folder, 'zeros'), Buffer.alloc(300_000));
  linkSync(join(folder, 'large'), join(folder, 'etc/linked'));
  symlinkSync('../large', join(folder, 'etc/link'));
  writeFileSync(join(folder, `etc/deep/${'n'.repeat(90)}`), 'long\n');
  chmodSync(join(folder, 'etc/file-3'), 0o4750);
  const fd = openSync(join(folder, 'sparse'), 'w');
  writeSync(fd, mixed(70_000, 2), 0, 70_000, 4_194_304);
  writeSync(fd, 'end', 9_000_000);
  closeSync(fd);
  truncateSync(join(folder, 'sparse'), 20_000_000);
  return folder;
}

/** An archive of a folder, by GNU tar. */
export function tarOf(folder: string, ...options: string[]): Buffer {
  const made = spawnSync(
    'tar',
    ['-C', folder, '--sort=name', '--numeric-owner', '-c', ...options, '.'],
    { maxBuffer: 1 << 28 },
  );
  if (made.status !== 0) throw new Error(String(made.stderr));
  return made.stdout;
}

interface Member {
  /** Headers, then data without its padding. */
  readonly head: Buffer;
  readonly data: Buffer;
  readonly entry: Record<string, unknown>;
}

/** The members of an archive in the ustar format, and what is behind the last. */
function members(tar: Buffer): { list: Member[]; rest: Buffer } {
  const list: Member[] = [];
  const types: Record<string, string> = { '0': 'reg', '1': 'hardlink', '2': 'symlink', '5': 'dir' };
  let at = 0;
  let from = 0;
  while (!isZeroBlock(tar.subarray(at, at + 512))) {
    const header = decodeHeader(tar.subarray(at, at + 512), at);
    const size = header.type === '0' ? header.size : 0;
    const data = tar.subarray(at + 512, at + 512 + size);
    const entry = {
      name: header.name,
      type: types[header.type],
      mode: header.mode,
      uid: header.uid,
      gid: header.gid,
      size,
      linkName: header.linkName,
      modtime: new Date(header.mtime * 1000).toISOString().replace('.000', ''),
    };
    // What lies between two files' data: padding of the one, header of the other.
    list.push({ head: tar.subarray(from, at + 512), data, entry });
    from = at + 512 + size;
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return { list, rest: tar.subarray(from) };
}

/** A layer in the registry, and what its manifest says of it. */
export interface MadeLayer {
  readonly bytes: Buffer;
  readonly annotations?: Record<string, string>;
}

/**
 * eStargz of an archive in the ustar format: each chunk begins a gzip member, headers follow in the member before.
 * @param least bytes of content of a member before the next begins: 0, each chunk has its own.
 */
export function estargz(tar: Buffer, chunkSize = 1 << 18, least = 0): MadeLayer {
  const { list, rest } = members(tar);
  const out: Buffer[] = [];
  let size = 0;
  let open: Buffer[] = [];
  let opened = 0;
  const flush = (): void => {
    if (open.length === 0) return;
    const member = gzipSync(Buffer.concat(open));
    out.push(member);
    size += member.length;
    open = [];
    opened = 0;
  };
  const put = (bytes: Buffer): void => {
    open.push(bytes);
    opened += bytes.length;
  };
  const entries: Record<string, unknown>[] = [];
  for (const { head, data, entry } of list) {
    put(head);
    let current: Record<string, unknown> = { ...entry };
    if (entry['type'] === 'reg') current['digest'] = `sha256:${sha256(data)}`;
    if (data.length === 0) entries.push(current);
    for (let at = 0; at < data.length; at += chunkSize) {
      const chunk = data.subarray(at, at + chunkSize);
      if (least === 0 || opened > least) flush();
      if (at + chunk.length < data.length) current['chunkSize'] = chunk.length;
      current['offset'] = size;
      current['innerOffset'] = opened;
      current['chunkOffset'] = at;
      current['chunkDigest'] = `sha256:${sha256(chunk)}`;
      put(Buffer.from(chunk));
      entries.push(current);
      current = { name: entry['name'], type: 'chunk' };
    }
  }
  put(rest);
  flush();
  const json = Buffer.from(JSON.stringify({ version: 1, entries }));
  const header = Buffer.alloc(512);
  header.write('stargz.index.json', 0);
  header.write(`${json.length.toString(8).padStart(11, '0')}\0`, 124);
  header.write('0', 156);
  out.push(gzipSync(Buffer.concat([header, json, Buffer.alloc(512 - (json.length % 512))])));
  const extra = Buffer.concat([
    Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 26, 0]),
    Buffer.from('SG\x16\0', 'latin1'),
    Buffer.from(`${size.toString(16).padStart(16, '0')}STARGZ`),
    Buffer.from([1, 0, 0, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0]),
  ]);
  out.push(extra);
  return {
    bytes: Buffer.concat(out),
    annotations: { 'containerd.io/snapshot/stargz/toc.digest': `sha256:${sha256(json)}` },
  };
}

/** Where containers/storage cuts a file: anywhere, about every `average` bytes, and around 1 KiB of zeros or more. */
function cuts(data: Buffer, average: number): { at: number; end: number; isZero: boolean }[] {
  const list: { at: number; end: number; isZero: boolean }[] = [];
  const cutData = (from: number, to: number): void => {
    for (let at = from; at < to; ) {
      const end = Math.min(
        to,
        at + (average >>> 1) + ((list.length * 7919 + data.length) % average),
      );
      list.push({ at, end, isZero: false });
      at = end;
    }
  };
  let done = 0;
  for (let at = data.indexOf(0); at >= 0; at = data.indexOf(0, at + 1)) {
    const zeros = at;
    while (at + 1 < data.length && data[at + 1] === 0) at++;
    if (at + 1 - zeros < 1024) continue;
    cutData(done, zeros);
    list.push({ at: zeros, end: at + 1, isZero: true });
    done = at + 1;
  }
  cutData(done, data.length);
  return list;
}

/** A frame as the encoder in Go writes it where more than a block comes: no size, a window of 32 MiB. Its blocks are raw. */
function streamedFrame(content: Buffer): Buffer {
  const parts: Buffer[] = [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, (25 - 10) << 3])];
  for (let at = 0; at === 0 || at < content.length; at += 1 << 17) {
    const block = content.subarray(at, at + (1 << 17));
    const head = Buffer.alloc(3);
    head.writeUIntLE((at + block.length >= content.length ? 1 : 0) | (block.length << 3), 0, 3);
    parts.push(head, block);
  }
  return Buffer.concat(parts);
}

/** What zstd:chunked has in a manifest: as written now, and by the tools of 2022 (Debian 12). */
const ZSTD_CHUNKED = 'io.github.containers.zstd-chunked';
export const ZSTD_CHUNKED_2022 = 'io.containers.zstd-chunked';

/**
 * zstd:chunked of an archive in the ustar format: frames begin and end with each chunk.
 * @param average about as many bytes as a chunk has. @param prefix of its annotations.
 * @param more entries of the table of contents, before the others.
 */
export function zstdChunked(
  tar: Buffer,
  average = 1 << 16,
  {
    prefix = ZSTD_CHUNKED,
    more = [],
  }: { prefix?: string; more?: readonly Record<string, unknown>[] } = {},
): MadeLayer {
  const { list, rest } = members(tar);
  const frames = new ZstdFrames(3);
  const out: Buffer[] = [];
  let size = 0;
  const put = (bytes: Buffer): void => {
    const isStreamed = bytes.length > 1 << 15;
    const frame = isStreamed ? streamedFrame(bytes) : Buffer.from(frames.compress(bytes));
    out.push(frame);
    size += frame.length;
  };
  const entries: Record<string, unknown>[] = [];
  for (const { head, data, entry } of list) {
    put(head);
    const first: Record<string, unknown> = { ...entry };
    entries.push(first);
    if (entry['type'] !== 'reg' || data.length === 0) continue;
    first['digest'] = `sha256:${sha256(data)}`;
    first['offset'] = size;
    const chunks = cuts(data, average);
    for (const { at, end, isZero } of chunks) {
      const chunk = data.subarray(at, end);
      const offset = size;
      put(chunk);
      // A file in one piece has no word of chunks, of whatever it is made.
      if (chunks.length === 1) break;
      const about = at === 0 ? first : { type: 'chunk', name: entry['name'], chunkOffset: at };
      const what = { offset, chunkSize: chunk.length, chunkDigest: `sha256:${sha256(chunk)}` };
      Object.assign(about, what, isZero ? { chunkType: 'zeros' } : {});
      if (at > 0) entries.push(about);
    }
    first['endOffset'] = size;
  }
  put(rest);
  const json = Buffer.from(JSON.stringify({ version: 1, entries: [...more, ...entries] }));
  const manifest = Buffer.from(frames.compress(json));
  frames.close();
  const skippable = (length: number): Buffer => {
    const head = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
    head.writeUInt32LE(length, 4);
    return head;
  };
  const at = size + 8;
  out.push(skippable(manifest.length), manifest, skippable(40), Buffer.alloc(40, 7));
  return {
    bytes: Buffer.concat(out),
    annotations: {
      [`${prefix}.manifest-checksum`]: `sha256:${sha256(manifest)}`,
      [`${prefix}.manifest-position`]: `${at}:${manifest.length}:${json.length}:1`,
    },
  };
}

/** Puts an image into the registry. @returns its manifest's digest and its layers. */
export function addImage(
  registry: FakeRegistry,
  repository: string,
  layers: readonly MadeLayer[],
  diffs: readonly Buffer[],
): { digest: string; layers: Descriptor[]; size: number } {
  const config = Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      config: {},
      rootfs: { type: 'layers', diff_ids: diffs.map((tar) => `sha256:${sha256(tar)}`) },
    }),
  );
  const descriptors = layers.map(({ bytes, annotations }) => ({
    mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
    digest: registry.addBlob(bytes),
    size: bytes.length,
    ...(annotations === undefined ? {} : { annotations }),
  }));
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config: {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: registry.addBlob(config),
      size: config.length,
    },
    layers: descriptors,
  };
  const digest = registry.addManifest(repository, 'tag', mediaType, manifest);
  return { digest, layers: descriptors, size: Buffer.byteLength(JSON.stringify(manifest)) };
}
