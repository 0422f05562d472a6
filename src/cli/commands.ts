// Every command as data: its flags, operands, description and examples.
// Read by main.ts (to run one), help.ts, man.ts and completion.ts, so that they cannot disagree.
// Holds text only; main.ts knows which file runs a command.

import type { FlagRecord } from './args.js';
import { BOOT_AUTH_COMMANDS } from './boot-auth-commands.js';
import { BOOT_BENCH_COMMAND } from './boot-bench-commands.js';
import { BOOT_BUILD_COMMAND } from './boot-commands.js';
import { BOOT_INSPECT_COMMANDS } from './boot-inspect-commands.js';
import { BOOT_INSTALL_COMMANDS } from './boot-install-commands.js';
import type { CommandRecord } from './command-record.js';
import { COMMIT_COMMANDS } from './commit-commands.js';
import { DETACH_COMMAND } from './detach-command.js';
import { DIFF_COMMANDS } from './diff-commands.js';
import { IMAGE_COMMANDS } from './image-commands.js';
import { LAYER_STORE_COMMAND } from './layer-store-command.js';
import { MERGE_COMMANDS } from './merge-commands.js';
import { REBASE_COMMAND } from './rebase-command.js';
import { LAZY_FLAGS, REGISTRY_COMMANDS } from './registry-commands.js';
import { STACK_COMMANDS } from './stack-commands.js';
import { STORE_COMMANDS } from './store-commands.js';
import { TRY_COMMANDS } from './try-commands.js';
import { WINE_DIFF_COMMANDS } from './wine-diff-commands.js';
import { WINE_DOCTOR_COMMANDS } from './wine-doctor-commands.js';
import { WINE_LIBRARY_COMMANDS } from './wine-library-commands.js';
import { WINE_RUN_COMMANDS } from './wine-run-commands.js';
import { WINE_UPDATE_COMMAND } from './wine-update-commands.js';

export const HELP: FlagRecord = { name: 'help', short: 'h', help: 'Explain this command.' };
const OPTIONS_FLAG: FlagRecord = {
  name: 'options',
  short: 'o',
  value: 'OPTIONS',
  many: true,
  help: 'Mount options, separated by commas; see OPTIONS below.',
};

/** Of the commands that mount a composefs image. */
const IMAGE_FLAGS: readonly FlagRecord[] = [
  {
    name: 'image',
    value: 'IMAGE',
    help: 'A composefs image: its name in a store, its digest, or a file (./FILE where a name is the same).',
  },
  {
    name: 'store',
    value: 'DIR',
    many: true,
    help: 'The store that has the objects of the image (default $VARVE_STORE, else as for `varve store`); several are asked in this order.',
  },
  {
    name: 'mode',
    value: 'kernel|overlay|follow',
    help: 'Who shows the image: the kernel (root); varve its metadata and the kernel its content (in a namespace); varve both.',
  },
];

const JSON_FLAG: FlagRecord = { name: 'json', help: 'Print JSON for programs instead of text.' };

