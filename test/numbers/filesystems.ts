// The filesystems of the numbers matrix: each row makes lowers on them, an upper, and layers that join later.
// Used by matrix.ts; needs root and loop devices. Everything lies below one folder, which its caller takes down.
// A lower can be moved: a folder by rename(2), an image by mounting it elsewhere, on whichever loop device is free.

import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../overlay/stack.js';
import { mountLoop } from '../support/loop.js';

/** A read-only layer; what it is called for varve and for the kernel may differ (an image). */
export interface LayerPlace {
  varve: string;
  kernel: string;
  /** To another place, same content, while nothing uses it. */
  move(): void;
}

export interface Setting {
  /** Topmost first. */
  readonly lowers: LayerPlace[];
  readonly upper: string;
  readonly work: string;
  /** A folder for layers that join: on a filesystem of the stack, or on a further one. */
  readonly extra: string;
}

export interface Row {
  readonly name: string;
  readonly needs: { readonly features: readonly string[]; readonly packages: readonly string[] };
  /** @param fill makes the tree of lower `i` in a folder. */
  make(base: string, fill: (folder: string, i: number) => void, objects: number): Setting;
}

function folder(path: string): string {
  mkdirSync(path, { recursive: true });
  return path;
}

/** A layer that is a folder of a writable filesystem. */
export function folderLayer(path: string): LayerPlace {
  const layer = {
    varve: path,
    kernel: path,
    move() {
      const to = `${layer.varve}-moved`;
      renameSync(layer.varve, to);
      layer.varve = to;
      layer.kernel = to;
    },
  };
  return layer;
}

/** A layer that is mounted: `mount` is called for its first place and for the next. */
function mountedLayer(path: string, mount: (at: string) => void): LayerPlace {
  mount(folder(path));
  const layer = {
    varve: path,
    kernel: path,
    move() {
      run('umount', [layer.varve]);
      const to = folder(`${layer.varve}-moved`);
      mount(to);
      layer.varve = to;
      layer.kernel = to;
    },
  };
  return layer;
}

function squashfs(base: string, i: number, fill: (folder: string, i: number) => void): LayerPlace {
  const source = folder(join(base, `source${i}`));
  fill(source, i);
  const image = join(base, `squashfs${i}`);
  run('mksquashfs', [source, image, '-quiet', '-no-progress', '-all-time', '1000000000']);
  run('rm', ['-r', source]);
  return mountedLayer(join(base, `lower${i}`), (at) => mountLoop(image, at, 'ro'));
}

const NO_UUID = '00000000-0000-0000-0000-000000000000';

/** An image that varve reads itself, and that the kernel gets mounted. */
function erofs(base: string, i: number, fill: (folder: string, i: number) => void): LayerPlace {
  const source = folder(join(base, `source${i}`));
  fill(source, i);
  let image = join(base, `erofs${i}`);
  run('mkfs.erofs', ['--quiet', '-T', '1000000000', '-U', NO_UUID, image, source]);
  run('rm', ['-r', source]);
  const mounted = mountedLayer(join(base, `lower${i}`), (at) => mountLoop(image, at, 'ro'));
  const layer = {
    varve: image,
    kernel: mounted.kernel,
    move() {
      run('umount', [mounted.kernel]);
      renameSync(image, `${image}-moved`);
      image = `${image}-moved`;
      layer.varve = image;
      layer.kernel = folder(`${layer.kernel}-moved`);
      mountLoop(image, layer.kernel, 'ro');
    },
  };
  return layer;
}

/** Megabytes of an ext4 for so many small objects. */
const sizeFor = (objects: number): number => 64 + Math.ceil(objects / 100);

function ext4(base: string, name: string, objects: number): string {
  const path = join(base, name);
  const image = `${path}.img`;
  folder(path);
  run('truncate', ['-s', `${sizeFor(objects)}M`, image]);
  run('mkfs.ext4', ['-q', '-m', '0', '-N', String(objects * 2 + 4096), image]);
  run('mount', ['-o', 'loop', image, path]);
  return path;
}

