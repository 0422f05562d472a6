// What a build is asked for, and what of it contradicts itself: settled before anything is read or written.
// Made by cli/boot-build.ts, install/ and bench/; build.ts works by it.
// Values that end up in initoverlayfs.conf are checked here, because storage-init takes exactly what docs/boot-format.md says.

import { readFileSync } from 'node:fs';
import { posix } from 'node:path';
import {
  type BuildProgress,
  type Compression,
  parseCompression,
} from '../../erofs/write-options.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import {
  type BootConfig,
  CONFIG_FILE,
  checkBootfs,
  type FsType,
  type OnFailure,
  type Verify,
} from '../config.js';
import { digestOfFile } from '../digest.js';
import type { MiniCompress } from './compress.js';
import { unpackerOf } from './input.js';
import { MANIFEST_FILE, MINI_FILE } from './manifest.js';

export interface BuildRequest {
  /** One of both: the payload, the lowest layer. */
  readonly source: { readonly initramfs?: string; readonly root?: string };
  /** Where modules are; undefined: those of the payload, else of the kernel that runs. */
  readonly modules?: { readonly folder?: string; readonly release?: string };
  /** OUTDIR. */
  readonly out: string;
  /** Above the payload, lowest first: folders, initramfs, images. */
  readonly layers: readonly string[];
  readonly format: FsType;
  /** `lz4hc,9`; default lz4hc. */
  readonly compress?: string;
  /** Kinds of storage, or modules; empty: what is common. */
  readonly storage: readonly string[];
  /** The drivers of this machine's disks. */
  readonly host: boolean;
  /** With `host`: the device of the boot filesystem (`vda1`), whose drivers must be there; see bootFilesystem(). */
  readonly hostDevice?: string;
  readonly bootfs: string;
  readonly bootfstype: string;
  readonly raw: boolean;
  readonly embed: boolean;
  readonly verify: Verify;
  /** Path of a PEM certificate, for `signature`. */
  readonly certificate?: string;
  /** Seconds. */
  readonly timeout: number;
  readonly onFailure: OnFailure;
  /** PATH in the boot filesystem, or PATH=FILE with the file that is there. */
  readonly fallback?: string;
  /** The payload's initramfs may be named as what is fallen back to when it is installed. */
  readonly canFallBack?: boolean;
  readonly overlaySize: string;
  readonly miniCompress: MiniCompress;
  /** Of the lowest image; the others lie beside it. */
  readonly pathInBootfs: string;
  /** Modification time of everything, seconds since 1970. */
  readonly time?: number;
  readonly onProgress?: (text: string) => void;
  readonly onBuilding?: (progress: BuildProgress) => void;
}

/** @throws MountError of kind `option`, in the words of the command line. */
export function checkRequest(request: BuildRequest): void {
  const { source, format, compress, verify, certificate } = request;
  if ((source.initramfs === undefined) === (source.root === undefined)) {
    throw wrong('boot build: no payload, or two: name either --initramfs FILE or --root DIR');
  }
  checkPlace(request);
  checkValues(request);
  if ((verify === 'signature') !== (certificate !== undefined)) {
    const what = verify === 'signature' ? 'name the certificate by --cert' : 'leave out --cert';
    throw wrong(`--verify ${verify}: does not go with the certificate: ${what}`);
  }
  if (format === 'btrfs' && compress !== undefined) {
    throw wrong('-z: is for EROFS images: leave it out with --format btrfs');
  }
  compressionOf(request);
}

