// The EROFS disk format as data: structs, flags, limits. No logic.
// Read by the reader and the writer of this room and by tests; everything on disk is little endian.
// Follows: fs/erofs/erofs_fs.h of Linux 6.18 and of erofs-utils 1.9.3 (names, offsets and values).

import { bytes, i64, pad, struct, u8, u16, u32, u64 } from '../bytes/struct.js';

export const EROFS_SUPER_MAGIC_V1 = 0xe0f5e1e2;
/** Byte offset of the superblock, whatever the block size. */
export const EROFS_SUPER_OFFSET = 1024;
/** Bytes of an additional slot of the superblock (sb_extslots). */
export const EROFS_SB_EXTSLOT_SIZE = 16;
/** A nid counts slots of this many bytes from meta_blkaddr on. */
export const EROFS_SLOT_SIZE = 32;

/** Bits of feature_compat: an image that sets others is readable all the same. */
export const FeatureCompat = {
  SB_CHKSUM: 0x1, // checksum is filled in
  MTIME: 0x2,
  XATTR_FILTER: 0x4, // h_name_filter is filled in
  SHARED_EA_IN_METABOX: 0x8,
  PLAIN_XATTR_PFX: 0x10, // long prefixes lie outside the packed inode
  ISHARE_XATTRS: 0x20,
} as const;

/** Bits of feature_incompat; three of them have two names, one for each thing that came together. */
export const FeatureIncompat = {
  LZ4_0PADDING: 0x1, // compressed data lies at the end of its pcluster, zeros before it
  COMPR_CFGS: 0x2, // a record for each algorithm follows the superblock
  BIG_PCLUSTER: 0x2,
  CHUNKED_FILE: 0x4,
  DEVICE_TABLE: 0x8,
  COMPR_HEAD2: 0x8,
  ZTAILPACKING: 0x10,
  FRAGMENTS: 0x20,
  DEDUPE: 0x20,
  XATTR_PREFIXES: 0x40,
  '48BIT': 0x80,
  METABOX: 0x100,
} as const;

/** All bits of feature_incompat that are known here. */
export const FEATURE_INCOMPAT_ALL = 0x1ff;

/** struct erofs_super_block at byte 1024: 128 bytes and sb_extslots times 16; what is declared is 144. */
export const ErofsSuperBlock = struct('erofs_super_block', 144, {
  magic: [0, u32], // EROFS_SUPER_MAGIC_V1
  checksum: [4, u32], // crc32c from byte 1024 to the end of the block, this field zero; never inverted at the end
  feature_compat: [8, u32],
  blkszbits: [12, u8], // log2 of the block size
  sb_extslots: [13, u8],
  rb: [14, u16], // rootnid_2b; with 48BIT and rootnid_8b: bits 32 to 47 of the block count

  inos: [16, u64], // inodes in use
  epoch: [24, i64], // seconds; base of the times of compact inodes

  fixed_nsec: [32, u32], // nanoseconds of compact inodes
  blocks_lo: [36, u32], // blocks of the primary device
  meta_blkaddr: [40, u32], // blocks; where nid 0 would be
  xattr_blkaddr: [44, u32], // blocks; where shared xattr id 0 would be

  uuid: [48, bytes(16)],

  volume_name: [64, bytes(16)],

  feature_incompat: [80, u32],
  u1: [84, u16], // available_compr_algs (a bit each) with COMPR_CFGS, else lz4_max_distance in bytes
  extra_devices: [86, u16],
  devt_slotoff: [88, u16], // device table, in units of 128 bytes from byte 0
  dirblkbits: [90, u8], // 0: directory blocks are blocks
  xattr_prefix_count: [91, u8],
  xattr_prefix_start: [92, u32], // units of 4 bytes

  packed_nid: [96, u64], // inode that holds the fragments
  xattr_filter_reserved: [104, u8],
  ishare_xattr_prefix_id: [105, u8],
  reserved: [106, pad(2)],
  build_time: [108, u32], // seconds after epoch

  rootnid_8b: [112, u64], // with 48BIT
  reserved2: [120, pad(8)],

  metabox_nid: [128, u64], // with METABOX
  reserved3: [136, pad(8)],
});

