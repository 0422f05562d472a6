// The data of files: any bytes of any layout, read with as little work as they need.
// Called by image.ts, directory.ts and xattr.ts; goes to map.ts for where, to decompress.ts for how.
// Follows: fs/erofs/data.c and zdata.c of Linux 6.18; the bounds on work are ours.

import type { Decompressor } from './decompress.js';
import { ErofsError } from './errors.js';
import { Z_EROFS_PCLUSTER_MAX_SIZE } from './format.js';
import type { Inode } from './inode.js';
import { mapBlocks } from './map.js';
import { Kind, type Mapping, newMapping, Plain } from './mapping.js';
import type { Decoded, PclusterCache } from './pcluster-cache.js';
import type { Volume } from './volume.js';

/** Compressed bytes that are read at once when pclusters follow each other. */
const READ_AHEAD = 64 * 1024;

/** Work that one read may cause beyond what it asks for: bytes read and decompressed, and runs. */
const SPARE_WORK = 64 * 1024 * 1024;
const WORK_A_BYTE = 64;
const SPARE_RUNS = 1024;
const BYTES_A_RUN = 16;

/** Tells the caches' keys of the metabox from those of the primary device. */
const METABOX_KEYS = 2 ** 52;

/** What reads the fragments: the packed inode, through a reader of its own. */
export interface Fragments {
  readonly reader: DataReader;
  readonly inode: Inode;
}

/**
 * Reads file data. One object serves one kind of file at a time: metabox and packed inode have their own, because
 * reading them may be a part of reading another file.
 */
export class DataReader {
  readonly #volume: Volume;
  readonly #decompressor: Decompressor;
  readonly #cache: PclusterCache;
  readonly #fragments: (() => Fragments) | undefined;
  readonly #m: Mapping = newMapping();
  // Stored bytes: #raw holds #rawLength bytes from byte #rawAt of the primary device on.
  #raw = new Uint8Array(0);
  #rawAt = -1;
  #rawLength = 0;
  /** Bytes of work left for the read in progress. */
  #budget = 0;

  /** @param fragments undefined: a file of this reader cannot have fragments. */
  constructor(
    volume: Volume,
    decompressor: Decompressor,
    cache: PclusterCache,
    fragments: (() => Fragments) | undefined,
  ) {
    this.#volume = volume;
    this.#decompressor = decompressor;
    this.#cache = cache;
    this.#fragments = fragments;
  }

  /**
   * Reads bytes of a file.
   * @param out receives them at 0; as many as it has room for.
   * @returns how many there were: fewer at the end of the file, 0 behind it.
   * @throws ErofsError, or what the source throws.
   */
  read(inode: Inode, out: Uint8Array, at: number): number {
    const length = Math.min(out.length, inode.size - at);
    if (length <= 0) return 0;
    const m = this.#m;
    this.#budget = SPARE_WORK + length * WORK_A_BYTE;
    let runs = SPARE_RUNS + length / BYTES_A_RUN;
    for (let done = 0; done < length; ) {
      const la = at + done;
      mapBlocks(this.#volume, inode, la, m);
      const n = Math.min(length - done, m.la + m.llen - la);
      if (--runs < 0) this.#excessive(inode, la);
      this.#readRun(inode, m, la - m.la, out, done, n);
      done += n;
    }
    return length;
  }

  /** Copies bytes `skip` to `skip + n` of a run. */
  #readRun(inode: Inode, m: Mapping, skip: number, out: Uint8Array, to: number, n: number): void {
    switch (m.kind) {
      case Kind.HOLE:
        out.fill(0, to, to + n);
        break;
      case Kind.RAW:
        this.#volume.readData(m.device, m.pa + skip, out.subarray(to, to + n), inode.at);
        break;
      case Kind.INLINE: {
        const space = this.#volume.space(inode.metabox);
        space.copy(m.pa + skip, out, to, n, 'erofs_inode', 'inline data');
        break;
      }
      case Kind.FRAGMENT:
        this.#readFragment(inode, m.pa + skip, out.subarray(to, to + n));
        break;
      default:
        this.#readEncoded(inode, m, skip, out, to, n);
    }
  }

