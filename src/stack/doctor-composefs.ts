// What this machine offers for composefs images: which modes of `varve mount --image` and `varve run` work.
// Called by doctor.ts; tries the mounts themselves, in a namespace that ends with the probe.
// Data-only layers with userxattr: Documentation/filesystems/overlayfs.rst, "Data-only lower layers" (Linux 6.6).

import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Feature, feature } from './doctor-feature.js';
import { reasonOf } from './errors.js';
import { namespaceMaker } from './private-namespace.js';
import { privilege } from './privilege.js';

const WITHOUT = 'composefs images are shown by another mode, at the least by follow';

/** @param folder an empty folder for the probe. */
export function composefsFeatures(folder: string): Feature[] {
  const kernel = byKernel();
  const namespace = inNamespace(folder);
  return [
    feature('images by the kernel', kernel === undefined, WITHOUT, kernel ?? 'mode kernel'),
    feature('images in a namespace', namespace === undefined, WITHOUT, namespace ?? 'mode overlay'),
  ];
}

function byKernel(): string | undefined {
  if (!privilege().full) return 'root of the initial namespace only';
  const known = readFileSync('/proc/filesystems', 'latin1');
  const missing = ['erofs', 'overlay'].filter((name) => !known.includes(`\t${name}\n`));
  return missing.length === 0 ? undefined : `no ${missing.join(', no ')}`;
}

/** The overlayfs of mode overlay, on empty directories. */
function inNamespace(folder: string): string | undefined {
  for (const name of ['meta', 'objects', 'image']) mkdirSync(join(folder, name));
  const options = 'lowerdir=meta::objects,userxattr';
  try {
    const { program, args } = namespaceMaker();
    const words = [...args, 'mount', '-t', 'overlay', '-o', options, 'varve', 'image'];
    const tried = spawnSync(program, words, { cwd: folder, encoding: 'utf8' });
    if (tried.error !== undefined) return reasonOf(tried.error);
    return tried.status === 0 ? undefined : "the kernel's overlayfs refuses data-only layers here";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
