// A unified kernel image, looked into: what its sections hold, who signed it, and the mini-initramfs in it.
// Called by verify.ts; needs nothing but the file, and compares with whatever else is named.
// Follows: the Unified Kernel Image specification of UAPI.

import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type ByteSource, eachPiece } from '../../bytes/source.js';
import { FileSource } from '../../linux/file-source.js';
import { digestOf } from '../digest.js';
import { type Checks, differs } from './checks.js';
import { type Mini, openMini } from './mini.js';
import { type PeImage, readPe, sectionSource } from './pe.js';
import { checkUkiSignature } from './uki.js';
import { checkImages, checkRootHashes, type Locate } from './verify-images.js';

export interface UkiCheck {
  readonly file: string;
  /** PEM; undefined: the signature is not checked. */
  readonly cert?: string;
  /** Files that sections must be equal to. */
  readonly kernel?: string;
  readonly initramfs?: string;
  /** Images are looked at by the caller already. */
  readonly hashes?: readonly (string | undefined)[];
  readonly locate: Locate;
  readonly scratch: string;
}

export async function checkUki(checks: Checks, request: UkiCheck): Promise<void> {
  const { file, cert, scratch } = request;
  let image: PeImage | undefined;
  let source: FileSource | undefined;
  await checks.run(file, 'is a unified kernel image', () => {
    source = FileSource.open(file);
    image = readPe(source, file);
    const names = image.sections.map(({ name }) => name);
    const missing = ['.linux', '.initrd', '.cmdline'].find((name) => !names.includes(name));
    if (missing !== undefined) throw differs(`has no section ${missing}`);
    const twice = names.find((name, i) => name.startsWith('.') && names.indexOf(name) !== i);
    if (twice !== undefined) throw differs(`has the section ${twice} twice`);
    return names.join(' ');
  });
  try {
    if (checks.list.at(-1)?.state !== 'ok' || image === undefined || source === undefined) return;
    await checkSignatureOf(checks, file, image, cert);
    const pe = image;
    const all = source;
    const section = (name: string): ByteSource =>
      sectionSource(all, pe.sections.find((one) => one.name === name) as PeImage['sections'][0]);
    await sameAsFile(checks, file, '.linux', section('.linux'), request.kernel);
    await sameAsFile(checks, file, '.initrd', section('.initrd'), request.initramfs);
    const line = section('.cmdline');
    const bytes = Buffer.alloc(line.size);
    line.read(0, bytes);
    const cmdline = bytes.toString('latin1').replace(/\0.*$/s, '');

    let mini: Mini | undefined;
    await checks.run(file, 'mini-initramfs in it', () => {
      mini = extractMini(section('.initrd'), join(scratch, 'initrd'));
      return `${mini.config.layers.length} images, verified by ${mini.config.layers.map(({ verify }) => verify).join(', ')}`;
    });
    if (mini === undefined) return;
    try {
      const hashes = request.hashes ?? (await checkImages(checks, mini, request.locate, scratch));
      await checkRootHashes(checks, file, cmdline, mini.config, hashes);
    } finally {
      mini.close();
    }
  } finally {
    source?.close();
  }
}

async function checkSignatureOf(
  checks: Checks,
  file: string,
  { certificates }: PeImage,
  cert: string | undefined,
): Promise<void> {
  const check = 'signature for Secure Boot';
  if (certificates === 0 && cert === undefined) {
    checks.add('skipped', file, check, 'it is not signed: nothing protects it');
  } else if (cert === undefined) {
    checks.add('skipped', file, check, 'name the certificate by --cert');
  } else {
    await checks.run(file, check, async () => {
      if (certificates === 0) throw differs('it is not signed');
      await checkUkiSignature(file, cert);
      return `valid, by ${cert}`;
    });
  }
}

async function sameAsFile(
  checks: Checks,
  file: string,
  name: string,
  section: ByteSource,
  path: string | undefined,
): Promise<void> {
  if (path === undefined) return;
  await checks.run(file, `${name} is ${path}`, () => {
    const other = FileSource.open(path);
    try {
      const digest = digestOf(section);
      if (other.size === section.size && digestOf(other) === digest) return `SHA-256 ${digest}`;
    } finally {
      other.close();
    }
    throw differs(`${name} and ${path} are not the same`);
  });
}

function extractMini(section: ByteSource, path: string): Mini {
  const fd = openSync(path, 'wx', 0o600);
  try {
    eachPiece(section, 0, section.size, (piece) => {
      for (let done = 0; done < piece.length; ) done += writeSync(fd, piece, done);
    });
  } finally {
    closeSync(fd);
  }
  return openMini(path);
}
