// `varve boot build`: an initramfs becomes a mini-initramfs and an image.
// Run by main.ts; boot/build/build.ts does it; this file says what is going on.
// Manual: boot-commands.ts.

import { type BuildRequest, buildBoot } from '../boot/build/build.js';
import { MINI_COMPRESS } from '../boot/build/compress.js';
import { type BootFilesystem, bootFilesystem } from '../boot/build/host.js';
import type { BootManifest } from '../boot/build/manifest.js';
import {
  checkBootfs,
  DEFAULT_OVERLAY_SIZE,
  DEFAULT_TIMEOUT,
  FSTYPE,
  ON_FAILURE,
  VERIFY,
} from '../boot/config.js';
import { readSettings } from '../boot/install/settings.js';
import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { withSettings } from './boot-settings.js';
import { Meter } from './build-options.js';
import { EXIT } from './exit-codes.js';
import { buildError } from './image-build.js';
import { counted, print, remark } from './output.js';

export async function run(typed: Arguments): Promise<number> {
  const given = typed.has('no-settings') ? typed : withSettings(typed, readSettings('/'));
  const meter = given.has('quiet') || !process.stderr.isTTY ? undefined : new Meter();
  const request = requestOf(given, await hostOf(given), meter);
  const started = performance.now();
  let manifest: BootManifest;
  try {
    manifest = await buildBoot(request);
  } catch (error) {
    throw buildError(error, request.out);
  } finally {
    meter?.end();
  }
  const seconds = (performance.now() - started) / 1000;
  if (given.has('json')) print(given, manifest, () => '');
  else remark(given, `${request.out}: ${told(manifest)}, ${seconds.toFixed(1)} s`);
  return EXIT.ok;
}

function told({ initramfs, layers, embedded }: BootManifest): string {
  const images = layers.map(({ file, size }) => `${file} ${bytesText(size)}`).join(', ');
  const place = embedded ? ' in it' : '';
  return `${initramfs.file} ${bytesText(initramfs.size)} (${counted(initramfs.modules.length, 'module')}), ${images}${place}`;
}

/** The boot filesystem of this machine, where it is asked for and not another one is named. */
async function hostOf(given: Arguments): Promise<BootFilesystem | undefined> {
  const isElsewhere = ['bootfs', 'embed', 'raw'].some((flag) => given.has(flag));
  return given.has('host') && !isElsewhere ? bootFilesystem() : undefined;
}

function requestOf(
  given: Arguments,
  host: BootFilesystem | undefined,
  meter: Meter | undefined,
): BuildRequest {
  const out = given.value('output');
  if (out === undefined) {
    throw new MountError('option', 'boot build: no folder named: write -o OUTDIR');
  }
  const folder = given.value('kernel-modules');
  const release = given.value('kver');
  const raw = given.has('raw');
  const embed = given.has('embed');
  return {
    source: { initramfs: given.value('initramfs'), root: given.value('root') },
    modules: folder === undefined && release === undefined ? undefined : { folder, release },
    out,
    layers: given.values('layer'),
    format: oneOf(given, 'format', FSTYPE, 'erofs'),
    compress: given.value('compress'),
    storage: given.values('storage').flatMap((text) => text.split(',').filter(Boolean)),
    host: given.has('host'),
    hostDevice: host?.device,
    bootfs: embed ? 'initrd' : (host?.bootfs ?? bootfsOf(given, raw)),
    bootfstype: given.value('bootfstype') ?? host?.type ?? 'auto',
    raw,
    embed,
    verify: oneOf(given, 'verify', VERIFY, 'verity'),
    certificate: given.value('cert'),
    timeout: whole(given, 'timeout', given.value('timeout')) ?? DEFAULT_TIMEOUT,
    onFailure: oneOf(given, 'on-failure', ON_FAILURE, given.has('fallback') ? 'fallback' : 'shell'),
    fallback: given.value('fallback'),
    overlaySize: given.value('overlay-size') ?? DEFAULT_OVERLAY_SIZE,
    miniCompress: oneOf(given, 'mini-compress', MINI_COMPRESS, 'lz4'),
    pathInBootfs: given.value('path') ?? `${host?.folder ?? ''}/initoverlayfs.img`,
    time: whole(given, 'time', given.value('time') ?? process.env['SOURCE_DATE_EPOCH']),
    onProgress: meter?.show.bind(meter),
    onBuilding: meter?.building.bind(meter),
  };
}

function bootfsOf(given: Arguments, raw: boolean): string {
  const text = given.value('bootfs');
  if (text !== undefined) return checkBootfs(text);
  const what = raw ? 'the device that is the image' : 'the filesystem that will have the images';
  throw new MountError('option', `boot build: no --bootfs: name ${what}, for example LABEL=boot`);
}

function oneOf<T extends string>(
  given: Arguments,
  flag: string,
  known: readonly T[],
  standard: T,
): T {
  const text = given.value(flag) ?? standard;
  const found = known.find((one) => one === text);
  if (found !== undefined) return found;
  throw new MountError('option', `--${flag}=${text}: must be one of ${known.join(', ')}`);
}

function whole(given: Arguments, flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,10}$/.test(text)) return Number(text);
  const name = given.has(flag) ? `--${flag}` : 'SOURCE_DATE_EPOCH';
  throw new MountError('option', `${name}=${text}: must be a whole number of seconds`);
}
