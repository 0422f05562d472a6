// The superblock and what hangs on it: devices and compression configurations, checked and narrowed.
// Read once when an image is opened; everything else of this room takes the result.
// Follows: erofs_read_superblock() and z_erofs_parse_cfgs() of Linux 6.18, erofs-utils 1.9.3.

import { crc32c } from '../bytes/crc32c.js';
import type { ByteSource } from '../bytes/source.js';
import type { Value } from '../bytes/struct.js';
import { corrupt, unsupported } from './errors.js';
import {
  ALGORITHM_NAMES,
  Algorithm,
  COMPOSEFS_MAGIC,
  ComposefsHeader,
  EROFS_SB_EXTSLOT_SIZE,
  EROFS_SUPER_MAGIC_V1,
  EROFS_SUPER_OFFSET,
  ErofsDeviceSlot,
  ErofsSuperBlock,
  FEATURE_INCOMPAT_ALL,
  FeatureCompat,
  FeatureIncompat,
  Z_EROFS_LZMA_MAX_DICT_SIZE,
  ZErofsLzmaCfgs,
} from './format.js';
import { inMetabox, type Nid, nidOf } from './nid.js';

/** An extra device of an image. */
export interface DeviceSlot {
  /** Digest or other name, without the zeros at its end. */
  readonly tag: Uint8Array;
  /** Blocks of the device. */
  readonly blocks: number;
  /** Block of the unified address space at which it begins; 0: it is not in it. */
  readonly uniaddr: number;
}

export interface Superblock {
  /** log2 of blockSize. */
  readonly blockBits: number;
  /** Bytes: 512 to 65536. */
  readonly blockSize: number;
  /** Blocks of the primary device. */
  readonly blocks: number;
  /** Bytes of the superblock itself. */
  readonly size: number;
  readonly checksum: number;
  readonly featureCompat: number;
  readonly featureIncompat: number;
  readonly rootNid: Nid;
  /** The inode that holds the fragments. */
  readonly packedNid: Nid | undefined;
  readonly metaboxNid: Nid | undefined;
  /** Byte at which nid 0 would be; negative in some images. */
  readonly metaAt: number;
  /** Byte at which the shared xattr 0 would be. */
  readonly xattrAt: number;
  /** Inodes in use, as the image says. */
  readonly inos: bigint;
  /** Seconds, nanoseconds: base of the times of compact inodes. */
  readonly epoch: number;
  readonly fixedNsec: number;
  /** Seconds after epoch; 0 where it is not recorded. */
  readonly buildTime: number;
  /** 16 bytes. */
  readonly uuid: Uint8Array;
  /** Latin-1, without the zeros at its end. */
  readonly volumeName: string;
  /** A bit for each Algorithm that files may use. */
  readonly algorithms: number;
  /** Bytes: the largest dictionary of LZMA data. */
  readonly lzmaDictSize: number;
  readonly devices: readonly DeviceSlot[];
  readonly xattrPrefixCount: number;
  /** Byte offset, in the packed inode or the metabox unless PLAIN_XATTR_PFX is set. */
  readonly xattrPrefixAt: number;
  /** h_name_filter may be believed. */
  readonly xattrFilter: boolean;
  /** Format version of a composefs image; undefined for any other image. */
  readonly composefsVersion: number | undefined;
}

const SB = 'erofs_super_block';
type Raw = Value<typeof ErofsSuperBlock>;
type SbField = keyof typeof ErofsSuperBlock.at;
const place = (field: SbField): number => EROFS_SUPER_OFFSET + ErofsSuperBlock.at[field];

/** Reads `length` bytes, or says which structure the image is too short for. */
function take(source: ByteSource, at: number, length: number, structure: string): DataView {
  if (at + length > source.size) {
    corrupt(structure, 'size', at, `${length} bytes lie outside the image of ${source.size} bytes`);
  }
  const out = new Uint8Array(length);
  source.read(at, out);
  return new DataView(out.buffer);
}

/**
 * Reads and checks the superblock, the device table and the compression configurations.
 * @throws ErofsError, `unsupported` where a newer reader may know better.
 */
