// Indexes of logical clusters: which one begins a pcluster, where it is, how far the others are from it.
// Used by map-clusters.ts; knows both forms, full (8 bytes each) and compact (2 or 4 bytes each in packs).
// Follows: z_erofs_load_full_lcluster() and z_erofs_load_compact_lcluster() of Linux 6.18 (fs/erofs/zmap.c).

import { corrupt, unsupported } from './errors.js';
import {
  ClusterType,
  Layout,
  Z_EROFS_LI_D0_CBLKCNT,
  Z_EROFS_LI_PARTIAL_REF,
  ZAdvise,
} from './format.js';
import type { Inode } from './inode.js';
import type { CompressionInfo } from './mapping.js';
import type { MetaCache } from './meta.js';
import type { Volume } from './volume.js';

const INDEX = 'z_erofs_lcluster_index';
/** Bits of a compact index's offset or distance: enough for Z_EROFS_LI_D0_CBLKCNT. */
const LEAST_OFFSET_BITS = 12;

/** The index that load() read last. */
export class Clusters {
  readonly inode: Inode;
  readonly z: CompressionInfo;
  readonly #meta: MetaCache;
  readonly #blockSize: number;

  /** Number of the lcluster. */
  lcn = 0;
  /** One of ClusterType. */
  type = 0;
  /** Bytes into the lcluster at which the extent begins; the size of an lcluster for NONHEAD. */
  offset = 0;
  /** NONHEAD: lclusters back to the head, and on to the next head (only with `lookahead` in compact form). */
  back = 0;
  ahead = 0;
  /** Heads: block of the pcluster. */
  block = 0;
  /** Heads: the extent is a part of what the pcluster holds. */
  partial = false;
  /** Blocks of the pcluster, when the first NONHEAD told it; else 0. */
  compressedBlocks = 0;
  /** Byte behind this index, or behind the pack that it is in. */
  nextAt = 0;

  constructor(volume: Volume, inode: Inode, z: CompressionInfo) {
    this.inode = inode;
    this.z = z;
    this.#meta = volume.space(inode.metabox);
    this.#blockSize = volume.sb.blockSize;
  }

  load(lcn: number, lookahead: boolean): void {
    this.lcn = lcn;
    if (this.inode.layout === Layout.COMPRESSED_FULL) this.#loadFull(lcn);
    else this.#loadCompact(lcn, lookahead);
    if (this.type !== ClusterType.NONHEAD && this.offset >= this.z.clusterSize) {
      this.fail('di_clusterofs', `${this.offset} bytes into lcluster ${lcn}: it has not so many`);
    }
  }

  fail(field: string, what: string): never {
    corrupt(INDEX, field, this.nextAt, `${what} (nid ${this.inode.nid})`);
  }

