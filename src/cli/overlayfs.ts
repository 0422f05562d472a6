// The command line of fuse-overlayfs: `varve-overlayfs -o OPTIONS MOUNTPOINT`, for programs that call it by that name.
// Run by main.ts for bin/varve-overlayfs; podman's mount_program. Returns once the mount answers; exit codes 0 and 1.
// Follows fuse-overlayfs(1) 1.10 and fuse_parse_cmdline() of libfuse 3.

import { type FlagRecord, parseArguments } from './args.js';
import { lineOf } from './exit-codes.js';
import { version } from './version.js';

/** The version whose options and output are understood; tools compare it. */
const COMPATIBLE = '1.10';

const FLAGS: readonly FlagRecord[] = [
  { name: 'options', short: 'o', value: 'OPTIONS', many: true, help: 'Mount options.' },
  { name: 'foreground', short: 'f', help: 'Stay until the mount is gone.' },
  { name: 'debug', short: 'd', help: 'As -f, and print every request.' },
  { name: 'single', short: 's', help: 'Accepted and without effect.' },
  { name: 'help', short: 'h', help: 'Print this.' },
  { name: 'version', short: 'V', help: 'Print the version.' },
];

/** What fuse-overlayfs puts before the caller's options. */
function defaults(): string {
  return `${process.geteuid?.() === 0 ? 'allow_other,suid,' : ''}noatime,whiteouts=aufs,backend=fuse`;
}

export async function overlayfs(argv: readonly string[]): Promise<number> {
  try {
    const given = parseArguments(argv, FLAGS);
    if (given.has('version')) {
      process.stdout.write(await versionText());
      return 0;
    }
    if (given.has('help')) {
      process.stdout.write(
        `usage: varve-overlayfs [-f] [-d] -o lowerdir=A:B[,upperdir=U,workdir=W][,OPTION...] MOUNTPOINT\n` +
          'Understands the options of fuse-overlayfs and of overlayfs: see `varve help mount`.\n',
      );
      return 0;
    }
    return await mount(given);
  } catch (error) {
    process.stderr.write(`fuse-overlayfs: ${lineOf(error)}\n`);
    return 1;
  }
}

/** Programs look for the first line; the others are there because they are there in the original. */
async function versionText(): Promise<string> {
  const { FUSE_KERNEL_VERSION, FUSE_KERNEL_MINOR_VERSION } = await import('../fuse/abi.js');
  return [
    `fuse-overlayfs: version ${COMPATIBLE} (varve ${version()})`,
    'FUSE library version 3.14.0 (none is used)',
    `using FUSE kernel interface version ${FUSE_KERNEL_VERSION}.${FUSE_KERNEL_MINOR_VERSION}`,
    '',
  ].join('\n');
}

async function mount(given: ReturnType<typeof parseArguments>): Promise<number> {
  const { mountStack, throwRefusal } = await import('../stack/mount.js');
  const { parseOptions } = await import('../stack/options.js');
  const { MountError } = await import('../stack/errors.js');
  const mountpoint = given.operands.at(-1);
  if (mountpoint === undefined) throw new MountError('option', 'no mountpoint specified');

  // The options -f and -d may also stand among the others.
  const texts = given.values('options').map((text) => text.replace(/(^|,)debug(?=,|$)/g, '$1'));
  const debug =
    given.has('debug') || given.values('options').some((text) => /(^|,)debug(,|$)/.test(text));
  const { volatile, ...parsed } = parseOptions(texts, { defaults: defaults(), looseColons: true });
  // The kernel refuses an upper that was once mounted volatile; fuse-overlayfs leaves no such mark,
  // and podman mounts the same layer again and again with this option.
  const fsync = parsed.fsync && !volatile;
  const options = { ...parsed, volatile: false, fsync, trace: debug };
  if (debug || given.has('foreground')) (await import('./foreground.js')).holdSignals();
  const mounted = await mountStack(options, mountpoint, 'fuse');
  if (!debug && !given.has('foreground')) {
    mounted.served?.supervisor.close();
    return 0;
  }
  const { unmount } = await import('../stack/unmount.js');
  const { watchGone } = await import('./foreground.js');
  return watchGone({
    served: mounted.served,
    mountpoint: mounted.spec.mountpoint,
    unmount: (lazy) => unmount(mounted.spec.mountpoint, { lazy, force: false }),
    throwRefusal,
  });
}
