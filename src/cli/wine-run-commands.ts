// The commands that run Wine in layered prefixes: `varve wine PROGRAM`, `varve wine run` and `stop`.
// Part of commands.ts; command-record.ts says what the fields mean.
// Holds text only; docs/wine-running.md is the reference.

import type { FlagRecord } from './args.js';
import type { CommandRecord } from './command-record.js';

const RUN_FLAGS: readonly FlagRecord[] = [
  {
    name: 'wine',
    short: 'w',
    value: 'BUILD',
    help: 'Which Wine: a wine binary, or the folder of a Wine or Proton build (default $VARVE_WINE, else the wine on PATH).',
  },
  {
    name: 'backend',
    value: 'auto|fuse|kernel',
    help: "Who does the union. auto: the kernel's overlayfs for root, a server of varve's for anybody else. kernel, without root: in a user namespace.",
  },
  {
    name: 'detach',
    short: 'd',
    help: 'Return when the program ends; a process of its own takes the prefix down when nobody uses it.',
  },
  {
    name: 'linger',
    value: 'SECONDS',
    help: 'With --detach: how long the prefix stays up after its last program (default $VARVE_WINE_LINGER, else 5).',
  },
  {
    name: 'host',
    help: 'PROGRAM is a program of this machine that uses the prefix, such as winetricks or a script.',
  },
  { name: 'quiet', short: 'q', help: 'Say nothing about waiting and mending.' },
];

export const WINE_RUN_COMMANDS: readonly CommandRecord[] = [
  {
    name: 'wine',
    summary: 'run a program in the prefix of $WINEPREFIX, over its layers',
    operands: 'PROGRAM [ARG...]',
    count: [1, Number.POSITIVE_INFINITY],
    verbatim: 1,
    failure: 125,
    description: [
      'Stacks the drive_c folders (or EROFS images) that WINEPREFIX_OVERLAYS lists, separated by colons, topmost first, under the drive_c of WINEPREFIX (default ~/.wine), merges their registries, and runs `wine PROGRAM` there. Everything that changes stays in WINEPREFIX. When Wine has ended there, drive_c is unmounted, and what changed in the registry is stored as a delta.',
      'The layers are remembered: later calls need WINEPREFIX alone. Without WINEPREFIX_OVERLAYS, in a prefix that has no layers, this is plain Wine. A backslash before a colon makes it part of a name; relative paths start at the current folder; empty elements do not count.',
      'Several programs at once share the prefix; the mount stays as long as one of them or the wineserver lives. PROGRAM is anything that `wine` takes; `wineserver` is that of the same build.',
      "The exit code is PROGRAM's, or 128 and the number of its signal. 125: varve could not do it; 126: the program cannot be run; 127: it was not found.",
    ],
    flags: RUN_FLAGS,
    examples: [
      [
        'WINEPREFIX_OVERLAYS=app/drive_c:base/drive_c varve wine winecfg',
        'two layers under ~/.wine, which may not exist yet',
      ],
      ['WINEPREFIX=$PWD/.wine varve wine --detach explorer', 'again, without waiting for its end'],
      ['WINEPREFIX=$PWD/.wine varve wine --host winetricks corefonts', 'a script that calls wine'],
    ],
    completes: 'path',
  },
  {
    name: 'wine run',
    summary: 'run a program in a layered prefix',
    operands: 'PREFIX PROGRAM [ARG...]',
    count: [2, Number.POSITIVE_INFINITY],
    verbatim: 2,
    failure: 125,
    description: [
      'As `varve wine PROGRAM`, in a prefix that is named: one that `varve wine create` made, or a folder (with a slash in it). Its layers and its base are those of its record; WINEPREFIX and WINEPREFIX_OVERLAYS do not matter.',
      'Exit codes are those of `varve wine`.',
    ],
    flags: RUN_FLAGS,
    examples: [
      ['varve wine run office winecfg', 'a prefix with a name'],
      ['varve wine run --wine ~/proton-8 ./prefix game.exe -window', 'flags of varve come first'],
      ['varve wine run --host office sh', 'a shell that sees the prefix as Wine does'],
    ],
    completes: 'directory',
  },
  {
    name: 'wine stop',
    summary: 'wait for the end of Wine in a prefix and take it down',
    operands: '[PREFIX...]',
    count: [0, Number.POSITIVE_INFINITY],
    description: [
      "Waits until Wine has ended in PREFIX and nothing uses its drive_c, unmounts that, puts the prefix's own files back and stores what changed in its registry. A prefix that a crash left in the middle is mended. One that is down stays so.",
    ],
    flags: [
      {
        name: 'kill',
        short: 'k',
        help: 'End the Windows programs first, as `wineserver -k` does.',
      },
      {
        name: 'timeout',
        value: 'SECONDS',
        help: 'Give up after so long (exit code 5); 0: do not wait. Default: as long as it takes.',
      },
      { name: 'all', short: 'a', help: 'Every prefix with a name.' },
      { name: 'quiet', short: 'q', help: 'Say nothing on success.' },
      { name: 'json', help: 'Print JSON for programs instead of text.' },
    ],
    examples: [
      ['varve wine stop office', 'wait for it'],
      ['varve wine stop --kill ./prefix', 'at once'],
    ],
    completes: 'directory',
  },
];
