// `varve boot verify`: everything that a boot hangs on, compared: a build, a boot filesystem, a unified kernel image, a system.
// Called by cli/boot-verify.ts. What the mini-initramfs says counts; boot.json and the files beside it must agree with it.
// Follows: docs/boot-format.md, docs/boot-signing.md.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type BootManifest, MANIFEST_FILE, readManifest } from '../build/manifest.js';
import { type BootConfig, CONFIG_FILE, writeConfig } from '../config.js';
import { digestOfFile } from '../digest.js';
import { bootPlace } from '../install/places.js';
import { type BootRecord, FOLDER, filesOf, readRecords } from '../install/record.js';
import { type Check, Checks, differs } from './checks.js';
import { type Mini, openMini } from './mini.js';
import { checkImages, checkRootHashes, type Locate } from './verify-images.js';
import { checkUki } from './verify-uki.js';

export interface VerifyRequest {
  /** OUTDIR of a build. */
  readonly folder?: string;
  /** A boot filesystem. */
  readonly boot?: string;
  /** Root directory of a system, whose boot filesystem is `boot`, else below it. */
  readonly root?: string;
  readonly uki?: string;
  /** Of the unified kernel image: PEM, and the kernel that is to be in it. */
  readonly cert?: string;
  readonly kernel?: string;
}

export interface VerifyReport {
  readonly ok: boolean;
  readonly checks: readonly Check[];
}

/** An EFI variable as a file: 4 bytes of attributes, then the value. */
const SECURE_BOOT = 'sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c';

/** What is known of a mini-initramfs after its images were checked. */
interface Checked {
  readonly initramfs: string;
  readonly config: BootConfig;
  readonly hashes: readonly (string | undefined)[];
}

