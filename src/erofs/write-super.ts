// The head of an image: superblock, compression configurations, device table, long xattr prefixes.
// Its size is asked for before the data is written, its bytes are made last by write.ts.
// Follows: erofs_fs.h of Linux 6.18, fs/erofs/super.c and decompressor.c for what readers accept.

import { crc32c } from '../bytes/crc32c.js';
import {
  Algorithm,
  EROFS_SUPER_MAGIC_V1,
  EROFS_SUPER_OFFSET,
  ErofsDeviceSlot,
  ErofsSuperBlock,
  FeatureCompat,
  FeatureIncompat,
  ZErofsDeflateCfgs,
  ZErofsLz4Cfgs,
  ZErofsLzmaCfgs,
  ZErofsZstdCfgs,
} from './format.js';
import { BLOCK, BLOCK_BITS, type Coder } from './write-options.js';
import { algorithmOf } from './write-slot.js';

/** Bytes of the superblock on disk: without the slots that only metaboxes need. */
const SUPER_SIZE = 128;
const LZ4_MAX_DISTANCE = 65535;

/** What decides the size of the head. */
export interface HeadOptions {
  readonly coders: readonly Coder[];
  /** Bytes of the largest pcluster. */
  readonly pclusterSize: number;
  /** Data lies on a second device. */
  readonly hasBlob: boolean;
  /** Records of the long xattr prefixes that are in the head; empty: none. */
  readonly prefixes: Uint8Array;
}

/** Where the parts of the head are, in bytes. */
export interface Head {
  readonly options: HeadOptions;
  readonly configs: Uint8Array;
  readonly deviceAt: number;
  readonly prefixesAt: number;
  readonly blocks: number;
}

export function planHead(options: HeadOptions): Head {
  const configs = needsConfigs(options) ? encodeConfigs(options) : new Uint8Array(0);
  let end = EROFS_SUPER_OFFSET + SUPER_SIZE + configs.length;
  const deviceAt = Math.ceil(end / ErofsDeviceSlot.size) * ErofsDeviceSlot.size;
  if (options.hasBlob) end = deviceAt + ErofsDeviceSlot.size;
  const prefixesAt = Math.ceil(end / 4) * 4;
  end = prefixesAt + options.prefixes.length;
  return { options, configs, deviceAt, prefixesAt, blocks: Math.ceil(end / BLOCK) };
}

/** What LZ4 with pclusters of a block needs no configuration for. */
function needsConfigs({ coders, pclusterSize }: HeadOptions): boolean {
  if (coders.length === 0) return false;
  return pclusterSize > BLOCK || coders.some((one) => algorithmOf(one.method) !== Algorithm.LZ4);
}

/** Each a u16 length and a record, by ascending number of the algorithm. */
function encodeConfigs({ coders, pclusterSize }: HeadOptions): Uint8Array {
  const windows = new Map<number, number>();
  for (const { method, window } of coders) {
    const algorithm = algorithmOf(method);
    windows.set(algorithm, Math.max(window, windows.get(algorithm) ?? 0));
  }
  const parts: Uint8Array[] = [];
  for (const algorithm of [...windows.keys()].sort()) {
    const record = encodeConfig(algorithm, windows.get(algorithm) as number, pclusterSize);
    parts.push(Uint8Array.of(record.length & 0xff, record.length >>> 8), record);
  }
  return Buffer.concat(parts);
}

function encodeConfig(algorithm: number, window: number, pclusterSize: number): Uint8Array {
  switch (algorithm) {
    case Algorithm.LZ4:
      return ZErofsLz4Cfgs.bytes({
        max_distance: LZ4_MAX_DISTANCE,
        max_pclusterblks: pclusterSize / BLOCK,
      });
    case Algorithm.LZMA:
      return ZErofsLzmaCfgs.bytes({ dict_size: window });
    case Algorithm.DEFLATE:
      return ZErofsDeflateCfgs.bytes({ windowbits: Math.log2(window) });
    default:
      return ZErofsZstdCfgs.bytes({ windowlog: Math.log2(window) - 10 });
  }
}