export const COMMANDS: readonly CommandRecord[] = [
  {
    name: 'mount',
    summary: 'stack layers and mount the union',
    operands: '[REF] MOUNTPOINT',
    count: [1, 2],
    description: [
      'Stacks the layers named in lowerdir, topmost first, puts the upper on top of them, and shows the union at MOUNTPOINT. Everything that is changed there goes to the upper; the layers below stay as they are. Without an upper the mount is read-only.',
      'The command returns when the mount answers. A process of its own then serves it until it is unmounted.',
      'With --image a composefs image is shown instead, with the content that its store has (-o upperdir=,workdir= make it writable; verity= and digest= say what is compared). Root gets --mode=kernel, root of a user namespace overlay, anybody else follow: that alone is seen outside of a namespace. The mode and its reason are printed.',
      'With REF an image of a registry is shown: from the image store where it is, else it is pulled first. With --lazy the mount answers at once and content comes when it is read; when all of it is here the loader ends, and the mount is as any local one. -o upperdir=,workdir= make it writable. Whether the kernel does it alone or a server of varve is printed, with the reason.',
      "With --backend=auto the kernel's overlayfs does the work where nothing is lost by it (a read-only stack, permitted, on one filesystem); varve's own FUSE server does it everywhere else, and the command says which was taken.",
    ],
    flags: [
      OPTIONS_FLAG,
      ...IMAGE_FLAGS,
      ...LAZY_FLAGS,
      { name: 'foreground', short: 'f', help: 'Stay until the mount is gone; Ctrl-C unmounts.' },
      { name: 'backend', value: 'auto|fuse|kernel', help: 'Who does the union (default auto).' },
      {
        name: 'trace',
        help: "Print every request to the server's log (with -f: to the terminal).",
      },
      { name: 'quiet', short: 'q', help: 'Say nothing on success.' },
      JSON_FLAG,
    ],
    examples: [
      [
        'varve mount -o lowerdir=/usr,upperdir=/tmp/u,workdir=/tmp/w /mnt',
        'a writable copy of /usr that costs nothing',
      ],
      ['varve mount -o lowerdir=/b:/a /mnt', 'two trees as one, read-only; /b wins'],
      ['varve mount --image debian --store /srv/store /mnt', 'a composefs image of a store'],
      ['varve mount --lazy registry.example.org/os:1 /mnt', 'an image of a registry, at once'],
      ['varve mount -f --trace -o lowerdir=/a,upperdir=/u,workdir=/w /mnt', 'watch every request'],
    ],
    completes: 'directory',
  },
  {
    name: 'run',
    summary: 'run a command in an image',
    operands: '[REF|MOUNTPOINT] [-- COMMAND [ARG...]]',
    count: [1, Number.POSITIVE_INFINITY],
    description: [
      "With REF, COMMAND (or the image's own command) runs with an image of a registry as its root directory, in namespaces of its own with the environment, the user and the working directory that the image names; /proc, /dev and /sys are those of the machine. It starts before the content is here (--no-lazy: only then). The image is read-only unless --writable, which forgets the changes, or -o upperdir=,workdir=.",
      'With --image: makes a mount namespace (without root: a user namespace too), mounts the image at MOUNTPOINT, which nobody else sees, runs COMMAND, and returns its exit code, or ends by the same signal. Without MOUNTPOINT the mount has a place of its own, where COMMAND starts. VARVE_MOUNT tells COMMAND where the mount is. Whatever happens to COMMAND or to varve, nothing is left: no server, no mount, no process that COMMAND started, no temporary folder.',
      "The mode is overlay unless --mode says something else: varve's server has the metadata of the image, file content comes from the store through the kernel alone. With -o upperdir=,workdir= the mount is writable.",
      'Without root COMMAND is root of its namespace, which is you outside: files of the image that belong to root are its own. Where /etc/subuid and /etc/subgid give you further ids (and newuidmap is installed) the other owners of the image are right, too; else they appear as nobody.',
      'Exit code 127: COMMAND was not found; 126: it cannot be run; what varve itself cannot do has the codes of EXIT CODES.',
    ],
    flags: [
      OPTIONS_FLAG,
      ...IMAGE_FLAGS,
      ...LAZY_FLAGS.filter(({ name }) => name !== 'lazy'),
      {
        name: 'backend',
        value: 'auto|fuse|kernel',
        help: 'Of a registry: who does the union (default auto).',
      },
      { name: 'no-lazy', help: 'Of a registry: fetch everything before COMMAND starts.' },
      { name: 'writable', help: 'Of a registry: changes are possible, and are forgotten.' },
      {
        name: 'user',
        short: 'u',
        value: 'USER[:GROUP]',
        help: "Of a registry: who COMMAND is, by names of the image or by numbers (default: as the image says), with all of USER's groups unless GROUP is given.",
      },
      {
        name: 'chroot',
        help: "The mount is COMMAND's root directory; /proc, /dev and /sys are put into it.",
      },
      {
        name: 'bind',
        value: 'SOURCE[:TARGET]',
        many: true,
        help: 'Show SOURCE at TARGET of the image (default: the same path), where the image has such a file or directory.',
      },
      { name: 'trace', help: "Print every request to the server's log." },
      { name: 'quiet', short: 'q', help: 'Do not say who serves the mount.' },
    ],
    examples: [
      ["varve run registry.example.org/os:1 -- bash -c 'apt-get --version'", 'without pulling'],
      ['varve run --image debian --store ~/store --chroot -- sh', 'look around in an image'],
      ['varve run --image ./img --store ~/store /mnt -- diff -r /mnt /srv/tree', 'compare it'],
    ],
    completes: 'directory',
  },
  ...TRY_COMMANDS,
  ...REGISTRY_COMMANDS,
  {
    name: 'umount',
    summary: 'unmount, when everything is safely stored',
    operands: 'MOUNTPOINT...',
    count: [1, Number.POSITIVE_INFINITY],
    description: [
      'Writes out what is still cached, unmounts, waits until the server is gone and the filesystem of the upper has stored everything.',
      'Plain umount(8) and fusermount3 -u work as well; they do not wait.',
    ],
    flags: [
      { name: 'lazy', short: 'l', help: 'Detach now; the mount ends when its last user is gone.' },
      {
        name: 'force',
        short: 'f',
        help: 'End the server at once. Programs that use the mount get errors.',
      },
      { name: 'quiet', short: 'q', help: 'Say nothing on success.' },
      JSON_FLAG,
    ],
    examples: [['varve umount /mnt', 'done, and everything is stored']],
    completes: 'mount',
  },
  {
    name: 'status',
    summary: 'show the mounts, their layers, requests and memory',
    operands: '[MOUNTPOINT]',
    count: [0, 1],
    description: [
      'Without MOUNTPOINT: one line a mount. With it: its layers, who serves it, how many requests of each kind were answered, what was copied up, what the server takes of the memory, how often it was replaced and why, and why it ended if it did.',
    ],
    flags: [JSON_FLAG],
    examples: [
      ['varve status', 'all mounts of this user'],
      ['varve status --json /mnt', 'everything about one, for a program'],
    ],
    completes: 'mount',
  },
  {
    name: 'reload',
    summary: 'replace the server of a mount, without unmounting',
    operands: '[MOUNTPOINT...]',
    count: [0, Number.POSITIVE_INFINITY],
    description: [
      'Starts a server of the installed version, has the running one finish what it has in hand and end, and lets the new one take over. Programs on the mount notice a pause of some milliseconds: open files stay open, no request is lost or done twice, and st_dev stays. Where the versions keep their state in different forms nothing is changed, and the message says so.',
      'It is also the way to give a mount whose server has failed (varve status says so, programs get EIO) another attempt. A mount that the kernel serves has nothing to reload.',
    ],
    flags: [{ name: 'all', short: 'a', help: 'Every mount of this user.' }, JSON_FLAG],
    examples: [
      ['varve reload /mnt', 'after an update of varve'],
      ['varve reload --all', 'the same for every mount'],
    ],
    completes: 'mount',
  },
  ...DIFF_COMMANDS,
  ...COMMIT_COMMANDS,
  DETACH_COMMAND,
  {
    name: 'check',
    summary: 'list what of an upper no longer fits the layers below it',
    operands: '[MOUNTPOINT]',
    count: [0, 1],
    description: [
      'Lower layers may be changed while nothing is mounted; what the upper says about them may then be wrong. Looks at every object of the upper, never at all of the lowers, and lists with its path what does not fit: origin (the lower object that it was copied from is gone, or another directory is merged), redirect (a renamed directory whose lower part is gone), metacopy (a file whose data is gone, or has another size), index (a hard link whose lower file is gone). Whiteouts, opaque directories and index entries that concern nothing are harmless, and are only counted unless --all is given.',
      'The stack is that of a mount, or is described by the options that would mount it. Nothing is changed. Where an origin cannot be looked for (without root, or on a filesystem without file handles) and its place has something else, the object is counted as one whose origin nobody can look for.',
      'Exit code 3 where something does not fit.',
    ],
    flags: [
      OPTIONS_FLAG,
      { name: 'all', short: 'a', help: 'List what is harmless, too.' },
      { name: 'quiet', short: 'q', help: 'Print nothing: the exit code tells.' },
      JSON_FLAG,
    ],
    examples: [
      ['varve check /mnt', 'a mount, while it is in use'],
      ['varve check -o lowerdir=/b:/a,upperdir=/u,workdir=/w', 'before it is mounted again'],
    ],
    completes: 'mount',
  },
  ...MERGE_COMMANDS,
  REBASE_COMMAND,
  ...STACK_COMMANDS,
  ...IMAGE_COMMANDS,
  ...STORE_COMMANDS,
  ...WINE_LIBRARY_COMMANDS,
  ...WINE_DIFF_COMMANDS,
  ...WINE_RUN_COMMANDS,
  WINE_UPDATE_COMMAND,
  ...WINE_DOCTOR_COMMANDS,
  BOOT_BUILD_COMMAND,
  ...BOOT_AUTH_COMMANDS,
  ...BOOT_INSTALL_COMMANDS,
  ...BOOT_INSPECT_COMMANDS,
  BOOT_BENCH_COMMAND,
  LAYER_STORE_COMMAND,
  {
    name: 'demo',
    summary: 'show everything once, on layers made in a temporary folder',
    operands: '',
    count: [0, 0],
    description: [
      'Makes two layers, stacks them, writes, deletes and renames on the mount, asks who owns what, unmounts, and shows that the layers are untouched. Works as root, and for a plain user with fusermount3 or user namespaces. Leaves nothing behind.',
    ],
    flags: [{ name: 'keep', help: 'Keep the temporary folder.' }],
    examples: [['varve demo', 'half a minute that explains the rest']],
    completes: 'nothing',
  },
  {
    name: 'doctor',
    summary: 'list what this machine offers and what varve does without it',
    operands: '[DIRECTORY...]',
    count: [0, Number.POSITIVE_INFINITY],
    description: [
      'Tries the kernel features that varve uses, and says for each missing one what is done instead. For each DIRECTORY (default: the temporary folder) it also tries what the filesystem there can do, as an upper.',
    ],
    flags: [JSON_FLAG],
    examples: [['varve doctor /var/lib/containers', 'is this a good place for uppers?']],
    completes: 'directory',
  },
  {
    name: 'setup',
    summary: 'link varve into the system, or show how',
    operands: '',
    count: [0, 0],
    description: [
      "Installs links and files so that the system finds varve: the command itself, mount.fuse.varve for mount(8) and fstab(5), a fuse-overlayfs for programs that call it by name (only with --fuse-overlayfs), completions for bash, zsh and fish, and manual pages. Nothing that exists and is not varve's own is replaced.",
    ],
    flags: [
      {
        name: 'prefix',
        value: 'DIR',
        help: 'Where to install (default /usr/local for root, ~/.local otherwise).',
      },
      { name: 'fuse-overlayfs', help: 'Also link PREFIX/bin/fuse-overlayfs.' },
      {
        name: 'wine',
        value: 'BUILD',
        optional: true,
        help: 'Also put shims of wine, wineserver, winecfg, msiexec, winetricks and so on into PREFIX/bin, which honour WINEPREFIX_OVERLAYS and run the wine that is next on PATH, or BUILD.',
      },
      {
        name: 'boot',
        help: 'Also link the plugin of kernel-install, the hooks of update-initramfs and the dracut module through which a new kernel gets a boot image; with --prefix below DIR/etc and DIR/usr.',
      },
      { name: 'print', help: 'Only print what would be done.' },
      { name: 'uninstall', help: 'Remove what setup installed with the same flags.' },
      JSON_FLAG,
    ],
    examples: [
      ['varve setup --print', 'see first'],
      ['varve setup --prefix ~/.local', 'without root'],
      ['varve setup --boot', 'kernel updates make boot images, by /etc/varve/boot.conf'],
      ['varve setup --wine', 'plain `wine` works on layered prefixes'],
    ],
    completes: 'nothing',
  },
  {
    name: 'completion',
    summary: 'print the completion script of a shell',
    operands: 'bash|zsh|fish',
    count: [1, 1],
    description: [
      'Prints a script that completes commands, flags, mount options and mount points.',
    ],
    flags: [],
    examples: [['varve completion bash > ~/.local/share/bash-completion/completions/varve', '']],
    completes: 'shell',
  },
  {
    name: 'help',
    summary: 'explain a command',
    operands: '[COMMAND]',
    count: [0, 3],
    description: ['Prints the manual of COMMAND, or the overview.'],
    flags: [],
    examples: [['varve help mount', 'every mount option']],
    completes: 'command',
  },
];