/** struct lcfs_erofs_header_s at byte 0 of a composefs image (composefs 1.0.8, lcfs-erofs.h). */
export const ComposefsHeader = struct('lcfs_erofs_header_s', 32, {
  magic: [0, u32], // COMPOSEFS_MAGIC
  version: [4, u32], // 1
  flags: [8, u32], // ComposefsFlags
  composefs_version: [12, u32], // format version, 0 or 1

  unused: [16, pad(16)],
});
export const COMPOSEFS_MAGIC = 0xd078629a;
export const ComposefsFlags = {
  HAS_ACL: 0x1, // an inode has POSIX ACLs
} as const;

/** struct erofs_deviceslot: one for each extra device. */
export const ErofsDeviceSlot = struct('erofs_deviceslot', 128, {
  tag: [0, bytes(64)], // digest or other name, zero padded

  blocks_lo: [64, u32], // blocks of this device
  uniaddr_lo: [68, u32], // block at which it begins in the unified address space; 0: it is not in it
  blocks_hi: [72, u16],
  uniaddr_hi: [74, u16],
  reserved: [76, pad(52)],
});

/** Bits of i_format. */
export const InodeFormat = {
  EXTENDED: 0x01, // 64 bytes, else 32
  LAYOUT_SHIFT: 1,
  LAYOUT_MASK: 0x07,
  NLINK_1: 0x10, // compact, not a directory: nlink is 1 and i_nb holds the upper bits of i_u
  DOT_OMITTED: 0x10, // directories: no dirent "."
  ALL: 0x1f,
} as const;

/** How the data of an inode is stored. */
export const Layout = {
  FLAT_PLAIN: 0, // i_u is the first block
  COMPRESSED_FULL: 1, // 8-byte indexes, or extents
  FLAT_INLINE: 2, // as FLAT_PLAIN, the last partial block behind the inode
  COMPRESSED_COMPACT: 3, // packed indexes
  CHUNK_BASED: 4, // i_u is the chunk format, block addresses behind the inode
} as const;

/** struct erofs_inode_compact */
export const ErofsInodeCompact = struct('erofs_inode_compact', 32, {
  i_format: [0, u16],
  i_xattr_icount: [2, u16], // 0, or 1 + (bytes of inline xattrs - 12) / 4
  i_mode: [4, u16],
  i_nb: [6, u16], // nlink, or startblk_hi or blocks_hi with NLINK_1
  i_size: [8, u32], // bytes
  i_mtime: [12, u32], // seconds after epoch

  i_u: [16, u32], // startblk_lo, blocks_lo (compressed), rdev or chunk format
  i_ino: [20, u32], // for a 32-bit stat only
  i_uid: [24, u16],
  i_gid: [26, u16],
  i_reserved: [28, pad(4)],
});

/** struct erofs_inode_extended */
export const ErofsInodeExtended = struct('erofs_inode_extended', 64, {
  i_format: [0, u16],
  i_xattr_icount: [2, u16],
  i_mode: [4, u16],
  i_nb: [6, u16], // startblk_hi or blocks_hi
  i_size: [8, u64], // bytes

  i_u: [16, u32],
  i_ino: [20, u32],
  i_uid: [24, u32],
  i_gid: [28, u32],

  i_mtime: [32, i64], // seconds
  i_mtime_nsec: [40, u32],
  i_nlink: [44, u32],

  i_reserved2: [48, pad(16)],
});

/** struct erofs_xattr_ibody_header: behind the inode when i_xattr_icount is not 0. */
export const ErofsXattrIbodyHeader = struct('erofs_xattr_ibody_header', 12, {
  h_name_filter: [0, u32], // a bit that is set: no name with this hash
  h_shared_count: [4, u8], // ids (u32 each) that follow this header
  h_reserved2: [5, pad(7)],
});

