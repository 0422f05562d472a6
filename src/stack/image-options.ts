// The `-o` options of a composefs image's mount: those of a stack, with the layers given by the image.
// Called by `varve mount --image` and `varve run`; the options themselves are listed in option-table.ts.
// Follows: mount.composefs(8) of composefs 1.0 (upperdir, workdir, digest, verity, ro, rw).

import { MountError } from './errors.js';
import type { FoundImage } from './find-image.js';
import type { MountOptions } from './option-table.js';
import { joinLayers, splitOptions } from './option-text.js';
import { parseOptions } from './options.js';

/** What an image decides itself, or its mode. */
const NOT_HERE: Readonly<Record<string, string>> = {
  lowerdir: 'the image and its store are the layers',
  'lowerdir+': 'the image and its store are the layers',
  'datadir+': 'a further --store is what it means',
  device: 'a composefs image has none',
  raw: 'mount the file with `varve image mount` to see it as it is',
  backend: '--mode says who does it',
  metacopy: 'it is always on',
  ino32: 'an image shows its own numbers',
  userxattr: '--mode decides it',
};

export interface ImageOptions {
  readonly options: MountOptions;
  /** The last `verity=` that was written. */
  readonly verity: MountOptions['verity'] | undefined;
  /** What the image must be, with its kind in front. */
  readonly digest: string | undefined;
}

/**
 * @param texts the values of every -o. @param defaults options that they may overrule.
 * @throws MountError of kind `option` that names the option.
 */
export function parseImageOptions(
  texts: readonly string[],
  image: FoundImage,
  defaults: string,
): ImageOptions {
  const names = new Map(
    texts.flatMap(splitOptions).map((option) => [option.name, option.value] as const),
  );
  for (const [name, why] of Object.entries(NOT_HERE)) {
    if (names.has(name)) throw new MountError('option', `option ${name}: not with --image: ${why}`);
  }
  const layers = joinLayers([image.path], image.objects);
  const options = parseOptions([`lowerdir=${layers},metacopy=on`, ...texts], { defaults });
  if (names.has('rw') && !names.has('ro') && options.upperdir === undefined) {
    throw new MountError(
      'option',
      'option rw: an image is never written: name an upperdir and a workdir',
    );
  }
  const { digests } = options;
  if (digests.length > 1) {
    throw new MountError('option', 'option digest: an image has one: name one');
  }
  return {
    options,
    verity: names.has('verity') ? options.verity : undefined,
    digest: digests[0] ?? named(image.byDigest ? image.digest : undefined),
  };
}

/** A digest that was named instead of a path, as the option would write it. */
function named(hex: string | undefined): string | undefined {
  if (hex === undefined) return undefined;
  return `fsverity-${hex.length === 128 ? 'sha512' : 'sha256'}:${hex}`;
}
