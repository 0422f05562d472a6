// `varve image info`: the superblock, and a drawing of where the bytes go.
// Run by main.ts; the figures are made by erofs/report.ts.
// Manual: image-commands.ts.

import { closeSync, openSync } from 'node:fs';
import { type ImageReport, reportImage, type Share } from '../erofs/report.js';
import { bytesText } from '../report/words.js';
import { verityDigestOfFd } from '../store/verity.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { shown, withImage } from './image.js';
import { counted, print, table } from './output.js';

/** Columns of the bars. */
const BAR = 40;
/** Folders drawn; the others are summed up. */
const FOLDERS = 16;

export function run(given: Arguments): Promise<number> {
  return withImage(given, (image) => {
    const path = given.operands[0] as string;
    const report = reportImage(image);
    // What the image is called wherever images are known by their digest.
    const digest = report.composefs === undefined ? undefined : digestOf(path);
    print(given, { ...report, digest }, () => reportText(path, report, digest));
    return EXIT.ok;
  });
}

/** fs-verity, SHA-256, hex. */
function digestOf(path: string): string {
  const fd = openSync(path, 'r');
  try {
    return verityDigestOfFd(fd).toString('hex');
  } finally {
    closeSync(fd);
  }
}

function reportText(path: string, report: ImageReport, digest: string | undefined): string {
  const { objects, composefs } = report;
  const kinds = [
    [objects.directories, 'directory', 'directories'],
    [objects.files, 'file', 'files'],
    [objects.symlinks, 'symlink', 'symlinks'],
    [objects.devices, 'device', 'devices'],
    [objects.fifos, 'fifo', 'fifos'],
    [objects.sockets, 'socket', 'sockets'],
  ] as const;
  const holes = report.holeBytes > 0 ? `, ${bytesText(report.holeBytes)} of it holes` : '';
  return [
    table([
      ['image', path],
      ...(composefs === undefined
        ? [['uuid', report.uuid]]
        : [
            ['fs-verity', digest ?? ''],
            [
              'composefs',
              `format ${composefs.version}; ${counted(composefs.files, 'file')}, ${bytesText(composefs.bytes)}, in a store`,
            ],
          ]),
      ...(report.volumeName === '' ? [] : [['label', shown(report.volumeName)]]),
      ...(report.buildTime === 0
        ? []
        : [['built', new Date(report.buildTime * 1000).toISOString()]]),
      ['blocks', `of ${report.blockSize} bytes`],
      ['features', report.features.join(', ') || 'none'],
      ...report.devices.map((device, i) => [
        `device ${i + 1}`,
        `${bytesText(device.bytes)}${device.tag === '' ? '' : `, ${device.tag}`}`,
      ]),
      [
        'objects',
        [
          ...kinds.filter(([n]) => n > 0).map(([n, one, many]) => `${n} ${n === 1 ? one : many}`),
          ...(objects.hardLinks > 0 ? [counted(objects.hardLinks, 'further hard link')] : []),
          ...(objects.withXattrs > 0 ? [`${objects.withXattrs} with xattrs`] : []),
        ].join(', '),
      ],
      ['content', `${bytesText(report.fileBytes)}${holes}`],
    ]),
    '',
    `${bytesText(report.imageBytes)} in the image:`,
    table(
      [
        [
          'metadata',
          bytesText(report.metadataBytes),
          bar(report.metadataBytes, report.imageBytes),
          '',
        ],
        ...Object.entries(report.algorithms).map(([name, share]) => [
          name,
          bytesText(share.stored),
          bar(share.stored, report.imageBytes),
          `${ratio(share)} of ${bytesText(share.bytes)} in ${counted(share.files, 'file')}`,
        ]),
      ],
      '  ',
    ),
    '',
    'by folder:',
    table(folderRows(report), '  '),
  ].join('\n');
}

function folderRows(report: ImageReport): string[][] {
  const most = report.folders[0]?.stored ?? 0;
  const row = (name: string, share: Share): string[] => [
    name,
    bytesText(share.stored),
    bar(share.stored, most),
    `${ratio(share)} of ${bytesText(share.bytes)} in ${counted(share.files, 'file')}`,
  ];
  const rows = report.folders.slice(0, FOLDERS).map((share) => row(shown(share.name), share));
  const rest = report.folders.slice(FOLDERS);
  if (rest.length === 0) return rows;
  const sum = rest.reduce<Share>(
    (all, one) => ({
      files: all.files + one.files,
      bytes: all.bytes + one.bytes,
      stored: all.stored + one.stored,
    }),
    { files: 0, bytes: 0, stored: 0 },
  );
  return [...rows, row(`(${counted(rest.length, 'other')})`, sum)];
}

/** `#####` for a part of a whole, at least one for anything. */
function bar(part: number, whole: number): string {
  if (part <= 0 || whole <= 0) return ''.padEnd(BAR);
  const columns = Math.round((BAR * part) / whole);
  return '█'.repeat(Math.min(BAR, Math.max(1, columns))).padEnd(BAR);
}

function ratio({ bytes, stored }: Share): string {
  return bytes === 0 ? '-' : `${((100 * stored) / bytes).toFixed(0)} %`;
}
