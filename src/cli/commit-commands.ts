// The commands that freeze and empty the upper of a stack: commit and discard.
// Part of the table in commands.ts.
// Holds text only.

import type { FlagRecord } from './args.js';
import type { CommandRecord } from './command-record.js';

const OPTIONS_FLAG: FlagRecord = {
  name: 'options',
  short: 'o',
  value: 'OPTIONS',
  many: true,
  help: 'The stack, as the mount options that describe it; it must not be mounted.',
};

const JSON_FLAG: FlagRecord = { name: 'json', help: 'Print JSON for programs instead of text.' };
const DRY_RUN: FlagRecord = { name: 'dry-run', short: 'n', help: 'Only tell what would be done.' };
const QUIET: FlagRecord = { name: 'quiet', short: 'q', help: 'Print nothing but errors.' };

export const COMMIT_COMMANDS: readonly CommandRecord[] = [
  {
    name: 'commit',
    summary: 'freeze the upper of a stack as a new layer',
    operands: '[MOUNTPOINT]',
    count: [0, 1],
    description: [
      'The upper becomes a layer, and an empty directory takes its place. A mount goes on meanwhile: who has files open, works in a directory or holds a lock notices a pause and nothing else. Files that are open for writing stay in the new upper, and the layer gets copies of them, which no later write reaches.',
      'LAYER is a new (or empty) directory, a file whose name ends in .erofs or .img, or STORE#NAME for a composefs image in a store. A directory on the mount of the upper takes the content by one rename, whatever its size. For everything else the frozen upper is kept as UPPER.frozen-N, which a live mount is served from until it is unmounted.',
      'With -o a stack is committed that is not mounted. A mount that the kernel serves must be unmounted before.',
    ],
    flags: [
      OPTIONS_FLAG,
      { name: 'into', value: 'LAYER', help: 'What the upper becomes.' },
      DRY_RUN,
      JSON_FLAG,
      QUIET,
    ],
    examples: [
      ['varve commit /mnt --into /layers/3', 'freeze what was changed on a mount'],
      ['varve commit /mnt --into app.erofs', 'the same as an image'],
      [
        'varve commit -o lowerdir=/a,upperdir=/u,workdir=/w --into /layers/2',
        'of a stack that is not mounted',
      ],
    ],
    completes: 'directory',
  },
  {
    name: 'discard',
    summary: 'take away what the upper of a stack has',
    operands: '[MOUNTPOINT]',
    count: [0, 1],
    description: [
      'The upper is emptied, by one rename; what lies below shows again. With --path only what the upper has at or below PATH goes: what was changed there is as the lowers have it, what was new is gone, what was deleted is back. A mount goes on meanwhile: files that are open behave as if they had been unlinked.',
      'A file that the lowers have under several names goes with all of them; the others are told. Of a renamed directory both names are to be discarded, the new one and the one that was deleted.',
      'What would go is shown before, and asked for; without a terminal --yes or --dry-run is needed. Exit code 1 when the answer is no.',
    ],
    flags: [
      { ...OPTIONS_FLAG },
      {
        name: 'path',
        value: 'PATH',
        many: true,
        help: 'Only this path of the stack, with all below it. May be given several times.',
      },
      { name: 'yes', short: 'y', help: 'Do not ask.' },
      DRY_RUN,
      JSON_FLAG,
      QUIET,
    ],
    examples: [
      ['varve discard /mnt', 'back to the layers'],
      ['varve discard /mnt --path etc/hosts --yes', 'one file'],
      ['varve discard -n -o lowerdir=/a,upperdir=/u,workdir=/w', 'what would go'],
    ],
    completes: 'directory',
  },
];
