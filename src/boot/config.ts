// initoverlayfs.conf: where a mini-initramfs finds its images, how it checks them, and what it does when it cannot go on.
// Written by build/, read by install/, inspect/ and verify/, and at boot by share/boot/storage-init, which understands exactly
// what is written here: one `key value` a line, `#` for remarks, `layer` begins the next layer.
// Format: docs/boot-format.md.

import { MountError, reasonOf } from '../stack/errors.js';

/** What the mini-initramfs compares before it uses an image. */
export const VERIFY = ['none', 'digest', 'verity', 'signature'] as const;
export type Verify = (typeof VERIFY)[number];

/** What happens when the image cannot be used. */
export const ON_FAILURE = ['shell', 'fallback', 'reboot', 'poweroff'] as const;
export type OnFailure = (typeof ON_FAILURE)[number];

export const FSTYPE = ['erofs', 'btrfs'] as const;
export type FsType = (typeof FSTYPE)[number];

/** One image, and what it must be. */
export interface LayerConfig {
  /** Path in the boot filesystem; where the image is embedded, in the mini-initramfs; of a raw device, empty. */
  readonly fs: string;
  readonly fstype: FsType;
  readonly verify: Verify;
  /** Bytes of the whole file: image and hash tree. */
  readonly size: number;
  /** SHA-256 of the whole file, lower-case hex. `digest` compares it. */
  readonly digest: string;
  /** Of `verity`: what the device is made of. Of `signature` it stands beside the image (VERITY_SUFFIX), signed. */
  readonly verity?: VerityConfig;
}

/** A dm-verity tree of format 1, SHA-256, blocks of 4096 bytes, behind the data in the same file. */
export interface VerityConfig {
  /** 64 hex digits. */
  readonly roothash: string;
  /** Hex digits of the salt. */
  readonly salt: string;
  /** Blocks of 4096 bytes. */
  readonly dataBlocks: number;
  /** Bytes from the beginning of the file to the superblock of the tree; the tree begins a block later. */
  readonly hashOffset: number;
}

export interface BootConfig {
  /** `UUID=`, `LABEL=`, `PARTLABEL=`, `PARTUUID=`, a path below /dev, or `initrd`: the images are in the mini-initramfs. */
  readonly bootfs: string;
  /** For mount(8); `auto`: what blkid says. */
  readonly bootfstype: string;
  /** The device is the image itself. */
  readonly raw: boolean;
  /** Seconds that the device is waited for. */
  readonly timeout: number;
  readonly onFailure: OnFailure;
  /** A complete initramfs in the boot filesystem, and its SHA-256, which is always compared. */
  readonly fallback?: { readonly path: string; readonly digest: string };
  /** Size of the tmpfs that takes changes, as tmpfs(5) says. */
  readonly overlaySize: string;
  /** Lowest first. */
  readonly layers: readonly LayerConfig[];
}

/** In the mini-initramfs, and beside the images. */
export const CONFIG_FILE = 'initoverlayfs.conf';
/** `IMAGE.verity`: the verity lines of one image, for `signature`; `IMAGE.verity.p7s` is its signature. */
export const VERITY_SUFFIX = '.verity';
export const SIGNATURE_SUFFIX = '.p7s';
/** On the kernel's command line: root hashes, lowest layer first, joined by commas; they must be those of the configuration. */
export const ROOTHASH_OPTION = 'varve.roothash';

const BOOTFS = /^(?:(?:UUID|LABEL|PARTLABEL|PARTUUID)=[^\s/]+|\/dev\/\S+|initrd)$/;

/** @throws MountError of kind `option` for what cannot be said in the format. */
export function checkBootfs(text: string): string {
  if (BOOTFS.test(text)) return text;
  throw new MountError(
    'option',
    `bootfs ${text}: must be UUID=, LABEL=, PARTLABEL= or PARTUUID= and a value, or a path below /dev`,
  );
}

/** @throws MountError of kind `option` for what the format cannot say: it would be found out at boot. */
export function writeConfig(config: BootConfig): string {
  const lines = [
    '# Written by varve boot build. Format: docs/boot-format.md of varve.',
    'version 1',
    `bootfs ${config.bootfs}`,
    `bootfstype ${config.bootfstype}`,
    `raw ${config.raw ? 'yes' : 'no'}`,
    `timeout ${config.timeout}`,
    `on-failure ${config.onFailure}`,
    `overlay-size ${config.overlaySize}`,
  ];
  const { fallback } = config;
  if (fallback !== undefined) lines.push(`fallback ${fallback.path} ${fallback.digest}`);
  for (const layer of config.layers) {
    lines.push('layer', `fs ${layer.fs}`, `fstype ${layer.fstype}`, `verify ${layer.verify}`);
    lines.push(`size ${layer.size}`, `digest ${layer.digest}`);
    if (layer.verity !== undefined) lines.push(...verityLines(layer.verity));
  }
  const text = `${lines.join('\n')}\n`;
  try {
    parseConfig(text, CONFIG_FILE);
  } catch (error) {
    throw new MountError('option', reasonOf(error), { cause: error });
  }
  return text;
}

/** The content of `IMAGE.verity`. @param size bytes of the whole file. */
export function writeVerity(verity: VerityConfig, size: number): string {
  return `${['version 1', `size ${size}`, ...verityLines(verity)].join('\n')}\n`;
}

