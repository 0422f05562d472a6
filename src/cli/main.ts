// The entry of every command line: `varve COMMAND`, and by their hidden names the two that replace other programs.
// Run by the launchers (bin/launch.sh) and bin/varve.js; loads the one command that was asked for and nothing else.
// Whatever fails becomes one line on stderr and an exit code of exit-codes.ts.

import { MountError } from '../stack/errors.js';
import { type Arguments, parseArguments } from './args.js';
import { commandNamed, FIRST_WORDS, GROUPS, groupWords, HELP } from './commands.js';
import { EXIT, exitCodeOf, lineOf } from './exit-codes.js';

/** What a command's file exports. @returns the exit code. */
interface CommandModule {
  run(given: Arguments): Promise<number> | number;
}

const MODULES: Record<string, () => Promise<CommandModule>> = {
  mount: () => import('./mount.js'),
  run: () => import('./run.js'),
  try: () => import('./try.js'),
  pull: () => import('./pull.js'),
  push: () => import('./push.js'),
  images: () => import('./images.js'),
  record: () => import('./record.js'),
  top: () => import('./top.js'),
  evict: () => import('./evict.js'),
  umount: () => import('./umount.js'),
  status: () => import('./status.js'),
  reload: () => import('./reload.js'),
  diff: () => import('./diff.js'),
  discard: () => import('./discard.js'),
  commit: () => import('./commit.js'),
  detach: () => import('./detach.js'),
  why: () => import('./why.js'),
  check: () => import('./check.js'),
  apply: () => import('./apply.js'),
  flatten: () => import('./flatten.js'),
  split: () => import('./split.js'),
  rebase: () => import('./rebase.js'),
  up: () => import('./up.js'),
  down: () => import('./down.js'),
  'stack ls': () => import('./stack-ls.js'),
  'stack show': () => import('./stack-show.js'),
  'stack add': () => import('./stack-add.js'),
  'stack set': () => import('./stack-set.js'),
  'stack rm': () => import('./stack-rm.js'),
  'stack rename': () => import('./stack-rename.js'),
  'stack check': () => import('./stack-check.js'),
  'stack schema': () => import('./stack-schema.js'),
  'stack unit': () => import('./stack-unit.js'),
  'stack fstab': () => import('./stack-fstab.js'),
  'image build': () => import('./image-build.js'),
  'image info': () => import('./image-info.js'),
  'image ls': () => import('./image-ls.js'),
  'image cat': () => import('./image-cat.js'),
  'image dump': () => import('./image-dump.js'),
  'image extract': () => import('./image-extract.js'),
  'image check': () => import('./image-check.js'),
  'image mount': () => import('./image-mount.js'),
  'store init': () => import('./store-init.js'),
  'store add': () => import('./store-add.js'),
  'store ls': () => import('./store-ls.js'),
  'store show': () => import('./store-show.js'),
  'store rm': () => import('./store-rm.js'),
  'store gc': () => import('./store-gc.js'),
  'store check': () => import('./store-check.js'),
  'store du': () => import('./store-du.js'),
  'wine create': () => import('./wine-create.js'),
  'wine base add': () => import('./wine-base-add.js'),
  'wine base ls': () => import('./wine-base-ls.js'),
  'wine base rm': () => import('./wine-base-rm.js'),
  'wine layer add': () => import('./wine-layer-add.js'),
  'wine layer put': () => import('./wine-layer-put.js'),
  'wine layer take': () => import('./wine-layer-take.js'),
  'wine layer ls': () => import('./wine-layer-ls.js'),
  'wine layer rm': () => import('./wine-layer-rm.js'),
  'wine commit': () => import('./wine-commit.js'),
  'wine ls': () => import('./wine-ls.js'),
  'wine rm': () => import('./wine-rm.js'),
  'wine du': () => import('./wine-du.js'),
  'wine export': () => import('./wine-export.js'),
  'wine import': () => import('./wine-import.js'),
  'wine diff': () => import('./wine-diff.js'),
  wine: () => import('./wine-program.js'),
  'wine run': () => import('./wine-run.js'),
  'wine stop': () => import('./wine-stop.js'),
  'wine update': () => import('./wine-update.js'),
  'wine doctor': () => import('./wine-doctor.js'),
  'boot build': () => import('./boot-build.js'),
  'boot sign': () => import('./boot-sign.js'),
  'boot uki': () => import('./boot-uki.js'),
  'boot verify': () => import('./boot-verify.js'),
  'boot install': () => import('./boot-install.js'),
  'boot remove': () => import('./boot-remove.js'),
  'boot inspect': () => import('./boot-inspect.js'),
  'boot diff': () => import('./boot-diff.js'),
  'boot bench': () => import('./boot-bench.js'),
  'layer-store': () => import('./layer-store.js'),
  demo: () => import('./demo.js'),
  doctor: () => import('./doctor.js'),
  setup: () => import('./setup.js'),
  completion: () => import('./completion.js'),
  help: () => import('./help.js'),
};

