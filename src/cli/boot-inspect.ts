// `varve boot inspect`: the parts of a boot image with their sizes, what of them is in memory, and how this machine was booted.
// Run by main.ts; boot/inspect/ looks.
// Manual: boot-inspect-commands.ts.

import type { LayerConfig } from '../boot/config.js';
import { type BootKind, type OpenBoot, openBoot } from '../boot/inspect/open.js';
import {
  type BootParts,
  type ImageParts,
  type InitramfsParts,
  partsOf,
  type Sized,
} from '../boot/inspect/parts.js';
import {
  type BootLog,
  bootLog,
  cachedOf,
  type ImageReads,
  kernelLog,
} from '../boot/inspect/reads.js';
import { bytesText } from '../report/words.js';
import { MountError, reasonOf } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { asMountError, shown } from './image.js';
import { counted, print, table } from './output.js';

/** What record-reads leaves. */
const RUN_FOLDER = '/run/varve-boot';
/** Lines of a list without --all. */
const MOST = 20;
const TOP = 6;

export function run(given: Arguments): number {
  const [path] = given.operands;
  if (given.has('running')) {
    if (path !== undefined) {
      throw new MountError(
        'option',
        `${path}: --running looks at this machine: leave one of both out`,
      );
    }
    running(given);
    return EXIT.ok;
  }
  const boot = openBoot(path ?? '.');
  try {
    const parts = partsOf(boot);
    const reads = given.has('reads') ? readsOf(boot) : undefined;
    print(given, { ...parts, ...(reads && { reads }) }, () => partsText(given, parts, reads));
    return EXIT.ok;
  } catch (error) {
    throw asMountError(error, boot.path);
  } finally {
    boot.close();
  }
}

function readsOf({ images }: OpenBoot): ImageReads[] {
  return images.map(cachedOf).filter((reads) => reads !== undefined);
}

function partsText(
  given: Arguments,
  parts: BootParts,
  reads: readonly ImageReads[] | undefined,
): string {
  const blocks = [
    ...(parts.uki === undefined ? [] : [ukiText(parts.path, parts.uki)]),
    ...(parts.initramfs === undefined ? [] : [initramfsText(given, parts.kind, parts.initramfs)]),
    ...parts.images.map((image, i) => imageText(given, image, i, parts.images.length)),
    ...(reads ?? []).map((one) => readsText(given, one)),
  ];
  return blocks.join('\n\n');
}

function ukiText(path: string, uki: NonNullable<BootParts['uki']>): string {
  return [
    `unified kernel image ${path}`,
    table(
      [
        ...(uki.os === undefined ? [] : [['system', uki.os]]),
        ...(uki.uname === undefined ? [] : [['kernel', uki.uname]]),
        ...(uki.cmdline === undefined ? [] : [['command line', uki.cmdline]]),
        ['signatures', uki.signatures === 0 ? 'none' : bytesText(uki.signatures)],
        [
          'sections',
          uki.sections.map(({ name, bytes }) => `${name} ${bytesText(bytes)}`).join(', '),
        ],
      ],
      '  ',
    ),
  ].join('\n');
}

