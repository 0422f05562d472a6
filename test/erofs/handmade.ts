// Images put together by hand, for what no mkfs.erofs writes: structures at chosen places, with chosen values.
// Uses the declared structs only, none of the writer. One block of 512 bytes after the other, nids counted from byte 0.

import type { Value } from '../../src/bytes/struct.js';
import {
  EROFS_SUPER_MAGIC_V1,
  EROFS_SUPER_OFFSET,
  ErofsDirent,
  ErofsInodeExtended,
  ErofsSuperBlock,
  FeatureIncompat,
  Layout,
} from '../../src/erofs/format.js';

export const BLOCK = 512;
export const S_IFREG = 0o100644;
export const S_IFDIR = 0o040755;

export interface Name {
  /** Latin-1. */
  readonly name: string;
  readonly nid: number;
  readonly type: number;
}

type InodeFields = Partial<Value<typeof ErofsInodeExtended>>;

export class Handmade {
  #bytes = new Uint8Array(1 << 16);
  #end = EROFS_SUPER_OFFSET + BLOCK;

  /** Appends bytes at a multiple of `align`. @returns their offset. */
  put(bytes: Uint8Array, align: number): number {
    const at = Math.ceil(this.#end / align) * align;
    this.#end = at + bytes.length;
    if (this.#end > this.#bytes.length) {
      const larger = new Uint8Array(this.#end * 2);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes.set(bytes, at);
    return at;
  }

  /** Appends whole blocks. @returns the number of the first. */
  blocks(bytes: Uint8Array): number {
    const padded = new Uint8Array(Math.ceil(bytes.length / BLOCK) * BLOCK);
    padded.set(bytes);
    return this.put(padded, BLOCK) / BLOCK;
  }

  /**
   * Appends an extended inode.
   * @param rest what follows it: xattrs, then indexes.
   * @returns its nid.
   */
  inode(layout: number, fields: InodeFields, rest: Uint8Array = new Uint8Array(0)): number {
    const inode = ErofsInodeExtended.bytes({
      i_format: 1 | (layout << 1),
      i_mode: S_IFREG,
      i_nlink: 1,
      ...fields,
    });
    return this.put(Buffer.concat([inode, rest]), 32) / 32;
  }

  /** Appends a directory; its names must be in order. @returns its nid. */
  directory(names: readonly Name[]): number {
    const data = directoryBlocks(names);
    const startblk = this.blocks(data);
    return this.inode(Layout.FLAT_PLAIN, {
      i_mode: S_IFDIR,
      i_size: BigInt(data.length),
      i_u: startblk,
      i_nlink: 2,
    });
  }

  /** A root directory with the given names ("." and ".." refer to nid 1, which is wrong but harmless). */
  finish(names: readonly Name[], fields: Partial<Value<typeof ErofsSuperBlock>> = {}): Uint8Array {
    const dots = [
      { name: '.', nid: 1, type: 2 },
      { name: '..', nid: 1, type: 2 },
    ];
    const root = this.directory([...dots, ...names].sort((a, b) => (a.name < b.name ? -1 : 1)));
    const sb = ErofsSuperBlock.bytes({
      magic: EROFS_SUPER_MAGIC_V1,
      blkszbits: 9,
      sb_extslots: 1,
      inos: 1n,
      ...fields,
      // A root far from the start needs the wide field.
      ...(root < 65536
        ? { rb: root }
        : {
            rootnid_8b: BigInt(root),
            feature_incompat: (fields.feature_incompat ?? 0) | FeatureIncompat['48BIT'],
          }),
    });
    const out = this.#bytes.slice(0, Math.ceil(this.#end / BLOCK) * BLOCK);
    out.set(sb, EROFS_SUPER_OFFSET);
    return out;
  }
}

/** Blocks of dirents, as full as they can be. */
export function directoryBlocks(names: readonly Name[]): Uint8Array {
  const blocks: Uint8Array[] = [];
  for (let i = 0; i < names.length; ) {
    let size = 0;
    const first = i;
    while (i < names.length && size + 12 + (names[i] as Name).name.length <= BLOCK) {
      size += 12 + (names[i] as Name).name.length;
      i++;
    }
    const block = new Uint8Array(BLOCK);
    const view = new DataView(block.buffer);
    let nameoff = (i - first) * 12;
    names.slice(first, i).forEach(({ name, nid, type }, k) => {
      ErofsDirent.encode(view, { nid: BigInt(nid), nameoff, file_type: type }, k * 12);
      block.set(Buffer.from(name, 'latin1'), nameoff);
      nameoff += name.length;
    });
    blocks.push(block);
  }
  return Buffer.concat(blocks);
}
