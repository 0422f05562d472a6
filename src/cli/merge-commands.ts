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

const USERXATTR_FLAG: FlagRecord = {
  name: 'userxattr',
  help: 'Marks of the layers are user.overlay.* attributes, as those of plain users; the default without root. With -o write it there.',
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
      USERXATTR_FLAG,
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
  {
    name: 'flatten',
    summary: 'make one layer, image or archive of a stack',
    operands: '[MOUNTPOINT | LAYER...]',
    count: [0, Number.POSITIVE_INFINITY],
    description: [
      'Writes what the stack shows: that of a mount, of -o, or of LAYERs, topmost first (directories and EROFS images). NAME says what is made: STORE#IMAGE an image of a store, whose digest is printed; a name that ends in .erofs or .img an EROFS image; one that ends in .tar, or - for standard output, a tar archive; everything else a new directory. It appears when it is complete. Images and archives have the same bytes for the same content.',
      'Whiteouts, opaque marks, redirects and metacopy files are gone from the result; hard links, holes, attributes and ACLs are in it. With --keep-whiteouts the layers are some of a stack: the result is a layer that shows over any others what the layers showed over them. A file of which these layers have only the metadata cannot be in it: name the layer with its data as well.',
      'Of a live mount the layers are read, beside its server; what is written meanwhile may be missing. A file that changes while it is read ends the command.',
    ],
    flags: [
      OPTIONS_FLAG,
      { name: 'into', value: 'NAME', help: 'What is to be made.' },
      { name: 'keep-whiteouts', help: 'Make a layer that is still to be put over others.' },
      { name: 'force', short: 'f', help: 'Replace a file of this name.' },
      USERXATTR_FLAG,
      {
        name: 'compress',
        short: 'z',
        value: 'ALGORITHM[,LEVEL]',
        many: true,
        help: 'Of an EROFS image: none (default), lz4, lz4hc, deflate, zstd or lzma, as in `varve image build`.',
      },
      {
        name: 'cluster',
        short: 'C',
        value: 'BYTES',
        help: 'Of an EROFS image: largest compressed cluster, 4096 (default) to 1048576.',
      },
      {
        name: 'fragments',
        help: 'Of an EROFS image: pack ends of files, and small files, together.',
      },
      { name: 'dedupe', help: 'Of an EROFS image: store equal data once.' },
      { name: 'uuid', short: 'U', value: 'UUID', help: 'Of an EROFS image: its UUID.' },
      { name: 'label', short: 'L', value: 'LABEL', help: 'Of an EROFS image: its volume name.' },
      { name: 'threads', value: 'N', help: 'Threads that compress (default: processors).' },
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [
      ['varve flatten /mnt --into /srv/tree', 'what a mount shows, as a directory'],
      ['varve flatten -z zstd top base.erofs --into whole.erofs', 'two layers as one image'],
      ['varve flatten --keep-whiteouts u2 u1 --into u', 'two uppers as one'],
      ['varve flatten top base --into - | zstd > tree.tar.zst', 'an archive'],
    ],
    completes: 'directory',
  },
  {
    name: 'split',
    summary: 'cut a tree into layers by rules',
    operands: 'TREE',
    count: [1, 1],
    description: [
      'TREE is a directory, an EROFS image, or a tar or cpio archive; - is an archive on standard input. Every file goes to the layer of the first rule that holds, everything else to the layer "rest" (--rest gives it another name); directories are in each layer that has something in them, with all their attributes. Stacked in any order, the layers show TREE again. Names of a hard-linked file stay together, where the first of them belongs.',
      'A rule is NAME=TEST TEST..., all of which must hold. TEST is a pattern as in .gitignore (a slash in front or inside counts from the root of TREE, a slash at the end means directories, ** crosses them; it holds for all that is in a directory that matches), !PATTERN, which must not match, or one of size>BYTES size<BYTES (of regular files, with k, M, G), type=file|directory|symlink|device|fifo|socket, uid=N, gid=N, newer=DATE, older=DATE. A name with several rules takes what any of them takes.',
      'A file of rules has [NAME] on a line of its own, below it one rule a line, and comments behind #. Its rules follow those of --rule.',
      'DIR is made, with one directory (DIR/NAME), image (DIR/NAME.erofs) or archive (DIR/NAME.tar) a layer, all of them at once. Where TREE is a layer itself, whiteouts are kept like files.',
    ],
    flags: [
      { name: 'rule', value: 'NAME=TEST...', many: true, help: 'One rule.' },
      { name: 'rules', value: 'FILE', help: 'Rules from a file.' },
      { name: 'rest', value: 'NAME', help: 'The layer of what no rule names (default rest).' },
      { name: 'into', value: 'DIR', help: 'Where the layers are made: a new directory.' },
      {
        name: 'format',
        value: 'directory|erofs|tar',
        help: 'What each layer is made (default directory).',
      },
      {
        name: 'link',
        help: 'Link the files of a directory TREE into the layers instead of copying them: they are one file then, and must not be written to.',
      },
      {
        name: 'compress',
        short: 'z',
        value: 'ALGORITHM[,LEVEL]',
        many: true,
        help: 'Of EROFS images, as in `varve image build`.',
      },
      DRY_FLAG,
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [
      [
        'varve split tree --rule docs=/usr/share/doc/ --rule docs=/usr/share/man/ -n',
        'see first what goes where',
      ],
      ['varve split tree --rules rules.txt --into layers --format erofs -z zstd', ''],
      ["varve split tree --rule 'big=size>10M' --rule 'fonts=*.ttf' --into layers", ''],
    ],
    completes: 'directory',
  },
];