function initramfsText(given: Arguments, kind: BootKind, parts: InitramfsParts): string {
  const { config } = parts;
  const sum = (files: readonly Sized[]): string =>
    bytesText(files.reduce((all, { bytes }) => all + bytes, 0));
  const names = (files: readonly Sized[]): string =>
    listed(
      given,
      files.map(({ path }) => path.replace(/^.*\//, '').replace(/\.ko(?:\..*)?$/, '')),
    );
  const rows = [
    [
      'file',
      `${bytesText(parts.size)}, ${parts.compression === 'none' ? 'not compressed' : parts.compression}`,
    ],
    ...(parts.early === 0 ? [] : [['early', `${bytesText(parts.early)} (microcode, tables)`]]),
    ['unpacked', `${bytesText(parts.bytes)} in ${counted(parts.files, 'name')}`],
    [
      'modules',
      `${parts.modules.length}, ${sum(parts.modules)}${config === undefined ? '' : `: ${names(parts.modules)}`}`,
    ],
    [
      'programs',
      `${parts.programs.length}, ${sum(parts.programs)}${config === undefined ? '' : `: ${names(parts.programs)}`}`,
    ],
    ...(config === undefined
      ? []
      : [
          [
            'images on',
            `${config.bootfs}${config.raw ? ' (raw)' : ` (${config.bootfstype})`}, waits ${config.timeout} s`,
          ],
          [
            'on failure',
            config.onFailure +
              (config.fallback === undefined ? '' : `; fallback ${config.fallback.path}`),
          ],
          ['changes', `in memory, at most ${config.overlaySize}`],
        ]),
  ];
  const name = kind === 'initramfs' ? 'initramfs' : 'mini-initramfs';
  return [
    `${name} ${parts.path}`,
    table(rows, '  '),
    largestText(given, parts.folders, parts.largest),
  ].join('\n');
}

function imageText(given: Arguments, image: ImageParts, i: number, of: number): string {
  const { erofs, layer, hashTree } = image;
  const title = `image${of > 1 ? ` ${i + 1} of ${of}` : ''} ${image.path ?? `${image.name} (in the mini-initramfs)`}`;
  if (!image.isThere)
    return `${title}\n  is not there: named as ${layer?.fs} (${bytesText(image.size)})`;
  const rows = [
    ['file', bytesText(image.size)],
    ...(layer === undefined
      ? []
      : [
          ['checked by', checkedBy(layer)],
          ['sha-256', layer.digest],
        ]),
    ...(hashTree === undefined ? [] : [['hash tree', `${bytesText(hashTree)} (dm-verity)`]]),
  ];
  if (erofs === undefined)
    return `${title}\n${table([...rows, ['content', `${layer?.fstype}: not read here`]], '  ')}`;
  const share = (part: number): string =>
    `${((100 * part) / Math.max(1, erofs.imageBytes)).toFixed(0)} %`;
  rows.push(
    ['objects', `${erofs.inodes}, ${bytesText(erofs.fileBytes)} of content`],
    ['metadata', `${bytesText(erofs.metadataBytes)}, ${share(erofs.metadataBytes)} of the image`],
    ...Object.entries(erofs.algorithms).map(([name, { files, bytes, stored }]) => [
      name,
      `${bytesText(stored)} for ${bytesText(bytes)} in ${counted(files, 'file')}`,
    ]),
  );
  const folders = erofs.folders.map(({ name, bytes }) => ({ path: name, bytes }));
  return [title, table(rows, '  '), largestText(given, folders, erofs.largest)].join('\n');
}

function checkedBy({ verify, verity }: LayerConfig): string {
  return verity === undefined ? verify : `${verify}, root hash ${verity.roothash}`;
}

function largestText(given: Arguments, folders: readonly Sized[], files: readonly Sized[]): string {
  const rows = (list: readonly Sized[]): string[][] =>
    list
      .slice(0, given.has('all') ? MOST : TOP)
      .map(({ path, bytes }) => [bytesText(bytes).padStart(9), shown(path)]);
  return [
    '  largest folders',
    table(rows(folders), '    '),
    '  largest files',
    table(rows(files), '    '),
  ].join('\n');
}

/** Names one behind the other; of many the first. */
function listed(given: Arguments, names: readonly string[]): string {
  const most = given.has('all') ? names.length : MOST;
  const rest = names.length - most;
  return names.slice(0, most).join(' ') + (rest > 0 ? ` and ${rest} more` : '');
}

function readsText(given: Arguments, { name, size, cached, files }: ImageReads): string {
  const part = ((100 * cached) / Math.max(1, size)).toFixed(1);
  const most = given.has('all') ? files.length : MOST;
  const rows = files
    .slice(0, most)
    .map((file) => [
      bytesText(file.cached).padStart(9),
      `of ${bytesText(file.stored)}`,
      shown(file.path),
    ]);
  return [
    `in memory of ${name}: ${bytesText(cached)} of ${bytesText(size)} (${part} %), of ${counted(files.length, 'file')}`,
    ...(rows.length === 0 ? [] : [table(rows, '  ')]),
    ...(files.length > most ? [`  and ${files.length - most} more: --all`] : []),
  ].join('\n');
}

function running(given: Arguments): void {
  let log: string;
  try {
    log = kernelLog();
  } catch (error) {
    throw new MountError(
      'permission',
      `/dev/kmsg: ${reasonOf(error)}: the log of the kernel is for root`,
    );
  }
  const found = bootLog(log, RUN_FOLDER);
  if (found.lines.length === 0 && found.files === undefined) {
    throw new MountError(
      'absent',
      'this boot: the log of the kernel has no line of storage-init: it was booted otherwise, or the log has wrapped around',
    );
  }
  print(given, { version: 1, ...found }, () => runningText(given, found));
}

function runningText(given: Arguments, { lines, devices, files, remains }: BootLog): string {
  const most = given.has('all') ? Number.POSITIVE_INFINITY : MOST;
  return [
    table(
      lines.map(({ at, text }) => [at === undefined ? '' : `${at.toFixed(2)} s`.padStart(9), text]),
    ),
    '',
    ...(devices ?? []).map(
      ({ name, bytes }) => `${name}: ${bytesText(bytes)} read until the initramfs was left`,
    ),
    ...(files === undefined
      ? []
      : [
          `${counted(files.length, 'file')} of the initramfs read, ${bytesText(files.reduce((sum, { bytes }) => sum + bytes, 0))}:`,
          table(
            files.slice(0, most).map(({ path, bytes }) => [bytesText(bytes).padStart(9), path]),
            '  ',
          ),
        ]),
    remains.length === 0 ? 'nothing of the images remains' : `remains: ${remains.join(', ')}`,
  ].join('\n');
}
