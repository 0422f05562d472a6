// boot.json: what a build consists of, for the commands that install, sign, join, check and compare it.
// Written by build.ts into OUTDIR as the last file; everything else of boot/ reads it by readManifest().
// Format: docs/boot-format.md.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MountError, reasonOf } from '../../stack/errors.js';
import type { BootConfig, VerityConfig } from '../config.js';
import type { Payload } from './image.js';

export const MANIFEST_FILE = 'boot.json';
export const MINI_FILE = 'initramfs.img';

export interface BootManifest {
  readonly version: 1;
  /** Of the kernel that the modules are of. */
  readonly release?: string;
  readonly initramfs: {
    /** Name in OUTDIR, as of all files here. */
    readonly file: string;
    /** Bytes. */
    readonly size: number;
    readonly sha256: string;
    /** Bytes of early archives (microcode) at its beginning. */
    readonly early: number;
    /** Paths below /lib/modules/RELEASE, in the order of loading. */
    readonly modules: readonly string[];
    readonly programs: readonly string[];
  };
  readonly config: BootConfig;
  /** Lowest first, as in `config`. */
  readonly layers: readonly LayerManifest[];
  /** The images are in the mini-initramfs, and no files of their own. */
  readonly embedded: boolean;
}

export interface LayerManifest {
  /** Name in OUTDIR; of an embedded image, its name in /images of the mini-initramfs. */
  readonly file: string;
  /** Bytes, hash tree included. */
  readonly size: number;
  readonly sha256: string;
  readonly payload: Payload;
  readonly verity?: VerityConfig;
  /** Of an embedded image: byte of the mini-initramfs at which it begins. */
  readonly offset?: number;
}

/** @throws MountError of kind `absent` when there is none, `layer` when it is not understood. */
export function readManifest(outdir: string): BootManifest {
  const path = join(outdir, MANIFEST_FILE);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const message = `${path}: ${reasonOf(error)}: name a folder that varve boot build has made`;
    throw new MountError('absent', message, { cause: error });
  }
  let value: BootManifest;
  try {
    value = JSON.parse(text) as BootManifest;
  } catch (error) {
    throw wrong(path, `is no JSON: ${(error as Error).message}`);
  }
  if (value.version !== 1) throw wrong(path, `has version ${JSON.stringify(value.version)}, not 1`);
  const isWhole = Array.isArray(value.layers) && value.initramfs?.file !== undefined;
  if (!isWhole || !Array.isArray(value.config?.layers)) throw wrong(path, 'is not complete');
  return value;
}

export function writeManifest(manifest: BootManifest): string {
  return `${JSON.stringify(manifest, undefined, 2)}\n`;
}

const wrong = (path: string, what: string): MountError =>
  new MountError('layer', `${path}: ${what}: build again`);
