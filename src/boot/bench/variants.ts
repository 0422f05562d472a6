// The ways to hand a payload to a kernel that are measured against each other: archives that it unpacks, and images of varve boot build.
// Called by run.ts with one archive (newc, uncompressed); gives what QEMU needs, and how long making it took.
// Follows: the options that Debian's mkinitramfs and dracut give to compressors.

import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MountError } from '../../stack/errors.js';
import { type BuildRequest, buildBoot } from '../build/build.js';
import { needProgram, runTool } from '../run-tool.js';

/** What is needed to make a variant. */
export interface Ingredients {
  /** The payload, uncompressed. */
  readonly cpio: string;
  /** Empty, for what is made. */
  readonly folder: string;
  /** Of the kernel that is booted; varve's variants need them. */
  readonly modules: { readonly folder: string; readonly release: string } | undefined;
}

export interface Prepared {
  readonly initrd: string;
  readonly disk?: string;
  /** Bytes of all that would lie in /boot. */
  readonly stored: number;
  /** Seconds that making it took, the filesystem around it not counted. */
  readonly seconds: number;
}

type Maker = (from: Ingredients) => Promise<Prepared>;

const UUID = '7c1b2f5e-0f5b-4c52-9a53-6d1f6a3b8e10';
/** In the boot filesystem. */
const IMAGE = 'initoverlayfs.img';

const MAKERS: Readonly<Record<string, Maker>> = {
  none: ({ cpio }) => Promise.resolve({ initrd: cpio, stored: statSync(cpio).size, seconds: 0 }),
  gzip: compressed('gzip', ['-9', '-n']),
  zstd: compressed('zstd', ['-q', '-9', '-T0']),
  xz: compressed('xz', ['-q', '--check=crc32', '-6']),
  lz4: compressed('lz4', ['-q', '-l', '-9']),
  varve: ours({}),
  'varve-digest': ours({ verify: 'digest' }),
  'varve-verity': ours({ verify: 'verity' }),
  'varve-embed': ours({ embed: true, bootfs: 'initrd' }),
  'varve-raw': ours({ raw: true, bootfs: '/dev/vda' }),
  'varve-btrfs': ours({ format: 'btrfs' }),
};

/** Names of all variants. */
export const VARIANTS: readonly string[] = Object.keys(MAKERS);

/** Those of `varve boot bench` when nothing is said. */
export const USUAL_VARIANTS = ['gzip', 'zstd', 'lz4', 'varve', 'varve-verity', 'varve-embed'];

/** Whether a variant is made of modules of the kernel. */
export const isOurs = (variant: string): boolean => variant.startsWith('varve');

/** @throws MountError of kind `option` for a name that is none. */
export function checkVariants(names: readonly string[]): void {
  const wrong = names.find((name) => !Object.hasOwn(MAKERS, name));
  if (wrong === undefined && names.length > 0) return;
  throw new MountError(
    'option',
    `variant ${JSON.stringify(wrong ?? '')}: is not known: name some of ${VARIANTS.join(', ')}`,
  );
}

/** @param variant one that checkVariants() has let pass. */
export function prepare(variant: string, from: Ingredients): Promise<Prepared> {
  return (MAKERS[variant] as Maker)(from);
}

function compressed(program: string, args: readonly string[]): Maker {
  return async ({ cpio, folder }) => {
    const initrd = join(folder, `initramfs.${program}`);
    const seconds = await filter(program, args, cpio, initrd);
    return { initrd, stored: statSync(initrd).size, seconds };
  };
}

/** A program from a file to a file. @returns seconds. */
async function filter(
  program: string,
  args: readonly string[],
  from: string,
  to: string,
): Promise<number> {
  const path = needProgram(program);
  const input = openSync(from, 'r');
  const output = openSync(to, 'w');
  const started = performance.now();
  try {
    await new Promise<void>((resolve, reject) => {
      const child = spawn(path, [...args, '-c'], { stdio: [input, output, 'inherit'] });
      child.once('error', reject);
      child.once('close', (code) => {
        if (code === 0) resolve();
        else reject(new MountError('layer', `${program} of ${from}: failed (${code}): see above`));
      });
    });
  } finally {
    closeSync(input);
    closeSync(output);
  }
  return (performance.now() - started) / 1000;
}

function ours(change: Partial<BuildRequest>): Maker {
  return async ({ cpio, folder, modules }) => {
    const out = join(folder, 'out');
    mkdirSync(out);
    const started = performance.now();
    await buildBoot({
      source: { initramfs: cpio },
      ...(modules && { modules }),
      out,
      layers: [],
      format: 'erofs',
      storage: ['virtio_pci', 'virtio_blk'],
      host: false,
      bootfs: `UUID=${UUID}`,
      bootfstype: 'ext4',
      raw: false,
      embed: false,
      verify: 'none',
      timeout: 30,
      onFailure: 'poweroff',
      overlaySize: '50%',
      miniCompress: 'lz4',
      pathInBootfs: `/${IMAGE}`,
      ...change,
    });
    const seconds = (performance.now() - started) / 1000;
    const initrd = join(out, 'initramfs.img');
    const mini = statSync(initrd).size;
    if (change.embed) return { initrd, stored: mini, seconds };
    const image = join(out, IMAGE);
    const stored = mini + statSync(image).size;
    if (change.raw) return { initrd, disk: image, stored, seconds };
    return { initrd, disk: await bootDisk(folder, image), stored, seconds };
  };
}

/** A disk that is an ext4 with the image in it, as /boot has it. */
async function bootDisk(folder: string, image: string): Promise<string> {
  const content = join(folder, 'boot');
  mkdirSync(content);
  renameSync(image, join(content, IMAGE));
  const disk = join(folder, 'disk.img');
  writeFileSync(disk, '');
  // A hundredth more for the filesystem's own tables, and 32 MiB for its journal.
  const size = Math.ceil((statSync(join(content, IMAGE)).size * 1.01) / 1024 / 1024) + 32;
  const lean = ['-m', '0', '-N', '64'];
  await runTool('mkfs.ext4', ['-q', '-F', ...lean, '-U', UUID, '-d', content, disk, `${size}M`]);
  return disk;
}
