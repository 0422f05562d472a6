// A build goes into the boot filesystem: images under names of their own, then the mini-initramfs that names them, by one rename.
// Called by cli/boot-install.ts. Whoever is killed leaves the boot as it was or as it is to be; settle.ts cleans up.
// Order: record of both states, images, complete initramfs, mini-initramfs, entry of the loader, record of one state.

import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statfsSync, statSync } from 'node:fs';
import { basename, dirname, join, normalize } from 'node:path';
import { MountError, reasonOf } from '../../stack/errors.js';
import { unpackerOf } from '../build/input.js';
import { type BootManifest, readManifest } from '../build/manifest.js';
import {
  type BootConfig,
  CONFIG_FILE,
  parseConfig,
  SIGNATURE_SUFFIX,
  VERITY_SUFFIX,
  writeConfig,
} from '../config.js';
import { digestIfThere } from '../digest.js';
import { entryPath, entryText, hasEntries } from './entry.js';
import { withConfig } from './mini.js';
import { type BootPlace, bootfsOfPlace, bootPlace, otherDevice } from './places.js';
import {
  type Bytes,
  bytesOfFile,
  type Disk,
  MODE,
  publish,
  REAL_DISK,
  writeBeside,
} from './publish.js';
import {
  type BootRecord,
  FOLDER,
  type Installed,
  type InstalledFile,
  writeRecord,
} from './record.js';
import type { BootSettings } from './settings.js';
import { alone, decide, isUnchanged, settle } from './settle.js';

const DEFAULT_NAME = 'initramfs-varve-%v.img';
/** Bytes beside the files themselves: records, and folders that grow. */
const SLACK = 128 * 1024;

export interface InstallRequest {
  readonly outdir: string;
  /** Folder of the boot filesystem. */
  readonly boot: string;
  /** Root directory of the system that is to boot: for its command line and its name. */
  readonly root: string;
  /** Kernel; undefined: that of the build. */
  readonly release?: string;
  /** Name of the mini-initramfs below the folder, in the place of what has it; %v: kernel. */
  readonly as?: string;
  readonly settings: BootSettings;
  /** Other than in the build. */
  readonly bootfs?: string;
  readonly bootfstype?: string;
  /** Keep the initramfs that has the name, as what is fallen back to and what `remove` puts back. */
  readonly keepFull: boolean;
  /** Keep the images of the state before until the next install. */
  readonly keepOld?: boolean;
  /** Although the storage-init would look on another device. */
  readonly force: boolean;
  readonly disk?: Disk;
}

export interface InstallResult {
  readonly release: string;
  readonly folder: string;
  readonly installed: Installed;
  /** Bytes that were written. */
  readonly written: number;
  /** What the person has to know or to do. */
  readonly remarks: readonly string[];
}

/** A file that is to be written, and how. */
interface Planned {
  readonly file: InstalledFile;
  readonly bytes: () => Bytes;
  readonly mode: number;
}

/** @throws MountError; then the boot filesystem is as it was. */
export async function installBuild(request: InstallRequest): Promise<InstallResult> {
  const disk = request.disk ?? REAL_DISK;
  const build = openBuild(request.outdir);
  const release = request.release ?? build.manifest.release;
  if (release === undefined || !/^[^/\s]+$/.test(release)) {
    throw new MountError('option', `${request.outdir}: says no kernel: name it by --kver`);
  }
  const place = bootPlace(request.boot);
  const { folder } = place;
  return alone(folder, async () => {
    const records = settle(folder, disk);
    const now = records.find((record) => record.release === release)?.now;
    const remarks: string[] = [];
    const plan = await planOf(request, build, release, place, { records, now }, remarks);
    requireSpace(folder, plan.files, records, release, disk);
    const next = plan.installed;
    const record: BootRecord = { version: 1, release, ...(now && { now }), next };
    let written = 0;
    try {
      writeRecord(folder, record, disk);
      for (const planned of plan.files) written += write(folder, planned, disk);
    } catch (error) {
      tidyAfter(folder, disk);
      throw error;
    }
    const others = records.filter((other) => other.release !== release);
    decide(folder, record, [...others, record], disk);
    return { release, folder, installed: next, written, remarks };
  });
}

