// The commands about named stacks: `varve up`, `down`, and `varve stack ls`, `add` and so on.
// Part of commands.ts; command-record.ts says what the fields mean.
// Holds text only.

import type { FlagRecord } from './args.js';
import type { CommandRecord } from './command-record.js';

const JSON_FLAG: FlagRecord = { name: 'json', help: 'Print JSON for programs instead of text.' };
const QUIET_FLAG: FlagRecord = { name: 'quiet', short: 'q', help: 'Say nothing on success.' };
const FILE_FLAG: FlagRecord = {
  name: 'file',
  value: 'FILE',
  help: 'The file of stacks (default $VARVE_FILE, else varve.yaml in this folder or above it, ~/.config/varve/varve.yaml, /etc/varve/varve.yaml).',
};
const DRY_RUN: FlagRecord = { name: 'dry-run', short: 'n', help: 'Only tell what would be done.' };
const ALL: FlagRecord = { name: 'all', short: 'a', help: 'Every stack that has a mount point.' };

/** What `add` and `set` say about a stack. */
const KEY_FLAGS: readonly FlagRecord[] = [
  {
    name: 'layer',
    short: 'l',
    value: 'LAYER',
    many: true,
    help: 'A read-only layer, topmost first: a directory, an EROFS image, stack:NAME (what another stack shows), or image:IMAGE (a composefs image, with --store).',
  },
  {
    name: 'store',
    value: 'DIR',
    many: true,
    help: 'The store of the composefs images among the layers.',
  },
  {
    name: 'data',
    value: 'DIR',
    many: true,
    help: 'A layer that only gives data to metacopy files.',
  },
  { name: 'upper', short: 'u', value: 'DIR', help: 'The directory that takes all changes.' },
  { name: 'workdir', short: 'w', value: 'DIR', help: 'Its work directory (default UPPER.work).' },
  { name: 'mount', short: 'm', value: 'DIR', help: 'Where the stack is shown.' },
  { name: 'base', short: 'b', value: 'NAME', help: 'The stack that it builds on.' },
  {
    name: 'options',
    short: 'o',
    value: 'OPTIONS',
    many: true,
    help: 'Mount options, as varve mount has them; lowerdir, upperdir and workdir are taken as well.',
  },
  { name: 'mode', value: 'kernel|overlay|follow', help: 'Who shows a composefs image.' },
  {
    name: 'create',
    help: '`varve up` makes the upper and the mount point where they are missing.',
  },
  { name: 'description', short: 'd', value: 'TEXT', help: 'What it is for, in one line.' },
];