/** Where the images will be. */
function checkPlace(request: BuildRequest): void {
  const { raw, embed, layers, verify, fallback, onFailure, pathInBootfs } = request;
  if (raw && embed) throw wrong('--raw: contradicts --embed: name one of them');
  if (!embed && checkBootfs(request.bootfs) === 'initrd') {
    throw wrong(
      '--bootfs=initrd: there are no images in the mini-initramfs: write --embed as well',
    );
  }
  if (raw && layers.length > 0) {
    throw wrong('--raw: the device is one image: leave out --layer, or build one tree of all');
  }
  if (raw && verify === 'signature') {
    throw wrong('--verify signature: a raw device has no place for the signature: use verity');
  }
  if (fallback !== undefined && (raw || embed)) {
    throw wrong('--fallback: there is no boot filesystem to have it: leave out --raw or --embed');
  }
  if (onFailure === 'fallback' && fallback === undefined) {
    throw wrong('--on-failure fallback: no complete initramfs is named: name it by --fallback');
  }
  const name = posix.basename(pathInBootfs);
  const isOdd =
    !/^(?:\/[A-Za-z0-9@%+=:,._-]+)+$/.test(pathInBootfs) || /\/\.\.?(?:\/|$)/.test(pathInBootfs);
  if (isOdd || [MINI_FILE, MANIFEST_FILE, CONFIG_FILE].includes(name)) {
    throw wrong(`--path=${pathInBootfs}: must be a plain absolute path such as /initoverlayfs.img`);
  }
}

function checkValues({ timeout, overlaySize, bootfstype }: BuildRequest): void {
  if (timeout > 999_999) throw wrong(`--timeout=${timeout}: must be at most 999999 seconds`);
  if (!/^[1-9]\d{0,14}[kmgKMG%]?$/.test(overlaySize)) {
    throw wrong(`--overlay-size=${overlaySize}: must be a number with k, m, g or % behind it`);
  }
  if (!/^[a-z0-9]+$/.test(bootfstype)) {
    throw wrong(`--bootfstype=${bootfstype}: must be the name of a filesystem`);
  }
}

/** Of EROFS images. @throws MountError of kind `option`. */
export function compressionOf({ compress = 'lz4hc' }: BuildRequest): Compression[] {
  try {
    const compression = parseCompression(compress);
    return compression === undefined ? [] : [compression];
  } catch (error) {
    throw wrong(`-z: ${(error as Error).message}`);
  }
}

export function certificateOf({ certificate }: BuildRequest): Uint8Array | undefined {
  if (certificate === undefined) return undefined;
  let bytes: Buffer;
  try {
    bytes = readFileSync(certificate);
  } catch (error) {
    const message = `${certificate}: ${reasonOf(error)}: name a certificate (PEM)`;
    throw new MountError('layer', message, { cause: error });
  }
  if (bytes.toString('latin1').includes('-----BEGIN CERTIFICATE-----')) return bytes;
  throw wrong(`${certificate}: is no certificate in PEM form: convert it by openssl x509`);
}

interface Fallback {
  /** undefined: that will be said by `varve boot install`. */
  readonly config?: NonNullable<BootConfig['fallback']>;
  /** Programs that it needs in the mini-initramfs. */
  readonly unpackers: readonly string[];
}

/** `PATH=FILE`, or PATH: then what is there is the initramfs that is given. */
export function fallbackOf(request: BuildRequest): Fallback {
  const { fallback, source } = request;
  if (fallback === undefined) {
    const own = request.canFallBack === true ? source.initramfs : undefined;
    const unpacker = own === undefined ? undefined : unpackerOf(own);
    return { unpackers: unpacker === undefined ? [] : [unpacker] };
  }
  const [, path = '', named] = /^([^=]*)(?:=(.*))?$/s.exec(fallback) ?? [];
  if (!/^\/\S+$/.test(path)) {
    throw wrong(`--fallback=${fallback}: must be PATH in the boot filesystem, or PATH=FILE`);
  }
  const file = named ?? source.initramfs;
  if (file === undefined) {
    throw wrong(
      `--fallback=${fallback}: it is not known which file it is: with --root write PATH=FILE`,
    );
  }
  try {
    const unpacker = unpackerOf(file);
    return {
      config: { path, digest: digestOfFile(file).sha256 },
      unpackers: unpacker === undefined ? [] : [unpacker],
    };
  } catch (error) {
    const message = `${file}: ${reasonOf(error)}: name the complete initramfs`;
    throw new MountError('layer', message, { cause: error });
  }
}

const wrong = (message: string): MountError => new MountError('option', message);
