// The commands that tell what layers have changed, as data: diff and why.
// Part of the table in commands.ts.
// Holds text only.

import type { FlagRecord } from './args.js';
import type { CommandRecord } from './command-record.js';

const OPTIONS_FLAG: FlagRecord = {
  name: 'options',
  short: 'o',
  value: 'OPTIONS',
  many: true,
  help: 'The stack, as the mount options that describe it; nothing is mounted.',
};

const JSON_FLAG: FlagRecord = { name: 'json', help: 'Print JSON for programs instead of text.' };

export const DIFF_COMMANDS: readonly CommandRecord[] = [
  {
    name: 'diff',
    summary: 'tell what the upper of a stack has changed',
    operands: '[MOUNTPOINT | LAYER...] [-- PATH...]',
    count: [0, Number.POSITIVE_INFINITY],
    description: [
      'Tells what was added, modified (content, mode, owner, xattr), deleted and renamed between a stack without its topmost layer and with it. The stack is that of a mount (live or not in use, of varve or of the kernel), is described by -o, or is made of LAYERs, topmost first: directories or EROFS images, of which the first is compared with the others; one LAYER alone is compared with nothing. With PATHs, which are paths of the union, only what lies at or below one of them is told.',
      'Reads the upper and looks up in the lowers what it names there, so that the cost follows the change, not the tree. A file that was rewritten with the same bytes, mode, owner and xattrs is no change, nor is one of which only the time is another; --all lists both, as `=` and M.',
      'On a terminal and elsewhere a tree is printed; the flags choose other forms. --tar writes a layer for container engines, byte for byte the same for the same change.',
      'Exit code 0, also where there are changes, unless --exit-code is given.',
    ],
    flags: [
      OPTIONS_FLAG,
      { name: 'stat', help: 'Bytes that came and went, one line a path, and totals.' },
      {
        name: 'name-status',
        help: "git's letters A M D R T, a tab and the path, quoted as git does; of R the path before, a tab, and the path now.",
      },
      {
        name: 'null',
        short: 'z',
        help: 'With --name-status: NUL in place of tab and newline, nothing quoted.',
      },
      { name: 'json', help: 'Everything, as the document that docs/diff.md describes.' },
      { name: 'patch', short: 'p', help: 'Text files as a patch for git apply and patch(1).' },
      {
        name: 'binary',
        help: "With --patch: other files as well, as git's binary patch, which patch(1) does not take.",
      },
      {
        name: 'html',
        value: 'FILE',
        help: 'One page with everything in it; - is standard output.',
      },
      {
        name: 'tar',
        value: 'FILE',
        help: 'An OCI layer: new and changed objects, and .wh. files for deleted ones; - is standard output.',
      },
      {
        name: 'kernel',
        help: "With --tar: whiteouts and opaque marks as the kernel's overlayfs has them.",
      },
      {
        name: 'trees',
        help: 'The two operands are whole trees, OLD NEW, not layers: directories, EROFS images, tar or cpio archives.',
      },
      {
        name: 'prune',
        help: 'Drop from the upper what equals what lies below it; the union stays as it is. The stack must not be mounted.',
      },
      { name: 'dry-run', short: 'n', help: 'With --prune: only tell what would be dropped.' },
      { name: 'keep-times', help: 'With --prune: keep what differs in its mtime.' },
      { name: 'all', short: 'a', help: 'Identical copies and changes of the time alone, too.' },
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
      ['varve diff /mnt', 'what was changed on a mount'],
      [
        'varve diff --name-status -o lowerdir=/b:/a,upperdir=/u',
        'the same, not mounted, for a script',
      ],
      ['varve diff --tar layer.tar upper lower', 'an OCI layer of two directories'],
      ['varve diff --patch /mnt -- etc', 'what was edited in etc'],
      ['varve diff --html changes.html /mnt', 'to look around in, with any browser'],
      ['varve diff --prune -n -o lowerdir=/a,upperdir=/u,workdir=/w', 'what could be dropped'],
    ],
    completes: 'directory',
  },
  {
    name: 'why',
    summary: 'tell which layer owns a path, and its life through the layers',
    operands: 'PATH...',
    count: [1, Number.POSITIVE_INFINITY],
    description: [
      'Walks the layers of the mount that holds PATH, topmost first, and tells what each of them has to say about it: the file itself, a whiteout, an opaque directory, a redirect. The first that decides owns the path; what lies below is hidden (for a directory: merged). Then tells what each layer did to it, the lowest first: added, changed in its content, mode, owner, xattrs or time, deleted, renamed.',
      'The layers themselves are read, not the mount: it works for paths that were deleted, too. With -o the stack need not be mounted, and PATH is a path of the union.',
    ],
    flags: [OPTIONS_FLAG, { name: 'hash', help: 'SHA-256 of every version of a file.' }, JSON_FLAG],
    examples: [
      ['varve why /mnt/etc/hosts', 'upper or lower?'],
      [
        'varve why --hash -o lowerdir=/b:/a,upperdir=/u etc/hosts',
        'which version is in which layer',
      ],
    ],
    completes: 'path',
  },
];