/** struct erofs_xattr_entry; the name without prefix and the value follow, padded to 4 bytes. */
export const ErofsXattrEntry = struct('erofs_xattr_entry', 4, {
  e_name_len: [0, u8],
  e_name_index: [1, u8], // XATTR_PREFIXES, or XATTR_LONG_PREFIX and the number of a long one
  e_value_size: [2, u16], // bytes
});

/** e_name_index -> prefix of the name. 0 and 5 (lustre) are in no name that the kernel shows, 0 has no prefix. */
export const XATTR_PREFIXES: readonly (string | undefined)[] = [
  undefined,
  'user.',
  'system.posix_acl_access',
  'system.posix_acl_default',
  'trusted.',
  undefined,
  'security.',
];
export const XATTR_LONG_PREFIX = 0x80;
export const XATTR_LONG_PREFIX_MASK = 0x7f;
/** Seed of xxh32 for the name filter; the prefix's index is added to it. */
export const XATTR_FILTER_SEED = 0x25bbe08f;

/** Bits of the chunk format (low half of i_u). */
export const ChunkFormat = {
  BLKBITS_MASK: 0x1f, // log2 of the blocks in a chunk
  INDEXES: 0x20, // 8-byte indexes, else 4-byte block addresses
  '48BIT': 0x40,
  ALL: 0x7f,
} as const;

/** struct erofs_inode_chunk_index */
export const ErofsInodeChunkIndex = struct('erofs_inode_chunk_index', 8, {
  startblk_hi: [0, u16], // with ChunkFormat.48BIT
  device_id: [2, u16], // 0: the unified address space
  startblk_lo: [4, u32], // all bits set: a hole
});

/** Bit of a nid (of 64 bits) whose inode lies in the metabox. */
export const EROFS_DIRENT_NID_METABOX_BIT = 63n;

/** struct erofs_dirent; the names follow the last of a block's entries. */
export const ErofsDirent = struct('erofs_dirent', 12, {
  nid: [0, u64],
  nameoff: [8, u16], // bytes from the start of the block
  file_type: [10, u8],
  reserved: [11, pad(1)],
});

/** file_type of a dirent, with the st_mode type of each at its place. */
export const FileType = {
  UNKNOWN: 0,
  REG_FILE: 1,
  DIR: 2,
  CHRDEV: 3,
  BLKDEV: 4,
  FIFO: 5,
  SOCK: 6,
  SYMLINK: 7,
} as const;
export const FILE_TYPE_MODES: readonly number[] = [
  0, 0o100000, 0o040000, 0o020000, 0o060000, 0o010000, 0o140000, 0o120000,
];

/** Bytes. */
export const EROFS_NAME_LEN = 255;

/** Bytes of a pcluster, at most. */
export const Z_EROFS_PCLUSTER_MAX_SIZE = 1024 * 1024;
/** Bytes that a pcluster holds when decompressed, at most. */
export const Z_EROFS_PCLUSTER_MAX_DSIZE = 12 * 1024 * 1024;

/** Algorithms, as in h_algorithmtype and as bits of available_compr_algs. */
export const Algorithm = { LZ4: 0, LZMA: 1, DEFLATE: 2, ZSTD: 3 } as const;
export const ALGORITHM_NAMES = ['lz4', 'lzma', 'deflate', 'zstd'] as const;

