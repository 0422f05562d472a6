// /etc/varve/boot.conf: what the person who owns the machine wants of its boot images, for every kernel alike.
// Read by `varve boot build` and `varve boot install` as defaults; their flags come first. In contrast to
// initoverlayfs.conf (../config.ts), which says what one build is. Format: docs/boot-install.md.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MountError, reasonOf } from '../../stack/errors.js';
import {
  checkBootfs,
  FSTYPE,
  type FsType,
  ON_FAILURE,
  type OnFailure,
  VERIFY,
  type Verify,
} from '../config.js';

/** Below the root directory of the system. */
export const SETTINGS_FILE = 'etc/varve/boot.conf';
/** Where images lie below the folder of the boot filesystem: the first words of their file and of their digest. */
export const DEFAULT_FS = '/varve/%n-%h.img';

/** undefined: nothing is said. */
export interface BootSettings {
  /** As in initoverlayfs.conf; or `auto`: the filesystem that has the folder that is installed into, by its UUID. */
  readonly bootfs?: string;
  readonly bootfstype?: string;
  /** Pattern below the folder that is installed into: %n name of the layer, %h digits of its digest, %v kernel. */
  readonly fs: string;
  readonly fstype?: FsType;
  /** Folder of the boot filesystem; default /boot. */
  readonly boot?: string;
  /** Name of the mini-initramfs, %v: kernel. */
  readonly as?: string;
  /** Whether updates of kernels make boot images. */
  readonly update: boolean;
  readonly keepFull: boolean;
  /** For `varve boot build`. */
  readonly compress?: string;
  readonly storage?: readonly string[];
  readonly verify?: Verify;
  readonly certificate?: string;
  readonly layers: readonly string[];
  readonly timeout?: number;
  readonly onFailure?: OnFailure;
  readonly overlaySize?: string;
}

const oneOf = (words: readonly string[]): RegExp => new RegExp(`^(?:${words.join('|')})$`);
const YES_NO = oneOf(['yes', 'no']);

/** What each key may say, and in words. */
const KEYS: Readonly<Record<string, readonly [form: RegExp, words: string]>> = {
  bootfs: [/^\S+$/, 'auto, UUID=, LABEL=, PARTLABEL=, PARTUUID= or PATH= and a value'],
  bootfstype: [/^[a-z0-9]+$/, 'the type of a filesystem, or auto'],
  fs: [
    /^\/\S*%h\S*$/,
    'a path with %h: a new image must never stand in the place of the one before',
  ],
  fstype: [oneOf(FSTYPE), FSTYPE.join(' or ')],
  boot: [/^\/\S*$/, 'a path'],
  as: [/^[^/\s]\S*$/, 'a name below the boot folder'],
  update: [YES_NO, 'yes or no'],
  'keep-full': [YES_NO, 'yes or no'],
  compress: [/^\S+$/, 'an algorithm'],
  storage: [/^\S+$/, 'names, separated by commas'],
  verify: [oneOf(VERIFY), VERIFY.join(', ')],
  certificate: [/^\/\S+$/, 'a path'],
  layer: [/^\/\S+$/, 'a path'],
  timeout: [/^\d{1,6}$/, 'seconds'],
  'on-failure': [oneOf(ON_FAILURE), ON_FAILURE.join(', ')],
  'overlay-size': [/^\d+[kmgKMG%]?$/, 'a size as of tmpfs'],
};

/**
 * Of the system below `root`, or what $VARVE_BOOT_CONF names.
 * @throws MountError of kind `option`, with file and line.
 */
export function readSettings(root: string): BootSettings {
  const path = process.env['VARVE_BOOT_CONF'] ?? join(root, SETTINGS_FILE);
  try {
    return parseSettings(readFileSync(path, 'utf8'), path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return parseSettings('', path);
    if (error instanceof MountError) throw error;
    throw new MountError('option', `${path}: cannot be read: ${reasonOf(error)}`);
  }
}

/** @param where for messages: the path. */
export function parseSettings(text: string, where: string): BootSettings {
  const said = new Map<string, string>();
  const layers: string[] = [];
  for (const [i, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const at = `${where}:${i + 1}`;
    const [, key = '', value = ''] = /^(\S+)(?:\s+(.*))?$/.exec(line) ?? [];
    const rule = KEYS[key];
    if (rule === undefined) {
      throw new MountError('option', `${at}: ${key}: one of ${Object.keys(KEYS).join(', ')}`);
    }
    if (!rule[0].test(value)) {
      throw new MountError('option', `${at}: ${key} ${value}: must be ${rule[1]}`);
    }
    if (key === 'layer') layers.push(value);
    else if (said.has(key)) throw new MountError('option', `${at}: ${key} is said twice`);
    else said.set(key, value);
  }
  const bootfs = bootfsOf(said.get('bootfs'), where);
  const storage = said.get('storage')?.split(',');
  const timeout = said.get('timeout');
  return {
    ...(bootfs !== undefined && { bootfs }),
    ...given('bootfstype', said.get('bootfstype')),
    fs: said.get('fs') ?? DEFAULT_FS,
    ...given('fstype', said.get('fstype') as FsType | undefined),
    ...given('boot', said.get('boot')),
    ...given('as', said.get('as')),
    update: said.get('update') !== 'no',
    keepFull: said.get('keep-full') !== 'no',
    ...given('compress', said.get('compress')),
    ...given('storage', storage),
    ...given('verify', said.get('verify') as Verify | undefined),
    ...given('certificate', said.get('certificate')),
    layers,
    ...(timeout !== undefined && { timeout: Number(timeout) }),
    ...given('onFailure', said.get('on-failure') as OnFailure | undefined),
    ...given('overlaySize', said.get('overlay-size')),
  };
}

/** `PATH=/dev/x` is `/dev/x`. @throws MountError */
function bootfsOf(value: string | undefined, where: string): string | undefined {
  if (value === undefined || value === 'auto') return value;
  const text = value.startsWith('PATH=') ? value.slice('PATH='.length) : value;
  try {
    return checkBootfs(text);
  } catch (error) {
    throw new MountError('option', `${where}: ${(error as Error).message}`);
  }
}

function given<K extends string, V>(key: K, value: V | undefined): { [k in K]?: V } {
  return (value === undefined ? {} : { [key]: value }) as { [k in K]?: V };
}