export const STACK_COMMANDS: readonly CommandRecord[] = [
  {
    name: 'up',
    summary: 'mount named stacks',
    operands: '[NAME...]',
    count: [0, Number.POSITIVE_INFINITY],
    description: [
      'Mounts the stacks of varve.yaml that are named (without a name: the only one that has a mount point), after the stacks on which they stand: those whose mount is a layer of theirs, or holds one of their paths. docs/stacks.md describes the file.',
      'What is up already, as the file says, stays as it is. What is up otherwise than the file says stays as well, and the message says how it differs (exit code 5). The work directory is made where the file does not name one; upper and mount point where it says `create: true`, or with --create.',
      'One that cannot be mounted does not keep the others from it; the exit code is that of the first failure.',
    ],
    flags: [
      ALL,
      { name: 'create', short: 'c', help: 'Make uppers and mount points that are missing.' },
      DRY_RUN,
      FILE_FLAG,
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [
      ['varve up web', 'one stack, and what it stands on'],
      ['varve up --all --file /etc/varve/varve.yaml', 'all of a file'],
    ],
    completes: 'stack',
  },
  {
    name: 'down',
    summary: 'unmount named stacks',
    operands: '[NAME...]',
    count: [0, Number.POSITIVE_INFINITY],
    description: [
      'Unmounts the stacks that are named, as `varve umount` does: when it returns, everything is stored. A stack on which another one stands that is up is refused (exit code 5), unless that is named too, or --recursive takes it down first. What is down already stays so.',
    ],
    flags: [
      ALL,
      { name: 'recursive', short: 'r', help: 'Unmount what stands on them, too.' },
      { name: 'lazy', short: 'l', help: 'Detach now; a mount ends when its last user is gone.' },
      {
        name: 'force',
        short: 'f',
        help: 'End the servers at once. Programs that use the mounts get errors.',
      },
      DRY_RUN,
      FILE_FLAG,
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [['varve down --all', 'everything of the file']],
    completes: 'stack',
  },
  {
    name: 'stack ls',
    summary: 'list the named stacks and their states',
    operands: '',
    count: [0, 0],
    description: [
      'up: mounted as the file says. differs: mounted otherwise. down: not mounted. base: without a mount point, for others to build on. failed: its server has failed, or its supervisor is gone. occupied: something else is mounted there.',
    ],
    flags: [{ name: 'quiet', short: 'q', help: 'Only the names.' }, FILE_FLAG, JSON_FLAG],
    examples: [['varve stack ls', '']],
    completes: 'nothing',
  },
  {
    name: 'stack show',
    summary: 'show one named stack with everything filled in',
    operands: 'NAME',
    count: [1, 1],
    description: [
      'Its layers with those of its base, paths absolute and variables filled in, and whether it is mounted.',
    ],
    flags: [
      { name: 'command', short: 'c', help: 'Print the `varve mount` that would do the same.' },
      FILE_FLAG,
      JSON_FLAG,
    ],
    examples: [['varve stack show --command web', 'for a script that has no varve.yaml']],
    completes: 'stack',
  },
  {
    name: 'stack add',
    summary: 'add a stack to varve.yaml',
    operands: 'NAME',
    count: [1, 1],
    description: [
      'Adds it to the file that is found, or makes varve.yaml in this folder. Paths are written relative to the file where they lie below its folder; ~ and ${NAME} in quotes are written as they are. Comments, order and form of the rest of the file stay.',
    ],
    flags: [
      ...KEY_FLAGS,
      { name: 'replace', help: 'In the place of a stack of that name.' },
      FILE_FLAG,
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [
      [
        'varve stack add web -l app -l base.erofs -u changes -m /srv/web',
        'two layers and an upper',
      ],
      [
        'varve stack add old -o lowerdir=/a:/b,upperdir=/u,workdir=/w -m /mnt',
        'what was mounted so',
      ],
    ],
    completes: 'nothing',
  },
  {
    name: 'stack set',
    summary: 'change a stack of varve.yaml',
    operands: 'NAME',
    count: [1, 1],
    description: [
      'Each flag replaces what the file says there; --layer replaces all layers of its own, --push puts one on top of them, --drop takes one out. Mount options are set one by one. The mount itself does not change: `varve stack ls` then says that it differs.',
    ],
    flags: [
      ...KEY_FLAGS,
      { name: 'push', value: 'PATH', many: true, help: 'A new layer on top of the others.' },
      { name: 'drop', value: 'PATH', many: true, help: 'A layer to leave out.' },
      {
        name: 'unset',
        value: 'KEY',
        many: true,
        help: 'Take a key away: upper, mount, options.NAME and so on.',
      },
      FILE_FLAG,
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [['varve stack set web --push layers/2026-11', 'one more layer']],
    completes: 'stack',
  },
  {
    name: 'stack rm',
    summary: 'take stacks out of varve.yaml',
    operands: 'NAME...',
    count: [1, Number.POSITIVE_INFINITY],
    description: [
      'Only the file changes: layers and uppers stay where they are. A stack that is up, or that another one names, is refused (exit code 5).',
    ],
    flags: [
      { name: 'force', short: 'f', help: 'Although it is up.' },
      FILE_FLAG,
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [['varve stack rm old', '']],
    completes: 'stack',
  },
  {
    name: 'stack rename',
    summary: 'give a stack of varve.yaml another name',
    operands: 'NAME NEWNAME',
    count: [2, 2],
    description: ['Also where other stacks of the file name it. A mount stays as it is.'],
    flags: [FILE_FLAG, QUIET_FLAG, JSON_FLAG],
    examples: [['varve stack rename web shop', '']],
    completes: 'stack',
  },
  {
    name: 'stack check',
    summary: 'list what is wrong with varve.yaml',
    operands: '[FILE]',
    count: [0, 1],
    description: [
      'Every mistake with file, line and column (exit code 2), then every stack that could not be mounted now, with the reason. Nothing is mounted or made.',
    ],
    flags: [
      { name: 'syntax', short: 's', help: 'The file only: look at no layer.' },
      { name: 'quiet', short: 'q', help: 'Print nothing: the exit code tells.' },
      FILE_FLAG,
      JSON_FLAG,
    ],
    examples: [['varve stack check ./varve.yaml', 'before it is committed']],
    completes: 'path',
  },
  {
    name: 'stack schema',
    summary: 'print the JSON schema of varve.yaml',
    operands: '',
    count: [0, 0],
    description: [
      'For editors: a first line `# yaml-language-server: $schema=FILE` has them check and complete the file.',
    ],
    flags: [],
    examples: [['varve stack schema > varve.schema.json', '']],
    completes: 'nothing',
  },
  {
    name: 'stack unit',
    summary: 'print a unit of systemd that mounts a stack',
    operands: 'NAME',
    count: [1, 1],
    description: [
      'A mount unit, which mount.fuse.varve serves (see `varve setup`), with everything filled in: print it anew when the file changes. With --service or --user, and for a composefs image alone, a service that runs `varve up` and `varve down`, which read the file. Filesystems that hold layers, upper and stores are mounted before; the network is not waited for.',
    ],
    flags: [
      { name: 'user', help: "A service for the user's own systemd." },
      { name: 'service', help: 'A service in place of a mount unit.' },
      { name: 'name', help: 'Print only the name that the file must have.' },
      FILE_FLAG,
      JSON_FLAG,
    ],
    examples: [
      [
        'varve stack unit web > /etc/systemd/system/$(varve stack unit --name web)',
        'for the system',
      ],
      ['varve stack unit --user web > ~/.config/systemd/user/varve-web.service', 'for a user'],
    ],
    completes: 'stack',
  },
  {
    name: 'stack fstab',
    summary: 'print a line of fstab that mounts a stack',
    operands: 'NAME',
    count: [1, 1],
    description: [
      'For mount(8) and mount.fuse.varve (see `varve setup`), with everything filled in: print it anew when the file changes.',
    ],
    flags: [
      {
        name: 'options',
        short: 'o',
        value: 'OPTIONS',
        many: true,
        help: 'Further options of fstab(5): noauto, nofail, user and so on.',
      },
      FILE_FLAG,
    ],
    examples: [['varve stack fstab -o nofail web >> /etc/fstab', '']],
    completes: 'stack',
  },
];
