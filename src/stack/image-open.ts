// Opens an image file with its further devices.
// Used by open.ts for layers and by the `varve image` commands; loads the reader and FFI.
// An image stays open by descriptor: what happens to its name afterwards does not matter.

import { openSync } from 'node:fs';
import type { ByteSource, LateSource } from '../bytes/source.js';
import { ErofsImage } from '../erofs/image.js';
import { VerifiedSource } from '../imagefs/verified-source.js';
import { FileSource } from '../linux/file-source.js';
import { mapMemory } from '../linux/memory.js';
import { measureVerity } from '../linux/verity.js';
import { keep } from '../supervisor/orders.js';
import { MountError, reasonOf } from './errors.js';
import { imageIdentity, imageWidth } from './identity.js';
import { openLayerBlob, type Serving } from './lazy-open.js';

export interface OpenImage {
  readonly image: ErofsImage;
  /** What it is called, and how wide its inode numbers may be; see overlay/numbers.ts. */
  readonly identity: Uint8Array;
  readonly wide: number;
  /** Extra device 1 of a layer of an image store, where content may still arrive. */
  readonly late?: LateSource;
  /** Its marks are `trusted.overlay.*`, whatever those of the stack are. */
  readonly hasTrustedMarks: boolean;
  close(): void;
}

/**
 * @param devices the files of the device table, in order. @param digest fs-verity digest that the image must have, hex.
 * @param serving of a server; absent: nothing is kept for a successor, and content that is not here is an error.
 * @throws MountError of kind `layer`.
 */
export function openImage(
  path: string,
  devices: readonly string[] = [],
  digest?: string,
  serving?: Serving,
): OpenImage {
  mapMemory();
  const sources: FileSource[] = [];
  const close = (): void => {
    for (const source of sources) source.close();
  };
  let at = path;
  try {
    for (at of [path, ...devices]) sources.push(openSource(at, serving?.keepAs, sources.length));
    at = path;
    const [main, ...rest] = sources;
    const file = main as FileSource;
    const blob = openLayerBlob(path, file, rest[0], serving);
    const source = digest === undefined ? file : comparedSource(file, path, digest);
    const image = ErofsImage.open(source, blob === undefined ? rest : [blob.source]);
    const identity = imageIdentity(source);
    const isComposefs = image.superblock.composefsVersion !== undefined;
    const hasTrustedMarks = isComposefs || blob?.hasTrustedMarks === true;
    const wide = imageWidth(source);
    return { image, identity, wide, late: blob?.late, hasTrustedMarks, close };
  } catch (error) {
    close();
    if (error instanceof MountError) throw error;
    const what = error instanceof Error ? error.message : String(error);
    throw new MountError('layer', `${at}: cannot be read as an EROFS image: ${what}`);
  }
}

function openSource(path: string, keepAs: string | undefined, index: number): FileSource {
  if (keepAs === undefined) return FileSource.open(path);
  return new FileSource(
    keep(`${keepAs} file ${index}`, () => openSync(path, 'r')),
    path,
  );
}

/**
 * The bytes of an opened image, as its digest says that they are: compared now, and again whenever they are read.
 * @param digest fs-verity, hex. @throws MountError of kind `layer` when it is another one.
 */
export function comparedSource(file: FileSource, path: string, digest: string): ByteSource {
  // Enforced by the kernel from now on.
  if (measureVerity(file.fd) === digest) return file;
  let source: VerifiedSource | string;
  try {
    source = VerifiedSource.open(file, digest);
  } catch (error) {
    throw new MountError('layer', `image: ${path}: cannot be read: ${reasonOf(error)}`);
  }
  if (typeof source !== 'string') return source;
  throw new MountError(
    'layer',
    `digest: ${path} has the fs-verity digest ${source}, not the one that is named: it is another image, or was changed`,
  );
}
