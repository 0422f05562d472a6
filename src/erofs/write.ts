// Builds an EROFS image of a tree: plan, data, places, metadata, superblock, and then the name.
// Called by the commands that make images; everything else of the writer is called from here.
// Follows: erofs_fs.h of Linux 6.18. Layout: head, shared xattrs, data, inodes, directories.

import { createHash } from 'node:crypto';
import { S } from '../linux/constants.js';
import type { TreeNode } from '../tree/tree.js';
import { layOut } from './layout.js';
import { type ImagePlan, type InodePlan, NO_BLOCK, planTree } from './plan.js';
import { DataWriter } from './write-data.js';
import { CompressedData, ExtentStore } from './write-extents.js';
import { isChunked, writeMeta } from './write-meta.js';
import { BLOCK, type BuildOptions, type Settings, settle } from './write-options.js';
import { ProgressMeter } from './write-progress.js';
import { ImageFile, Spool } from './write-sink.js';
import { encodeHead, planHead } from './write-super.js';

/** What was built. */
export interface BuildReport {
  /** Bytes of the image, and of the blob beside it. */
  readonly bytes: number;
  readonly blobBytes: number;
  /** Of them, bytes of metadata: inodes, indexes, inline data, directories. */
  readonly metaBytes: number;
  readonly inodes: number;
  /** Bytes of regular files. */
  readonly fileBytes: number;
  readonly uuid: Uint8Array;
}

/**
 * Writes an image of `tree` to the file `out`, which appears when it is complete and then replaces what was there.
 * The same tree and options give the same bytes, whatever the number of workers.
 * @throws BuildOptionError for options, RangeError for what EROFS cannot store, and what the tree's content throws.
 */
export async function buildImage(
  tree: TreeNode,
  options: BuildOptions,
  out: string,
): Promise<BuildReport> {
  const settings = settle(options);
  const plan = planTree(tree, settings);
  const image = new ImageFile(out);
  const blob = settings.blob === undefined ? undefined : new ImageFile(settings.blob);
  const tails = new Spool(out);
  const packed = settings.fragments === undefined ? undefined : new Spool(out);
  try {
    const build = new Build(settings, plan, { image, blob, tails, packed });
    const report = await build.run();
    // The blob first: an image never names data that is not there.
    await blob?.publish(report.blobBytes);
    await image.publish(report.bytes);
    return report;
  } catch (error) {
    await blob?.discard();
    await image.discard();
    throw error;
  } finally {
    tails.close();
    packed?.close();
  }
}

interface Files {
  readonly image: ImageFile;
  readonly blob: ImageFile | undefined;
  /** Data that lies with the inodes. */
  readonly tails: Spool;
  readonly packed: Spool | undefined;
}

class Build {
  readonly #settings: Settings;
  readonly #plan: ImagePlan;
  readonly #files: Files;
  readonly #extents = new ExtentStore();

  constructor(settings: Settings, plan: ImagePlan, files: Files) {
    this.#settings = settings;
    this.#plan = plan;
    this.#files = files;
  }

  async run(): Promise<BuildReport> {
    const settings = this.#settings;
    const plan = this.#plan;
    const { image, blob, tails, packed } = this.#files;
    const prefixes = plan.xattrs.longPrefixes();
    const head = planHead({
      coders: settings.coders,
      pclusterSize: settings.pclusterSize,
      hasBlob: blob !== undefined || settings.placed !== undefined,
      // Readers look for them in the packed file when there is one.
      prefixes: packed === undefined ? prefixes : new Uint8Array(0),
    });
    const xattrBlock = plan.sharedXattrs.length > 0 ? head.blocks : 0;
    const firstData = head.blocks + plan.sharedXattrs.length / BLOCK;
    if (xattrBlock > 0) image.write(xattrBlock * BLOCK, plan.sharedXattrs);

    const totals = countFiles(plan.inodes);
    const written = (): number => image.written + (blob?.written ?? 0);
    const progress = new ProgressMeter(totals, written, settings.onProgress);
    const target = blob === undefined ? undefined : { file: blob, device: 1, block: 0 };
    const blobBlocks = (): number => settings.placed?.blocks ?? target?.block ?? 0;
    const data = new DataWriter({
      settings,
      image,
      tails,
      packedSpool: packed,
      packedHead: prefixes,
      extents: this.#extents,
      firstBlock: firstData,
      blob: target,
      progress,
      epoch: plan.epoch,
      epochNsec: plan.epochNsec,
    });
    let packedInode: InodePlan | undefined;
    try {
      packedInode = await data.run(plan.inodes);
    } finally {
      await data.close();
    }
    const inodes = packedInode === undefined ? plan.inodes : [...plan.inodes, packedInode];

    const metaBlock = data.endBlock;
    const layout = layOut(inodes, metaBlock);
    const hash = createHash('sha256');
    hash.update(data.digest()).update(plan.sharedXattrs);
    writeMeta(inodes, layout, metaBlock, {
      image,
      tails,
      extents: this.#extents,
      hash,
      xattrFilter: settings.xattrFilter,
    });
    const blocks = metaBlock + layout.blocks;
    if (Math.max(blocks, blobBlocks()) >= NO_BLOCK) {
      throw new RangeError('the image is larger than the 16 TiB that its block numbers reach');
    }
    const uuid = settings.uuid ?? uuidOf(hash.digest());
    const compressed = inodes
      .map((one) => one.stored)
      .filter((one) => one instanceof CompressedData);
    const superblock = encodeHead(head, {
      blocks,
      blobBlocks: blobBlocks(),
      rootNid: plan.root.nid,
      packedNid: packedInode?.nid,
      inodes: inodes.length,
      epoch: plan.epoch,
      epochNsec: plan.epochNsec,
      metaBlock,
      xattrBlock,
      uuid,
      volumeName: settings.volumeName ?? '',
      hasXattrFilter: settings.xattrFilter && !plan.xattrs.isEmpty,
      hasChunks: inodes.some(isChunked),
      hasInlinePclusters: compressed.some((one) => one.inlineSize > 0),
      hasDedupe: settings.dedupe && compressed.length > 0,
      prefixCount: settings.xattrPrefixes.length,
    });
    image.write(0, superblock);
    progress.report();
    return {
      bytes: blocks * BLOCK,
      blobBytes: blobBlocks() * BLOCK,
      metaBytes: layout.blocks * BLOCK,
      inodes: inodes.length,
      fileBytes: totals.bytes,
      uuid,
    };
  }
}

function countFiles(inodes: readonly InodePlan[]): {
  inodes: number;
  files: number;
  bytes: number;
} {
  let files = 0;
  let bytes = 0;
  for (const plan of inodes) {
    if (plan.type !== S.IFREG) continue;
    files++;
    bytes += plan.size;
  }
  return { inodes: inodes.length, files, bytes };
}

/** A UUID of version 8 (RFC 9562: made by one's own rules) from a digest. */
function uuidOf(digest: Uint8Array): Uint8Array {
  const uuid = digest.slice(0, 16);
  uuid[6] = ((uuid[6] as number) & 0x0f) | 0x80;
  uuid[8] = ((uuid[8] as number) & 0x3f) | 0x80;
  return uuid;
}
