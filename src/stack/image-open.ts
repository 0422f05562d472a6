// Opens an image file with its further devices.
// Used by open.ts for layers and by the `varve image` commands; loads the reader and FFI.
// An image stays open by descriptor: what happens to its name afterwards does not matter.

import { ErofsImage } from '../erofs/image.js';
import { FileSource } from '../linux/file-source.js';
import { mapMemory } from '../linux/memory.js';
import { MountError } from './errors.js';

export interface OpenImage {
  readonly image: ErofsImage;
  close(): void;
}

/** @param devices the files of the device table, in order. @throws MountError of kind `layer`. */
export function openImage(path: string, devices: readonly string[] = []): OpenImage {
  mapMemory();
  const sources: FileSource[] = [];
  const close = (): void => {
    for (const source of sources) source.close();
  };
  let at = path;
  try {
    for (at of [path, ...devices]) sources.push(FileSource.open(at));
    at = path;
    const [main, ...rest] = sources;
    return { image: ErofsImage.open(main as FileSource, rest), close };
  } catch (error) {
    close();
    const what = error instanceof Error ? error.message : String(error);
    throw new MountError('layer', `${at}: cannot be read as an EROFS image: ${what}`);
  }
}
