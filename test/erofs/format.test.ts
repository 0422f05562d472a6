// The declared structs of the format: their sizes as the kernel checks them, and one superblock in bytes.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { corrupt, ErofsError, unsupported } from '../../src/erofs/errors.js';
import * as format from '../../src/erofs/format.js';

/** erofs_check_ondisk_layout_definitions() of erofs_fs.h, the configurations, and composefs's header. */
const sizes: Record<string, number> = {
  erofs_super_block: 144,
  erofs_deviceslot: 128,
  erofs_inode_compact: 32,
  erofs_inode_extended: 64,
  erofs_xattr_ibody_header: 12,
  erofs_xattr_entry: 4,
  erofs_inode_chunk_index: 8,
  erofs_dirent: 12,
  z_erofs_lz4_cfgs: 14,
  z_erofs_lzma_cfgs: 14,
  z_erofs_deflate_cfgs: 6,
  z_erofs_zstd_cfgs: 6,
  z_erofs_map_header: 8,
  z_erofs_lcluster_index: 8,
  z_erofs_extent: 32,
  lcfs_erofs_header_s: 32,
};

test('every struct of the format has its size', () => {
  const declared: Record<string, number> = {};
  for (const value of Object.values(format)) {
    if (typeof value === 'object' && 'decode' in value) declared[value.name] = value.size;
  }
  assert.deepEqual(declared, sizes);
});

test('an error names structure, field and byte', () => {
  assert.throws(
    () => corrupt('erofs_inode', 'i_format', 1152, 'layout 7'),
    (error: unknown) =>
      error instanceof ErofsError &&
      error.message === 'erofs_inode.i_format at byte 1152: layout 7' &&
      error.at === 1152 &&
      !error.unsupported,
  );
  assert.throws(() => unsupported('erofs_super_block', 'feature_incompat', 1104, 'bit 9'), {
    structure: 'erofs_super_block',
    field: 'feature_incompat',
    unsupported: true,
  });
});