/** Compression configurations: each a u16 length and then one of these, from the end of the superblock on. */
export const ZErofsLz4Cfgs = struct('z_erofs_lz4_cfgs', 14, {
  max_distance: [0, u16], // bytes; 0: 65535
  max_pclusterblks: [2, u16], // blocks; 0: 1
  reserved: [4, pad(10)],
});
export const ZErofsLzmaCfgs = struct('z_erofs_lzma_cfgs', 14, {
  dict_size: [0, u32], // bytes, at least 4096
  format: [4, u16], // 0: MicroLZMA
  reserved: [6, pad(8)],
});
export const ZErofsDeflateCfgs = struct('z_erofs_deflate_cfgs', 6, {
  windowbits: [0, u8], // 8 to 15
  reserved: [1, pad(5)],
});
export const ZErofsZstdCfgs = struct('z_erofs_zstd_cfgs', 6, {
  format: [0, u8], // 0
  windowlog: [1, u8], // log2 of the window, minus 10
  reserved: [2, pad(4)],
});
/** Bytes. */
export const Z_EROFS_LZMA_MAX_DICT_SIZE = 8 * 1024 * 1024;

/** Bits of h_advise. */
export const ZAdvise = {
  COMPACTED_2B: 0x01, // COMPRESSED_COMPACT: packs of 16 indexes where they fit
  EXTENTS: 0x01, // COMPRESSED_FULL: extent records instead of indexes
  BIG_PCLUSTER_1: 0x02,
  BIG_PCLUSTER_2: 0x04,
  INLINE_PCLUSTER: 0x08, // the last pcluster lies behind the indexes
  INTERLACED_PCLUSTER: 0x10, // plain pclusters are rotated to their place in the block
  FRAGMENT_PCLUSTER: 0x20, // the tail lies in the packed inode
  EXTRECSZ_BIT: 1, // EXTENTS: log2 of the record size, minus 2
  EXTRECSZ_MASK: 0x3,
} as const;

/** struct z_erofs_map_header: behind the xattrs, at a multiple of 8 bytes. */
export const ZErofsMapHeader = struct('z_erofs_map_header', 8, {
  h_fragmentoff: [0, u32], // bytes; h_idata_size in the upper half; extent count
  h_advise: [4, u16],
  h_algorithmtype: [6, u8], // HEAD1 in bits 0 to 3, HEAD2 in bits 4 to 7; extents: upper half of their count with the next
  h_clusterbits: [7, u8], // log2 of blocks in an lcluster; bit 7: the whole file lies in the packed inode
});
/** Bit of h_clusterbits. */
export const Z_EROFS_FRAGMENT_INODE = 0x80;

/** Types of logical clusters. */
export const ClusterType = { PLAIN: 0, HEAD1: 1, NONHEAD: 2, HEAD2: 3 } as const;

/** struct z_erofs_lcluster_index, for COMPRESSED_FULL from 8 bytes behind the header on. */
export const ZErofsLclusterIndex = struct('z_erofs_lcluster_index', 8, {
  di_advise: [0, u16], // ClusterType; Z_EROFS_LI_PARTIAL_REF
  di_clusterofs: [2, u16], // bytes; where in the lcluster the extent begins
  di_u: [4, u32], // block address, or for NONHEAD: distance to the head (u16), distance to the next head (u16)
});
/** di_advise: the extent is a part of what its pcluster holds. */
export const Z_EROFS_LI_PARTIAL_REF = 0x8000;
/** Distance to the head of the first NONHEAD: the rest is the pcluster's size in blocks. */
export const Z_EROFS_LI_D0_CBLKCNT = 0x800;

/** struct z_erofs_extent: a record is the first 4, 8, 16 or 32 bytes of it. */
export const ZErofsExtent = struct('z_erofs_extent', 32, {
  plen: [0, u32], // bytes; format in bits 28 to 31
  pstart_lo: [4, u32], // bytes
  pstart_hi: [8, u32],
  lstart_lo: [12, u32], // bytes

  lstart_hi: [16, u32],
  reserved: [20, pad(12)],
});
export const ExtentPlen = {
  MASK: 0x1fffff, // bytes; 0: a hole
  PARTIAL: 0x08000000,
  FORMAT_SHIFT: 28, // 0: plain, else algorithm + 1
} as const;
