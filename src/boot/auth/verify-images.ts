// The images that a mini-initramfs would mount, checked as it checks them at boot, and further: every block of a hash tree.
// Called by verify.ts with the configuration out of the mini-initramfs, because that is what counts at boot.
// Follows: docs/boot-format.md; share/boot/storage-init is the other reader of the same files.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ByteSource } from '../../bytes/source.js';
import { FileSource } from '../../linux/file-source.js';
import {
  type BootConfig,
  type LayerConfig,
  parseVerity,
  SIGNATURE_SUFFIX,
  VERITY_SUFFIX,
  type VerityConfig,
} from '../config.js';
import { digestOf } from '../digest.js';
import { type Checks, differs } from './checks.js';
import { certificatesIn, fingerprint } from './key.js';
import type { Mini } from './mini.js';
import { checkSignature } from './sign.js';
import { checkVeritySource } from './verity.js';

/** Where a path of the configuration is on this machine; undefined: nobody knows. */
export type Locate = (fs: string) => string | undefined;

/**
 * @param scratch a folder for small files that openssl is to read.
 * @returns the root hashes of the images in their order, `none` for one without, undefined for one that is not known.
 */
export async function checkImages(
  checks: Checks,
  mini: Mini,
  locate: Locate,
  scratch: string,
): Promise<(string | undefined)[]> {
  const hashes: (string | undefined)[] = [];
  for (const layer of mini.config.layers) {
    hashes.push(await checkImage(checks, mini, layer, locate, scratch));
  }
  const { fallback } = mini.config;
  const path = fallback && locate(fallback.path);
  if (fallback !== undefined && path !== undefined)
    await checks.run(path, 'digest of the fallback', () => {
      const source = FileSource.open(path);
      try {
        return sameDigest(source, fallback.digest);
      } finally {
        source.close();
      }
    });
  return hashes;
}

async function checkImage(
  checks: Checks,
  mini: Mini,
  layer: LayerConfig,
  locate: Locate,
  scratch: string,
): Promise<string | undefined> {
  const { fs, verify } = layer;
  const expected = layer.verity?.roothash ?? (verify === 'signature' ? undefined : 'none');
  const path = mini.config.bootfs === 'initrd' ? fs : locate(fs);
  if (path === undefined) {
    checks.add('skipped', fs, 'image', 'name the folder where it is: OUTDIR or --boot DIR');
    return expected;
  }
  let source: (ByteSource & { close(): void }) | undefined;
  const opened = await checks.run(path, 'image is there', () => {
    source = mini.config.bootfs === 'initrd' ? mini.image(fs) : FileSource.open(path);
    if (source === undefined) throw differs('is not in the mini-initramfs');
    return `${source.size} bytes`;
  });
  if (!opened || source === undefined) return expected;
  const image = source;
  try {
    let { size, verity }: { size: number; verity?: VerityConfig } = layer;
    if (verify === 'signature') {
      const signed = await checkSigned(checks, mini, path, scratch);
      if (signed === undefined) return undefined;
      ({ size } = signed);
      verity = signed;
    }
    const whole = await checks.run(path, 'size', () => {
      // A device may be larger than what lies on it.
      if (image.size === size || (mini.config.raw && image.size > size)) return `${size} bytes`;
      throw differs(`is ${image.size} bytes, must be ${size}`);
    });
    if (whole && verify !== 'signature')
      await checks.run(path, 'digest', () => sameDigest(limited(image, size), layer.digest));
    if (verity !== undefined)
      await checks.run(path, 'hash tree', () => {
        checkVeritySource(image, verity, path);
        return `${verity.dataBlocks} blocks under root hash ${verity.roothash}`;
      });
    if (verify === 'none')
      checks.add('skipped', path, 'verification at boot', 'none: it was built with --verify none');
    return verity?.roothash ?? 'none';
  } finally {
    image.close();
  }
}

/** IMAGE.verity and its signature, by the certificate in the mini-initramfs. @returns what is signed; undefined: nothing valid. */
async function checkSigned(
  checks: Checks,
  mini: Mini,
  image: string,
  scratch: string,
): Promise<(VerityConfig & { readonly size: number }) | undefined> {
  const file = image + VERITY_SUFFIX;
  let signed: (VerityConfig & { readonly size: number }) | undefined;
  await checks.run(file, 'root hash to be signed', () => {
    signed = parseVerity(readFileSync(file, 'utf8'), file);
    return `root hash ${signed.roothash}`;
  });
  const valid = await checks.run(file + SIGNATURE_SUFFIX, 'signature', async () => {
    const { certificate } = mini;
    if (certificate === undefined) throw differs('the mini-initramfs has no certificate');
    const [first] = certificatesIn(certificate);
    if (first === undefined) throw differs('what the mini-initramfs has is no certificate');
    const pem = join(scratch, 'boot.crt');
    writeFileSync(pem, certificate);
    await checkSignature(file, file + SIGNATURE_SUFFIX, pem);
    return `valid, by certificate ${fingerprint(first)} of the mini-initramfs`;
  });
  return valid ? signed : undefined;
}

function sameDigest(source: ByteSource, wanted: string): string {
  const found = digestOf(source);
  if (found === wanted) return `SHA-256 ${found}`;
  throw differs(`SHA-256 is ${found}, must be ${wanted}`);
}

const limited = (source: ByteSource, size: number): ByteSource => ({
  size,
  read: (at, out) => source.read(at, out),
});

/** Whether the command line asks for the images that are there. @param name where it was read. */
export async function checkRootHashes(
  checks: Checks,
  name: string,
  cmdline: string,
  config: BootConfig,
  hashes: readonly (string | undefined)[],
): Promise<void> {
  // Of several the last one counts, as for storage-init.
  const said = [...cmdline.matchAll(/(?:^|\s)varve\.roothash=(\S*)/g)].at(-1)?.[1];
  const check = 'root hashes on the command line';
  if (said === undefined) {
    const why = config.layers.every(({ verify }) => verify === 'digest')
      ? 'none: the digests in the mini-initramfs count'
      : 'none: what is in the mini-initramfs counts alone';
    checks.add('skipped', name, check, why);
    return;
  }
  const words = said.split(',');
  const unknown = hashes.indexOf(undefined);
  if (unknown >= 0) {
    checks.add('skipped', name, check, `image ${unknown + 1} has no root hash to compare with`);
    return;
  }
  await checks.run(name, check, () => {
    if (words.length !== config.layers.length)
      throw differs(`names ${words.length}, there are ${config.layers.length} images`);
    for (const [i, hash] of hashes.entries()) {
      if (hash !== words[i]) throw differs(`image ${i + 1} must have ${words[i]}, it has ${hash}`);
    }
    return said;
  });
}