export function commandNamed(name: string): CommandRecord | undefined {
  return COMMANDS.find((command) => command.name === name);
}

/** Words, or two, that begin the names of several commands, with what they have in common. */
const GROUP_SUMMARIES: Readonly<Record<string, string>> = {
  image: 'build EROFS images, look into them, check and mount them',
  stack: 'keep stacks under names in varve.yaml',
  store: 'keep the content of many images once, by digest',
  wine: 'run Wine in prefixes made of layers',
  'wine base': 'keep pristine prefixes that others stand on',
  boot: 'boot from images: build, sign, install, look into them',
  'wine layer': 'keep what installers change, and put it into prefixes',
};

export const GROUPS: readonly string[] = Object.keys(GROUP_SUMMARIES);

/** What can stand behind `varve`: the groups once, each where its first command is. */
export const FIRST_WORDS: readonly string[] = [
  ...new Set(COMMANDS.map((c) => c.name.split(' ')[0] as string)),
];

/** The words that can stand behind a group: its commands, and groups within it. */
export function groupWords(group: string): string[] {
  const words = COMMANDS.flatMap((c) =>
    c.name.startsWith(`${group} `) ? [c.name.slice(group.length + 1).split(' ')[0] as string] : [],
  );
  return [...new Set(words)];
}

/** What the menu of first words says about one. */
export function summaryOf(word: string): string {
  return GROUP_SUMMARIES[word] ?? (commandNamed(word) as CommandRecord).summary;
}
