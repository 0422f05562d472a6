// The commands about what Wine prefixes are made of: `varve wine create`, `base`, `layer`, `commit`, `ls` and so on.
// Part of commands.ts; command-record.ts says what the fields mean. Running is in wine-run-commands.ts.
// Holds text only.

import type { FlagRecord } from './args.js';
import type { CommandRecord } from './command-record.js';

const JSON_FLAG: FlagRecord = { name: 'json', help: 'Print JSON for programs instead of text.' };
const QUIET_FLAG: FlagRecord = { name: 'quiet', short: 'q', help: 'Say nothing on success.' };
const WINE_FLAG: FlagRecord = {
  name: 'wine',
  value: 'BUILD',
  help: 'Which Wine: a wine binary, the folder of a build, or a Proton folder (default: wine of the PATH).',
};
const LAYER_FLAG: FlagRecord = {
  name: 'layer',
  value: 'LAYER',
  many: true,
  help: 'A layer over the base, by name, or a drive_c folder or an image by its path; the first is the topmost.',
};
const YES_FLAG: FlagRecord = { name: 'yes', short: 'y', help: 'Do not ask.' };
const FORCE_FLAG: FlagRecord = {
  name: 'force',
  short: 'f',
  help: 'Even if something stands on it, which will then not start any more.',
};
const NOISE_FLAG: FlagRecord = {
  name: 'keep-noise',
  help: 'Also keep what every session writes: caches, hardware lists, temporary files.',
};

