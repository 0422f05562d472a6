// The command that tells what a Wine prefix, a layer or a program has changed, as data: wine diff.
// Part of the table in commands.ts.
// Holds text only.

import type { CommandRecord } from './command-record.js';

export const WINE_DIFF_COMMANDS: readonly CommandRecord[] = [
  {
    name: 'wine diff',
    summary: 'tell what a prefix, a layer or a program has changed',
    operands: 'WHAT [OTHER] | PREFIX -- PROGRAM...',
    count: [1, Number.POSITIVE_INFINITY],
    description: [
      'Tells which files, registry keys and values differ. WHAT is a prefix, a layer or a base by its name, or a path: a prefix, a folder of a layer, a drive_c, an image. A name that is several of these is written prefix:NAME, layer:NAME or base:NAME; NAME@N is a version of a base.',
      'One WHAT is compared with what it stands on: a prefix with its layers and its base, a layer with what it was recorded on. Of two, everything of WHAT is compared with everything of OTHER: WHAT is before, OTHER is after.',
      'With a PROGRAM, it is run in a copy of PREFIX that costs nothing, and what it has changed there is told when it and everything it started have ended; PREFIX stays as it is. --keep NAME makes a layer of it, which `varve wine layer put` puts into prefixes. The program has the standard output: what is told goes to stderr, unless to a FILE.',
      'What Wine itself writes in every session (caches, lists of hardware, time zones) is noise, which is counted and left out, unless --noise is given. Values are decoded; a value that is only spelt otherwise is no change, nor is a key of which only the time is another.',
      'Of a prefix that is in use the registry is as wineserver last saved it, which it does every 30 seconds.',
      'Exit code 0, also where there are changes, unless --exit-code is given; with a PROGRAM its own.',
    ],
    flags: [
      { name: 'files', help: 'Files only.' },
      { name: 'registry', help: 'The registry only.' },
      { name: 'noise', help: 'What Wine writes in every session, too; it is marked.' },
      { name: 'tree', help: 'A tree of each (the default).' },
      { name: 'stat', help: 'Bytes and counts, one line a path and a key, and totals.' },
      {
        name: 'name-status',
        help: 'Letters A M D R T, a tab and the path; of values the key, a tab and the name (@ is the default value).',
      },
      { name: 'null', short: 'z', help: 'With --name-status: NUL in place of tab and newline.' },
      { name: 'json', help: 'Everything, as the document that docs/wine-diff.md describes.' },
      { name: 'patch', short: 'p', help: 'Text files as a patch; the registry is left out.' },
      {
        name: 'html',
        value: 'FILE',
        help: 'One page with everything in it, the registry in a tab of its own; - is standard output.',
      },
      {
        name: 'reg',
        value: 'FILE',
        help: "The registry's changes as a file for regedit (version 5.00); - is standard output.",
      },
      { name: 'all', short: 'a', help: 'Identical copies and changes of the time alone, too.' },
      {
        name: 'keep',
        value: 'NAME',
        help: 'With a PROGRAM: keep what it has changed as the layer NAME.',
      },
      {
        name: 'wine',
        value: 'BUILD',
        help: 'With a PROGRAM: the Wine or Proton build that runs it (default: that of the prefix).',
      },
      { name: 'exit-code', help: 'Exit code 1 when there are changes.' },
      {
        name: 'quiet',
        short: 'q',
        help: 'Print nothing; implies --exit-code where nothing is written.',
      },
      {
        name: 'color',
        value: 'auto|always|never',
        help: 'Colours (default auto: on a terminal, unless NO_COLOR is set).',
      },
    ],
    examples: [
      ['varve wine diff office', 'what was changed in the prefix, by whatever ran there'],
      [
        'varve wine diff 7zip --html 7zip.html',
        'what the installer of a layer did, to look around in',
      ],
      ['varve wine diff office -- setup.exe /S', 'what an installer would change'],
      ['varve wine diff default@1 default@2 --registry', 'what a new Wine version brought'],
      ['varve wine diff 7zip --reg 7zip.reg', 'its keys, for regedit'],
    ],
    completes: 'directory',
  },
];
