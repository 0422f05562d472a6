// An OUTDIR with true hash trees, a mini-initramfs and a certificate, made by hand in milliseconds: what sign, uki and verify are
// given in tests. The images are random bytes; nobody mounts them here.
// A true build and a true boot of it are in secure-boot.test.ts.

import { spawnSync } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { appendVerity } from '../../src/boot/auth/verity.js';
import { type BootManifest, writeManifest } from '../../src/boot/build/manifest.js';
import {
  type BootConfig,
  CONFIG_FILE,
  type LayerConfig,
  type OnFailure,
  type Verify,
  writeConfig,
  writeVerity,
} from '../../src/boot/config.js';
import { S } from '../../src/linux/constants.js';
import { writeCpio } from '../../src/tree/cpio-write.js';
import { add, makeNode, memoryContent, type TreeNode } from '../../src/tree/tree.js';

export interface Pair {
  readonly key: string;
  readonly cert: string;
}

interface PairOptions {
  /** How long it is valid; negative: it no longer is. */
  readonly days?: number;
  /** sbsign takes RSA alone; elliptic curves are made faster. */
  readonly rsa?: boolean;
  readonly passphrase?: string;
}

/** A key and its certificate, signed by itself. */
export function makePair(folder: string, name: string, options: PairOptions = {}): Pair {
  const { days = 30, rsa = false, passphrase } = options;
  const pair = { key: join(folder, `${name}.key`), cert: join(folder, `${name}.crt`) };
  const request = join(folder, `${name}.csr`);
  const kind = rsa ? ['rsa:2048'] : ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
  const locked = passphrase === undefined ? ['-nodes'] : ['-passout', `pass:${passphrase}`];
  const opening = passphrase === undefined ? [] : ['-passin', `pass:${passphrase}`];
  const run = (...args: string[]): void => {
    const made = spawnSync('openssl', args, { encoding: 'utf8' });
    if (made.status !== 0) throw new Error(made.stderr);
  };
  run(
    ...['req', '-new', '-newkey', ...kind, ...locked, '-keyout', pair.key],
    ...['-subj', `/CN=${name}`, '-out', request],
  );
  run(
    ...['x509', '-req', '-in', request, '-signkey', pair.key, ...opening],
    ...['-days', `${days}`, '-out', pair.cert],
  );
  return pair;
}

export interface AuthOptions {
  readonly verify: Verify;
  readonly images?: readonly string[];
  readonly cert?: string;
  readonly embed?: boolean;
  readonly onFailure?: OnFailure;
  /** Tells builds apart. */
  readonly seed?: number;
  readonly release?: string;
}

/** Bytes that do not repeat, the same in every run. */
export function noise(size: number, seed = 0): Buffer {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16));
  return cipher.update(Buffer.alloc(size));
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

export async function makeAuthBuild(outdir: string, options: AuthOptions): Promise<BootManifest> {
  const { verify, images = ['initoverlayfs.img'], embed = false, seed = 0 } = options;
  mkdirSync(outdir, { recursive: true });
  const layers: { manifest: BootManifest['layers'][0]; config: LayerConfig; bytes: Buffer }[] = [];
  for (const [i, file] of images.entries()) {
    const path = join(outdir, file);
    writeFileSync(path, noise(200 * 4096, seed * 16 + i));
    const mapped = verify === 'verity' || verify === 'signature';
    const verity = mapped ? await appendVerity(path) : undefined;
    const bytes = readFileSync(path);
    const common = { size: bytes.length, ...(verity && { verity }) };
    const digest = sha256(bytes);
    if (verify === 'signature' && verity !== undefined)
      writeFileSync(`${path}.verity`, writeVerity(verity, bytes.length));
    layers.push({
      manifest: { file, sha256: digest, payload: { inodes: 3, bytes: 4096 }, ...common },
      config: {
        fs: embed ? `/images/${file}` : `/${file}`,
        fstype: 'erofs',
        verify,
        size: bytes.length,
        digest,
        ...(verify === 'verity' && verity && { verity }),
      },
      bytes,
    });
  }
  const config: BootConfig = {
    bootfs: embed ? 'initrd' : 'LABEL=boot',
    bootfstype: 'ext4',
    raw: false,
    timeout: 30,
    onFailure: options.onFailure ?? 'reboot',
    overlaySize: '50%',
    layers: layers.map((layer) => layer.config),
  };
  writeFileSync(join(outdir, CONFIG_FILE), writeConfig(config));
  const files: Record<string, Uint8Array> = {
    init: Buffer.from('#!/bin/sh\n'),
    [`etc/${CONFIG_FILE}`]: Buffer.from(writeConfig(config)),
  };
  if (options.cert !== undefined) files['etc/varve/boot.crt'] = readFileSync(options.cert);
  if (embed)
    for (const {
      config: { fs },
      bytes,
    } of layers)
      files[fs.slice(1)] = bytes;
  const initramfs = cpio(files);
  writeFileSync(join(outdir, 'initramfs.img'), initramfs);
  const manifest: BootManifest = {
    version: 1,
    ...(options.release !== undefined && { release: options.release }),
    initramfs: {
      file: 'initramfs.img',
      size: initramfs.length,
      sha256: sha256(initramfs),
      early: 0,
      modules: [],
      programs: [],
    },
    config,
    layers: layers.map((layer) => layer.manifest),
    embedded: embed,
  };
  writeFileSync(join(outdir, 'boot.json'), writeManifest(manifest));
  return manifest;
}

function cpio(files: Record<string, Uint8Array>): Buffer {
  const root = makeNode(S.IFDIR | 0o755);
  for (const [path, bytes] of Object.entries(files)) {
    let dir: TreeNode = root;
    const names = path.split('/');
    const last = names.pop() as string;
    for (const name of names) {
      const next = dir.entries?.get(name) ?? makeNode(S.IFDIR | 0o755);
      if (!dir.entries?.has(name)) add(dir, name, next);
      dir = next;
    }
    const content = memoryContent(bytes);
    add(dir, last, makeNode(S.IFREG | 0o644, { size: bytes.length, content }));
  }
  const pieces: Uint8Array[] = [];
  writeCpio(root, (piece) => pieces.push(Uint8Array.from(piece)));
  return Buffer.concat(pieces);
}
