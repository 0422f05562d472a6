// Where a byte of a file with extent records is stored.
// Called by map.ts; records have 4, 8, 16 or 32 bytes, the first two for extents of equal size.
// Follows: z_erofs_map_blocks_ext() of Linux 6.18 (fs/erofs/zmap.c).

import { corrupt } from './errors.js';
import { ExtentPlen, ZAdvise } from './format.js';
import type { Inode } from './inode.js';
import { checkEncoded } from './map-clusters.js';
import { type CompressionInfo, Kind, type Mapping, Plain } from './mapping.js';
import type { MetaCache } from './meta.js';
import type { Volume } from './volume.js';

const HI = 0x1_0000_0000;
const EXTENT = 'z_erofs_extent';

/** The record that was found: its words, where it begins and ends in the file. */
interface Found {
  plen: number;
  pa: number;
  start: number;
  end: number;
  isLast: boolean;
}

/** As mapBlocks(), for extent records. */
export function mapExtents(
  volume: Volume,
  inode: Inode,
  z: CompressionInfo,
  la: number,
  m: Mapping,
): void {
  const meta = volume.space(inode.metabox);
  const { recordSize } = z;
  const base = Math.ceil((z.headerAt + 8) / recordSize) * recordSize;
  const found =
    recordSize === 4
      ? walkSizes(meta, inode, z, base, la)
      : recordSize === 8
        ? readEqual(meta, inode, z, base, la)
        : search(meta, inode, z, base, la);
  m.la = found.start;
  m.llen = found.end - found.start;
  m.pa = found.pa;
  if (found.isLast && (z.advise & ZAdvise.FRAGMENT_PCLUSTER) !== 0) {
    m.kind = Kind.FRAGMENT;
    if (recordSize > 4 && found.pa >= 0x20_0000) {
      const what = `no packed inode is so large (nid ${inode.nid})`;
      corrupt(EXTENT, 'pstart_lo', base, what);
    }
    m.pa = found.plen + (recordSize > 4 ? found.pa * HI : 0);
    m.plen = m.llen;
    return;
  }
  const size = found.plen & ExtentPlen.MASK;
  m.plen = size;
  if (size === 0) {
    m.kind = Kind.HOLE;
    return;
  }
  m.kind = Kind.ENCODED;
  m.partial = (found.plen & ExtentPlen.PARTIAL) !== 0;
  const format = found.plen >>> ExtentPlen.FORMAT_SHIFT;
  const aligned = m.pa % volume.sb.blockSize === 0 && size % volume.sb.blockSize === 0;
  const interlaced = (z.advise & ZAdvise.INTERLACED_PCLUSTER) !== 0 && aligned;
  // Formats above those of the algorithms must not be taken for plain data.
  m.algorithm = format === 0 ? (interlaced ? Plain.INTERLACED : Plain.SHIFTED) : format - 1;
  if (format > 4) m.algorithm = format + Plain.INTERLACED;
  checkEncoded(volume, inode, z, m);
}

/** Records of 4 bytes: sizes only. The pclusters follow each other, so the sizes before this one are added up. */
function walkSizes(
  meta: MetaCache,
  inode: Inode,
  z: CompressionInfo,
  base: number,
  la: number,
): Found {
  const { clusterSize } = z;
  let start = z.walkedTo;
  let pa = z.walkedAt;
  if (pa < 0 || start > la) {
    const o = meta.at(base, 8, EXTENT, 'pstart_lo');
    pa = meta.view.getUint32(o, true) + meta.view.getUint32(o + 4, true) * HI;
    start = 0;
  }
  const first = base + 8;
  for (;;) {
    const o = meta.at(first + (start / clusterSize) * 4, 4, EXTENT, 'plen');
    const plen = meta.view.getUint32(o, true);
    if (start + clusterSize > la) {
      z.walkedTo = start;
      z.walkedAt = pa;
      return equal(inode, z, start, plen, pa);
    }
    pa += plen & ExtentPlen.MASK;
    start += clusterSize;
  }
}

/** Records of 8 bytes: size and address. */
function readEqual(
  meta: MetaCache,
  inode: Inode,
  z: CompressionInfo,
  base: number,
  la: number,
): Found {
  const index = Math.floor(la / z.clusterSize);
  const o = meta.at(base + index * 8, 8, EXTENT, 'plen');
  const plen = meta.view.getUint32(o, true);
  return equal(inode, z, index * z.clusterSize, plen, meta.view.getUint32(o + 4, true));
}

function equal(inode: Inode, z: CompressionInfo, start: number, plen: number, pa: number): Found {
  const end = start + z.clusterSize;
  return { plen, pa, start, end: Math.min(end, inode.size), isLast: end >= inode.size };
}

/** Records of 16 and 32 bytes: they say where they begin in the file, in order. */
function search(
  meta: MetaCache,
  inode: Inode,
  z: CompressionInfo,
  base: number,
  la: number,
): Found {
  const { recordSize, extents } = z;
  const { view } = meta;
  const found: Found = { plen: 0, pa: 0, start: la, end: inode.size, isLast: false };
  let low = 0;
  let high = extents;
  while (low < high) {
    const mid = Math.floor((low + high) / 2);
    const at = base + mid * recordSize;
    const o = meta.at(at, recordSize, EXTENT, 'lstart_lo');
    let start = view.getUint32(o + 12, true);
    if (recordSize > 16) start += view.getUint32(o + 16, true) * HI;
    if (start > la) {
      if (start > found.end) {
        const what = `${start} is behind the next extent or the end of the file (nid ${inode.nid})`;
        corrupt(EXTENT, 'lstart_lo', at, what);
      }
      found.end = start;
      high = mid;
    } else {
      found.start = start;
      found.plen = view.getUint32(o, true);
      found.pa = view.getUint32(o + 4, true) + view.getUint32(o + 8, true) * HI;
      low = mid + 1;
    }
  }
  // Without a record before it, the byte is in a hole.
  found.isLast = low > 0 && low >= extents;
  return found;
}
