// `varve setup`: links and files through which the system finds varve, installed, printed or removed.
// Run by main.ts. A plan is made first and is what --print shows; nothing foreign is ever replaced.
// Places follow hier(7), mount(8) (/sbin/mount.TYPE.SUBTYPE), and the completion folders of bash, zsh and fish.

import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MountError, reasonOf } from '../stack/errors.js';
import { findWine } from '../wine/prefix/build.js';
import type { Arguments } from './args.js';
import { bootHooks } from './boot-setup.js';
import { completionScript } from './completion.js';
import { EXIT } from './exit-codes.js';
import { manPages } from './man.js';
import { print, table } from './output.js';
import type { SetupItem } from './setup-item.js';
import { version } from './version.js';
import { wineShims } from './wine-shims.js';

/** First line of installed files, by which they are known again. */
const MARK = 'installed by `varve setup`';

/** What links of ours lead to. */
const OURS =
  /\/(varve(\.js)?|varve-overlayfs|mount\.fuse\.varve|wine-shim|share\/boot\/[a-z0-9/-]*(?:95-varve-boot\.install|post-update|postrm|module-setup\.sh))$/;

type Outcome = 'installed' | 'unchanged' | 'removed' | 'absent' | 'foreign' | 'planned';

export function run(given: Arguments): number {
  const root = process.geteuid?.() === 0;
  const prefix = resolve(
    given.value('prefix') ?? (root ? '/usr/local' : join(homedir(), '.local')),
  );
  const items = setupItems({
    prefix,
    system: given.value('prefix') === undefined && root,
    asFuseOverlayfs: given.has('fuse-overlayfs'),
    boot: given.has('boot'),
    shims: given.has('wine') ? { build: buildOf(given.value('wine')) } : undefined,
  });
  const outcomes = items.map((item) => ({ item, outcome: perform(item, given) }));
  print(
    given,
    outcomes.map(({ item, outcome }) => ({ path: item.path, link: item.link, outcome })),
    () =>
      table(
        outcomes.map(({ item, outcome }) => [
          outcome,
          item.link === undefined ? item.path : `${item.path} -> ${item.link}`,
        ]),
      ),
  );
  const foreign = outcomes.filter(({ outcome }) => outcome === 'foreign');
  if (foreign.length === 0) return EXIT.ok;
  const names = foreign.map(({ item }) => item.path).join(', ');
  process.stderr.write(
    `varve: setup: left alone, because they are not varve's: ${names}: remove them, or take another --prefix\n`,
  );
  return EXIT.busy;
}

/** A build that is named once counts for every later call. @throws MountError when there is none. */
function buildOf(named: string | undefined): string | undefined {
  if (named === undefined || named === '') return undefined;
  findWine(named, process.env);
  return resolve(named);
}

/** Everything that setup installs. @param where.system mount(8) looks for helpers in /sbin only. */
export function setupItems(where: {
  readonly prefix: string;
  readonly system: boolean;
  readonly asFuseOverlayfs: boolean;
  /** What runs when a kernel is installed or removed. */
  readonly boot?: boolean;
  /** Shims of Wine's programs, which run that of PATH or a build. */
  readonly shims?: { readonly build: string | undefined };
}): SetupItem[] {
  const { prefix } = where;
  const bin = fileURLToPath(new URL('../../../bin/', import.meta.url));
  const share = join(prefix, 'share');
  const items: SetupItem[] = [
    { path: join(prefix, 'bin/varve'), link: launcher() },
    { path: join(prefix, 'bin/varve-overlayfs'), link: join(bin, 'varve-overlayfs') },
    {
      path: where.system ? '/sbin/mount.fuse.varve' : join(prefix, 'sbin/mount.fuse.varve'),
      link: join(bin, 'mount.fuse.varve'),
    },
    {
      path: join(share, 'bash-completion/completions/varve'),
      text: marked('#', completionScript('bash')),
    },
    { path: join(share, 'zsh/site-functions/_varve'), text: zshMarked(completionScript('zsh')) },
    {
      path: join(share, 'fish/vendor_completions.d/varve.fish'),
      text: marked('#', completionScript('fish')),
    },
  ];
  if (where.asFuseOverlayfs) {
    items.push({ path: join(prefix, 'bin/fuse-overlayfs'), link: join(bin, 'varve-overlayfs') });
  }
  if (where.shims !== undefined) {
    items.push(...wineShims(join(prefix, 'bin'), join(bin, 'wine-shim'), where.shims.build));
  }
  if (where.boot === true) items.push(...bootHooks(where.system ? '' : prefix));
  for (const page of manPages(version())) {
    const folder = `man/man${page.file.at(-1)}`;
    items.push({ path: join(share, folder, page.file), text: marked('.\\"', page.text) });
  }
  return items;
}

/** ./varve of a clone builds first; an installed package has only bin/varve. */
export function launcher(): string {
  const clone = fileURLToPath(new URL('../../../varve', import.meta.url));
  return lstatSync(clone, { throwIfNoEntry: false }) === undefined
    ? fileURLToPath(new URL('../../../bin/varve', import.meta.url))
    : clone;
}

const marked = (comment: string, text: string): string => `${comment} ${MARK}\n${text}`;

/** zsh wants #compdef in the first line. */
function zshMarked(text: string): string {
  const end = text.indexOf('\n') + 1;
  return `${text.slice(0, end)}# ${MARK}\n${text.slice(end)}`;
}

function perform(item: SetupItem, given: Arguments): Outcome {
  const there = examine(item);
  try {
    if (given.has('uninstall')) {
      if (there === 'absent' || there === 'foreign') return 'absent';
      if (given.has('print')) return 'planned';
      rmSync(item.path);
      return 'removed';
    }
    if (there === 'foreign') return 'foreign';
    if (there === 'same') return 'unchanged';
    if (given.has('print')) return 'planned';
    mkdirSync(dirname(item.path), { recursive: true });
    rmSync(item.path, { force: true });
    if (item.link !== undefined) symlinkSync(item.link, item.path);
    else writeFileSync(item.path, item.text ?? '');
    if (item.mode !== undefined) chmodSync(item.path, item.mode);
    return 'installed';
  } catch (error) {
    throw new MountError(
      'permission',
      `setup: ${item.path}: ${reasonOf(error)}: run as root, or give --prefix`,
    );
  }
}

/** What is there already: nothing, the same, an older one of ours, or something else. */
function examine(item: SetupItem): 'absent' | 'same' | 'ours' | 'foreign' {
  const stat = lstatSync(item.path, { throwIfNoEntry: false });
  if (stat === undefined) return 'absent';
  if (stat.isSymbolicLink()) {
    const target = readlinkSync(item.path);
    if (target === item.link) return 'same';
    return OURS.test(target) ? 'ours' : 'foreign';
  }
  if (!stat.isFile()) return 'foreign';
  const text = readFileSync(item.path, 'utf8');
  if (text === item.text) return 'same';
  return text.slice(0, 200).includes(MARK) ? 'ours' : 'foreign';
}
