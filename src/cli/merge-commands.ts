// The commands that put layers into each other and take them apart: `varve apply`, `flatten`, `split`.
// Part of commands.ts; command-record.ts says what the fields mean.
// Holds text only.

import type { FlagRecord } from './args.js';
import type { CommandRecord } from './command-record.js';

const JSON_FLAG: FlagRecord = { name: 'json', help: 'Print JSON for programs instead of text.' };
const QUIET_FLAG: FlagRecord = { name: 'quiet', short: 'q', help: 'Say nothing on success.' };
const DRY_FLAG: FlagRecord = {
  name: 'dry-run',
  short: 'n',
  help: 'Only tell what would be done.',
};
const OPTIONS_FLAG: FlagRecord = {
  name: 'options',
  short: 'o',
  value: 'OPTIONS',
  many: true,
  help: 'The mount options of the stack, separated by commas; see OPTIONS below.',
};

export const MERGE_COMMANDS: readonly CommandRecord[] = [
  {
    name: 'apply',
    summary: 'merge an upper down into a directory',
    operands: '[UPPER]',
    count: [0, 1],
    description: [
      'Afterwards DIR alone shows what the stack showed: whiteouts delete, renamed directories are moved, metadata is set, hard links stay hard links, everything else is put in place with its owner, mode, times, ACLs and other attributes. DIR is the lower directory of the stack (the lowest one, where there are several), or a copy of it. The stack is UPPER over DIR, or what -o says. Then the upper is emptied, so that the stack shows the same as before.',
      'All of it is done or nothing of it. What is new is made ready first, in a folder beside DIR (.varve-apply-INODE; in DIR itself as .varve-apply, where beside it is another filesystem or forbidden); whatever fails so far leaves DIR as it was. Then a journal is published, by one rename, and executed: renames only, and what they replace is kept until all is done. A step that fails takes all of them back. After a kill or a crash `varve apply --recover DIR` finishes the work; with --undo it goes back. Until then DIR cannot be mounted as a layer.',
      'Refused with exit code 5: a DIR that a live mount has as a layer, an upper that is mounted. Where DIR has been changed since the upper was made, and what the upper says does not fit any more, the conflicts are listed, nothing is done, and the exit code is 3; --force does it nevertheless.',
    ],
    flags: [
      OPTIONS_FLAG,
      { name: 'into', value: 'DIR', help: 'The directory that is changed.' },
      DRY_FLAG,
      { name: 'force', short: 'f', help: 'Do it although DIR has been changed since.' },
      { name: 'keep', help: 'Leave the upper as it is.' },
      {
        name: 'move',
        help: 'Move files of the upper into DIR where both are on one filesystem, instead of copying them (by reflink, where that is possible).',
      },
      { name: 'recover', value: 'DIR', help: 'Finish what a killed apply to DIR had begun.' },
      { name: 'undo', help: 'With --recover: go back to what DIR was before.' },
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [
      ['varve apply -n upper --into /srv/tree', 'see first'],
      ['varve apply -o lowerdir=/srv/tree,upperdir=u,workdir=w --into /srv/tree', ''],
      ['varve apply --recover /srv/tree', 'after a kill or a crash'],
    ],
    completes: 'directory',
  },
];
