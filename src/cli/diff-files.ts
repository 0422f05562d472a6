// The files that `varve diff` writes: a page, and a layer in a tar archive.
// Called by diff.ts where --html or --tar asks for one; each appears under its name when it is complete.
// Forms: report/page.ts, docs/diff.md; OCI image-spec v1.1, layer.md.

import { writeSync } from 'node:fs';
import { ImageFile } from '../erofs/write-sink.js';
import { MountError } from '../stack/errors.js';
import * as tar from '../tree/tar-write.js';
import { show } from '../tree/tree.js';
import { deltaTree } from '../union/delta.js';
import { removeSockets, toOciForm } from '../union/oci-form.js';
import type { Arguments } from './args.js';
import type { Compared } from './diff-compared.js';
import { asMountError } from './image.js';
import { counted, remark, size } from './output.js';

/** Bytes that are collected before they are written: an archive is made of many small blocks. */
const PIECE = 1024 * 1024;

/** `--tar`. @param target a path, or `-`. */
export async function writeTar(
  given: Arguments,
  { stack, changes }: Compared,
  target: string,
): Promise<void> {
  if (stack === undefined) {
    throw new MountError('option', '--tar: whole trees make no layer: leave --trees out');
  }
  const { marks } = stack.upper;
  const root = deltaTree(stack, changes, { marks });
  const sockets = removeSockets(root, marks, stack.before);
  if (sockets > 0) remark(given, `${counted(sockets, 'socket')} left out: tar cannot hold them`);
  const reserved = given.has('kernel') ? undefined : toOciForm(root, marks);
  if (reserved !== undefined) {
    throw new MountError(
      'layer',
      `${show(reserved)}: in an OCI layer this name would delete another one: write --kernel, or rename it`,
    );
  }
  const bytes = await writeFile(target, (write) => tar.writeTar(root, write));
  if (target !== '-') remark(given, `${target}: ${size(bytes)}`);
}

type Write = (bytes: Uint8Array) => void;

/** @param make writes all of it; what it gives may be used again after each call. @returns how many bytes. */
async function writeFile(target: string, make: (write: Write) => void): Promise<number> {
  if (target === '-') return toOutput(make);
  let file: ImageFile | undefined;
  try {
    file = new ImageFile(target);
    const out = file;
    const total = inPieces(make, (bytes, at) => out.write(at, bytes));
    await file.publish(total);
    return total;
  } catch (error) {
    await file?.discard();
    throw asMountError(error, target);
  }
}

function toOutput(make: (write: Write) => void): number {
  if (process.stdout.isTTY) {
    throw new MountError('option', 'standard output is a terminal: name a FILE, or redirect it');
  }
  return inPieces(make, (bytes) => {
    for (let done = 0; done < bytes.length; ) done += writeSync(1, bytes, done);
  });
}

function inPieces(
  make: (write: Write) => void,
  put: (bytes: Uint8Array, at: number) => void,
): number {
  const piece = Buffer.allocUnsafe(PIECE);
  let held = 0;
  let at = 0;
  const flush = (): void => {
    if (held > 0) put(piece.subarray(0, held), at);
    at += held;
    held = 0;
  };
  make((bytes) => {
    if (bytes.length > PIECE - held) flush();
    if (bytes.length > PIECE) {
      put(bytes, at);
      at += bytes.length;
    } else {
      piece.set(bytes, held);
      held += bytes.length;
    }
  });
  flush();
  return at;
}
