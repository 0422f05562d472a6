import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** Where chunks come from: one blob of a registry. */
export interface Origin {
  /** `sha256:HEX` of the blob as it lies in the registry. */
  readonly digest: string;
  /** Bytes of it. */
  readonly size: number;
  readonly mediaType: string;
}

/** A repository that has the origins; several when a layer was found in several. Credentials never stand here. */
export interface Source {
  /** `host[:port]` */
  readonly registry: string;
  readonly repository: string;
  /** HTTP without TLS was asked for. */
  readonly plainHttp?: boolean;
}

/** What layer.json holds. */
export interface LayerRecord {
  readonly version: 1;
  /** `sha256:HEX`, which names the folder too. */
  readonly id: string;
  /** In the order of the numbers in the chunk table. */
  readonly origins: readonly Origin[];
  readonly sources: readonly Source[];
  /** Tables that `chunks` has replaced, by name (olderTable()), the latest first: places to look where that one's are no good. */
  readonly older?: readonly string[];
  /** What it was made from: `varve`, `tar`, `tar+gzip`, `tar+zstd`, `estargz`, `zstd:chunked`. */
  readonly form: string;
  /** Names and digests come from an index that no digest of the image covers (tar/layer-index.ts). */
  readonly byIndex?: true;
  /** Inodes, and bytes of all files. */
  readonly inodes: number;
  readonly bytes: number;
}

/** Beginnings of folders that are being made or removed: swept when they are old. */
export const STAGING = '.new-';

/** One layer on disk. */
export class LayerFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** The folder of layer `id` (`sha256:HEX`) in an image store. */
  static of(store: string, id: string): LayerFolder {
    return new LayerFolder(join(store, 'layers', id.replace(':', '-')));
  }

  /** The id that the folder's name says, `sha256:HEX`: the other half of of(). */
  get namedId(): string {
    return basename(this.path).replace('-', ':');
  }

  /** The image store that it lies in. */
  get store(): string {
    return dirname(dirname(this.path));
  }

  /** The layer whose metadata image is at `path`, or undefined where that is no layer's. */
  static ofImage(path: string): LayerFolder | undefined {
    if (!path.endsWith('/meta.erofs')) return undefined;
    const folder = new LayerFolder(path.slice(0, -'/meta.erofs'.length));
    return existsSync(folder.table) && existsSync(folder.record) ? folder : undefined;
  }

  /** EROFS image whose extra device 1 is `blob`. */
  get meta(): string {
    return join(this.path, 'meta.erofs');
  }
  /** The content, sparse. */
  get blob(): string {
    return join(this.path, 'blob');
  }
  /** chunk-table.ts */
  get table(): string {
    return join(this.path, 'chunks');
  }
  /** A table that was replaced. */
  olderTable(name: string): string {
    return join(this.path, `chunks-${name.replaceAll(/[^0-9a-f]/g, '')}`);
  }
  get record(): string {
    return join(this.path, 'layer.json');
  }
  /** residency.ts */
  get map(): string {
    return join(this.path, 'map');
  }
  /** Chunks in the order in which they were first used: u32 each. */
  get order(): string {
    return join(this.path, 'order');
  }
  /** programs.ts; a layer may have none. */
  get programs(): string {
    return join(this.path, 'programs');
  }
  /** States of inflate of a gzip layer (tar/). */
  get checkpoints(): string {
    return join(this.path, 'checkpoints');
  }
  /** There when every chunk is here and on disk. */
  get complete(): string {
    return join(this.path, 'complete');
  }

  /** flock(2): whoever has it is the only writer of `blob` and `map`. */
  get lock(): string {
    return join(this.path, 'lock');
  }

  get isComplete(): boolean {
    return existsSync(this.complete);
  }

  get exists(): boolean {
    return existsSync(this.record);
  }

  /** Its whiteouts and opaque directories are marked by `trusted.overlay.*`, whoever made it; else as whoever made it had them. */
  get hasTrustedMarks(): boolean {
    return this.read().form !== 'varve';
  }

  /** @throws Error when it is missing or of a later version. */
  read(): LayerRecord {
    const record = JSON.parse(readFileSync(this.record, 'utf8')) as LayerRecord;
    if (record.version !== 1) throw new Error(`${this.record}: version ${record.version}`);
    return record;
  }
}
