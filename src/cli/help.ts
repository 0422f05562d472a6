// `varve help`: the overview, and the manual of one command, as text for a terminal.
// Everything is taken from commands.ts, stack/option-table.ts and exit-codes.ts; man.ts makes manual pages of the same.
// Run by main.ts.

import { MountError } from '../stack/errors.js';
import { OPTIONS, type OptionGroup, type OptionRecord } from '../stack/option-table.js';
import type { Arguments, FlagRecord } from './args.js';
import type { CommandRecord } from './command-record.js';
import { COMMANDS, commandNamed, FIRST_WORDS, GROUPS, HELP, summaryOf } from './commands.js';
import { EXIT, EXIT_MEANING } from './exit-codes.js';

const WIDTH = 78;

/** Titles of the option groups, in the order of the manual. */
export const OPTION_GROUPS: readonly (readonly [OptionGroup, string])[] = [
  ['layers', 'Layers'],
  ['overlay', "As the kernel's overlayfs"],
  ['fuse-overlayfs', 'As fuse-overlayfs'],
  ['mount', 'As any mount'],
  ['varve', 'Of varve'],
];

/** Environment variables that change something. */
export const ENVIRONMENT: readonly (readonly [string, string])[] = [
  [
    'VARVE_RUNTIME_DIR',
    'Folder of the control socket, instead of $XDG_RUNTIME_DIR/varve, /run/varve or /tmp/varve-UID.',
  ],
  ['VARVE_FILE', 'The file of named stacks, instead of the varve.yaml that is found.'],
  [
    'VARVE_WINE_DIR',
    'Folder of Wine bases, layers and prefixes, instead of $XDG_DATA_HOME/varve/wine.',
  ],
  ['VARVE_STORE', 'The store of objects, instead of that of the machine or the user.'],
  ['VARVE_IMAGES', 'The image store of pulled images, instead of that of the machine or the user.'],
  [
    'VARVE_RATE',
    'Bytes a second at most that lazy mounts fetch together (20M), as it was when their loader started.',
  ],
  ['VARVE_CONNECTIONS', 'Requests at a time for who waits for content of lazy mounts (default 8).'],
  ['VARVE_WINE', 'The Wine to run: a binary, or the folder of a Wine or Proton build.'],
  [
    'VARVE_REHEARSE',
    '"off": a server does not warm up while idle after its start (half a second of processor, nothing on disk).',
  ],
  ['VARVE_DEBUG', 'Print where a failure comes from.'],
];

export function run(given: Arguments): number {
  const name = given.operands.join(' ');
  if (name === '' || GROUPS.includes(name)) {
    process.stdout.write(name === '' ? overview() : groupOverview(name));
    return EXIT.ok;
  }
  const command = commandNamed(name);
  if (command === undefined) {
    const names = FIRST_WORDS.join(', ');
    throw new MountError('option', `no command ${name}: one of ${names}`);
  }
  process.stdout.write(manual(command));
  return EXIT.ok;
}

export function overview(): string {
  return [
    'varve - stack directories and images and mount the union',
    '',
    section('Usage', ['varve COMMAND [flags] [operands]']),
    section('Commands', pairs(FIRST_WORDS.map((word) => [word, `${summaryOf(word)}.`]))),
    section('In short', [
      ...wrap(
        "Layers are directories or EROFS images. The lowers are only read; the upper takes every change. A name is searched from the top down, directories are merged, and what was deleted is remembered in the upper as a whiteout, in the form of the kernel's overlayfs.",
      ),
      '',
      'mkdir up work union',
      'varve mount -o lowerdir=/usr,upperdir=up,workdir=work union',
      'varve why union/bin/sh',
      'varve umount union',
    ]),
    section('Exit codes', pairs(EXIT_MEANING.map(([code, text]) => [String(code), text]))),
    section('Environment', pairs(ENVIRONMENT)),
    section('More', [
      '`varve help COMMAND` explains one; `varve help mount` lists all mount options.',
      '`varve demo` shows everything once; `varve doctor` looks at this machine.',
    ]),
  ].join('\n');
}

/** What `varve GROUP` alone says: its commands. */
export function groupOverview(group: string): string {
  const members = COMMANDS.filter((c) => c.name.startsWith(`${group} `));
  const alone = commandNamed(group);
  return [
    ...(alone === undefined ? [] : [manual(alone)]),
    section('Usage', [`varve ${group} COMMAND [flags] [operands]`]),
    section('Commands', pairs(members.map((c) => [c.name, `${c.summary}.`]))),
    section('More', [`\`varve help ${group} COMMAND\` explains one.`]),
  ].join('\n');
}

export function manual(command: CommandRecord): string {
  const parts = [
    `varve ${command.name} - ${command.summary}`,
    '',
    section('Usage', [`varve ${command.name} [flags] ${command.operands}`.trimEnd()]),
    section(
      'What it does',
      command.description.flatMap((text, i) => [...(i > 0 ? [''] : []), ...wrap(text)]),
    ),
    section('Flags', pairs([...command.flags, HELP].map((flag) => [flagForm(flag), flag.help]))),
  ];
  if (command.name === 'mount') parts.push(optionsText());
  if (command.examples.length > 0) {
    parts.push(
      section(
        'Examples',
        command.examples.flatMap(([line, text]) => (text === '' ? [line] : [line, `    ${text}`])),
      ),
    );
  }
  return parts.join('\n');
}

function optionsText(): string {
  const groups = OPTION_GROUPS.map(([group, title]) => {
    const rows = OPTIONS.filter((o) => o.group === group).map(
      (o) => [optionForm(o), o.help] as const,
    );
    return `${title}:\n${pairs(rows)
      .map((line) => `  ${line}`)
      .join('\n')}\n`;
  });
  const ignored = OPTIONS.filter((o) => o.group === 'ignored').map((o) => o.name);
  return section('Mount options', [
    ...wrap(
      'Given by -o, separated by commas; `\\,` is a comma inside a value, and empty options are passed over.',
    ),
    '',
    ...groups.join('\n').split('\n'),
    ...wrap(`Accepted and without effect: ${ignored.join(', ')}.`),
  ]);
}

/** `-o, --options OPTIONS`. */
export function flagForm(flag: FlagRecord): string {
  const value = flag.optional === true ? `[=${flag.value}]` : ` ${flag.value}`;
  const long = flag.value === undefined ? `--${flag.name}` : `--${flag.name}${value}`;
  return flag.short === undefined ? long : `-${flag.short}, ${long}`;
}

/** `lowerdir=A:B:C`. */
export function optionForm(option: OptionRecord): string {
  if (option.value === undefined) return option.name;
  return option.optional === true
    ? `${option.name}[=${option.value}]`
    : `${option.name}=${option.value}`;
}

function section(title: string, lines: readonly string[]): string {
  return `${title.toUpperCase()}\n${lines.map((line) => (line === '' ? '' : `  ${line}`)).join('\n')}\n`;
}

/** Terms with their explanations beside them, or below them when the term is long. */
function pairs(rows: readonly (readonly [string, string])[]): string[] {
  const longest = Math.max(...rows.map(([term]) => term.length));
  const column = Math.min(longest, 26) + 2;
  return rows.flatMap(([term, text]) => {
    const lines = wrap(text, WIDTH - 2 - column);
    const indented = lines.map((line) => ' '.repeat(column) + line);
    if (term.length + 2 > column) return [term, ...indented];
    return [term.padEnd(column) + (lines[0] ?? ''), ...indented.slice(1)];
  });
}

function wrap(text: string, width = WIDTH - 2): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  lines.push(line);
  return lines;
}
