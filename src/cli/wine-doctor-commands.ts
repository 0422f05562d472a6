// `varve wine doctor` as data.
// Part of commands.ts; command-record.ts says what the fields mean.
// Holds text only.

import type { CommandRecord } from './command-record.js';

export const WINE_DOCTOR_COMMANDS: readonly CommandRecord[] = [
  {
    name: 'wine doctor',
    summary: 'list what is wrong with a prefix, and what leads out of it',
    operands: '[PREFIX...]',
    count: [0, Number.POSITIVE_INFINITY],
    description: [
      'Looks at the prefixes that are named (a name, or a path with a slash in it), else at $WINEPREFIX, else at all that have names; before them at this machine: which builds of Wine there are, and what of the kernel a mount needs.',
      'It finds faults (another owner, .reg files that are links, what a crash has left, Wine that ran without the layers, a prefix that would update itself), leaks (folders of the profile that are links to the home, drives that show the whole machine, entries in the menu of the desktop, links that lead out), and what is worth knowing (a base of another Wine). docs/wine.md says what each means.',
      'With --fix it mends what can be mended without a loss. Links of the profile become folders of the prefix: what is in the home stays there. Menu entries move to menu-entries/ of the prefix, and Wine makes no more of them. The layers are never written. A prefix in use is refused (exit code 5). This is tidiness, not a sandbox: a Windows program can still open any file that you can.',
      'Exit code 3 where a fault is found or left, 4 where Wine or what a mount needs is missing.',
    ],
    flags: [
      { name: 'fix', help: 'Mend what is found, and say what was done.' },
      {
        name: 'no-z',
        help: 'With --fix: take drives away that show files outside, z: above all. Programs then start by their Windows path only.',
      },
      {
        name: 'wine',
        value: 'BUILD',
        help: 'The Wine to look at: a wine binary, the folder of a build, or of Proton.',
      },
      { name: 'quiet', short: 'q', help: 'Print nothing: the exit code tells.' },
      { name: 'json', help: 'Print JSON for programs instead of text.' },
    ],
    examples: [
      ['varve wine doctor', 'this machine, and every prefix'],
      ['varve wine doctor --fix office', 'keep one prefix to itself'],
      ['varve wine doctor --json ~/.wine', 'a plain prefix, for a program'],
    ],
    completes: 'path',
  },
];
