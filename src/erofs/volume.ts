// The bytes of an opened image: metadata through caches, data of the primary and the extra devices.
// Made by image.ts; the parsers of this room take it as their first argument.
// Follows: erofs_map_dev() (its `flatdev` too) and erofs_read_metabuf() of Linux 6.18.

import type { ByteSource } from '../bytes/source.js';
import { corrupt, ErofsError } from './errors.js';
import { MetaCache } from './meta.js';
import type { DeviceSlot, Superblock } from './superblock.js';

export class Volume {
  readonly sb: Superblock;
  /** Metadata of the primary device. */
  readonly meta: MetaCache;
  /** Set once by image.ts, when it is known how the metabox is read. */
  metabox: MetaCache | undefined;
  readonly #source: ByteSource;
  readonly #devices: readonly ByteSource[];
  /** Byte of the unified address space from which on it is another device's. */
  readonly #primaryEnd: number;

  /**
   * @param devices the extra devices in order; those that are not given fail when they are read. When none is given,
   * they are looked for behind the primary device in `source`, at their unified addresses.
   */
  constructor(sb: Superblock, source: ByteSource, devices: readonly ByteSource[]) {
    this.sb = sb;
    this.meta = new MetaCache(source, sb.blockSize);
    this.#source = source;
    this.#devices = devices;
    const starts = sb.devices.map(({ uniaddr }) => uniaddr).filter((uniaddr) => uniaddr !== 0);
    this.#primaryEnd = Math.min(Infinity, ...starts) * sb.blockSize;
  }

  /** The metadata that an inode lies in. */
  space(metabox: boolean): MetaCache {
    if (!metabox) return this.meta;
    return this.metabox ?? corrupt('erofs_dirent', 'nid', 0, 'the image has no metabox');
  }

  /** True when the bytes can be read through the metadata cache: they are on the primary device. */
  isPrimary(pa: number, length: number): boolean {
    return pa + length <= this.meta.size && pa + length <= this.#primaryEnd;
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
    if (device === 0 && pa >= this.#primaryEnd) index = this.#owner(pa);
    const slot = index < 0 ? undefined : this.#slot(index, inodeAt);
    if (slot !== undefined) {
      const start = slot.uniaddr * this.sb.blockSize;
      const unified = device === 0 ? pa : pa + start;
      if (start !== 0 && this.#isFlat(unified + out.length)) {
        at = unified;
        index = -1;
      } else {
        at = unified - start;
        source = this.#device(index, inodeAt);
      }
    }
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

  #slot(index: number, inodeAt: number): DeviceSlot {
    const known = this.sb.devices.length;
    const slot = this.sb.devices[index];
    if (slot !== undefined) return slot;
    corrupt('erofs_inode_chunk_index', 'device_id', inodeAt, `device ${index + 1} of ${known}`);
  }

  /** True when the devices are appended to the primary one, as far as a byte of the unified address space. */
  #isFlat(end: number): boolean {
    return this.#devices.length === 0 && end <= this.meta.size;
  }

  #device(index: number, inodeAt: number): ByteSource {
    const source = this.#devices[index];
    if (source !== undefined) return source;
    throw new ErofsError(
      { structure: 'erofs_deviceslot', field: 'tag', at: inodeAt },
      `data lies on extra device ${index + 1}, which was not given`,
    );
  }
}
