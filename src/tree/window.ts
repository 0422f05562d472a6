// A forward reader over an archive: the file or pipe itself, or what its compressed data holds.
// Used by tar-read and cpio-read. Bounded memory: one buffer for each level, whatever the archive's size.
// Follows nothing; synchronous, because whoever builds an image waits for nothing else.

import { fstatSync, readSync } from 'node:fs';
import { allocate, nativeBytes, release } from '../linux/native-memory.js';
import { pollIn } from '../linux/poll.js';
import {
  LOOK_AHEAD,
  openDecoder,
  type StreamDecoder,
  StreamError,
  type StreamFormat,
  streamFormat,
} from '../linux/stream-codecs.js';
import { TreeError } from './errors.js';

const CAPACITY = 256 * 1024;
const AFTER_JUMP = 16 * 1024;

/** A buffered, forward-only view of bytes. */
export abstract class Window {
  /** Byte offset of the next byte that take() or skip() will pass. */
  position = 0;
  readonly address = allocate(CAPACITY);
  protected readonly bytes = nativeBytes(this.address, CAPACITY);
  protected start = 0;
  protected end = 0;
  #isAtEnd = false;

  /** Puts more bytes at `end`. @returns how many, 0 at the end. */
  protected abstract fill(): number;

  /** Where the next byte is in native memory, for decoders. */
  get nextAddress(): number {
    return this.address + this.start;
  }

  /**
   * The next bytes without passing them: `n` (256 KiB at most), or fewer at the end. They are good until the next call.
   */
  peek(n: number): Uint8Array {
    this.#want(n);
    return this.bytes.subarray(this.start, Math.min(this.end, this.start + n));
  }

  /** All that is buffered, at least one byte but at the end. */
  peekSome(): Uint8Array {
    this.#want(1);
    return this.bytes.subarray(this.start, this.end);
  }

  /** Passes bytes that peek() has shown. */
  pass(n: number): void {
    this.start += n;
    this.position += n;
  }

  /** Passes `n` bytes. @returns false when there are fewer. */
  skip(n: number): boolean {
    for (let left = n; left > 0; ) {
      const some = this.peekSome().length;
      if (some === 0) return false;
      const step = Math.min(some, left);
      this.pass(step);
      left -= step;
    }
    return true;
  }

  /** A copy of the next `n` bytes; shorter at the end. */
  take(n: number): Buffer {
    const out = Buffer.allocUnsafe(n);
    let done = 0;
    while (done < n) {
      const some = this.peekSome();
      if (some.length === 0) break;
      const step = Math.min(some.length, n - done);
      out.set(some.subarray(0, step), done);
      this.pass(step);
      done += step;
    }
    return out.subarray(0, done);
  }

  /**
   * Passes zero bytes. @returns the offset of the first other byte, or undefined at the end.
   */
  skipZeros(): number | undefined {
    for (;;) {
      const some = this.peekSome();
      if (some.length === 0) return undefined;
      let n = 0;
      while (n < some.length && some[n] === 0) n++;
      this.pass(n);
      if (n < some.length) return this.position;
    }
  }

  /** The file that holds these bytes as they are, at their position; undefined when there is none. */
  get file(): { fd: number; size: number } | undefined {
    return undefined;
  }

  close(): void {
    release(this.address, CAPACITY);
  }

  #want(n: number): void {
    if (this.end - this.start >= n || this.#isAtEnd) return;
    if (CAPACITY - this.start < n) {
      this.bytes.copyWithin(0, this.start, this.end);
      this.end -= this.start;
      this.start = 0;
    } else if (this.start === this.end) {
      this.start = 0;
      this.end = 0;
    }
    while (this.end - this.start < n) {
      const got = this.fill();
      if (got === 0) {
        this.#isAtEnd = true;
        return;
      }
      this.end += got;
    }
  }
}

/** The bytes of a file descriptor; what can be seeked is not read where it is skipped. */
export class FileWindow extends Window {
  readonly #fd: number;
  readonly #name: string;
  /** Of a regular file, bytes; undefined for pipes and the like. */
  readonly #size: number | undefined;
  /** Where the next read begins, in a regular file. */
  #offset = 0;
  /** After a jump little is read at once: behind one large member there may be another. */
  #ahead = CAPACITY;