interface Build {
  readonly outdir: string;
  readonly manifest: BootManifest;
  readonly config: BootConfig;
  /** As the mini-initramfs has it. */
  readonly configText: string;
}

function openBuild(outdir: string): Build {
  const path = join(outdir, CONFIG_FILE);
  let configText: string;
  try {
    configText = readFileSync(path, 'utf8');
  } catch (error) {
    throw new MountError(
      'absent',
      `${path}: ${reasonOf(error)}: name a folder that varve boot build made`,
    );
  }
  const manifest = readManifest(outdir);
  for (const { file, size } of [
    manifest.initramfs,
    ...(manifest.embedded ? [] : manifest.layers),
  ]) {
    const found = statSync(join(outdir, file), { throwIfNoEntry: false })?.size;
    if (found === size) continue;
    throw new MountError(
      'layer',
      `${join(outdir, file)}: ${found === undefined ? 'is missing' : `has ${found} bytes, not ${size}`}: build it again`,
    );
  }
  return { outdir, manifest, config: parseConfig(configText, path), configText };
}

interface Before {
  readonly records: readonly BootRecord[];
  readonly now: Installed | undefined;
}

interface Plan {
  readonly installed: Installed;
  /** In the order in which they are written; what is there already is not among them. */
  readonly files: readonly Planned[];
}

async function planOf(
  request: InstallRequest,
  build: Build,
  release: string,
  place: BootPlace,
  before: Before,
  remarks: string[],
): Promise<Plan> {
  const { folder } = place;
  const { settings } = request;
  const name = nameOf(request.as ?? settings.as ?? DEFAULT_NAME, release, before.records);
  const images = imagesOf(build, settings.fs, release);
  const full = fullOf(request, folder, name, release, before.now);
  const lacking = full && lackingUnpacker(build, [full.file.path, name], folder);
  if (lacking !== undefined) {
    remarks.push(
      `${join(folder, name)}: is not fallen back to: the mini-initramfs has no ${lacking}: build it with --fallback`,
    );
  }
  const fallback = lacking === undefined ? full?.file : undefined;
  const config = await configOf(request, build, place, images, fallback);
  if (build.config.raw) {
    remarks.push(
      `${build.config.bootfs} is to be the image itself: write ${build.manifest.layers[0]?.file} there`,
    );
  }
  const mini = miniOf(build, name, config);
  const entry = entryOf(request, place, release, name, remarks);
  const now = images.flatMap((image) => image.files.map(({ file }) => file));
  const former = request.keepOld === true ? formerOf(before.now, now) : [];
  const installed: Installed = {
    initramfs: mini.file,
    images: now,
    ...(former.length > 0 && { former }),
    ...(entry && { entry: entry.file }),
    ...(full && { full: full.file }),
  };
  const files = [...images.flatMap((image) => image.files), full, mini, entry];
  return {
    installed,
    files: files.filter(
      (planned) => planned !== undefined && !isUnchanged(folder, planned.file),
    ) as Planned[],
  };
}

/** Images that only the state before has; where the build is the same as then, those that were former already. */
function formerOf(
  before: Installed | undefined,
  images: readonly InstalledFile[],
): InstalledFile[] {
  const isNew = ({ path }: InstalledFile): boolean => images.every((image) => image.path !== path);
  const old = (before?.images ?? []).filter(isNew);
  return old.length > 0 ? old : (before?.former ?? []).filter(isNew);
}

/** @throws MountError of kind `option` for a name that leads out, or that is another kernel's. */
function nameOf(pattern: string, release: string, records: readonly BootRecord[]): string {
  const name = normalize(pattern.replaceAll('%v', release));
  if (
    name.startsWith('/') ||
    name.startsWith('../') ||
    name.endsWith('/') ||
    name.startsWith(`${FOLDER}/`)
  ) {
    throw new MountError('option', `--as ${pattern}: must be a name below the boot folder`);
  }
  const other = records.find(
    (record) => record.release !== release && record.now?.initramfs.path === name,
  );
  if (other === undefined) return name;
  throw new MountError(
    'option',
    `--as ${pattern}: is that of kernel ${other.release}: take %v into the name`,
  );
}

