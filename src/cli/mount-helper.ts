// mount.fuse.varve: what mount(8) runs for `mount -t fuse.varve SOURCE MOUNTPOINT -o OPTIONS` and for fstab lines.
// Run by main.ts for bin/mount.fuse.varve. Silent on success; exit codes are those of mount(8).
// Follows mount(8), EXTERNAL HELPERS: SOURCE MOUNTPOINT [-sfnv] [-N namespace] [-o options] [-t type].

import { spawnSync } from 'node:child_process';
import { MountError } from '../stack/errors.js';
import { type FlagRecord, parseArguments } from './args.js';
import { lineOf } from './exit-codes.js';

/** Exit codes of mount(8). */
const EXIT = { ok: 0, usage: 1, mount: 32 } as const;

const FLAGS: readonly FlagRecord[] = [
  { name: 'options', short: 'o', value: 'OPTIONS', many: true, help: 'Mount options.' },
  { name: 'sloppy', short: 's', help: 'Accepted and without effect.' },
  { name: 'fake', short: 'f', help: 'Check everything, mount nothing.' },
  { name: 'no-mtab', short: 'n', help: 'Accepted and without effect.' },
  { name: 'verbose', short: 'v', help: 'Say what is done.' },
  { name: 'read-only', short: 'r', help: 'As -o ro.' },
  { name: 'read-write', short: 'w', help: 'As -o rw.' },
  { name: 'types', short: 't', value: 'TYPE', help: 'fuse.SUBTYPE: the subtype to show.' },
  { name: 'namespace', short: 'N', value: 'NAMESPACE', help: 'Accepted; mount(8) has entered it.' },
];

export async function mountHelper(argv: readonly string[]): Promise<number> {
  try {
    const given = parseArguments(argv, FLAGS);
    const [source, mountpoint] = given.operands;
    if (source === undefined || mountpoint === undefined) {
      throw new MountError('option', 'usage: mount.fuse.varve SOURCE MOUNTPOINT [-o OPTIONS]');
    }
    const { parseOptions } = await import('../stack/options.js');
    const texts = [...given.values('options')];
    if (given.has('read-only')) texts.push('ro');
    if (texts.some((text) => /(^|,)remount(,|$)/.test(text))) return remount(texts, mountpoint);
    const subtype = given.value('types')?.replace(/^fuse\.?/, '');
    const options = parseOptions(texts, { defaults: defaults(source, subtype), fstab: true });
    if (given.has('fake')) {
      const { checkLayers } = await import('../stack/check.js');
      checkLayers(options, mountpoint, false);
      return EXIT.ok;
    }
    const { mountStack } = await import('../stack/mount.js');
    const { plan, served } = await mountStack(options, mountpoint);
    served?.supervisor.close();
    if (given.has('verbose'))
      process.stdout.write(`${mountpoint}: backend ${plan.backend}: ${plan.reason}\n`);
    return EXIT.ok;
  } catch (error) {
    process.stderr.write(`mount.fuse.varve: ${lineOf(error)}\n`);
    return error instanceof MountError && error.kind === 'option' ? EXIT.usage : EXIT.mount;
  }
}

/** A change of flags (`-o remount,ro`) is the kernel's work: mount(8) does it when told to call no helper. */
function remount(texts: readonly string[], mountpoint: string): number {
  const argv = ['-i', '-o', texts.join(','), mountpoint];
  return spawnSync('mount', argv, { stdio: 'inherit' }).status ?? EXIT.mount;
}

/** The first operand is what the mount table shows, unless fsname= says otherwise. */
function defaults(source: string, subtype: string | undefined): string {
  const escaped = source.replace(/[\\,]/g, '\\$&');
  const parts = [`fsname=${escaped === '' ? 'varve' : escaped}`];
  if (subtype !== undefined && subtype !== '') parts.push(`subtype=${subtype}`);
  // Whoever may write fstab speaks for everybody; the type was asked for, so FUSE it is. mount(8) names
  // nosuid and nodev but leaves out suid and dev, its defaults: as for mount.fuse3, unnamed means yes.
  if (process.geteuid?.() === 0) parts.push('allow_other,suid,dev');
  parts.push('backend=fuse');
  return parts.join(',');
}
