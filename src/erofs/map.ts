// Where a byte of a file is stored: by data layout.
// Called by data.ts for every run of a read; compressed layouts go on to z-header.ts, map-clusters.ts, map-extents.ts.
// Follows: erofs_map_blocks() of Linux 6.18 (fs/erofs/data.c, zmap.c).

import { corrupt } from './errors.js';
import { ChunkFormat, Layout } from './format.js';
import { type Inode, tailAt } from './inode.js';
import { mapClusters } from './map-clusters.js';
import { mapExtents } from './map-extents.js';
import { Kind, type Mapping } from './mapping.js';
import type { Volume } from './volume.js';
import { compressionOf } from './z-header.js';

const HI = 0x1_0000_0000;

/**
 * Finds the run with byte `la` (below inode.size) of a file.
 * @param m receives it: m.la <= la < m.la + m.llen, and never beyond inode.size.
 * @throws ErofsError
 */
export function mapBlocks(volume: Volume, inode: Inode, la: number, m: Mapping): void {
  m.device = 0;
  m.partial = false;
  switch (inode.layout) {
    case Layout.FLAT_PLAIN:
    case Layout.FLAT_INLINE:
      mapFlat(volume, inode, la, m);
      break;
    case Layout.CHUNK_BASED:
      mapChunk(volume, inode, la, m);
      break;
    default: {
      const z = compressionOf(volume, inode);
      if (z.recordSize !== 0) mapExtents(volume, inode, z, la, m);
      else mapClusters(volume, inode, z, la, m);
    }
  }
  if (m.la + m.llen > inode.size) m.llen = inode.size - m.la;
  if (!(m.la <= la && la < m.la + m.llen)) {
    corrupt('erofs_inode', 'i_size', inode.at, `byte ${la} of nid ${inode.nid} is stored nowhere`);
  }
}

function mapFlat(volume: Volume, inode: Inode, la: number, m: Mapping): void {
  const { blockSize } = volume.sb;
  const { size } = inode;
  m.la = 0;
  if (inode.layout === Layout.FLAT_PLAIN) {
    m.kind = inode.startBlock < 0 ? Kind.HOLE : Kind.RAW;
    m.pa = inode.startBlock * blockSize;
    m.llen = size;
    m.plen = size;
    return;
  }
  // An inline tail is there even when the size is a multiple of the block: then it is a whole block.
  const tail = (Math.ceil(size / blockSize) - 1) * blockSize;
  if (la < tail) {
    m.kind = Kind.RAW;
    m.pa = inode.startBlock * blockSize;
    m.llen = tail;
  } else {
    m.kind = Kind.INLINE;
    m.la = tail;
    m.pa = tailAt(inode);
    m.llen = size - tail;
    if ((m.pa % blockSize) + m.llen > blockSize) {
      const what = `inline data of ${m.llen} bytes crosses a block (nid ${inode.nid})`;
      corrupt('erofs_inode', 'i_size', inode.at + 8, what);
    }
  }
  m.plen = m.llen;
}

function mapChunk(volume: Volume, inode: Inode, la: number, m: Mapping): void {
  const { blockSize } = volume.sb;
  const chunkSize = blockSize * 2 ** (inode.chunkFormat & ChunkFormat.BLKBITS_MASK);
  const indexes = (inode.chunkFormat & ChunkFormat.INDEXES) !== 0;
  const unit = indexes ? 8 : 4;
  const chunk = Math.floor(la / chunkSize);
  const pos = Math.ceil(tailAt(inode) / unit) * unit + chunk * unit;
  const meta = volume.space(inode.metabox);
  const o = meta.at(pos, unit, 'erofs_inode_chunk_index', 'startblk_lo');
  m.la = chunk * chunkSize;
  m.llen = Math.min(chunkSize, inode.size - m.la);
  m.plen = m.llen;
  m.kind = Kind.RAW;
  if (indexes) {
    const wide = (inode.chunkFormat & ChunkFormat['48BIT']) !== 0;
    const high = wide ? meta.view.getUint16(o, true) : 0;
    const low = meta.view.getUint32(o + 4, true);
    if (low === 0xffffffff && (!wide || high === 0xffff)) m.kind = Kind.HOLE;
    m.device = meta.view.getUint16(o + 2, true) & deviceMask(volume);
    m.pa = (low + high * HI) * blockSize;
  } else {
    const block = meta.view.getUint32(o, true);
    if (block === 0xffffffff) m.kind = Kind.HOLE;
    m.pa = block * blockSize;
  }
}

/** Bits of device_id that count: upper ones are reserved. */
function deviceMask(volume: Volume): number {
  let mask = 0;
  while (mask < volume.sb.devices.length) mask = mask * 2 + 1;
  return mask;
}
