import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pattern } from '../oracle/layers.js';
import { Random } from '../oracle/random.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { AT, type Mapping, mapShared, must, O, sys } from '../support/sys.js';
import { tempDir } from '../support/temp.js';
import { IntegrityStack } from './stack.js';

const skip = requires({ root: true, features: ['fuse'] });

const page = 4096;
/** Not whole pages, so that the last one is partial. */
const size = 3 * 1024 * 1024 + 1234;

type Way = 'write' | 'mmap' | 'truncate' | 'append';

/** A file being changed, what it must hold, and who else has it open. */
class Subject {
  readonly #fd: number;
  readonly #reader: number;
  readonly #view: Mapping;
  #expected: Buffer;

  /** `reader` and `view` look at the file since before it was copied up. */
  constructor(path: string, expected: Buffer) {
    this.#expected = Buffer.from(expected);
    this.#reader = must(sys.open(AT.FDCWD, path, O.RDONLY));
    this.#view = mapping(this.#reader, expected.length, false);
    assert.equal(this.#view.bytes[0], expected[0]);
    this.#fd = must(sys.open(AT.FDCWD, path, O.RDWR));
  }

  change(way: Way, random: Random): void {
    const length = this.#expected.length;
    if (way === 'append') {
      const data = pattern(random.below(1000), 1 + random.below(2 * page));
      assert.equal(sys.pwrite(this.#fd, data, length), data.length);
      this.#expected = Buffer.concat([this.#expected, data]);
    } else if (way === 'truncate') {
      const to = Math.max(page, length + random.below(8 * page) - 4 * page);
      assert.equal(sys.ftruncate(this.#fd, to), 0);
      const next = Buffer.alloc(to);
      this.#expected.copy(next);
      this.#expected = next;
    } else {
      const at = random.below(length);
      const data = pattern(random.below(1000), Math.min(1 + random.below(2 * page), length - at));
      if (way === 'write') assert.equal(sys.pwrite(this.#fd, data, at), data.length);
      else {
        const memory = mapping(this.#fd, length, true);
        memory.bytes.set(data, at);
        if (random.oneIn(4)) assert.equal(memory.sync(), 0);
        memory.unmap();
      }
      data.copy(this.#expected, at);
    }
    if (random.oneIn(10)) assert.equal(sys.fsync(this.#fd), 0);
  }

  /** The bytes as everybody sees them must be the expected ones. */
  check(path: string, when: string): void {
    const expected = this.#expected;
    same(readFileSync(path), expected, `${when}, opened anew`);
    for (const [fd, who] of [
      [this.#fd, 'writer'],
      [this.#reader, 'reader opened before the copy-up'],
    ] as const) {
      same(readAll(fd, expected.length), expected, `${when}, ${who}`);
    }
    // Beyond the end of the file a mapping may not be touched.
    const shown = Math.min(expected.length, size);
    const mapped = Buffer.from(this.#view.bytes.subarray(0, shown));
    same(mapped, expected.subarray(0, shown), `${when}, mapping made before the copy-up`);
  }

  close(): Buffer {
    this.#view.unmap();
    sys.close(this.#reader);
    sys.close(this.#fd);
    return this.#expected;
  }
}

function mapping(fd: number, length: number, writable: boolean): Mapping {
  const made = mapShared(fd, length, writable);
  if (typeof made === 'number') throw new Error(`mmap: ${made}`);
  return made;
}

function readAll(fd: number, length: number): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < length; ) {
    const part = sys.pread(fd, 65_536, at);
    if (typeof part === 'number') throw new Error(`pread: ${part}`);
    if (part.length === 0) break;
    parts.push(part);
    at += part.length;
  }
  return Buffer.concat(parts);
}

/** As assert.equal for large buffers, naming the first byte that differs. */
function same(actual: Buffer, expected: Buffer, what: string): void {
  if (actual.equals(expected)) return;
  let at = 0;
  while (at < expected.length && actual[at] === expected[at]) at += 1;
  assert.fail(
    `${what}: ${actual.length} bytes instead of ${expected.length}, the first other one at ${at}: ` +
      `${actual[at]} instead of ${expected[at]}`,
  );
}

const ways: Record<string, readonly Way[]> = {
  'page writes': ['write'],
  'mmap writes': ['mmap'],
  'truncates and writes': ['truncate', 'write'],
  appends: ['append'],
  'all of it': ['write', 'mmap', 'truncate', 'append'],
};

for (const [name, choices] of Object.entries(ways)) {
  test(`${name} on a file just copied up: every byte, and the lower as it was`, { skip }, (t) => {
    const stack = new IntegrityStack(tempDir(t));
    const files = ['one', 'two', 'three'];
    for (const [i, file] of files.entries()) {
      writeFileSync(join(stack.lower, file), pattern(i, size));
    }
    stack.start();
    const random = new Random(campaign('seed', 11));
    const rounds = campaign('rounds', 150);
    const path = (file: string) => join(stack.mountpoint, file);
    const subjects = files.map((file, i) => new Subject(path(file), pattern(i, size)));
    for (let round = 0; round < rounds; round++) {
      const i = random.below(files.length);
      subjects[i].change(random.pick(choices), random);
      if (random.oneIn(25)) subjects[i].check(path(files[i]), `${files[i]}, round ${round}`);
    }
    for (const [i, subject] of subjects.entries()) {
      subject.check(path(files[i]), `${files[i]}, at the end`);
    }
    assert.ok(stack.lowerIsUntouched(), 'the lower changed while files were open and mapped');
    const expected = subjects.map((subject) => subject.close());
    stack.remount();
    for (const [i, file] of files.entries()) {
      same(readFileSync(path(file)), expected[i], `${file}, remounted`);
    }
    stack.stop();
    for (const [i, file] of files.entries()) {
      same(readFileSync(join(stack.upper, file)), expected[i], `${file}, in the upper`);
    }
    assert.ok(stack.lowerIsUntouched(), 'the lower changed');
  });
}

test('one write to each page of a file just copied up, in random order', { skip }, (t) => {
  const stack = new IntegrityStack(tempDir(t));
  writeFileSync(join(stack.lower, 'file'), pattern(1, size));
  stack.start();
  const random = new Random(campaign('seed', 12));
  const file = join(stack.mountpoint, 'file');
  const expected = pattern(1, size);
  const pages = Array.from({ length: Math.floor(size / page) }, (_, i) => i);
  const fd = must(sys.open(AT.FDCWD, file, O.RDWR));
  while (pages.length > 0) {
    const at = (pages.splice(random.below(pages.length), 1)[0] as number) * page;
    const data = pattern(at, page);
    // Databases read what they are about to write.
    const before = sys.pread(fd, page, at);
    if (typeof before === 'number') throw new Error(`pread: ${before}`);
    same(before, expected.subarray(at, at + page), `page at ${at} before its write`);
    assert.equal(sys.pwrite(fd, data, at), page);
    data.copy(expected, at);
  }
  same(readFileSync(file), expected, 'before the close');
  sys.close(fd);
  same(readFileSync(file), expected, 'after the close');
  stack.remount();
  same(readFileSync(file), expected, 'after a remount');
  stack.stop();
  assert.ok(stack.lowerIsUntouched());
});
