// The bytes of an opened image: metadata through caches, data of the primary and the extra devices.
// Made by image.ts; the parsers of this room take it as their first argument.
// Follows: erofs_map_dev() and erofs_read_metabuf() of Linux 6.18.

import type { ByteSource } from '../bytes/source.js';
import { corrupt, ErofsError } from './errors.js';
import { MetaCache } from './meta.js';
import type { Superblock } from './superblock.js';

export class Volume {
  readonly sb: Superblock;
  /** Metadata of the primary device. */
  readonly meta: MetaCache;
  /** Set once by image.ts, when it is known how the metabox is read. */
  metabox: MetaCache | undefined;
  readonly #source: ByteSource;
  readonly #devices: readonly ByteSource[];
  /** True when a block number may mean another device than it says. */
  readonly #unified: boolean;

  /** @param devices the extra devices in order; those that are not given fail when they are read. */
  constructor(sb: Superblock, source: ByteSource, devices: readonly ByteSource[]) {
    this.sb = sb;
    this.meta = new MetaCache(source, sb.blockSize);
    this.#source = source;
    this.#devices = devices;
    this.#unified = sb.devices.some((device) => device.uniaddr !== 0);
  }

  /** The metadata that an inode lies in. */
  space(metabox: boolean): MetaCache {
    if (!metabox) return this.meta;
    return this.metabox ?? corrupt('erofs_dirent', 'nid', 0, 'the image has no metabox');
  }

  /** True when the bytes can be read through the metadata cache: they are on the primary device. */
  isPrimary(pa: number, length: number): boolean {
    return !this.#unified && pa + length <= this.meta.size;
  }

  /**
   * Reads data.
   * @param device 0: `pa` is in the unified address space.
   * @param inodeAt byte of the inode that says so, for the error.
   */
  readData(device: number, pa: number, out: Uint8Array, inodeAt: number): void {
    let source = this.#source;
    let at = pa;
    let index = device - 1;
    if (device === 0 && this.#unified) {
      index = this.#owner(pa);
      if (index >= 0) at -= (this.sb.devices[index]?.uniaddr as number) * this.sb.blockSize;
    }
    if (index >= 0) source = this.#device(index, inodeAt);
    if (!(at >= 0 && at + out.length <= source.size)) {
      const which = index < 0 ? 'the image' : `device ${index + 1}`;
      corrupt(
        'erofs_inode',
        'i_u.startblk',
        inodeAt,
        `its data at byte ${at} (${out.length} bytes) lies outside ${which} of ${source.size} bytes`,
      );
    }
    source.read(at, out);
  }

  /** Index of the extra device that has this byte of the unified address space, or -1. */
  #owner(pa: number): number {
    const { devices, blockSize } = this.sb;
    return devices.findIndex(
      ({ uniaddr, blocks }) =>
        uniaddr !== 0 && pa >= uniaddr * blockSize && pa < (uniaddr + blocks) * blockSize,
    );
  }

  #device(index: number, inodeAt: number): ByteSource {
    const known = this.sb.devices.length;
    if (index >= known) {
      const what = `device ${index + 1} of ${known}`;
      corrupt('erofs_inode_chunk_index', 'device_id', inodeAt, what);
    }
    const source = this.#devices[index];
    if (source === undefined) {
      throw new ErofsError(
        { structure: 'erofs_deviceslot', field: 'tag', at: inodeAt },
        `data lies on extra device ${index + 1}, which was not given`,
      );
    }
    return source;
  }
}