export function readSuperblock(source: ByteSource): Superblock {
  const base = take(source, EROFS_SUPER_OFFSET, 128, SB);
  const padded = new Uint8Array(ErofsSuperBlock.size);
  padded.set(new Uint8Array(base.buffer));
  const extra = base.getUint8(ErofsSuperBlock.at.sb_extslots) * EROFS_SB_EXTSLOT_SIZE;
  const magic = base.getUint32(ErofsSuperBlock.at.magic, true);
  if (magic !== EROFS_SUPER_MAGIC_V1) {
    corrupt(SB, 'magic', place('magic'), `0x${magic.toString(16)}: this is not an EROFS image`);
  }
  const size = 128 + extra;
  const whole = take(source, EROFS_SUPER_OFFSET, size, SB);
  padded.set(new Uint8Array(whole.buffer, 0, Math.min(size, padded.length)));
  const raw = ErofsSuperBlock.decode(new DataView(padded.buffer));
  return interpret(source, raw, size);
}

function interpret(source: ByteSource, raw: Raw, size: number): Superblock {
  refuseUnknown(raw.feature_incompat);
  const blockBits = raw.blkszbits;
  if (blockBits < 9 || blockBits > 16) {
    corrupt(SB, 'blkszbits', place('blkszbits'), `${blockBits}: blocks have 512 to 65536 bytes`);
  }
  if (raw.dirblkbits !== 0) {
    unsupported(SB, 'dirblkbits', place('dirblkbits'), `${raw.dirblkbits}: directory blocks`);
  }
  const has = (bit: number): boolean => (raw.feature_incompat & bit) !== 0;
  const blockSize = 2 ** blockBits;
  const wide = has(FeatureIncompat['48BIT']);
  const wideRoot = wide && raw.rootnid_8b !== 0n;
  if (has(FeatureIncompat.METABOX) && size < ErofsSuperBlock.at.reserved3) {
    corrupt(SB, 'sb_extslots', place('sb_extslots'), 'the superblock is too short for metabox_nid');
  }
  const configs = readConfigs(source, raw, size);
  return {
    blockBits,
    blockSize,
    blocks: raw.blocks_lo + (wideRoot ? raw.rb * 0x1_0000_0000 : 0),
    size,
    checksum: raw.checksum,
    featureCompat: raw.feature_compat,
    featureIncompat: raw.feature_incompat,
    rootNid: wideRoot
      ? checkedNid(raw.rootnid_8b, 'rootnid_8b', true)
      : checkedNid(BigInt(raw.rb), 'rb', true),
    packedNid:
      has(FeatureIncompat.FRAGMENTS) && raw.packed_nid !== 0n
        ? checkedNid(raw.packed_nid, 'packed_nid', false)
        : undefined,
    metaboxNid: has(FeatureIncompat.METABOX)
      ? checkedNid(raw.metabox_nid, 'metabox_nid', false)
      : undefined,
    metaAt: (raw.meta_blkaddr | 0) * blockSize,
    xattrAt: raw.xattr_blkaddr * blockSize,
    inos: raw.inos,
    epoch: Number(raw.epoch),
    fixedNsec: raw.fixed_nsec,
    buildTime: raw.build_time,
    uuid: raw.uuid,
    volumeName: trimmed(raw.volume_name).reduce((s, c) => s + String.fromCharCode(c), ''),
    algorithms: configs.algorithms,
    lzmaDictSize: configs.lzmaDictSize,
    devices: readDevices(source, raw, wide),
    xattrPrefixCount: raw.xattr_prefix_count,
    xattrPrefixAt: raw.xattr_prefix_start * 4,
    xattrFilter:
      (raw.feature_compat & FeatureCompat.XATTR_FILTER) !== 0 && raw.xattr_filter_reserved === 0,
    composefsVersion: composefsVersion(source),
  };
}

/** Features are refused by name: the first bit that stands for something this reader has never heard of. */
function refuseUnknown(features: number): void {
  const unknown = (features & ~FEATURE_INCOMPAT_ALL) >>> 0;
  if (unknown === 0) return;
  const bits = [];
  for (let bit = 0; bit < 32; bit++) if ((unknown >>> bit) & 1) bits.push(`bit ${bit}`);
  const known = Object.entries(FeatureIncompat)
    .filter(([, bit]) => (features & bit) !== 0)
    .map(([name]) => name);
  unsupported(
    SB,
    'feature_incompat',
    place('feature_incompat'),
    `0x${features.toString(16)} has features newer than this reader (${bits.join(', ')}); it knows ` +
      `${known.length === 0 ? 'none of the others' : known.join(', ')}`,
  );
}

function checkedNid(value: bigint, field: SbField, metabox: boolean): Nid {
  const nid = nidOf(value);
  if (nid === undefined || (inMetabox(nid) && !metabox)) {
    corrupt(SB, field, place(field), `nid ${value} cannot be`);
  }
  return nid;
}