/** @param argv without node and script. @returns the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  const [first, ...rest] = argv;
  switch (first) {
    // bin/varve-overlayfs and bin/mount.fuse.varve call so.
    case 'fuse-overlayfs':
      return (await import('./overlayfs.js')).overlayfs(rest);
    case 'mount.fuse':
      return (await import('./mount-helper.js')).mountHelper(rest);
    // varve run, once it is in its namespace.
    case 'run-inside':
      return (await import('./run-inside.js')).runInside(rest);
    case 'image-inside':
      return (await import('./image-inside.js')).runImageInside(rest[0] ?? '');
    // The kernel's overlayfs of a plain user's Wine prefix, once it is in its namespace.
    case 'wine-holder':
      return (await import('../wine/prefix/namespace.js')).inside(rest);
    case '-V':
    case '--version': {
      const { version } = await import('./version.js');
      process.stdout.write(`varve ${version()}\n`);
      return EXIT.ok;
    }
    case undefined:
    case '-h':
    case '--help': {
      const { overview } = await import('./help.js');
      (first === undefined ? process.stderr : process.stdout).write(overview());
      return first === undefined ? EXIT.usage : EXIT.ok;
    }
    default:
      return runCommand(first, rest);
  }
}

async function runCommand(first: string, rest: readonly string[]): Promise<number> {
  // `varve wine base add`: a group within a group.
  const inner = `${first} ${rest[0]}`;
  if (GROUPS.includes(inner)) return runCommand(inner, rest.slice(1));
  let failure: number | undefined;
  try {
    const grouped = GROUPS.includes(first);
    const [second] = rest;
    if (grouped && (second === undefined || second === '--help' || second === '-h')) {
      const { groupOverview } = await import('./help.js');
      (second === undefined ? process.stderr : process.stdout).write(groupOverview(first));
      return second === undefined ? EXIT.usage : EXIT.ok;
    }
    // `varve wine winecfg`: a word that is no command of the group is a program.
    const alone =
      grouped && commandNamed(first) !== undefined && !groupWords(first).includes(second);
    const name = grouped && !alone ? `${first} ${second}` : first;
    const argv = grouped && !alone ? rest.slice(1) : rest;
    failure = commandNamed(name)?.failure;
    const command = commandNamed(name);
    const load = MODULES[name];
    if (command === undefined || load === undefined) {
      const names = (grouped ? groupWords(first) : FIRST_WORDS).join(', ');
      throw new MountError('option', `unknown command ${name}: one of ${names}`);
    }
    const given = parseArguments(argv, [...command.flags, HELP], command.verbatim);
    if (given.has('help')) {
      const { manual } = await import('./help.js');
      process.stdout.write(manual(command));
      return EXIT.ok;
    }
    const [least, most] = command.count;
    if (given.operands.length < least || given.operands.length > most) {
      const usage = `varve ${name} [flags] ${command.operands}`.trimEnd();
      const what = given.operands.length < least ? 'something is missing' : 'too many operands';
      throw new MountError('option', `${what}: write: ${usage}`);
    }
    const module = await load();
    return await module.run(given);
  } catch (error) {
    process.stderr.write(`varve: ${lineOf(error)}\n`);
    if (process.env['VARVE_DEBUG'] !== undefined) console.error(error);
    return failure ?? exitCodeOf(error);
  }
}

// Connections may be open still; output to files and pipes is synchronous on Linux.
process.exit(await main(process.argv.slice(2)));