/** Checks everything that is named. @throws MountError only for what is not about the content: no folder, a missing program. */
export async function verifyBoot(request: VerifyRequest): Promise<VerifyReport> {
  const { folder, root, uki } = request;
  const boot = request.boot ?? (root === undefined ? undefined : join(root, 'boot'));
  const checks = new Checks();
  const scratch = mkdtempSync(join(tmpdir(), 'varve-verify-'));
  try {
    let built: Checked | undefined;
    if (folder !== undefined) built = await checkBuild(checks, folder, scratch);
    const installed = boot === undefined ? [] : await checkInstalled(checks, boot, scratch);
    if (uki !== undefined) {
      const { cert, kernel } = request;
      await checkUki(checks, {
        file: uki,
        ...(cert !== undefined && { cert }),
        ...(kernel !== undefined && { kernel }),
        ...(built && { initramfs: built.initramfs, hashes: built.hashes }),
        locate: boot === undefined ? () => undefined : inBoot(boot),
        scratch,
      });
    }
    if (root !== undefined) await checkRunning(checks, root, installed);
    return { ok: checks.ok, checks: checks.list };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** @returns undefined when its mini-initramfs cannot be read. */
async function checkBuild(
  checks: Checks,
  folder: string,
  scratch: string,
): Promise<Checked | undefined> {
  const manifest = readManifest(folder);
  const { initramfs, layers, embedded } = manifest;
  const sound = await checks.run(join(folder, MANIFEST_FILE), 'says the same everywhere', () =>
    soundManifest(manifest),
  );
  if (!sound) return undefined;
  const files = [initramfs, ...(embedded ? [] : layers)];
  for (const { file, size, sha256 } of files)
    await sameFile(checks, join(folder, file), size, sha256);
  const beside = join(folder, CONFIG_FILE);
  let text: string | undefined;
  await checks.run(beside, `as ${MANIFEST_FILE} says`, () => {
    text = readFileSync(beside, 'utf8');
    if (text !== writeConfig(manifest.config)) throw differs(`is not what ${MANIFEST_FILE} says`);
    return `${Buffer.byteLength(text)} bytes`;
  });
  return withMini(checks, join(folder, initramfs.file), async (mini, path) => {
    await checks.run(path, `its ${CONFIG_FILE} is that beside it`, () => {
      if (mini.configText !== text) throw differs('the configuration in it is another');
      return 'the same bytes';
    });
    const hashes = await checkImages(checks, mini, inBuild(folder, manifest), scratch);
    for (const [i, { file, verity }] of layers.entries()) {
      // What is signed is signed by what boot.json says.
      if (hashes[i] === undefined || hashes[i] === (verity?.roothash ?? 'none')) continue;
      checks.add(
        'failed',
        join(folder, file),
        `root hash in ${MANIFEST_FILE}`,
        `must be ${hashes[i]}`,
      );
    }
    return hashes;
  });
}

/** boot.json names images twice: as files, and in the configuration. */
function soundManifest({ initramfs, config, layers, embedded }: BootManifest): string {
  for (const file of [initramfs, ...layers].map((one) => one?.file)) {
    if (typeof file !== 'string' || /^$|\/|^\.\.?$/.test(file))
      throw differs(`names a file ${JSON.stringify(file)}`);
  }
  if (embedded !== (config.bootfs === 'initrd'))
    throw differs(`is embedded: ${embedded}, but boots from ${config.bootfs}`);
  if (layers.length !== config.layers.length)
    throw differs(`has ${layers.length} images, its configuration ${config.layers.length}`);
  for (const [i, { file, size, sha256, verity }] of layers.entries()) {
    const wanted = config.layers[i];
    if (wanted?.size !== size || wanted.digest !== sha256)
      throw differs(`${file}: size or digest is another in its configuration`);
    if (wanted.verity !== undefined && !isDeepStrictEqual(wanted.verity, verity))
      throw differs(`${file}: hash tree is another in its configuration`);
  }
  return `${layers.length} images`;
}

const inBuild =
  (folder: string, { config, layers }: BootManifest): Locate =>
  (fs) => {
    const file = layers[config.layers.findIndex((layer) => layer.fs === fs)]?.file;
    return file === undefined ? undefined : join(folder, file);
  };

/** Of a mini-initramfs that is installed. */
interface Installed extends Checked {
  /** Kernel. */
  readonly release: string;
}

/** What `varve boot install` has put there: every file that its records name, and what each mini-initramfs asks for. */
async function checkInstalled(checks: Checks, boot: string, scratch: string): Promise<Installed[]> {
  const found: Installed[] = [];
  const records = join(boot, FOLDER);
  let list: readonly BootRecord[] = [];
  const readable = await checks.run(records, 'records of what is installed', () => {
    list = readRecords(boot);
    return list.map(({ release }) => release).join(', ') || 'none';
  });
  if (readable && list.length === 0)
    checks.add('skipped', boot, 'boot images', 'varve boot install has installed nothing there');
  for (const { release, now, next } of list) {
    if (next !== undefined)
      checks.add(
        'skipped',
        records,
        `change for ${release}`,
        'was not completed: the next varve boot install or remove settles it',
      );
    if (now === undefined) continue;
    for (const { path, size, sha256 } of filesOf(now))
      await sameFile(checks, join(boot, path), size, sha256);
    const checked = await withMini(checks, join(boot, now.initramfs.path), (mini) =>
      checkImages(checks, mini, inBoot(boot), scratch),
    );
    if (checked !== undefined) found.push({ ...checked, release });
  }
  return found;
}

/** Paths of the configuration begin at the root of the filesystem, which may be above the folder, as for /boot without a partition. */
function inBoot(boot: string): Locate {
  const { prefix } = bootPlace(boot);
  return (fs) => {
    // Of a device that is the image itself.
    if (fs === '') return undefined;
    return join(boot, prefix !== '' && fs.startsWith(`${prefix}/`) ? fs.slice(prefix.length) : fs);
  };
}

/** What the running kernel was started with; of a system that does not run, there is nothing to see. */
async function checkRunning(
  checks: Checks,
  root: string,
  installed: readonly Installed[],
): Promise<void> {
  const cmdline = textOf(join(root, 'proc/cmdline'));
  const release = textOf(join(root, 'proc/sys/kernel/osrelease'))?.trim();
  if (cmdline === undefined || release === undefined) return;
  const kernel = join(root, 'proc/cmdline');
  const own = installed.find((one) => one.release === release);
  if (own === undefined)
    checks.add(
      'skipped',
      kernel,
      'boot image of the running kernel',
      `none is installed for ${release}`,
    );
  else await checkRootHashes(checks, kernel, cmdline, own.config, own.hashes);
  const state = join(root, SECURE_BOOT);
  const value = bytesOf(state)?.[4];
  if (value === undefined)
    checks.add('skipped', state, 'Secure Boot', 'the firmware does not know it');
  else if (value === 1) checks.add('ok', state, 'Secure Boot', 'is on');
  else checks.add('skipped', state, 'Secure Boot', 'is off: nobody has checked what was started');
}

function bytesOf(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

const textOf = (path: string): string | undefined => bytesOf(path)?.toString('latin1');

async function withMini(
  checks: Checks,
  path: string,
  use: (mini: Mini, path: string) => Promise<readonly (string | undefined)[]>,
): Promise<Checked | undefined> {
  let mini: Mini | undefined;
  await checks.run(path, 'is a mini-initramfs', () => {
    mini = openMini(path);
    return `boots from ${mini.config.bootfs}`;
  });
  if (mini === undefined) return undefined;
  try {
    return { initramfs: path, config: mini.config, hashes: await use(mini, path) };
  } finally {
    mini.close();
  }
}

async function sameFile(checks: Checks, path: string, size: number, sha256: string): Promise<void> {
  await checks.run(path, 'size and digest', () => {
    const found = digestOfFile(path);
    if (found.size !== size) throw differs(`is ${found.size} bytes, must be ${size}`);
    if (found.sha256 !== sha256) throw differs(`SHA-256 is ${found.sha256}, must be ${sha256}`);
    return `${size} bytes, SHA-256 ${sha256}`;
  });
}