/** What the superblock says besides what the head knows itself. */
export interface SuperOptions {
  /** Blocks of the image, and of the blob. */
  readonly blocks: number;
  readonly blobBlocks: number;
  readonly rootNid: number;
  readonly packedNid: number | undefined;
  readonly inodes: number;
  readonly epoch: number;
  readonly epochNsec: number;
  readonly metaBlock: number;
  /** First block of shared xattrs; 0: there are none. */
  readonly xattrBlock: number;
  readonly uuid: Uint8Array;
  readonly volumeName: string;
  readonly hasXattrFilter: boolean;
  readonly hasChunks: boolean;
  readonly hasInlinePclusters: boolean;
  /** Some pcluster belongs to several files. */
  readonly hasDedupe: boolean;
  /** Long prefixes there are, wherever they lie. */
  readonly prefixCount: number;
}

/** The head's bytes, whole blocks. */
export function encodeHead(head: Head, options: SuperOptions): Uint8Array {
  const out = Buffer.alloc(head.blocks * BLOCK);
  const view = new DataView(out.buffer, out.byteOffset, out.length);
  const { coders, hasBlob, prefixes } = head.options;
  const isPacked = options.packedNid !== undefined;
  const hasConfigs = head.configs.length > 0;
  let algorithms = 0;
  for (const { method } of coders) algorithms |= 1 << algorithmOf(method);
  let lz4Distance = 0;
  if (coders.length > 0) lz4Distance = LZ4_MAX_DISTANCE;
  let compat: number = FeatureCompat.SB_CHKSUM | FeatureCompat.MTIME;
  if (options.hasXattrFilter) compat |= FeatureCompat.XATTR_FILTER;
  if (prefixes.length > 0) compat |= FeatureCompat.PLAIN_XATTR_PFX;
  let incompat = 0;
  if (coders.length > 0) incompat |= FeatureIncompat.LZ4_0PADDING;
  if (hasConfigs) incompat |= FeatureIncompat.COMPR_CFGS;
  if (options.hasChunks) incompat |= FeatureIncompat.CHUNKED_FILE;
  if (hasBlob) incompat |= FeatureIncompat.DEVICE_TABLE;
  if (options.hasInlinePclusters) incompat |= FeatureIncompat.ZTAILPACKING;
  if (isPacked || options.hasDedupe) incompat |= FeatureIncompat.FRAGMENTS;
  if (options.prefixCount > 0) incompat |= FeatureIncompat.XATTR_PREFIXES;
  ErofsSuperBlock.encode(
    view,
    {
      magic: EROFS_SUPER_MAGIC_V1,
      feature_compat: compat,
      blkszbits: BLOCK_BITS,
      rb: options.rootNid,
      inos: BigInt(options.inodes),
      epoch: BigInt(options.epoch),
      fixed_nsec: options.epochNsec,
      blocks_lo: options.blocks,
      meta_blkaddr: options.metaBlock,
      xattr_blkaddr: options.xattrBlock,
      uuid: options.uuid,
      volume_name: Buffer.from(options.volumeName, 'latin1'),
      feature_incompat: incompat,
      u1: hasConfigs ? algorithms : lz4Distance,
      extra_devices: hasBlob ? 1 : 0,
      devt_slotoff: hasBlob ? head.deviceAt / ErofsDeviceSlot.size : 0,
      xattr_prefix_count: options.prefixCount,
      xattr_prefix_start: prefixes.length > 0 ? head.prefixesAt / 4 : 0,
      packed_nid: BigInt(options.packedNid ?? 0),
    },
    EROFS_SUPER_OFFSET,
  );
  // The struct is declared with the slots behind it, which are not there.
  out.fill(0, EROFS_SUPER_OFFSET + SUPER_SIZE);
  out.set(head.configs, EROFS_SUPER_OFFSET + SUPER_SIZE);
  if (hasBlob) {
    const slot = { blocks_lo: options.blobBlocks, uniaddr_lo: options.blocks };
    ErofsDeviceSlot.encode(view, slot, head.deviceAt);
  }
  out.set(prefixes, head.prefixesAt);
  const sum = crc32c(out.subarray(EROFS_SUPER_OFFSET, BLOCK));
  view.setUint32(EROFS_SUPER_OFFSET + ErofsSuperBlock.at.checksum, sum, true);
  return out;
}
