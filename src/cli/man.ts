// Manual pages in the language of man(7), made of commands.ts, stack/option-table.ts and exit-codes.ts.
// Installed by setup.ts; written to man/ by scripts that publish the package.
// Follows man(7) and man-pages(7).

import { OPTIONS } from '../stack/option-table.js';
import type { CommandRecord } from './command-record.js';
import { COMMANDS, HELP } from './commands.js';
import { EXIT_MEANING } from './exit-codes.js';
import { ENVIRONMENT, flagForm, OPTION_GROUPS, optionForm } from './help.js';

export interface ManPage {
  /** File name: `varve-mount.1`. */
  readonly file: string;
  readonly text: string;
}

/** Every page: varve(1), one for each command, and the two programs that stand in for others. */
export function manPages(version: string): ManPage[] {
  return [
    { file: 'varve.1', text: overviewPage(version) },
    ...COMMANDS.filter((c) => c.name !== 'help').map((command) => ({
      file: `varve-${command.name.replaceAll(' ', '-')}.1`,
      text: commandPage(command, version),
    })),
    { file: 'varve-overlayfs.1', text: overlayfsPage(version) },
    { file: 'mount.fuse.varve.8', text: helperPage(version) },
  ];
}

/** Text in which nothing is taken for a macro or an escape. */
function roff(text: string): string {
  return text
    .replace(/\\/g, '\\e')
    .replace(/-/g, '\\-')
    .replace(/^([.'])/gm, '\\&$1');
}

const head = (name: string, section: number, version: string): string =>
  `.TH ${roff(name.toUpperCase())} ${section} "" "varve ${version}" "Varve"`;

const named = (name: string, summary: string): string =>
  `.SH NAME\n${roff(name)} \\- ${roff(summary)}`;

const terms = (rows: readonly (readonly [string, string])[]): string =>
  rows.map(([term, text]) => `.TP\n.B ${roff(term)}\n${roff(text)}`).join('\n');

const paragraphs = (texts: readonly string[]): string =>
  texts.map((text) => `.PP\n${roff(text)}`).join('\n');

function overviewPage(version: string): string {
  return [
    head('varve', 1, version),
    named('varve', 'stack directories and images and mount the union'),
    '.SH SYNOPSIS\n.B varve\n.I COMMAND\n[flags] [operands]',
    '.SH DESCRIPTION',
    paragraphs([
      "Varve stacks read-only layers under a writable one and presents the union as one directory tree. Layers are directories or EROFS images. A name is searched from the top down, directories are merged, and what was deleted is remembered in the upper as a whiteout, in the form of the kernel's overlayfs.",
    ]),
    '.SH COMMANDS',
    terms(COMMANDS.map((c) => [`varve ${c.name}`, `${c.summary}.`])),
    exitStatus(),
    '.SH ENVIRONMENT',
    terms(ENVIRONMENT),
    seeAlso(
      COMMANDS.map((c) => `varve-${c.name.replaceAll(' ', '-')}`).filter(
        (name) => name !== 'varve-help',
      ),
    ),
    '',
  ].join('\n');
}

function commandPage(command: CommandRecord, version: string): string {
  const name = `varve-${command.name.replaceAll(' ', '-')}`;
  const parts = [
    head(name, 1, version),
    named(name, command.summary),
    `.SH SYNOPSIS\n.B varve ${command.name}\n[flags] ${roff(command.operands)}`.trimEnd(),
    '.SH DESCRIPTION',
    paragraphs(command.description),
    '.SH FLAGS',
    terms([...command.flags, HELP].map((flag) => [flagForm(flag), flag.help])),
  ];
  if (command.name === 'mount') parts.push(optionsSection());
  if (command.examples.length > 0) {
    parts.push(
      '.SH EXAMPLES',
      ...command.examples.map(([line, text]) =>
        `.PP\n.B ${roff(line)}\n.br\n${roff(text)}`.trimEnd(),
      ),
    );
  }
  parts.push(exitStatus(), seeAlso(['varve']), '');
  return parts.join('\n');
}

function optionsSection(): string {
  const ignored = OPTIONS.filter((o) => o.group === 'ignored').map((o) => o.name);
  return [
    '.SH OPTIONS',
    paragraphs([
      'Options follow -o and are separated by commas; \\, is a comma inside a value, and empty options are passed over.',
    ]),
    ...OPTION_GROUPS.flatMap(([group, title]) => [
      `.SS ${roff(title)}`,
      terms(OPTIONS.filter((o) => o.group === group).map((o) => [optionForm(o), o.help])),
    ]),
    '.SS Accepted and without effect',
    roff(ignored.join(', ')),
  ].join('\n');
}

function overlayfsPage(version: string): string {
  return [
    head('varve-overlayfs', 1, version),
    named('varve-overlayfs', 'the command line of fuse-overlayfs, served by varve'),
    '.SH SYNOPSIS\n.B varve\\-overlayfs\n[\\-f] [\\-d] \\-o OPTIONS MOUNTPOINT',
    '.SH DESCRIPTION',
    paragraphs([
      'Takes the options of fuse-overlayfs(1) and of overlayfs, mounts, and returns when the mount answers. Exit codes are 0 and 1. Files named .wh.NAME are whiteouts, as there (whiteouts=aufs). The options are those of varve-mount(1).',
      'With podman: set mount_program = "/usr/local/bin/varve-overlayfs" under [storage.options.overlay] in storage.conf.',
    ]),
    '.SH FLAGS',
    terms([
      ['-o OPTIONS', 'Mount options, separated by commas.'],
      ['-f', 'Stay until the mount is gone.'],
      ['-d, --debug', 'As -f, and print every request.'],
      [
        '-V, --version',
        "Print the version of fuse-overlayfs that this is compatible with, and varve's own.",
      ],
    ]),
    seeAlso(['varve', 'varve-mount']),
    '',
  ].join('\n');
}

function helperPage(version: string): string {
  return [
    head('mount.fuse.varve', 8, version),
    named('mount.fuse.varve', 'mount a stack of layers from mount(8) or fstab(5)'),
    '.SH SYNOPSIS\n.B mount \\-t fuse.varve\n.I SOURCE MOUNTPOINT\n[\\-o OPTIONS]',
    '.SH DESCRIPTION',
    paragraphs([
      'Run by mount(8). SOURCE is what the mount table shows, unless fsname= is given. OPTIONS are those of varve-mount(1); options of fstab(5) such as noauto, user, _netdev and x-* are passed over. Silent on success; exit codes are those of mount(8).',
    ]),
    '.SH EXAMPLES\n.PP\n.B mount \\-t fuse.varve varve /mnt \\-o lowerdir=/a,upperdir=/u,workdir=/w',
    seeAlso(['varve', 'varve-mount']),
    '',
  ].join('\n');
}

function exitStatus(): string {
  return `.SH EXIT STATUS\n${terms(EXIT_MEANING.map(([code, text]) => [String(code), text]))}`;
}

function seeAlso(names: readonly string[]): string {
  return `.SH SEE ALSO\n${names.map((name) => `.BR ${roff(name)} (1)`).join(',\n')}`;
}