/** @param size as truncate(1) takes it; the file is sparse. */
function xfs(base: string, name: string, size: string): string {
  const path = join(base, name);
  const image = `${path}.img`;
  folder(path);
  run('truncate', ['-s', size, image]);
  run('mkfs.xfs', ['-q', '-K', ...(size.endsWith('T') ? ['-l', 'size=512m'] : []), image]);
  run('mount', ['-o', 'loop,inode64', image, path]);
  return path;
}

function upperOn(path: string): Pick<Setting, 'upper' | 'work'> {
  return { upper: folder(join(path, 'upper')), work: folder(join(path, 'work')) };
}

function filled(path: string, i: number, fill: (folder: string, i: number) => void): LayerPlace {
  fill(folder(path), i);
  return folderLayer(path);
}

export const ROWS: readonly Row[] = [
  {
    name: 'one ext4',
    needs: { features: ['ext4', 'loop'], packages: ['e2fsprogs'] },
    make(base, fill, objects) {
      const disk = ext4(base, 'disk', objects * 2);
      return {
        lowers: [filled(join(disk, 'top'), 0, fill), filled(join(disk, 'base'), 1, fill)],
        ...upperOn(disk),
        extra: folder(join(disk, 'extra')),
      };
    },
  },
  {
    name: 'XFS, ext4',
    needs: { features: ['ext4', 'xfs', 'loop'], packages: ['e2fsprogs', 'xfsprogs'] },
    make(base, fill, objects) {
      const x = xfs(base, 'xfs', `${300 + sizeFor(objects)}M`);
      const disk = ext4(base, 'disk', objects * 2);
      return {
        lowers: [filled(join(x, 'top'), 0, fill), filled(join(disk, 'base'), 1, fill)],
        ...upperOn(ext4(base, 'upper', objects)),
        extra: folder(join(ext4(base, 'further', 1000), 'extra')),
      };
    },
  },
  {
    name: 'squashfs, squashfs, tmpfs',
    needs: { features: ['squashfs', 'tmpfs', 'loop'], packages: ['squashfs-tools'] },
    make(base, fill) {
      const memory = folder(join(base, 'memory'));
      run('mount', ['-t', 'tmpfs', 'tmpfs', memory]);
      const further = folder(join(base, 'further'));
      run('mount', ['-t', 'tmpfs', 'tmpfs', further]);
      return {
        lowers: [
          squashfs(base, 0, fill),
          squashfs(base, 1, fill),
          filled(join(memory, 'base'), 2, fill),
        ],
        ...upperOn(memory),
        extra: folder(join(further, 'extra')),
      };
    },
  },
  {
    name: 'EROFS images, ext4',
    needs: { features: ['erofs', 'ext4', 'loop'], packages: ['erofs-utils', 'e2fsprogs'] },
    make(base, fill, objects) {
      const disk = ext4(base, 'disk', objects * 2);
      return {
        lowers: [erofs(base, 0, fill), erofs(base, 1, fill), filled(join(disk, 'base'), 2, fill)],
        ...upperOn(disk),
        extra: folder(join(ext4(base, 'further', 1000), 'extra')),
      };
    },
  },
  {
    name: '64-bit numbers: XFS of 15 TiB, overlay with xino=on',
    needs: { features: ['ext4', 'xfs', 'overlayfs', 'loop'], packages: ['e2fsprogs', 'xfsprogs'] },
    make(base, fill, objects) {
      const big = xfs(base, 'xfs', '15T');
      const disk = ext4(base, 'disk', objects * 2);
      const parts = [ext4(base, 'a', objects), ext4(base, 'b', objects)].map((disk) =>
        folder(join(disk, 'part')),
      );
      fill(parts[0] as string, 1);
      writeFileSync(join(parts[1] as string, 'beside'), '');
      const nested = mountedLayer(join(base, 'nested'), (at) =>
        run('mount', ['-t', 'overlay', '-o', `lowerdir=${parts.join(':')},xino=on`, 'overlay', at]),
      );
      return {
        lowers: [filled(join(big, 'top'), 0, fill), nested],
        ...upperOn(disk),
        extra: folder(join(ext4(base, 'further', 1000), 'extra')),
      };
    },
  },
];