interface Image {
  /** Below the folder. */
  readonly path: string;
  readonly files: readonly Planned[];
}

/** Empty where the mini-initramfs has the images itself, or a device is one. */
function imagesOf({ outdir, manifest, config }: Build, pattern: string, release: string): Image[] {
  if (manifest.embedded || config.raw) return [];
  return manifest.layers.map((layer) => {
    const source = join(outdir, layer.file);
    const beside = [VERITY_SUFFIX, `${VERITY_SUFFIX}${SIGNATURE_SUFFIX}`].flatMap((suffix) => {
      const sha256 = digestIfThere(source + suffix);
      return sha256 === undefined ? [] : [{ suffix, sha256, size: statSync(source + suffix).size }];
    });
    // Another signature of the same image must not stand in the place of the one that the running mini-initramfs takes.
    const digest =
      beside.length === 0
        ? layer.sha256
        : hashText([layer.sha256, ...beside.map(({ sha256 }) => sha256)].join(' '));
    const path = pattern
      .replaceAll('%n', basename(layer.file, '.img'))
      .replaceAll('%h', digest.slice(0, 16))
      .replaceAll('%v', release)
      .slice(1);
    const parts = [{ suffix: '', sha256: layer.sha256, size: layer.size }, ...beside];
    return {
      path,
      files: parts.map(({ suffix, sha256, size }) => ({
        file: { path: path + suffix, size, sha256 },
        bytes: () => bytesOfFile(source + suffix),
        mode: MODE.image,
      })),
    };
  });
}

const hashText = (text: string): string => createHash('sha256').update(text).digest('hex');

/** The initramfs that has the name and is not ours; or the one that was kept before. */
function fullOf(
  { keepFull }: InstallRequest,
  folder: string,
  name: string,
  release: string,
  now: Installed | undefined,
): Planned | undefined {
  if (!keepFull) return undefined;
  const source = join(folder, name);
  const sha256 = digestIfThere(source);
  const isOurs =
    now?.initramfs.path === name && (sha256 === undefined || sha256 === now.initramfs.sha256);
  if (isOurs) {
    const { full } = now;
    if (full === undefined || !isUnchanged(folder, full)) return undefined;
    return { file: full, bytes: () => [], mode: MODE.image };
  }
  if (sha256 === undefined) return undefined;
  const path = join(FOLDER, `full-${release}-${sha256.slice(0, 16)}.img`);
  return {
    file: { path, size: statSync(source).size, sha256 },
    bytes: () => bytesOfFile(source),
    mode: MODE.image,
  };
}

/** The program that the complete initramfs needs and the mini-initramfs lacks: to fall back would start the machine again and again. */
function lackingUnpacker(
  { manifest }: Build,
  names: readonly string[],
  folder: string,
): string | undefined {
  const path = names.map((one) => join(folder, one)).find((one) => existsSync(one));
  const unpacker = path === undefined ? undefined : unpackerOf(path);
  const has = manifest.initramfs.programs.includes(`/bin/${unpacker}`);
  return has ? undefined : unpacker;
}

/** The build's configuration with the names that are only known here. @throws MountError of kind `layer`. */
async function configOf(
  request: InstallRequest,
  { config, manifest }: Build,
  place: BootPlace,
  images: readonly Image[],
  full: InstalledFile | undefined,
): Promise<BootConfig> {
  if (manifest.embedded) return config;
  const wanted = request.bootfs ?? request.settings.bootfs ?? config.bootfs;
  const bootfs = config.raw
    ? config.bootfs
    : wanted === 'auto'
      ? await bootfsOfPlace(place)
      : wanted;
  const problem = config.raw ? undefined : await otherDevice(bootfs, place);
  if (problem !== undefined && !request.force) {
    throw new MountError(
      'layer',
      `bootfs ${bootfs}: ${problem}: the mini-initramfs would not find its image: say --bootfs auto, or --force`,
    );
  }
  return {
    ...config,
    bootfs,
    bootfstype: request.bootfstype ?? request.settings.bootfstype ?? config.bootfstype,
    layers: config.layers.map((layer, i) => {
      const image = images[i];
      return image === undefined ? layer : { ...layer, fs: `${place.prefix}/${image.path}` };
    }),
    ...(full && { fallback: { path: `${place.prefix}/${full.path}`, digest: full.sha256 } }),
  };
}

