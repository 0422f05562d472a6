// What the tests of `varve boot build` share: a payload, the modules of a kernel that there is not, a request, and readers of results.
// The modules are text: nothing loads them here. A real boot is in machine tests.

import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { BuildRequest } from '../../src/boot/build/request.js';
import { openTreeSource } from '../../src/tree/source.js';
import type { TreeNode } from '../../src/tree/tree.js';

export const RELEASE = '6.1.0-stone';

/** Path -> what it needs. */
const MODULES: Readonly<Record<string, readonly string[]>> = {
  'kernel/drivers/virtio/virtio.ko': ['kernel/drivers/virtio/virtio_ring.ko'],
  'kernel/drivers/virtio/virtio_ring.ko': [],
  'kernel/drivers/virtio/virtio_pci.ko': [
    'kernel/drivers/virtio/virtio_ring.ko',
    'kernel/drivers/virtio/virtio.ko',
  ],
  'kernel/drivers/block/virtio_blk.ko': [
    'kernel/drivers/virtio/virtio_ring.ko',
    'kernel/drivers/virtio/virtio.ko',
  ],
  'kernel/drivers/block/loop.ko': [],
  'kernel/drivers/scsi/sd_mod.ko': [],
  'kernel/drivers/md/dm-mod.ko': [],
  'kernel/drivers/md/dm-verity.ko': ['kernel/drivers/md/dm-mod.ko'],
  'kernel/fs/erofs/erofs.ko': ['kernel/lib/libcrc32c.ko'],
  'kernel/fs/overlayfs/overlay.ko': [],
  'kernel/fs/fat/fat.ko': [],
  'kernel/fs/fat/vfat.ko': ['kernel/fs/fat/fat.ko'],
  'kernel/fs/nls/nls_cp437.ko': [],
  'kernel/fs/btrfs/btrfs.ko': [],
  'kernel/lib/libcrc32c.ko': [],
  'kernel/crypto/crc32c_generic.ko': [],
};

/** @param builtinCrc crc32c is in the kernel itself. @returns a root with lib/modules. */
export function makeModules(folder: string, builtinCrc = false): string {
  const place = join(folder, 'lib/modules', RELEASE);
  const lines = Object.entries(MODULES).map(([path, needs]) => {
    mkdirSync(join(place, dirname(path)), { recursive: true });
    writeFileSync(join(place, path), `module ${path}\n`);
    return `${path}: ${needs.join(' ')}`;
  });
  writeFileSync(join(place, 'modules.dep'), `${lines.join('\n')}\n`);
  writeFileSync(join(place, 'modules.softdep'), 'softdep libcrc32c pre: crc32c\n');
  const aliases = [
    'alias crc32c crc32c_generic',
    'alias virtio:d00000002v* virtio_blk',
    'alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci',
  ];
  writeFileSync(join(place, 'modules.alias'), `${aliases.join('\n')}\n`);
  const builtin = ['kernel/fs/ext4/ext4.ko', ...(builtinCrc ? ['kernel/lib/crc32c-x.ko'] : [])];
  writeFileSync(join(place, 'modules.builtin'), `${builtin.join('\n')}\n`);
  if (builtinCrc) {
    writeFileSync(
      join(place, 'modules.builtin.modinfo'),
      'crc32c_x.alias=crc32c\0ext4.alias=fs-ext4\0',
    );
  }
  return folder;
}

/** An initramfs as a folder: an /init, files, a link of each kind. */
export function makePayload(folder: string): string {
  mkdirSync(join(folder, 'usr/bin'), { recursive: true });
  writeFileSync(join(folder, 'init'), '#!/bin/sh\necho up\n', { mode: 0o755 });
  writeFileSync(join(folder, 'usr/bin/tool'), Buffer.alloc(300_000, 'stone and clay '), {
    mode: 0o755,
  });
  writeFileSync(join(folder, 'empty'), '');
  symlinkSync('usr/bin', join(folder, 'bin'));
  execFileSync('ln', [join(folder, 'usr/bin/tool'), join(folder, 'usr/bin/tool2')]);
  const paths = ['init', 'usr/bin/tool', 'empty', 'usr/bin', 'usr', '.'];
  for (const path of paths) utimesSync(join(folder, path), 1_700_000_000, 1_700_000_000);
  execFileSync('touch', ['-h', '-d', '@1700000000', join(folder, 'bin')]);
  return folder;
}

/** Packs a folder as cpio(1) does. */
export function pack(folder: string): Buffer {
  const script = 'cd "$0" && find . -print0 | LC_ALL=C sort -z | cpio --quiet -0 -o -H newc';
  return execFileSync('sh', ['-c', script, folder], { maxBuffer: 1 << 28 });
}

export function makeRequest(folder: string, changes: Partial<BuildRequest> = {}): BuildRequest {
  return {
    source: { root: join(folder, 'payload') },
    modules: { folder: join(folder, 'kernel') },
    out: join(folder, 'out'),
    layers: [],
    format: 'erofs',
    storage: ['virtio'],
    host: false,
    bootfs: 'LABEL=boot',
    bootfstype: 'ext4',
    raw: false,
    embed: false,
    verify: 'verity',
    timeout: 30,
    onFailure: 'shell',
    overlaySize: '50%',
    miniCompress: 'lz4',
    pathInBootfs: '/initoverlayfs.img',
    ...changes,
  };
}

/** The tree of an archive or a folder, as long as `use` runs. */
export function withTree<T>(path: string, use: (root: TreeNode) => T): T {
  const source = openTreeSource(path);
  try {
    return use(source.root);
  } finally {
    source.close();
  }
}