  /** @param name for messages. The descriptor stays the caller's; a regular file is read from its beginning. */
  constructor(fd: number, name: string) {
    super();
    this.#fd = fd;
    this.#name = name;
    const stat = fstatSync(fd);
    this.#size = stat.isFile() ? stat.size : undefined;
  }

  override get file(): { fd: number; size: number } | undefined {
    return this.#size === undefined ? undefined : { fd: this.#fd, size: this.#size };
  }

  override skip(n: number): boolean {
    const buffered = this.end - this.start;
    if (this.#size === undefined || n <= buffered) return super.skip(n);
    if (this.position + n > this.#size) return false;
    this.position += n;
    this.#offset = this.position;
    this.#ahead = AFTER_JUMP;
    this.start = this.end = 0;
    return true;
  }

  protected fill(): number {
    for (;;) {
      try {
        const position = this.#size === undefined ? null : this.#offset;
        const room = Math.min(CAPACITY - this.end, this.#ahead);
        const n = readSync(this.#fd, this.bytes, this.end, room, position);
        this.#offset += n;
        this.#ahead = CAPACITY;
        return n;
      } catch (cause) {
        const { code, message } = cause as NodeJS.ErrnoException;
        // A pipe that somebody made non-blocking.
        if (code === 'EAGAIN') pollIn([this.#fd], -1);
        else if (code === 'EOF') return 0;
        else if (code !== 'EINTR') {
          throw new TreeError(`cannot read ${this.#name}: ${message}`, { cause });
        }
      }
    }
  }
}

/** Bytes in memory, borrowed. */
export class BytesWindow extends Window {
  readonly #source: Uint8Array;
  #taken = 0;

  constructor(source: Uint8Array) {
    super();
    this.#source = source;
  }

  protected fill(): number {
    const piece = this.#source.subarray(this.#taken, this.#taken + CAPACITY - this.end);
    this.bytes.set(piece, this.end);
    this.#taken += piece.length;
    return piece.length;
  }
}

/** What a run of compressed streams of one format holds (gzip members, frames). */
export class DecodedWindow extends Window {
  readonly #input: Window;
  readonly #format: StreamFormat;
  readonly #name: string;
  #decoder: StreamDecoder | undefined;

  /** @param input stands at the first stream; when this window is at its end it stands behind the last, and zeros after it. */
  constructor(input: Window, format: StreamFormat, name: string) {
    super();
    this.#input = input;
    this.#format = format;
    this.#name = name;
    this.#decoder = openDecoder(format, input.peek(LOOK_AHEAD));
  }

  protected fill(): number {
    while (this.#decoder !== undefined) {
      const decoder = this.#decoder;
      const input = this.#input;
      input.peek(LOOK_AHEAD);
      const available = input.peekSome().length;
      try {
        const room = CAPACITY - this.end;
        decoder.step(input.nextAddress, available, this.address + this.end, room);
      } catch (cause) {
        if (!(cause instanceof StreamError)) throw cause;
        const where = `${this.#name}: ${cause.message}, near byte ${input.position}`;
        throw new TreeError(where, { cause });
      }
      input.pass(decoder.consumed);
      if (decoder.ended) this.#next();
      if (decoder.produced > 0) return decoder.produced;
      if (!decoder.ended && decoder.consumed === 0 && available === 0) {
        throw new TreeError(
          `${this.#name}: the ${this.#format} data ends too early, at byte ${input.position}`,
        );
      }
    }
    return 0;
  }

  override close(): void {
    this.#decoder?.close();
    this.#decoder = undefined;
    super.close();
  }

  /** Goes on with a stream of the same format that follows. */
  #next(): void {
    this.#decoder?.close();
    this.#decoder = undefined;
    this.#input.skipZeros();
    const head = this.#input.peek(LOOK_AHEAD);
    if (streamFormat(head) === this.#format) this.#decoder = openDecoder(this.#format, head);
  }
}

/**
 * What an archive holds: the window itself, or one that decompresses it.
 * @throws TreeError for a format that is known and not supported.
 */
export function decode(input: Window, name: string): Window {
  const format = streamFormat(input.peek(LOOK_AHEAD));
  if (format === undefined) return input;
  if (format === 'bzip2' || format === 'lzo') {
    throw new TreeError(
      `${name} is compressed by ${format}: decompress it first, for example by a pipe`,
    );
  }
  return new DecodedWindow(input, format, name);
}
