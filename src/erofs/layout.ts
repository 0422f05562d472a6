// Where inodes lie: each gets a place in the metadata area such that what is inline does not cross a block.
// Called by write.ts between the data and the metadata, when the size of everything behind each inode is known.
// Follows: fs/erofs/inode.c and zmap.c of Linux 6.18 (inline data lies in one block, slots of 32 bytes).

import { S } from '../linux/constants.js';
import { EROFS_SLOT_SIZE } from './format.js';
import { flatBlocks, type InodePlan } from './plan.js';
import { BLOCK } from './write-options.js';

/** Blocks with room left that a small inode may still go to: enough to fill them, few enough to keep neighbours near. */
const OPEN_BLOCKS = 128;

const slotted = (size: number): number => Math.ceil(size / EROFS_SLOT_SIZE) * EROFS_SLOT_SIZE;

/** Fills blocks with pieces of up to a block: each goes where the least room is left over. */
class Packer {
  /** Blocks begun so far. */
  blocks = 0;
  readonly #open: { readonly block: number; used: number }[] = [];

  /** @returns a byte offset, a multiple of 32, from which `size` bytes with `tail` at their end can lie. */
  place(size: number, tail: number): number {
    return size <= BLOCK ? this.#fit(size) : this.#spread(size, tail);
  }

  /** Leaves the first `size` bytes of a new block free. */
  skip(size: number): void {
    this.#begin(size);
  }

  #fit(size: number): number {
    let best = -1;
    let left = BLOCK + 1;
    for (let i = 0; i < this.#open.length; i++) {
      const room = BLOCK - (this.#open[i] as { used: number }).used - size;
      if (room >= 0 && room < left) {
        left = room;
        best = i;
      }
    }
    if (best < 0) return this.#begin(size);
    const chosen = this.#open[best] as { readonly block: number; used: number };
    const offset = chosen.block * BLOCK + chosen.used;
    chosen.used += slotted(size);
    if (chosen.used >= BLOCK) this.#open.splice(best, 1);
    return offset;
  }

  #begin(size: number): number {
    const block = this.blocks++;
    this.#keep(block, slotted(size));
    return block * BLOCK;
  }

  #keep(block: number, used: number): void {
    if (used >= BLOCK) return;
    if (this.#open.length >= OPEN_BLOCKS) {
      let fullest = 0;
      this.#open.forEach((one, i) => {
        if (one.used > (this.#open[fullest] as { used: number }).used) fullest = i;
      });
      this.#open.splice(fullest, 1);
    }
    this.#open.push({ block, used });
  }

  /** More than a block: begins in a new one, late enough that the tail is whole in the last. */
  #spread(size: number, tail: number): number {
    const before = (size - tail) % BLOCK;
    const start = before + tail <= BLOCK ? 0 : slotted(BLOCK - before);
    const first = this.blocks;
    const end = start + size;
    this.blocks += Math.ceil(end / BLOCK);
    const last = this.blocks - 1;
    this.#keep(last, slotted(end - (last - first) * BLOCK));
    return first * BLOCK + start;
  }
}

/** Where the parts of the metadata area are, in blocks from its start. */
export interface MetaLayout {
  /** Blocks with inodes; those with the data of directories follow. */
  readonly inodeBlocks: number;
  readonly blocks: number;
}

/**
 * Gives every inode its offset and every directory its blocks.
 * @param start first block of the metadata area.
 */
export function layOut(inodes: readonly InodePlan[], start: number): MetaLayout {
  const packer = new Packer();
  // Nid 0 means "none" to readers, so nothing lies there.
  packer.skip(EROFS_SLOT_SIZE);
  for (const plan of inodes) {
    if (plan.type === S.IFDIR || plan.type === S.IFLNK) plan.setFlat(plan.size, 0);
    const size = plan.headSize + plan.indexSize + plan.tailSize;
    plan.offset = packer.place(size, plan.tailSize);
  }
  let blocks = packer.blocks;
  for (const plan of inodes) {
    if (plan.type !== S.IFDIR && plan.type !== S.IFLNK) continue;
    const own = flatBlocks(plan);
    if (own > 0) plan.i_u = start + blocks;
    blocks += own;
  }
  return { inodeBlocks: packer.blocks, blocks };
}