function miniOf(
  { outdir, manifest, configText }: Build,
  name: string,
  config: BootConfig,
): Planned {
  const source = join(outdir, manifest.initramfs.file);
  const text = writeConfig(config);
  const bytes = (): Bytes =>
    text === configText ? bytesOfFile(source) : withConfig(bytesOfFile(source), text);
  const hash = createHash('sha256');
  const own = createHash('sha256');
  let size = 0;
  for (const piece of bytes()) {
    hash.update(piece);
    size += piece.length;
    if (size <= manifest.initramfs.size) own.update(piece);
  }
  if (own.digest('hex') !== manifest.initramfs.sha256) {
    throw new MountError('layer', `${source}: is not what was built: build it again`);
  }
  return { file: { path: name, size, sha256: hash.digest('hex') }, bytes, mode: MODE.image };
}

function entryOf(
  request: InstallRequest,
  place: BootPlace,
  release: string,
  initramfs: string,
  remarks: string[],
): Planned | undefined {
  const { folder, prefix } = place;
  const pattern = request.as ?? request.settings.as;
  // The name is one that the loader knows already.
  if (pattern !== undefined) return undefined;
  if (!hasEntries(folder)) {
    remarks.push(
      `${folder} has no loader/entries: name ${join(folder, initramfs)} in the loader's menu, or take the name that it knows by --as (GRUB: initrd.img-${release} or initramfs-${release}.img)`,
    );
    return undefined;
  }
  const text = entryText({ folder, prefix, root: request.root, release, initramfs });
  if (text === undefined) {
    remarks.push(`${folder}: has no kernel ${release}: no entry of the loader was written`);
    return undefined;
  }
  const bytes = Buffer.from(text);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return {
    file: { path: entryPath(release), size: bytes.length, sha256 },
    bytes: () => [bytes],
    mode: MODE.text,
  };
}

/** @throws MountError of kind `layer` before anything is written. */
function requireSpace(
  folder: string,
  files: readonly Planned[],
  records: readonly BootRecord[],
  release: string,
  disk: Disk,
): void {
  const { bsize } = statfsSync(folder);
  const needed = files.reduce((sum, { file }) => sum + Math.ceil(file.size / bsize) * bsize, SLACK);
  const free = disk.free(folder);
  if (free >= needed) return;
  const others = records
    .filter((record) => record.release !== release)
    .map((record) => record.release);
  const advice =
    others.length === 0
      ? 'remove what is not needed there'
      : `\`varve boot remove --kver ${others[0]}\` makes room`;
  throw new MountError(
    'layer',
    `${folder}: ${mebibytes(needed)} are needed beside what is installed, ${mebibytes(free)} are free: ${advice}`,
  );
}

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

/** @returns bytes. @throws MountError where the source is no longer what was built. */
function write(folder: string, { file, bytes, mode }: Planned, disk: Disk): number {
  const path = join(folder, file.path);
  const beside = writeBeside(path, bytes(), mode, disk);
  if (beside.sha256 !== file.sha256) {
    throw new MountError(
      'layer',
      `${basename(path)}: its source in ${dirname(path)} is not what was built: build it again`,
    );
  }
  publish(beside, disk);
  return beside.size;
}

/** After a failure, as after a killed call; what cannot be tidied now will be by the next one. */
function tidyAfter(folder: string, disk: Disk): void {
  try {
    settle(folder, disk);
  } catch {
    // The failure itself is what counts.
  }
}
