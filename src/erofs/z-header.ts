// What the header before the indexes of a compressed file says.
// Read once an inode, when its data is first asked for, and kept with it.
// Follows: z_erofs_fill_inode() of Linux 6.18 (fs/erofs/zmap.c).

import { corrupt } from './errors.js';
import { Layout, Z_EROFS_FRAGMENT_INODE, ZAdvise } from './format.js';
import type { Inode } from './inode.js';
import type { CompressionInfo } from './mapping.js';
import type { Volume } from './volume.js';

const HI = 0x1_0000_0000;

/** @throws ErofsError */
export function compressionOf(volume: Volume, inode: Inode): CompressionInfo {
  return (inode.z ??= readHeader(volume, inode));
}

function readHeader(volume: Volume, inode: Inode): CompressionInfo {
  const at = Math.ceil((inode.at + inode.isize + inode.xattrSize) / 8) * 8;
  const meta = volume.space(inode.metabox);
  const o = meta.at(at, 8, 'z_erofs_map_header', 'h_advise');
  const low = meta.view.getUint32(o, true);
  const advise = meta.view.getUint16(o + 4, true);
  const algorithms = meta.view.getUint8(o + 6);
  const clusterBitsRaw = meta.view.getUint8(o + 7);
  const wholeFragment = (clusterBitsRaw & Z_EROFS_FRAGMENT_INODE) !== 0;
  const clusterBits = volume.sb.blockBits + (clusterBitsRaw & 15);
  const isFull = inode.layout === Layout.COMPRESSED_FULL;
  const extents = !wholeFragment && isFull && (advise & ZAdvise.EXTENTS) !== 0;
  const fragment = (advise & ZAdvise.FRAGMENT_PCLUSTER) !== 0;
  const inline = (advise & ZAdvise.INLINE_PCLUSTER) !== 0;
  const bigPclusters = advise & (ZAdvise.BIG_PCLUSTER_1 | ZAdvise.BIG_PCLUSTER_2);
  if (
    !wholeFragment &&
    !isFull &&
    (bigPclusters === ZAdvise.BIG_PCLUSTER_1 || bigPclusters === ZAdvise.BIG_PCLUSTER_2)
  ) {
    const what = `big pclusters of one head only, with compact indexes (nid ${inode.nid})`;
    corrupt('z_erofs_map_header', 'h_advise', at + 4, what);
  }
  let fragmentAt = fragment && !extents ? low : 0;
  if (wholeFragment) {
    // The other 63 bits of the header are the place in the packed inode.
    fragmentAt = meta.view.getUint32(o + 4, true) % 0x8000_0000;
    if (fragmentAt >= 0x20_0000) {
      const what = `no packed inode is so large (nid ${inode.nid})`;
      corrupt('z_erofs_map_header', 'h_fragmentoff', at, what);
    }
    fragmentAt = fragmentAt * HI + low;
  }
  return {
    advise: wholeFragment ? ZAdvise.FRAGMENT_PCLUSTER : advise,
    clusterBits,
    clusterSize: 2 ** clusterBits,
    algorithm1: algorithms & 15,
    algorithm2: algorithms >>> 4,
    headerAt: at,
    recordSize: extents ? 4 << ((advise >>> ZAdvise.EXTRECSZ_BIT) & ZAdvise.EXTRECSZ_MASK) : 0,
    extents: extents ? low + meta.view.getUint16(o + 6, true) * HI : 0,
    inlineSize: inline && !fragment && !extents && !wholeFragment ? low >>> 16 : 0,
    wholeFragment,
    fragmentAt,
    tailCluster: -1,
    inlineAt: -1,
    walkedTo: 0,
    walkedAt: -1,
  };
}
