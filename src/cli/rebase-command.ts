// `varve rebase` as data: its flags, description and examples.
// Part of the table in commands.ts.
// Holds text only; rebase.ts runs it.

import type { CommandRecord } from './command-record.js';

export const REBASE_COMMAND: CommandRecord = {
  name: 'rebase',
  summary: 'make an upper fit a new version of its layers',
  operands: '[STACK]',
  count: [0, 1],
  description: [
    "The layers below an upper have got a new version: --from names the layers that the upper was made over, --to those that it is to be mounted over from now on. What the upper has changed is held against what has changed between the two, object by object and aspect by aspect (existence, type, content, mode, owner, each xattr). What one side alone has changed is that side's; what NEW has already is dropped from the upper. Without a conflict nothing is printed.",
    'A conflict is what both sides have changed in different ways. It is printed as one line, ours stays at its place, and theirs lies beside it as NAME.theirs; the exit code is 8. --conflict takes one side throughout, or changes nothing when there is a conflict.',
    'The new upper takes the place of the old one by one rename. The old one is kept beside it, as UPPER.before-rebase-TIME/upper: --undo puts it back. What is killed leaves the old upper or the new one, and `varve rebase` clears up after it the next time.',
    "Neither version of the layers is written, and the upper must not be mounted. Uppers of the kernel's overlayfs are rebased as well. More in docs/rebase.md.",
  ],
  flags: [
    {
      name: 'options',
      short: 'o',
      value: 'OPTIONS',
      many: true,
      help: 'Mount options: upperdir and workdir, and whatever else it is mounted with.',
    },
    {
      name: 'from',
      value: 'LAYERS',
      help: 'The layers until now, written as lowerdir is: topmost first, separated by colons (default: lowerdir of -o).',
    },
    { name: 'to', value: 'LAYERS', help: 'The layers from now on.' },
    {
      name: 'conflict',
      value: 'both|ours|theirs|fail',
      help: 'What becomes of a conflict (default both); fail: nothing is written.',
    },
    {
      name: 'merge-text',
      help: 'Merge text files that both sides have changed line by line, where they changed different lines.',
    },
    {
      name: 'discard-old',
      help: 'Remove the old upper instead of keeping it; with --undo, the new one.',
    },
    { name: 'undo', help: 'Put the upper back that the last rebase has replaced.' },
    { name: 'resume', help: 'Finish, or clear away, what a killed rebase has left.' },
    {
      name: 'dry-run',
      short: 'n',
      help: 'Write nothing; print what would become of every change.',
    },
    { name: 'verbose', short: 'v', help: 'Print what became of every change.' },
    {
      name: 'quiet',
      short: 'q',
      help: 'Print no conflicts: the exit code says whether there are some.',
    },
    { name: 'json', help: 'Print JSON for programs instead of text.' },
  ],
  examples: [
    [
      'varve rebase -o upperdir=u,workdir=w --from debian-12.4 --to debian-12.5',
      'carry the changes over to the next point release',
    ],
    [
      'varve rebase -n -o upperdir=u,workdir=w --from old --to new',
      'what would become of each of them',
    ],
    [
      'varve rebase --merge-text -o lowerdir=old,upperdir=u,workdir=w --to patch:old',
      'a layer more, and texts merged by line',
    ],
    ['varve rebase web --to images/web-2.erofs', 'a named stack, and what varve.yaml says of it'],
    ['varve rebase --undo -o upperdir=u,workdir=w', 'back to the old upper'],
  ],
  completes: 'nothing',
};
