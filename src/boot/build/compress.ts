// The archive of a mini-initramfs is compressed in one of the ways that kernels take.
// Called by build.ts; the archive is some megabytes, so it is done in memory, and the same bytes give the same bytes.
// Follows: lib/decompress_*.c of Linux 6.18: gzip, LZ4 in legacy frames, one zstd frame, xz with CRC-32.

import { constants, gzipSync } from 'node:zlib';
import { codecFunction } from '../../linux/codecs.js';
import { addressOf } from '../../linux/native-memory.js';

export const MINI_COMPRESS = ['none', 'gzip', 'lz4', 'zstd', 'xz'] as const;
export type MiniCompress = (typeof MINI_COMPRESS)[number];

export function compressMini(bytes: Uint8Array, method: MiniCompress): Uint8Array {
  switch (method) {
    case 'none':
      return bytes;
    case 'gzip':
      return gzipSync(bytes, { level: constants.Z_BEST_COMPRESSION });
    case 'lz4':
      return lz4(bytes);
    case 'zstd':
      return zstd(bytes);
    case 'xz':
      return xz(bytes);
  }
}

const LEGACY_MAGIC = 0x184c2102;
const LEGACY_BLOCK = 8 * 1024 * 1024;
/** 12 takes six times as long (1.6 s) and saves 0.4 %. */
const LZ4HC_LEVEL = 9;

function lz4(bytes: Uint8Array): Uint8Array {
  const compress = codecFunction(
    'lz4',
    'int LZ4_compress_HC(uint64_t src, uint64_t dst, int size, int capacity, int level)',
  );
  const word = (value: number): Buffer => {
    const out = Buffer.alloc(4);
    out.writeUInt32LE(value);
    return out;
  };
  const parts = [word(LEGACY_MAGIC)];
  for (let at = 0; at < bytes.length; at += LEGACY_BLOCK) {
    const block = bytes.subarray(at, at + LEGACY_BLOCK);
    const room = Buffer.alloc(block.length + Math.ceil(block.length / 255) + 16);
    const size = compress(
      addressOf(block),
      addressOf(room),
      block.length,
      room.length,
      LZ4HC_LEVEL,
    );
    if (size <= 0) throw new Error(`LZ4_compress_HC: ${size}`);
    parts.push(word(size), room.subarray(0, size));
  }
  return Buffer.concat(parts);
}

const ZSTD_LEVEL = 15;

function zstd(bytes: Uint8Array): Uint8Array {
  const compress = codecFunction(
    'zstd',
    'int64_t ZSTD_compress(uint64_t dst, uint64_t capacity, uint64_t src, uint64_t size, int level)',
  );
  const room = Buffer.alloc(bytes.length + (bytes.length >> 8) + 64 * 1024);
  const size = compress(addressOf(room), room.length, addressOf(bytes), bytes.length, ZSTD_LEVEL);
  if (size < 0) throw new Error(`ZSTD_compress: ${size}`);
  return room.subarray(0, size);
}

const XZ_PRESET = 6;
const LZMA_CHECK_CRC32 = 1;

function xz(bytes: Uint8Array): Uint8Array {
  const encode = codecFunction(
    'lzma',
    'int lzma_easy_buffer_encode(uint32_t preset, int check, uint64_t allocator, uint64_t in, uint64_t size, uint64_t out, uint64_t position, uint64_t capacity)',
  );
  const room = Buffer.alloc(bytes.length + (bytes.length >> 3) + 64 * 1024);
  const position = new BigUint64Array(1);
  const at = addressOf(new Uint8Array(position.buffer));
  const r = encode(
    XZ_PRESET,
    LZMA_CHECK_CRC32,
    0,
    addressOf(bytes),
    bytes.length,
    addressOf(room),
    at,
    room.length,
  );
  if (r !== 0) throw new Error(`lzma_easy_buffer_encode: ${r}`);
  return room.subarray(0, Number(position[0]));
}