export const WINE_LIBRARY_COMMANDS: readonly CommandRecord[] = [
  {
    name: 'wine create',
    summary: 'make a Wine prefix that stands on a base and layers',
    operands: 'NAME|DIR',
    count: [1, 1],
    description: [
      'Makes a prefix: its own files are an empty folder over the layers and the base, its registry is theirs put together. It takes milliseconds and some two megabytes. NAME is kept in the library ($VARVE_WINE_DIR, else ~/.local/share/varve/wine); with a slash in it, it is the path of a folder.',
      'Without --base the base `default` is meant, which is made first where there is none. NAME@N names one version of a base; the prefix then stays with that version, where others follow when the base is updated.',
      'Nothing that is done in a prefix reaches its base or its layers.',
    ],
    flags: [
      { name: 'base', value: 'BASE', help: 'The base: NAME or NAME@N (default: default).' },
      LAYER_FLAG,
      WINE_FLAG,
      {
        name: 'isolate',
        help: 'Keep it apart from the home folder: Desktop, Documents and so on are folders of the prefix, and no menu entries are made.',
      },
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [
      ['varve wine create games', 'a prefix on the base `default`'],
      ['varve wine create work --layer office --layer fonts', 'with two layers, office over fonts'],
      ['varve wine run work winecfg', 'use it'],
    ],
    completes: 'directory',
  },
  {
    name: 'wine base add',
    summary: 'make a base: a pristine prefix that others stand on',
    operands: 'NAME',
    count: [1, 1],
    description: [
      'Makes a prefix by `wineboot -i` and keeps it as version 1 of the base NAME, with a digest of all that is in it. It is never written again: `varve wine update NAME` makes a further version.',
      'With --from it is a copy of a prefix that is there (symlinks of its registry files are followed, a layered prefix is taken as it shows itself), of an archive of one, or an image: an .erofs file as `varve wine export` writes it, or a composefs image, named STORE#NAME, or by its path where IMAGE.objects leads to its objects. An image stays one file.',
    ],
    flags: [
      { name: 'from', value: 'DIR|IMAGE', help: 'Copy this prefix, archive or image.' },
      { name: 'link', help: 'Leave the image where it is, and use it in place.' },
      WINE_FLAG,
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [
      ['varve wine base add default', 'what `wine create` stands on'],
      ['varve wine base add proton --wine ~/Proton-8.0', 'made by another Wine'],
      ['varve wine base add mine --from ~/.wine', 'a copy of what is there'],
    ],
    completes: 'nothing',
  },
  {
    name: 'wine base ls',
    summary: 'list the bases and their versions',
    operands: '',
    count: [0, 0],
    description: [
      'One line a version: what made it, when, and how many prefixes stand on it. With --check every file is read and compared with the digest that was taken when it was made: exit code 3 where one differs.',
    ],
    flags: [{ name: 'check', help: 'Compare with the digests.' }, QUIET_FLAG, JSON_FLAG],
    examples: [['varve wine base ls --check', 'nobody has written to a base']],
    completes: 'nothing',
  },
  {
    name: 'wine base rm',
    summary: 'remove a base, or one of its versions',
    operands: 'NAME|NAME@N...',
    count: [1, Number.POSITIVE_INFINITY],
    description: [
      'NAME removes all versions, NAME@N one that is not the current one. Refused while a prefix stands on it or a layer was recorded on it.',
    ],
    flags: [FORCE_FLAG, QUIET_FLAG, JSON_FLAG],
    examples: [['varve wine base rm default@1', 'when no prefix is left on it']],
    completes: 'nothing',
  },
  {
    name: 'wine layer add',
    summary: 'record what an installer changes as a layer',
    operands: 'NAME -- SETUP [ARG...]',
    count: [2, Number.POSITIVE_INFINITY],
    description: [
      'Runs SETUP in a temporary prefix and keeps what it has changed, files and registry, as the layer NAME. It can then be put into any prefix, and taken out again. SETUP is an .exe, an .msi (given to `msiexec /i`), a .bat or .cmd, a .reg file, or a program that Wine finds; what stands behind it goes to it, so that `/S` or `/qn` make it silent.',
      'Files that equal what lies below are left out, and so is what every session writes (see --keep-noise). Where SETUP fails nothing is kept, and its exit code is 1; --keep-failed keeps it nevertheless.',
      'It is recorded over a base, with --layer over further layers, or with --prefix over all that a prefix shows. Programs that are installed on top of others (a patch, a plug-in) are recorded over these.',
    ],
    flags: [
      { name: 'base', value: 'BASE', help: 'Record over this base (default: default).' },
      LAYER_FLAG,
      { name: 'prefix', value: 'PREFIX', help: 'Record over what this prefix shows.' },
      { name: 'put', help: 'With --prefix: put the layer into it afterwards.' },
      WINE_FLAG,
      NOISE_FLAG,
      { name: 'keep-failed', help: 'Keep the layer even if SETUP fails.' },
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [
      ['varve wine layer add npp -- npp-installer.exe /S', 'an installer made by NSIS'],
      ['varve wine layer add app -- app.msi /qn', 'the same as msiexec /i app.msi /qn'],
      ['varve wine layer add plug --layer app -- plug.exe /S', 'something that needs app'],
    ],
    completes: 'path',
  },
  {
    name: 'wine layer put',
    summary: 'put a layer into a prefix',
    operands: 'LAYER PREFIX',
    count: [2, 2],
    description: [
      "LAYER becomes the topmost layer of PREFIX, below the prefix's own changes, which count where both have changed the same. What the prefix has just as LAYER has it (a file, a value of the registry) is the layer's from then on, and goes with it. The prefix must be down.",
    ],
    flags: [
      {
        name: 'below',
        value: 'OTHER',
        help: 'Put it right below this layer of the prefix instead.',
      },
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [['varve wine layer put npp work', '']],
    completes: 'path',
  },
  {
    name: 'wine layer take',
    summary: 'take a layer out of a prefix',
    operands: 'LAYER PREFIX',
    count: [2, 2],
    description: [
      'Only what the layer brought goes: its files, its keys and values. What the prefix itself has made or changed stays, also where it changed something of the layer. The layer stays in the library. The prefix must be down.',
    ],
    flags: [QUIET_FLAG, JSON_FLAG],
    examples: [['varve wine layer take npp work', '']],
    completes: 'path',
  },
  {
    name: 'wine layer ls',
    summary: 'list the layers',
    operands: '',
    count: [0, 0],
    description: ['One line a layer: what made it, when, and how many prefixes have it.'],
    flags: [QUIET_FLAG, JSON_FLAG],
    examples: [['varve wine layer ls', '']],
    completes: 'nothing',
  },
  {
    name: 'wine layer rm',
    summary: 'remove a layer from the library',
    operands: 'LAYER...',
    count: [1, Number.POSITIVE_INFINITY],
    description: ['Refused while a prefix has it.'],
    flags: [FORCE_FLAG, QUIET_FLAG, JSON_FLAG],
    examples: [['varve wine layer rm npp', '']],
    completes: 'nothing',
  },
  {
    name: 'wine commit',
    summary: 'make a layer of what a prefix has changed',
    operands: 'PREFIX LAYER',
    count: [2, 2],
    description: [
      "The prefix's own files and its changes of the registry become the layer LAYER, and the prefix goes on over it with nothing of its own: it shows the same as before. What every session writes stays with the prefix (see --keep-noise). The prefix must be down.",
      'A commit that is cut off leaves a prefix that shows the same; the same command completes it.',
    ],
    flags: [NOISE_FLAG, QUIET_FLAG, JSON_FLAG],
    examples: [['varve wine commit work settings', 'settings can be put into other prefixes']],
    completes: 'nothing',
  },
  {
    name: 'wine ls',
    summary: 'list prefixes, bases and layers, and what stands on what',
    operands: '',
    count: [0, 0],
    description: [
      'Prefixes that were made as folders elsewhere are listed as long as they are there.',
    ],
    flags: [{ name: 'quiet', short: 'q', help: 'The names of the prefixes alone.' }, JSON_FLAG],
    examples: [['varve wine ls', '']],
    completes: 'nothing',
  },
  {
    name: 'wine rm',
    summary: 'remove prefixes with all that is in them',
    operands: 'PREFIX...',
    count: [1, Number.POSITIVE_INFINITY],
    description: [
      "Removes the prefix's own files, documents in it included; base and layers stay. Asks first, unless --yes is given. Refused while the prefix is up.",
    ],
    flags: [YES_FLAG, QUIET_FLAG, JSON_FLAG],
    examples: [['varve wine rm games', '']],
    completes: 'directory',
  },
  {
    name: 'wine du',
    summary: 'show what bases, layers and prefixes take on disk',
    operands: '',
    count: [0, 0],
    description: [
      'For each prefix what it has of its own and what it shares; for each base and layer its size and how many prefixes use it; and what the prefixes would take if each had everything for itself.',
    ],
    flags: [{ name: 'bytes', short: 'b', help: 'Sizes as bytes.' }, JSON_FLAG],
    examples: [['varve wine du', '']],
    completes: 'nothing',
  },
  {
    name: 'wine export',
    summary: 'write a base, a layer or a prefix to one file',
    operands: 'BASE|LAYER|PREFIX FILE',
    count: [2, 2],
    description: [
      'FILE.erofs becomes an image that can be used in place; FILE.tar an archive, deletions in the form of OCI layers; FILE.reg what is changed of the registry, for regedit. The drive_c is the root of image and archive, registry and description lie in its `.wine` directory. The same content gives the same bytes.',
      'A prefix is written whole, with what it stands on, and comes back as a base; with --own only what it has changed itself is written, as a layer.',
    ],
    flags: [
      { name: 'base', help: 'A base is meant, where a name is several things.' },
      { name: 'layer', help: 'A layer is meant.' },
      { name: 'prefix', help: 'A prefix is meant.' },
      { name: 'own', help: 'Of a prefix only its own changes.' },
      {
        name: 'compress',
        short: 'z',
        value: 'ALGORITHM[,LEVEL]',
        help: 'Compress the files of an image: lz4, lz4hc, zstd, deflate, lzma (default none).',
      },
      { name: 'force', short: 'f', help: 'Replace FILE.' },
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [
      ['varve wine export default base.erofs -z zstd', 'a base as one file'],
      ['varve wine export npp npp.tar', 'a layer for another machine'],
      ['varve wine export npp npp.reg', 'its keys, for any regedit'],
    ],
    completes: 'path',
  },
  {
    name: 'wine import',
    summary: 'make a base or a layer of a file',
    operands: 'FILE NAME',
    count: [2, 2],
    description: [
      'FILE is what `varve wine export` writes (an image, an archive), an archive of a plain prefix (with drive_c and the .reg files at its top or in its only folder), or a .reg file of regedit. Whether it is a base or a layer its content tells, unless a flag does: a base has a whole registry, a layer changes.',
      'An image is copied as it is, or with --link used where it is; where its files belong to another user and you are not root, you get a copy in which they are yours.',
    ],
    flags: [
      { name: 'base', help: 'Make a base.' },
      { name: 'layer', help: 'Make a layer.' },
      { name: 'link', help: 'Leave an image where it is, and use it in place.' },
      { name: 'unpack', help: 'Make a folder of the image of a layer.' },
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [
      ['varve wine import base.erofs default --link', 'one file is the base of all prefixes'],
      ['varve wine import tweaks.reg tweaks', 'registry settings as a layer'],
    ],
    completes: 'path',
  },
];
