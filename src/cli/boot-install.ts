// `varve boot install`: a build, or one that is made of a complete initramfs now, into the boot filesystem.
// Run by main.ts; boot/install/ does it.
// Manual: boot-install-commands.ts.

import { join, resolve } from 'node:path';
import { checkBootfs } from '../boot/config.js';
import { type InstallResult, installBuild } from '../boot/install/install.js';
import { filesOf } from '../boot/install/record.js';
import { type BootSettings, readSettings, SETTINGS_FILE } from '../boot/install/settings.js';
import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { buildError } from './image-build.js';
import { print, remark, table } from './output.js';

export async function run(given: Arguments): Promise<number> {
  const { root, boot, settings } = systemOf(given);
  const bootfs = given.value('bootfs');
  if (bootfs !== undefined && bootfs !== 'auto') checkBootfs(bootfs);
  const initramfs = given.value('initramfs');
  const [outdir = '.'] = given.operands;
  if (initramfs !== undefined && given.operands.length > 0) {
    throw new MountError('option', `--initramfs: is built now: leave ${outdir} out`);
  }
  const as = given.value('as');
  const release = given.value('kver');
  const bootfstype = given.value('bootfstype');
  const common = {
    boot,
    root,
    settings,
    keepFull: settings.keepFull && !given.has('no-keep'),
    force: given.has('force'),
    keepOld: given.has('keep-old'),
    ...(as !== undefined && { as: belowBoot(as, boot) }),
    ...(bootfs !== undefined && { bootfs }),
    ...(bootfstype !== undefined && { bootfstype }),
  };
  if (initramfs === undefined) {
    const result = await installBuild({
      ...common,
      outdir,
      ...(release !== undefined && { release }),
    });
    tell(given, result);
    return EXIT.ok;
  }
  if (release === undefined) {
    throw new MountError('option', '--initramfs: goes with --kver, the release of its kernel');
  }
  if (given.has('update') && !settings.update) {
    remark(given, `${SETTINGS_FILE} says update no: ${initramfs} stays as it is`);
    return EXIT.ok;
  }
  let result: InstallResult;
  try {
    const { installInitramfs } = await import('../boot/install/from-initramfs.js');
    result = await installInitramfs({ ...common, release, initramfs });
  } catch (error) {
    throw buildError(error, initramfs);
  }
  tell(given, result);
  return EXIT.ok;
}

/** A whole path below the boot folder is what hooks are given. */
function belowBoot(name: string, boot: string): string {
  return name.startsWith(`${boot}/`) ? name.slice(boot.length + 1) : name;
}

export function systemOf(given: Arguments): {
  readonly root: string;
  readonly boot: string;
  readonly settings: BootSettings;
} {
  const root = resolve(given.value('root') ?? '/');
  const settings = readSettings(root);
  const named = given.value('boot');
  const boot = named === undefined ? join(root, settings.boot ?? 'boot') : resolve(named);
  return { root, boot, settings };
}

function tell(given: Arguments, result: InstallResult): void {
  const { release, folder, installed, written, remarks } = result;
  for (const text of remarks) remark(given, text);
  if (given.has('quiet') && !given.has('json')) return;
  print(given, { version: 1, release, folder, written, ...installed, remarks }, () => {
    const roles = new Map([
      [installed.initramfs, 'initramfs'],
      [installed.entry, 'entry'],
      [installed.full, 'kept'],
    ]);
    return [
      table(
        filesOf(installed).map((file) => [
          roles.get(file) ?? (installed.former?.includes(file) ? 'former' : 'image'),
          join(folder, file.path),
          bytesText(file.size),
        ]),
      ),
      `${release}: ${written === 0 ? 'was installed already' : `${bytesText(written)} written`}`,
    ].join('\n');
  });
}
