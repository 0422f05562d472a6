// Layers in eStargz, made here: Debian has no program that makes them. And images of them, pushed to a registry.
// Used by podman-layers.test.ts.
// Follows: docs/estargz.md of stargz-snapshotter: gzip members that each begin a chunk, a table of contents, a footer of 51 bytes.

import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import type { Reference } from '../../src/oci/reference.js';
import type { Registry } from '../../src/oci/registry.js';

/** A member of the archive; what is left out is that of root's. */
export interface Member {
  readonly name: string;
  readonly type?: 'dir' | 'reg' | 'symlink' | 'hardlink';
  readonly mode?: number;
  readonly uid?: number;
  readonly content?: Uint8Array;
  readonly link?: string;
}

export interface MadeLayer {
  readonly blob: Buffer;
  /** `sha256:HEX` of the uncompressed archive. */
  readonly diffId: string;
  readonly tocDigest: string;
  readonly tarBytes: number;
}

const CHUNK = 1 << 20;
const TYPES = { reg: '0', hardlink: '1', symlink: '2', dir: '5' } as const;

export const sha256 = (bytes: Uint8Array): string =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

export function makeEstargz(members: readonly Member[]): MadeLayer {
  const parts: Buffer[] = [];
  const plain: Buffer[] = [];
  let pending: Buffer[] = [];
  let written = 0;
  const put = (bytes: Buffer): void => {
    pending.push(bytes);
    plain.push(bytes);
  };
  /** Ends a gzip member. @returns where the next one begins. */
  const cut = (): number => {
    if (pending.length > 0) {
      const member = gzipSync(Buffer.concat(pending), { level: 1 });
      parts.push(member);
      written += member.length;
      pending = [];
    }
    return written;
  };
  const entries: object[] = [];
  for (const { name, type = 'reg', mode, uid = 0, content = Buffer.alloc(0), link } of members) {
    const permissions = mode ?? (type === 'dir' ? 0o755 : 0o644);
    const size = type === 'reg' ? content.length : 0;
    put(header({ name, type, mode: permissions, uid, size, link }));
    const common = { name, type, mode: permissions, uid, gid: 0, modtime: '2024-01-01T00:00:00Z' };
    const linkName = link === undefined ? {} : { linkName: link };
    if (size === 0) {
      entries.push({ ...common, ...linkName });
      continue;
    }
    for (let at = 0; at < size; at += CHUNK) {
      const chunk = Buffer.from(content.subarray(at, at + CHUNK));
      const offset = cut();
      const whole = size <= CHUNK ? {} : { chunkOffset: at, chunkSize: chunk.length };
      const first =
        at === 0 ? { ...common, size, digest: sha256(content) } : { name, type: 'chunk' };
      entries.push({ ...first, offset, ...whole, chunkDigest: sha256(chunk) });
      put(chunk);
    }
    put(Buffer.alloc(-size & 511));
  }
  const toc = Buffer.from(JSON.stringify({ version: 1, entries }));
  const tocAt = cut();
  const name = 'stargz.index.json';
  put(header({ name, type: 'reg', mode: 0o444, uid: 0, size: toc.length, link: undefined }));
  put(toc);
  put(Buffer.alloc((-toc.length & 511) + 1024));
  cut();
  parts.push(footer(tocAt));
  const tar = Buffer.concat(plain);
  const blob = Buffer.concat(parts);
  return { blob, diffId: sha256(tar), tocDigest: sha256(toc), tarBytes: tar.length };
}

/** An empty gzip member whose extra field says where the table of contents is. */
function footer(tocAt: number): Buffer {
  const field = Buffer.from(`${tocAt.toString(16).padStart(16, '0')}STARGZ`);
  const head = Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 26, 0, 0x53, 0x47, 22, 0]);
  const empty = Buffer.from([1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
  return Buffer.concat([head, field, empty]);
}

interface Header extends Required<Pick<Member, 'name' | 'type' | 'mode' | 'uid'>> {
  readonly size: number;
  readonly link: string | undefined;
}

/** A header of ustar. */
function header({ name, type, mode, uid, size, link = '' }: Header): Buffer {
  const bytes = Buffer.alloc(512);
  const octal = (value: number, at: number, length: number): void => {
    bytes.write(value.toString(8).padStart(length - 1, '0'), at);
  };
  bytes.write(type === 'dir' ? `${name}/` : name, 0);
  octal(mode, 100, 8);
  octal(uid, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(1_704_067_200, 136, 12);
  bytes.fill(' ', 148, 156);
  bytes.write(TYPES[type], 156);
  bytes.write(link, 157);
  bytes.write('ustar\x0000', 257, 'latin1');
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return bytes;
}

/** Pushes an image of layers, from the bottom. @returns bytes of all of it. */
export async function pushLayers(
  registry: Registry,
  ref: Reference,
  layers: readonly MadeLayer[],
): Promise<number> {
  const pushed = async (bytes: Uint8Array): Promise<{ digest: string; size: number }> => {
    const digest = sha256(bytes);
    await registry.pushBlob(ref, digest, bytes.length, async function* (from) {
      yield bytes.subarray(from);
    });
    return { digest, size: bytes.length };
  };
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      os: 'linux',
      config: { Cmd: ['/bin/sh'] },
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
    }),
  );
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const descriptors = [];
  for (const { blob, tocDigest, tarBytes } of layers) {
    descriptors.push({
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      ...(await pushed(blob)),
      annotations: {
        'containerd.io/snapshot/stargz/toc.digest': tocDigest,
        'io.containers.estargz.uncompressed-size': String(tarBytes),
      },
    });
  }
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...(await pushed(config)) },
    layers: descriptors,
  };
  await registry.pushManifest(ref, Buffer.from(JSON.stringify(manifest)), mediaType);
  return layers.reduce((total, { blob }) => total + blob.length, config.length);
}
