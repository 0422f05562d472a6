// Where the bytes of an image go: objects by kind, data by algorithm and by top-level folder, metadata.
// Made for `varve image info`; reads all metadata of the image and none of the data.
// Sizes on disk are of pclusters, chunks and blocks; what several files share counts once.

import { S } from '../linux/constants.js';
import { METACOPY } from './composefs-marks.js';
import { FeatureCompat, FeatureIncompat } from './format.js';
import type { ErofsImage, Inode } from './image.js';

/** Bytes of files, and the bytes that hold them. */
export interface Share {
  /** Regular files with data stored so. */
  files: number;
  /** Bytes as the files show them. */
  bytes: number;
  /** Bytes in the image or on its devices. */
  stored: number;
}

export interface ImageReport {
  readonly uuid: string;
  readonly volumeName: string;
  readonly blockSize: number;
  readonly features: readonly string[];
  /** Seconds since 1970; 0: not recorded. */
  readonly buildTime: number;
  readonly devices: readonly { readonly tag: string; readonly bytes: number }[];
  readonly objects: {
    directories: number;
    files: number;
    symlinks: number;
    devices: number;
    fifos: number;
    sockets: number;
    /** Names beyond the first of hard links. */
    hardLinks: number;
    /** Objects with extended attributes. */
    withXattrs: number;
  };
  /** Of a composefs image: its format version, and the files whose content is an object of a store. */
  readonly composefs?: { readonly version: number; readonly files: number; readonly bytes: number };
  /** Bytes of all regular files; holes included. */
  readonly fileBytes: number;
  readonly holeBytes: number;
  /** By algorithm; `none`: stored as it is, `tail`: beside the inode, `packed`: in the packed inode. */
  readonly algorithms: Readonly<Record<string, Share>>;
  /** By name at the top, largest first; `.` for what lies at the top itself. */
  readonly folders: readonly ({ readonly name: string } & Share)[];
  /** Bytes of the primary device, and those of them that hold no file data. */
  readonly imageBytes: number;
  readonly metadataBytes: number;
}

/** @throws ErofsError. */
export function reportImage(image: ErofsImage): ImageReport {
  const sb = image.superblock;
  const tally = new Tally(image);
  const root = image.inode(image.rootNid);
  tally.tree(root);
  if (sb.packedNid !== undefined) tally.packed(image.inode(sb.packedNid));
  const imageBytes = sb.blocks * sb.blockSize;
  return {
    uuid: uuidText(sb.uuid),
    volumeName: sb.volumeName,
    blockSize: sb.blockSize,
    features: featuresOf(image),
    buildTime: sb.buildTime === 0 ? 0 : sb.epoch + sb.buildTime,
    devices: sb.devices.map((device) => ({
      tag: Buffer.from(device.tag).toString(),
      bytes: device.blocks * sb.blockSize,
    })),
    objects: tally.objects,
    ...(sb.composefsVersion === undefined
      ? {}
      : { composefs: { version: sb.composefsVersion, ...tally.external } }),
    fileBytes: tally.fileBytes,
    holeBytes: tally.fileBytes - tally.external.bytes - tally.dataBytes,
    algorithms: Object.fromEntries(tally.algorithms),
    folders: [...tally.folders]
      .map(([name, share]) => ({ name, ...share }))
      .sort((a, b) => b.stored - a.stored || (a.name < b.name ? -1 : 1)),
    imageBytes,
    metadataBytes: Math.max(0, imageBytes - tally.storedOnPrimary),
  };
}

