// An OUTDIR as `varve boot build` leaves it, made by hand in no time: what install, remove and inspect are given in tests.
// The images are not filesystems here: nothing that installs them looks inside.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { BootManifest } from '../../src/boot/build/manifest.js';
import { type BootConfig, CONFIG_FILE, parseConfig, writeConfig } from '../../src/boot/config.js';
import { S } from '../../src/linux/constants.js';
import { writeCpio } from '../../src/tree/cpio-write.js';
import { readContent } from '../../src/tree/read-content.js';
import { openTreeSource } from '../../src/tree/source.js';
import { add, find, makeNode, memoryContent } from '../../src/tree/tree.js';

export const RELEASE = '6.1.0-test';

export interface MadeOptions {
  readonly release?: string;
  /** Tells builds apart. */
  readonly seed?: number;
  /** Bytes of each image. */
  readonly size?: number;
  readonly images?: readonly string[];
  readonly bootfs?: string;
  readonly signed?: boolean;
  readonly embedded?: boolean;
}

export const sha256 = (bytes: Uint8Array): string =>
  createHash('sha256').update(bytes).digest('hex');

/**
 * A complete initramfs as a distribution makes one, with modules of a kernel of its own that nothing could load.
 * @param seed tells one from another.
 */
export function makeInitramfs(path: string, release: string, seed = 1): void {
  const tree = `${path}.tree`;
  const modules = join(tree, 'lib/modules', release);
  mkdirSync(join(modules, 'kernel'), { recursive: true });
  const names = ['erofs', 'overlay', 'loop', 'ext4', 'dm_verity', 'virtio_blk'];
  for (const name of names) writeFileSync(join(modules, 'kernel', `${name}.ko`), noise(2000, seed));
  writeFileSync(join(modules, 'modules.dep'), names.map((name) => `kernel/${name}.ko:\n`).join(''));
  writeFileSync(join(tree, 'init'), '#!/bin/sh\n', { mode: 0o755 });
  mkdirSync(join(tree, 'usr/bin'), { recursive: true });
  for (const i of [1, 2, 3])
    writeFileSync(join(tree, `usr/bin/program${i}`), noise(40_000, seed + i));
  const source = openTreeSource(tree);
  try {
    const pieces: Buffer[] = [];
    writeCpio(source.root, (piece) => pieces.push(Buffer.from(piece)));
    writeFileSync(path, gzipSync(Buffer.concat(pieces)));
  } finally {
    source.close();
    rmSync(tree, { recursive: true });
  }
}

/** Bytes that are others for another seed. */
export function noise(size: number, seed: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let i = 0, x = seed * 2654435761 + 1; i + 4 <= size; i += 4) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    bytes.writeUInt32LE(x, i);
  }
  return bytes;
}

export function makeBuild(outdir: string, options: MadeOptions = {}): BootManifest {
  const { release = RELEASE, seed = 1, size = 100_000, images = ['initoverlayfs.img'] } = options;
  mkdirSync(outdir, { recursive: true });
  const layers = images.map((file, i) => {
    const bytes = noise(size, seed * 16 + i);
    if (options.embedded !== true) writeFileSync(join(outdir, file), bytes);
    if (options.signed === true) {
      writeFileSync(join(outdir, `${file}.verity`), `version 1\nsize ${size}\n`);
      writeFileSync(join(outdir, `${file}.verity.p7s`), noise(600, seed));
    }
    return { file, size, sha256: sha256(bytes), payload: { inodes: 3, bytes: size } };
  });
  const config: BootConfig = {
    bootfs: options.bootfs ?? 'LABEL=boot',
    bootfstype: 'ext4',
    raw: false,
    timeout: 30,
    onFailure: 'shell',
    overlaySize: '50%',
    layers: layers.map(({ file, sha256: digest }) => ({
      fs: `/${file}`,
      fstype: 'erofs',
      verify: 'digest',
      size,
      digest,
    })),
  };
  const text = writeConfig(config);
  writeFileSync(join(outdir, CONFIG_FILE), text);
  const initramfs = miniOf(text);
  writeFileSync(join(outdir, 'initramfs.img'), initramfs);
  const manifest: BootManifest = {
    version: 1,
    release,
    initramfs: {
      file: 'initramfs.img',
      size: initramfs.length,
      sha256: sha256(initramfs),
      early: 0,
      modules: [],
      programs: [],
    },
    config,
    layers,
    embedded: options.embedded === true,
  };
  writeFileSync(join(outdir, 'boot.json'), JSON.stringify(manifest));
  return manifest;
}

function miniOf(config: string): Buffer {
  const root = makeNode(S.IFDIR | 0o755);
  const etc = makeNode(S.IFDIR | 0o755);
  add(root, 'etc', etc);
  const file = (text: string, mode: number) => {
    const bytes = Buffer.from(text);
    return makeNode(S.IFREG | mode, { size: bytes.length, content: memoryContent(bytes) });
  };
  add(root, 'init', file('#!/bin/sh\n', 0o755));
  add(etc, CONFIG_FILE, file(config, 0o644));
  const pieces: Buffer[] = [];
  writeCpio(root, (piece) => pieces.push(Buffer.from(piece)));
  return Buffer.concat(pieces);
}

/** The configuration by which a mini-initramfs goes: of several archives, what the last says. */
export function configIn(initramfs: string): BootConfig {
  const source = openTreeSource(initramfs);
  try {
    const node = find(source.root, `etc/${CONFIG_FILE}`);
    assert.ok(node, `${initramfs}: is no mini-initramfs`);
    return parseConfig(Buffer.from(readContent(node)).toString(), initramfs);
  } finally {
    source.close();
  }
}

/**
 * Fails unless a machine would boot with this initramfs: a complete one by itself, a mini-initramfs with every image it names,
 * whole. @param prefix what stands before paths in the boot filesystem. @returns the digests of its images.
 */
export function assertBoots(
  folder: string,
  name: string,
  prefix: string,
  complete: Uint8Array,
): string[] {
  const path = join(folder, name);
  if (readFileSync(path).equals(complete)) return [];
  const config = configIn(path);
  return config.layers.map(({ fs, digest, size }) => {
    assert.ok(fs.startsWith(`${prefix}/`), `${fs} lies in ${prefix}`);
    const image = join(folder, fs.slice(prefix.length));
    assert.ok(existsSync(image), `${name} names ${image}`);
    assert.equal(statSync(image).size, size);
    assert.equal(sha256(readFileSync(image)), digest, `${image} is whole`);
    return digest;
  });
}

/** Every file below a folder, sorted. */
export function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}
