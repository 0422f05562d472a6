// `varve boot sign`: the root hash of every image of a build, as a file of its own beside the image, and its signature.
// Called by cli/boot-sign.ts. At boot the mini-initramfs takes IMAGE.verity only with a valid IMAGE.verity.p7s.
// Follows: PKCS#7 1.5 (RFC 2315), detached, DER, by openssl-smime(1ssl).

import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { syncPath } from '../../linux/sync-path.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import { readManifest } from '../build/manifest.js';
import { SIGNATURE_SUFFIX, VERITY_SUFFIX, writeVerity } from '../config.js';
import { runTool } from '../run-tool.js';
import {
  certificatesIn,
  fingerprint,
  type KeyRequest,
  openKey,
  passArguments,
  type SigningKey,
  withKey,
} from './key.js';
import { openMini } from './mini.js';
import { checkVerity } from './verity.js';

export interface SignRequest extends KeyRequest {
  /** OUTDIR of a build. */
  readonly folder: string;
  /** Sign although the mini-initramfs trusts another certificate, or none. */
  readonly force: boolean;
  readonly onRemark?: (text: string) => void;
}

export interface SignedLayer {
  /** Path of the image. */
  readonly image: string;
  readonly verity: string;
  readonly signature: string;
  readonly roothash: string;
}

export interface SignResult {
  /** SHA-256 of the certificate, hex. */
  readonly certificate: string;
  readonly layers: readonly SignedLayer[];
}

/** What ends so is not complete. */
const UNFINISHED = '.new';

/**
 * Signs every image. All signatures are made and checked before the first file changes its name; until its new signature
 * has its name, an image whose root hash changes has none, so that there is never one of something else.
 * @throws MountError.
 */
export async function signBoot(request: SignRequest): Promise<SignResult> {
  const { folder } = request;
  const manifest = readManifest(folder);
  const remark = request.onRemark ?? (() => {});
  if (manifest.embedded)
    throw new MountError(
      'option',
      `${folder}: its images are inside of the mini-initramfs, where nothing looks for a signature: sign all of it with varve boot uki`,
    );
  const layers = manifest.layers.map((layer) => {
    const image = join(folder, layer.file);
    if (layer.verity !== undefined) return { image, size: layer.size, config: layer.verity };
    throw new MountError(
      'option',
      `${image}: has no hash tree whose root hash could be signed: build with --verify signature`,
    );
  });
  const key = await openKey(request);
  for (const text of key.remarks) remark(text);
  checkTrust(request, key, join(folder, manifest.initramfs.file), remark);

  const staged: SignedLayer[] = [];
  const temporary: string[] = [];
  try {
    for (const { image, size, config } of layers) {
      // Nobody signs what is damaged already.
      await checkVerity(image, config);
      const verity = image + VERITY_SUFFIX;
      const signature = verity + SIGNATURE_SUFFIX;
      temporary.push(verity + UNFINISHED, signature + UNFINISHED);
      writeSynced(verity + UNFINISHED, Buffer.from(writeVerity(config, size)));
      writeSynced(signature + UNFINISHED, await sign(verity + UNFINISHED, key));
      await checkSignature(verity + UNFINISHED, signature + UNFINISHED, request.cert);
      staged.push({ image, verity, signature, roothash: config.roothash });
    }
    for (const one of staged) publish(one, folder);
  } finally {
    for (const path of temporary) rmSync(path, { force: true });
  }
  return { certificate: fingerprint(key.certificate), layers: staged };
}

/**
 * Whether `signature` (DER) is that of the file by one of the certificates in a PEM file. These alone count: no chain is
 * followed, and no clock is asked, because a machine that boots may not have the time yet.
 * @throws MountError of kind `layer` with what is wrong.
 */
export async function checkSignature(
  file: string,
  signature: string,
  certificates: string,
): Promise<void> {
  const args = ['smime', '-verify', '-binary', '-inform', 'DER', '-in', signature];
  args.push('-content', file, '-certfile', certificates, '-nointern', '-noverify');
  const { code, stderr } = await runTool('openssl', [...args, '-out', '/dev/null'], {
    expected: [1, 2, 3, 4, 5, 6],
  });
  if (code === 0) return;
  const why = /signer certificate not found/.test(stderr)
    ? 'was not made with the key of the certificate'
    : code === 4
      ? 'is not that of the file'
      : 'cannot be read';
  throw new MountError(
    'layer',
    `${signature}: the signature ${why}: sign again with varve boot sign`,
  );
}

function checkTrust(
  { force }: SignRequest,
  key: SigningKey,
  initramfs: string,
  remark: (text: string) => void,
): void {
  const mini = openMini(initramfs);
  const { certificate } = mini;
  const asked = mini.config.layers.some(({ verify }) => verify === 'signature');
  mini.close();
  if (!asked)
    remark(`${initramfs}: was not built with --verify signature: it does not look at signatures`);
  if (certificate === undefined || force) return;
  const wanted = fingerprint(key.certificate);
  if (certificatesIn(certificate).some((one) => fingerprint(one) === wanted)) return;
  throw new MountError(
    'option',
    `${initramfs}: trusts another certificate: build it again with this one (or sign anyway: --force)`,
  );
}

async function sign(file: string, key: SigningKey): Promise<Buffer> {
  // Without certificates in it: the one that counts is in the mini-initramfs, and nothing in the file stays unsigned.
  const args = ['smime', '-sign', '-binary', '-nocerts', '-md', 'sha256', '-outform', 'DER'];
  args.push('-in', file);
  args.push('-signer', key.cert, '-inkey', key.key, ...passArguments(key));
  if (key.isToken) args.push('-engine', 'pkcs11', '-keyform', 'engine');
  const { stdout } = await withKey('openssl', args, key);
  return stdout;
}

function publish({ verity, signature }: SignedLayer, folder: string): void {
  try {
    const next = readFileSync(verity + UNFINISHED);
    if (!contentOf(verity)?.equals(next)) {
      rmSync(signature, { force: true });
      syncPath(folder);
      renameSync(verity + UNFINISHED, verity);
    }
    renameSync(signature + UNFINISHED, signature);
    syncPath(folder);
  } catch (error) {
    throw new MountError(
      'layer',
      `${join(folder, basename(signature))}: cannot be written: ${reasonOf(error)}: sign again`,
      { cause: error },
    );
  }
}

function contentOf(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

function writeSynced(path: string, bytes: Uint8Array): void {
  try {
    rmSync(path, { force: true });
    writeFileSync(path, bytes, { flush: true, flag: 'wx', mode: 0o644 });
  } catch (error) {
    throw new MountError('layer', `${path}: cannot be written: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}