/** 8-4-4-4-12 hex digits. */
function uuidText(uuid: Uint8Array): string {
  return Buffer.from(uuid)
    .toString('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

function featuresOf(image: ErofsImage): string[] {
  const { featureCompat, featureIncompat } = image.superblock;
  const names = (bits: number, table: Readonly<Record<string, number>>): string[] => {
    const found = new Map<number, string[]>();
    for (const [name, bit] of Object.entries(table)) {
      if ((bits & bit) !== 0) found.set(bit, [...(found.get(bit) ?? []), name.toLowerCase()]);
    }
    return [...found.values()].map((list) => list.join('/'));
  };
  return [...names(featureCompat, FeatureCompat), ...names(featureIncompat, FeatureIncompat)];
}

function shareOf(shares: Map<string, Share>, name: string): Share {
  let share = shares.get(name);
  if (share === undefined) {
    share = { files: 0, bytes: 0, stored: 0 };
    shares.set(name, share);
  }
  return share;
}

class Tally {
  readonly objects = {
    directories: 0,
    files: 0,
    symlinks: 0,
    devices: 0,
    fifos: 0,
    sockets: 0,
    hardLinks: 0,
    withXattrs: 0,
  };
  readonly algorithms = new Map<string, Share>();
  readonly folders = new Map<string, Share>();
  /** Files of a composefs image whose content is elsewhere. */
  readonly external = { files: 0, bytes: 0 };
  fileBytes = 0;
  dataBytes = 0;
  storedOnPrimary = 0;
  readonly #image: ErofsImage;
  readonly #seen = new Set<number>();
  /** Pclusters and chunks already counted, by device and place. */
  readonly #places = new Map<number, Set<number>>();

  constructor(image: ErofsImage) {
    this.#image = image;
  }

  /** Everything below the root. */
  tree(start: Inode): void {
    // With the name at the top that each lies under; undefined: it is the top.
    const pending: [Inode, string | undefined][] = [[start, undefined]];
    this.#seen.add(start.nid);
    this.#object(start);
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const [dir, folder] = next;
      this.#image.children(dir, (name, nid) => {
        if (this.#seen.has(nid)) {
          this.objects.hardLinks++;
          return;
        }
        this.#seen.add(nid);
        const inode = this.#image.inode(nid);
        this.#object(inode);
        const type = inode.mode & S.IFMT;
        if (type === S.IFDIR) pending.push([inode, folder ?? Buffer.from(name).toString('latin1')]);
        else if (type === S.IFREG) this.#file(inode, folder ?? '.');
      });
    }
  }

  /** The packed inode: what files have in it is counted as theirs, its own storage here. */
  packed(inode: Inode): void {
    this.#data(inode, undefined);
  }

  #object(inode: Inode): void {
    const { objects } = this;
    if (inode.xattrSize > 0) objects.withXattrs++;
    switch (inode.mode & S.IFMT) {
      case S.IFDIR:
        objects.directories++;
        break;
      case S.IFREG:
        objects.files++;
        break;
      case S.IFLNK:
        objects.symlinks++;
        break;
      case S.IFIFO:
        objects.fifos++;
        break;
      case S.IFSOCK:
        objects.sockets++;
        break;
      default:
        objects.devices++;
    }
  }

  #file(inode: Inode, folder: string): void {
    this.fileBytes += inode.size;
    const share = shareOf(this.folders, folder);
    share.files++;
    share.bytes += inode.size;
    const image = this.#image;
    if (image.superblock.composefsVersion !== undefined && image.getxattr(inode, METACOPY)) {
      this.external.files++;
      this.external.bytes += inode.size;
    } else {
      this.#data(inode, share);
    }
  }

  #data(inode: Inode, folder: Share | undefined): void {
    const { blockSize } = this.#image;
    const used = new Set<string>();
    for (const extent of this.#image.extents(inode)) {
      const kind =
        extent.where === 'packed'
          ? 'packed'
          : extent.where === 'inline'
            ? 'tail'
            : (extent.algorithm ?? 'none');
      const share = shareOf(this.algorithms, kind);
      if (!used.has(kind) && folder !== undefined) share.files++;
      used.add(kind);
      if (folder !== undefined) {
        share.bytes += extent.length;
        this.dataBytes += extent.length;
      }
      if (extent.where !== 'device' || !this.#first(extent.device, extent.storedAt)) continue;
      const stored =
        extent.algorithm === undefined
          ? Math.ceil(extent.stored / blockSize) * blockSize
          : extent.stored;
      if (folder === undefined) shareOf(this.algorithms, 'packed').stored += stored;
      else share.stored += stored;
      if (folder !== undefined) folder.stored += stored;
      if (extent.device === 0) this.storedOnPrimary += stored;
    }
  }

  #first(device: number, at: number): boolean {
    let places = this.#places.get(device);
    if (places === undefined) {
      places = new Set();
      this.#places.set(device, places);
    }
    const before = places.size;
    return places.add(at).size > before;
  }
}