function verityLines({ roothash, salt, dataBlocks, hashOffset }: VerityConfig): string[] {
  return [
    `roothash ${roothash}`,
    `salt ${salt}`,
    `data-blocks ${dataBlocks}`,
    `hash-offset ${hashOffset}`,
  ];
}

/** What a line may say, where; a value that does not match is an error that names file and line. */
const KEYS: Record<string, RegExp> = {
  version: /^1$/,
  bootfs: BOOTFS,
  bootfstype: /^[a-z0-9]+$/,
  raw: /^(?:yes|no)$/,
  timeout: /^\d{1,6}$/,
  'on-failure': new RegExp(`^(?:${ON_FAILURE.join('|')})$`),
  // The storage-init calculates: no zeros before.
  'overlay-size': /^(?:0|[1-9]\d{0,14})[kmgKMG%]?$/,
  fallback: /^\S+ [0-9a-f]{64}$/,
  layer: /^$/,
  fs: /^\S*$/,
  fstype: new RegExp(`^(?:${FSTYPE.join('|')})$`),
  verify: new RegExp(`^(?:${VERIFY.join('|')})$`),
  size: /^\d{1,15}$/,
  digest: /^[0-9a-f]{64}$/,
  roothash: /^[0-9a-f]{64}$/,
  salt: /^(?:[0-9a-f]{2}){0,256}$/,
  'data-blocks': /^\d{1,12}$/,
  'hash-offset': /^\d{1,15}$/,
};
const OF_LAYER = new Set(['fs', 'fstype', 'verify', 'size', 'digest', 'roothash', 'salt']);
OF_LAYER.add('data-blocks').add('hash-offset');

/** @param where for messages: the path. @throws MountError of kind `layer`, with the line. */
export function parseConfig(text: string, where: string): BootConfig {
  const common = new Map<string, string>();
  const layers: Map<string, string>[] = [];
  for (const { key, value, at } of linesOf(text, where)) {
    if (key === 'layer') {
      layers.push(new Map());
      continue;
    }
    const scope = OF_LAYER.has(key) ? layers.at(-1) : common;
    if (scope === undefined) throw wrong(`${at}: ${key} stands before the first layer`);
    if (scope.has(key)) throw wrong(`${at}: ${key} is said twice`);
    scope.set(key, value);
  }
  const need = needIn(common, where);
  need('version');
  if (layers.length === 0) throw wrong(`${where}: names no layer`);
  const fallback = common.get('fallback')?.split(' ');
  return {
    bootfs: need('bootfs'),
    bootfstype: common.get('bootfstype') ?? 'auto',
    raw: common.get('raw') === 'yes',
    timeout: Number(common.get('timeout') ?? DEFAULT_TIMEOUT),
    onFailure: (common.get('on-failure') ?? 'shell') as OnFailure,
    ...(fallback && { fallback: { path: fallback[0] as string, digest: fallback[1] as string } }),
    overlaySize: common.get('overlay-size') ?? DEFAULT_OVERLAY_SIZE,
    layers: layers.map((layer, i) => layerOf(layer, `${where}: layer ${i + 1}`)),
  };
}

/** Seconds; the part of memory that tmpfs(5) takes itself. */
export const DEFAULT_TIMEOUT = 30;
export const DEFAULT_OVERLAY_SIZE = '50%';

/** The content of `IMAGE.verity`. @throws MountError of kind `layer`. */
export function parseVerity(text: string, where: string): VerityConfig & { readonly size: number } {
  const values = new Map<string, string>();
  for (const { key, value, at } of linesOf(text, where)) {
    if (values.has(key)) throw wrong(`${at}: ${key} is said twice`);
    values.set(key, value);
  }
  const need = needIn(values, where);
  need('version');
  return { ...verityOf(need), size: Number(need('size')) };
}

function layerOf(values: Map<string, string>, where: string): LayerConfig {
  const need = needIn(values, where);
  const verify = need('verify') as Verify;
  return {
    fs: need('fs'),
    fstype: need('fstype') as FsType,
    verify,
    size: Number(need('size')),
    digest: need('digest'),
    ...(verify === 'verity' || values.has('roothash') ? { verity: verityOf(need) } : {}),
  };
}

type Need = (key: string) => string;

const needIn =
  (values: Map<string, string>, where: string): Need =>
  (key) => {
    const value = values.get(key);
    if (value === undefined) throw wrong(`${where}: says no ${key}`);
    return value;
  };

function verityOf(need: Need): VerityConfig {
  return {
    roothash: need('roothash'),
    salt: need('salt'),
    dataBlocks: Number(need('data-blocks')),
    hashOffset: Number(need('hash-offset')),
  };
}

function* linesOf(
  text: string,
  where: string,
): Generator<{ key: string; value: string; at: string }> {
  for (const [i, line] of text.split('\n').entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const at = `${where}:${i + 1}`;
    const [, key = '', value = ''] = /^(\S+)(?: (.*))?$/.exec(line) ?? [];
    const form = KEYS[key];
    if (form === undefined) throw wrong(`${at}: ${JSON.stringify(line)} is not understood`);
    if (!form.test(value)) throw wrong(`${at}: ${key} cannot be ${JSON.stringify(value)}`);
    yield { key, value, at };
  }
}

const wrong = (message: string): MountError => new MountError('layer', message);