/** Without the zeros at the end. */
function trimmed(bytes: Uint8Array): Uint8Array {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  return bytes.subarray(0, end);
}

function readDevices(source: ByteSource, raw: Raw, wide: boolean): DeviceSlot[] {
  if ((raw.feature_incompat & FeatureIncompat.DEVICE_TABLE) === 0) return [];
  const devices: DeviceSlot[] = [];
  for (let i = 0; i < raw.extra_devices; i++) {
    const at = (raw.devt_slotoff + i) * ErofsDeviceSlot.size;
    const slot = ErofsDeviceSlot.decode(take(source, at, ErofsDeviceSlot.size, 'erofs_deviceslot'));
    devices.push({
      tag: trimmed(slot.tag),
      blocks: slot.blocks_lo + (wide ? slot.blocks_hi * 0x1_0000_0000 : 0),
      uniaddr: slot.uniaddr_lo + (wide ? slot.uniaddr_hi * 0x1_0000_0000 : 0),
    });
  }
  return devices;
}

/** The records behind the superblock, one for each algorithm of available_compr_algs. */
function readConfigs(
  source: ByteSource,
  raw: Raw,
  size: number,
): { algorithms: number; lzmaDictSize: number } {
  const result = { algorithms: 1 << Algorithm.LZ4, lzmaDictSize: Z_EROFS_LZMA_MAX_DICT_SIZE };
  if ((raw.feature_incompat & FeatureIncompat.COMPR_CFGS) === 0) return result;
  result.algorithms = raw.u1;
  if (raw.u1 >>> ALGORITHM_NAMES.length !== 0) {
    const what = `0x${raw.u1.toString(16)}: a compression algorithm newer than this reader`;
    unsupported(SB, 'u1.available_compr_algs', place('u1'), what);
  }
  let at = EROFS_SUPER_OFFSET + size;
  for (let algorithm = 0; algorithm < ALGORITHM_NAMES.length; algorithm++) {
    if (((raw.u1 >>> algorithm) & 1) === 0) continue;
    const name = `z_erofs_${ALGORITHM_NAMES[algorithm]}_cfgs`;
    at = Math.ceil(at / 4) * 4;
    const length = take(source, at, 2, name).getUint16(0, true);
    const needed = algorithm === Algorithm.LZ4 || algorithm === Algorithm.LZMA ? 14 : 6;
    if (length < needed) corrupt(name, 'size', at, `${length} bytes, ${needed} are needed`);
    if (algorithm === Algorithm.LZMA) {
      const cfg = ZErofsLzmaCfgs.decode(take(source, at + 2, needed, name));
      if (cfg.format !== 0) unsupported(name, 'format', at + 6, `${cfg.format}: only 0 is known`);
      if (cfg.dict_size < 4096 || cfg.dict_size > Z_EROFS_LZMA_MAX_DICT_SIZE) {
        corrupt(name, 'dict_size', at + 2, `${cfg.dict_size} bytes: 4096 to 8 MiB are allowed`);
      }
      result.lzmaDictSize = cfg.dict_size;
    } else {
      take(source, at + 2, needed, name);
    }
    at += 2 + length;
  }
  return result;
}

/**
 * Computes the superblock's checksum from the image.
 * @returns undefined when the image does not have one, else whether it is right.
 */
export function checksumMatches(source: ByteSource, sb: Superblock): boolean | undefined {
  if ((sb.featureCompat & FeatureCompat.SB_CHKSUM) === 0) return undefined;
  const length =
    sb.blockSize > EROFS_SUPER_OFFSET ? sb.blockSize - EROFS_SUPER_OFFSET : sb.blockSize;
  if (EROFS_SUPER_OFFSET + length > source.size) return false;
  const block = new Uint8Array(length);
  source.read(EROFS_SUPER_OFFSET, block);
  block.fill(0, ErofsSuperBlock.at.checksum, ErofsSuperBlock.at.checksum + 4);
  return crc32c(block) === sb.checksum;
}

/** What stands before the superblock says whether the image is one of composefs. */
function composefsVersion(source: ByteSource): number | undefined {
  const header = take(source, 0, ComposefsHeader.size, 'lcfs_erofs_header_s');
  const { at } = ComposefsHeader;
  if (header.getUint32(at.magic, true) !== COMPOSEFS_MAGIC) return undefined;
  return header.getUint32(at.composefs_version, true);
}