  #readFragment(inode: Inode, at: number, out: Uint8Array): void {
    const fragments = this.#fragments?.();
    if (fragments === undefined) {
      const what = `nid ${inode.nid} has a fragment, and no packed inode may be used`;
      throw new ErofsError(
        { structure: 'z_erofs_map_header', field: 'h_advise', at: inode.at },
        what,
      );
    }
    if (fragments.reader.read(fragments.inode, out, at) !== out.length) {
      const what =
        `${out.length} bytes at byte ${at} of the packed inode, which has ` +
        `${fragments.inode.size} (nid ${inode.nid})`;
      throw new ErofsError(
        { structure: 'z_erofs_map_header', field: 'h_fragmentoff', at: inode.at },
        what,
      );
    }
  }

  #readEncoded(
    inode: Inode,
    m: Mapping,
    skip: number,
    out: Uint8Array,
    to: number,
    n: number,
  ): void {
    const { algorithm, la, llen, plen, partial } = m;
    if (algorithm === Plain.SHIFTED || algorithm === Plain.INTERLACED) {
      const from = this.#stored(inode, m);
      const { copyPlain } = this.#decompressor;
      copyPlain.call(this.#decompressor, algorithm, this.#raw, from, plen, out, to, skip, n, la);
      return;
    }
    const key = inode.metabox && m.kind === Kind.ENCODED_INLINE ? m.pa + METABOX_KEYS : m.pa;
    const known = this.#cache.get(key);
    if (known !== undefined && known.length >= skip + n) {
      out.set(known.bytes.subarray(skip, skip + n), to);
      return;
    }
    const from = this.#stored(inode, m);
    this.#budget -= llen;
    if (skip === 0 && n === llen) {
      const ok = this.#decompressor.run(
        algorithm,
        this.#raw,
        from,
        plen,
        out,
        to,
        llen,
        la,
        partial,
      );
      if (!ok) this.#malformed(inode, m);
      return;
    }
    const entry: Decoded = this.#cache.add(key, llen);
    if (
      !this.#decompressor.run(algorithm, this.#raw, from, plen, entry.bytes, 0, llen, la, partial)
    ) {
      this.#cache.delete(key);
      this.#malformed(inode, m);
    }
    entry.length = llen;
    out.set(entry.bytes.subarray(skip, skip + n), to);
  }

  /** Makes the stored bytes of a pcluster lie in #raw. @returns at which offset. */
  #stored(inode: Inode, m: Mapping): number {
    const { pa, plen } = m;
    if (m.kind === Kind.ENCODED_INLINE) {
      this.#reserve(plen);
      this.#rawAt = -1;
      const space = this.#volume.space(inode.metabox);
      space.copy(pa, this.#raw, 0, plen, 'z_erofs_map_header', 'h_idata_size');
      return 0;
    }
    const from = pa - this.#rawAt;
    if (this.#rawAt >= 0 && from >= 0 && from + plen <= this.#rawLength) return from;
    let length = plen;
    // Pclusters that follow each other are read together, as long as they are on the primary device.
    if (this.#rawAt >= 0 && from > 0 && from <= this.#rawLength && plen < READ_AHEAD) {
      if (this.#volume.isPrimary(pa, READ_AHEAD)) length = READ_AHEAD;
    }
    this.#budget -= length;
    if (this.#budget < 0) this.#excessive(inode, m.la);
    this.#reserve(length);
    this.#rawAt = -1;
    this.#volume.readData(0, pa, this.#raw.subarray(0, length), inode.at);
    this.#rawAt = pa;
    this.#rawLength = length;
    return 0;
  }

  #reserve(length: number): void {
    if (this.#raw.length >= length) return;
    this.#raw = new Uint8Array(length <= READ_AHEAD ? READ_AHEAD : Z_EROFS_PCLUSTER_MAX_SIZE);
  }

  #malformed(inode: Inode, m: Mapping): never {
    const metabox = inode.metabox && m.kind === Kind.ENCODED_INLINE;
    throw new ErofsError(
      { structure: 'pcluster', field: 'data', at: m.pa, metabox },
      `${m.plen} bytes do not decompress to the ${m.llen} at byte ${m.la} of nid ${inode.nid}`,
    );
  }

  #excessive(inode: Inode, la: number): never {
    throw new ErofsError(
      { structure: 'z_erofs_map_header', field: 'h_advise', at: inode.at },
      `the data at byte ${la} of nid ${inode.nid} is spread over far more than it is worth`,
    );
  }
}
