// A result as a file that appears when it is complete, or on standard output.
// Called by diff-files.ts; what is written comes in pieces of any size.
// A device or a pipe is written into, never replaced; a symlink stays, and what it leads to is replaced.

import { closeSync, openSync, realpathSync, statSync, writeSync } from 'node:fs';
import { inPieces } from '../bytes/pieces.js';
import { ImageFile } from '../erofs/write-sink.js';
import { MountError, reasonOf } from '../stack/errors.js';
import { asMountError } from './image.js';

type Write = (bytes: Uint8Array) => void;

/** @param make writes all of it; what it gives may be used again after each call. @returns how many bytes. */
export async function writeFile(target: string, make: (write: Write) => void): Promise<number> {
  if (target === '-') return writeToOutput(make);
  let file: ImageFile | undefined;
  try {
    const place = placeOf(target);
    if (place === undefined) return writeToDevice(target, make);
    file = new ImageFile(place);
    const out = file;
    const total = inPieces(make, (bytes, at) => out.write(at, bytes));
    await file.publish(total);
    return total;
  } catch (error) {
    await file?.discard();
    if ((error as NodeJS.ErrnoException).code === undefined) throw asMountError(error, target);
    // Its path is that of the file beside it, which nobody has heard of.
    const message = `${target}: cannot be written: ${reasonOf(error)}`;
    throw new MountError('layer', message, { cause: error });
  }
}

/** The regular file that is, or is to be, at the end of the symlinks; undefined: it is a device or a pipe. */
function placeOf(target: string): string | undefined {
  const found = statSync(target, { throwIfNoEntry: false });
  if (found === undefined) return target;
  if (found.isDirectory()) {
    throw new MountError('option', `${target}: is a directory: name a FILE`);
  }
  return found.isFile() ? realpathSync(target) : undefined;
}

function writeToOutput(make: (write: Write) => void): number {
  if (process.stdout.isTTY) {
    throw new MountError('option', 'standard output is a terminal: name a FILE, or redirect it');
  }
  try {
    return writeInto(1, make);
  } catch (error) {
    throw asMountError(error, 'standard output');
  }
}

function writeToDevice(target: string, make: (write: Write) => void): number {
  const fd = openSync(target, 'w');
  try {
    return writeInto(fd, make);
  } finally {
    closeSync(fd);
  }
}

/** Its reader has gone: nobody wants the rest. */
class ReaderGone extends Error {}

function writeInto(fd: number, make: (write: Write) => void): number {
  let total = 0;
  try {
    inPieces(make, (bytes) => {
      writeAll(fd, bytes);
      total += bytes.length;
    });
  } catch (error) {
    if (!(error instanceof ReaderGone)) throw error;
  }
  return total;
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE') throw new ReaderGone();
      if (code !== 'EAGAIN') throw error;
      // A pipe that somebody made non-blocking.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}
