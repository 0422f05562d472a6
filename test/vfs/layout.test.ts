import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ARENA_SIZE, MAX_THREADS, SCRATCH_END, SCRATCH_SIZE } from '../../src/linux/memory.js';
import * as layout from '../../src/vfs/layout.js';

const { HEADER, MESSAGE_SIZE, requestBuffer, replyBuffer } = layout;

/** Name, first byte, length. */
const regions: [string, number, number][] = [
  ['scratch', 0, SCRATCH_SIZE * MAX_THREADS],
  ['header', HEADER, 64 * 1024],
  ...Array.from({ length: MAX_THREADS }, (_, i): [string, number, number][] => [
    [`request ${i}`, requestBuffer(i), MESSAGE_SIZE],
    [`reply ${i}`, replyBuffer(i), MESSAGE_SIZE],
  ]).flat(),
  ['jobs', layout.JOBS, layout.JOB_SIZE * layout.JOB_COUNT],
  ['work', layout.WORK, layout.WORK_SIZE],
  ['listing', layout.LISTING, layout.LISTING_SIZE],
  ['nodes', layout.NODES, layout.NODE_SIZE * layout.NODE_COUNT],
  ['name buckets', layout.NAME_BUCKETS, 4 * layout.BUCKET_COUNT],
  ['inode buckets', layout.INO_BUCKETS, 4 * layout.INO_BUCKET_COUNT],
  ['handles', layout.HANDLES, layout.HANDLE_SIZE * layout.HANDLE_COUNT],
  ['names', layout.NAMES, layout.NAMES_SIZE],
  ['layer directories', layout.LAYER_DIRS, layout.LAYER_DIR_SIZE * layout.LAYER_DIR_COUNT],
  ['stacks', layout.STACKS, layout.STACKS_SIZE],
  ['objects', layout.OBJECTS, layout.OBJECT_SIZE * layout.OBJECT_COUNT],
  ['verified', layout.VERIFIED, layout.VERIFIED_SIZE],
  ['given', layout.GIVEN, layout.GIVEN_SIZE],
  ['kept replies', layout.KEPT, layout.KEPT_SIZE * layout.KEPT_COUNT],
];

test('regions are page aligned, apart from each other and inside the arena', () => {
  let end = 0;
  let before = 'the start';
  for (const [name, at, length] of regions.toSorted((a, b) => a[1] - b[1])) {
    assert.equal(at % 4096, 0, `${name} is not aligned`);
    assert.ok(at >= end, `${name} overlaps ${before}`);
    assert.ok(length > 0);
    end = at + length;
    before = name;
  }
  assert.ok(end <= ARENA_SIZE);
  assert.equal(SCRATCH_END, SCRATCH_SIZE * MAX_THREADS);
});

test('offsets stay small integers', () => {
  assert.ok(ARENA_SIZE < 2 ** 31);
});

test('bucket counts are powers of two, for hashes are masked', () => {
  for (const count of [layout.BUCKET_COUNT, layout.INO_BUCKET_COUNT]) {
    assert.equal(count & (count - 1), 0);
  }
});

test('a message holds MAX_IO and room for every header before it', () => {
  assert.ok(MESSAGE_SIZE >= layout.MAX_IO + 4096);
});
