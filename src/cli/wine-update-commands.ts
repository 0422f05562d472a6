// `varve wine update` as data: its flags, description and examples.
// Part of the table in commands.ts.
// Holds text only; wine-update.ts runs it.

import type { CommandRecord } from './command-record.js';

export const WINE_UPDATE_COMMAND: CommandRecord = {
  name: 'wine update',
  summary: 'bring a base, or a prefix, to another version',
  operands: 'BASE|PREFIX [CONFLICT...]',
  count: [1, Number.POSITIVE_INFINITY],
  description: [
    'Of a base: makes its next version. A copy of the current version is updated by the Wine that is asked for (wineboot -u), once, and becomes BASE@N+1 and the current one. The versions before stay. Where the current version was made by this very Wine nothing is done.',
    "Every prefix that follows the base moves there when it starts next; with --prefixes at once. A prefix is named by itself to move it alone. What it has changed itself is held against what has changed between the two versions: files object by object and aspect by aspect, the registry value by value. What one side alone has changed is that side's, and nothing is said.",
    'What both have changed is a conflict. Ours, the side of the prefix or of its layer, stays in place; theirs and what was there before are kept in the .varve/conflicts folder of the prefix. --conflicts lists them, --resolve decides them: all, or those that are named by number, by path (drive_c/...) or by key (HKCU\\...). While some are open the exit code is 8.',
    'Back: --to BASE@N moves a prefix to another version and keeps it there; --follow lets it follow again. --current N makes an older version the current one for all that follow. What is killed leaves a prefix or a base as it was, or as it was to become. More in docs/wine-updates.md.',
  ],
  flags: [
    {
      name: 'wine',
      value: 'BUILD',
      help: 'Of a base, which Wine updates it: a wine binary, the folder of a build, or a Proton folder (default: wine of the PATH).',
    },
    {
      name: 'from',
      value: 'SOURCE',
      help: 'Of a base: the next version is a copy of this: a prefix folder, an EROFS image, STORE#NAME, or an archive.',
    },
    { name: 'prefixes', help: 'Of a base: also move the prefixes that follow it, now.' },
    { name: 'current', value: 'N', help: 'Of a base: name this version the current one.' },
    { name: 'force', short: 'f', help: 'Of a base: even where it was made by this very Wine.' },
    {
      name: 'to',
      value: 'BASE[@N]',
      help: 'Of a prefix: move it to this version, and keep it there. BASE alone: to the current one, and follow.',
    },
    { name: 'follow', help: 'Of a prefix: follow the base from now on.' },
    { name: 'conflicts', help: 'Of a prefix: list what is to be decided, and do nothing.' },
    {
      name: 'resolve',
      value: 'ours|theirs',
      help: 'Of a prefix: decide the conflicts that are named, or all.',
    },
    { name: 'base', help: 'The name is that of a base, though there is a prefix of that name.' },
    { name: 'prefix', help: 'The name is that of a prefix, though there is a base of that name.' },
    { name: 'dry-run', short: 'n', help: 'Write nothing; print what would be done.' },
    { name: 'verbose', short: 'v', help: 'Print what became of every changed file of a prefix.' },
    {
      name: 'quiet',
      short: 'q',
      help: 'Print nothing: the exit code says whether there are conflicts.',
    },
    { name: 'json', help: 'Print JSON for programs instead of text.' },
  ],
  examples: [
    ['varve wine update default --wine /opt/wine-9.0', 'a new version of the base, by that Wine'],
    ['varve wine update default --prefixes', 'and all prefixes on it, at once'],
    ['varve wine update games -n', 'what would become of one prefix'],
    ['varve wine update games --conflicts', 'what is to be decided'],
    [
      'varve wine update games --resolve theirs 2 HKCU\\\\Software\\\\Wine',
      'decide some for the base',
    ],
    ['varve wine update games --to default@1', 'back to the version before'],
  ],
  completes: 'nothing',
};