  #loadFull(lcn: number): void {
    // 8 bytes behind the header have been reserved since the first version of the format.
    const at = this.z.headerAt + 16 + lcn * 8;
    const o = this.#meta.at(at, 8, INDEX, 'di_advise');
    const { view } = this.#meta;
    const advise = view.getUint16(o, true);
    this.nextAt = at + 8;
    this.type = advise & 3;
    if (this.type === ClusterType.NONHEAD) {
      this.#setBack(view.getUint16(o + 4, true), true);
      this.ahead = view.getUint16(o + 6, true);
    } else {
      this.partial = (advise & Z_EROFS_LI_PARTIAL_REF) !== 0;
      this.offset = view.getUint16(o + 2, true);
      this.block = view.getUint32(o + 4, true);
    }
  }

  /** Takes the distance of a NONHEAD to its head, which the first one replaces by the size of the pcluster. */
  #setBack(distance: number, known: boolean): void {
    this.offset = this.z.clusterSize;
    if ((distance & Z_EROFS_LI_D0_CBLKCNT) !== 0) {
      if ((this.z.advise & (ZAdvise.BIG_PCLUSTER_1 | ZAdvise.BIG_PCLUSTER_2)) === 0) {
        this.fail('di_u.delta', 'a size of several blocks without big pclusters');
      }
      this.compressedBlocks = distance & (Z_EROFS_LI_D0_CBLKCNT - 1);
      this.back = 1;
    } else if (known) {
      this.back = distance;
    }
  }

  #loadCompact(lcn: number, lookahead: boolean): void {
    const { headerAt, clusterBits, advise } = this.z;
    // The kernel counts blocks here, not lclusters; they are the same in all images that exist.
    const total = Math.ceil(this.inode.size / this.#blockSize);
    if (lcn >= total) this.fail('di_advise', `lcluster ${lcn} of ${total}`);
    if (clusterBits > 14) {
      const what = `lclusters of 2^${clusterBits} bytes in compact indexes`;
      unsupported('z_erofs_map_header', 'h_clusterbits', headerAt + 7, what);
    }
    // 4-byte indexes up to a multiple of 32 bytes, then 2-byte ones in packs of 16, then 4-byte ones for the rest.
    const base = headerAt + 8;
    const initial = ((32 - (base % 32)) / 4) & 7;
    let short = 0;
    if ((advise & ZAdvise.COMPACTED_2B) !== 0 && initial < total) {
      short = Math.floor((total - initial) / 16) * 16;
    }
    let at = base;
    let width = 4;
    let rest = lcn;
    if (rest >= initial) {
      at += initial * 4;
      rest -= initial;
      if (rest < short) {
        width = 2;
      } else {
        at += short * 2;
        rest -= short;
      }
    }
    at += rest * width;
    if (width === 2 && clusterBits > 12) {
      const what = `lclusters of 2^${clusterBits} bytes in 2-byte indexes`;
      unsupported('z_erofs_map_header', 'h_clusterbits', headerAt + 7, what);
    }
    const count = width === 2 ? 16 : 2;
    const packSize = count * width;
    const packAt = Math.floor(at / packSize) * packSize;
    const pack = this.#meta.at(packAt, packSize, INDEX, 'di_advise');
    this.nextAt = packAt + packSize;
    this.#unpack(pack, (at - packAt) / width, count, packSize, lookahead);
  }

  /** Reads index `i` of a pack at offset `pack` of the cache. */
  #unpack(pack: number, i: number, count: number, packSize: number, lookahead: boolean): void {
    const offsetBits = Math.max(this.z.clusterBits, LEAST_OFFSET_BITS);
    const bits = ((packSize - 4) * 8) / count;
    let low = this.#bits(pack, bits * i, offsetBits);
    this.partial = false;
    if (this.type !== ClusterType.NONHEAD) {
      this.offset = low;
      this.back = 0;
      this.#findBlock(pack, i, bits, offsetBits, packSize);
      return;
    }
    const isLast = i + 1 === count;
    this.#setBack(low, !isLast);
    if (isLast && (low & Z_EROFS_LI_D0_CBLKCNT) === 0) {
      // The last of a pack tells the way ahead instead; the way back follows from the one before it.
      low = this.#bits(pack, bits * (i - 1), offsetBits);
      if (this.type !== ClusterType.NONHEAD) low = 0;
      else if ((low & Z_EROFS_LI_D0_CBLKCNT) !== 0) low = 1;
      this.back = low + 1;
    }
    if (lookahead) this.ahead = this.#distanceAhead(pack, i, count, bits, offsetBits);
    this.type = ClusterType.NONHEAD;
  }

  /** Index at bit `pos` of a pack: sets `type` to its type, returns its offset or distance. */
  #bits(pack: number, pos: number, offsetBits: number): number {
    const v = this.#meta.view.getUint32(pack + (pos >>> 3), true) >>> (pos & 7);
    this.type = (v >>> offsetBits) & 3;
    return v & ((1 << offsetBits) - 1);
  }

  #distanceAhead(pack: number, i: number, count: number, bits: number, offsetBits: number): number {
    let low = 0;
    let ahead = 0;
    for (; i < count; i++) {
      low = this.#bits(pack, bits * i, offsetBits);
      if (this.type !== ClusterType.NONHEAD) return ahead;
      ahead++;
    }
    return (low & Z_EROFS_LI_D0_CBLKCNT) === 0 ? ahead + low - 1 : ahead;
  }

  /** The pack has one block address: that of its first head; the sizes of the heads before this one are added. */
  #findBlock(pack: number, i: number, bits: number, offsetBits: number, packSize: number): void {
    const headType = this.type;
    let blocks: number;
    if ((this.z.advise & ZAdvise.BIG_PCLUSTER_1) === 0) {
      blocks = 1;
      while (i > 0) {
        i--;
        const low = this.#bits(pack, bits * i, offsetBits);
        if (this.type === ClusterType.NONHEAD) i -= low;
        if (i >= 0) blocks++;
      }
    } else {
      blocks = 0;
      while (i > 0) {
        i--;
        const low = this.#bits(pack, bits * i, offsetBits);
        if (this.type !== ClusterType.NONHEAD) {
          blocks++;
        } else if ((low & Z_EROFS_LI_D0_CBLKCNT) !== 0) {
          i--;
          blocks += low & (Z_EROFS_LI_D0_CBLKCNT - 1);
        } else {
          if (low <= 1) this.fail('di_u.delta', `a distance of ${low} with big pclusters`);
          i -= low - 2;
        }
      }
    }
    this.type = headType;
    this.block = this.#meta.view.getUint32(pack + packSize - 4, true) + blocks;
  }
}
