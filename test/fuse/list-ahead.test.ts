import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReplySink } from '../../src/fuse/dirsink.js';
import { emptyRequest } from '../../src/fuse/dispatch.js';
import { ListAhead } from '../../src/fuse/list-ahead.js';
import { mapMemory, putBytes, u8 } from '../../src/linux/memory.js';
import type { DirSink, FileSystem, Request } from '../../src/vfs/filesystem.js';
import { replyBuffer, WORK } from '../../src/vfs/layout.js';

mapMemory();
const OUT = replyBuffer(0) + 16;
const SIZE = 4096;

/** A directory of `entries` numbered names in every node. */
function listing(entries: number, log: string[] = []): FileSystem {
  return {
    listsAhead: true,
    readdir(r: Request, _lo: number, _hi: number, offset: number, sink: DirSink) {
      log.push(`${r.nodeLo}@${offset}`);
      for (let i = offset; i < entries; i++) {
        const length = putBytes(WORK, `${r.nodeLo}-name-${i}`);
        if (!sink.fits(length)) break;
        sink.add(i, 0, i + 1, 8, WORK, length);
      }
      return 0;
    },
  } as unknown as FileSystem;
}

const sink = (): ReplySink => new ReplySink([1, 0, 0]);

function request(node: number): Request {
  return { ...emptyRequest(), nodeLo: node };
}

/** The piece as the filesystem makes it for a request. */
function direct(fs: FileSystem, node: number, offset: number): { bytes: Buffer; next: number } {
  const own = sink();
  own.begin(OUT, SIZE, false);
  fs.readdir(request(node), 0, 0, offset, own);
  return { bytes: Buffer.from(u8.slice(OUT, own.end)), next: own.last };
}

test('a piece made ahead is the piece that would have been made, to the end', () => {
  const fs = listing(500);
  const ahead = new ListAhead(fs, sink());
  let offset = direct(fs, 1, 0).next;
  for (let pieces = 0; ; pieces++) {
    ahead.expect(request(1), 0, 0, offset, SIZE, false);
    assert.ok(ahead.wanted);
    ahead.make(emptyRequest());
    assert.ok(!ahead.wanted);
    const { bytes, next } = direct(fs, 1, offset);
    u8.fill(0xaa, OUT, OUT + SIZE);
    const length = ahead.take(OUT, request(1), 0, 0, offset, SIZE, false);
    assert.deepEqual(Buffer.from(u8.slice(OUT, OUT + length)), bytes);
    if (length === 0) {
      assert.ok(pieces > 3);
      return;
    }
    assert.equal(ahead.next, next);
    offset = next;
  }
});

test('a piece is given once, and for nothing but the same question', () => {
  const fs = listing(500);
  const ahead = new ListAhead(fs, sink());
  ahead.expect(request(1), 5, 6, 40, SIZE, true);
  const take = (
    node: number,
    lo: number,
    hi: number,
    offset: number,
    size: number,
    plus: boolean,
  ) => ahead.take(OUT, request(node), lo, hi, offset, size, plus);
  ahead.make(emptyRequest());
  assert.equal(take(2, 5, 6, 40, SIZE, true), -1);
  assert.equal(take(1, 4, 6, 40, SIZE, true), -1);
  assert.equal(take(1, 5, 7, 40, SIZE, true), -1);
  assert.equal(take(1, 5, 6, 41, SIZE, true), -1);
  assert.equal(take(1, 5, 6, 40, SIZE - 8, true), -1);
  assert.equal(take(1, 5, 6, 40, SIZE, false), -1);
  assert.ok(take(1, 5, 6, 40, SIZE, true) > 0);
  assert.equal(take(1, 5, 6, 40, SIZE, true), -1);
});

test('a client that is faster than the piece gets it made for itself, and it is not made again', () => {
  const made: string[] = [];
  const ahead = new ListAhead(listing(500, made), sink());
  ahead.expect(request(1), 0, 0, 40, SIZE, false);
  assert.equal(ahead.take(OUT, request(1), 0, 0, 40, SIZE, false), -1);
  assert.ok(!ahead.wanted);
  ahead.make(emptyRequest());
  assert.deepEqual(made, []);
});

test('several clients have their pieces side by side; beyond that the oldest goes', () => {
  const ahead = new ListAhead(listing(500), sink());
  for (let node = 1; node <= 9; node++) ahead.expect(request(node), 0, 0, 40, SIZE, false);
  while (ahead.wanted) ahead.make(emptyRequest());
  const given = Array.from({ length: 9 }, (_, i) => {
    const length = ahead.take(OUT, request(i + 1), 0, 0, 40, SIZE, false);
    return length > 0 && Buffer.from(u8.slice(OUT, OUT + length)).includes(`${i + 1}-name-40`);
  });
  assert.deepEqual(given, [false, true, true, true, true, true, true, true, true]);
});

test('a failure is left for the request', () => {
  const fs = { listsAhead: true, readdir: () => -5 } as unknown as FileSystem;
  const ahead = new ListAhead(fs, sink());
  ahead.expect(request(1), 0, 0, 40, SIZE, false);
  ahead.make(emptyRequest());
  assert.equal(ahead.take(OUT, request(1), 0, 0, 40, SIZE, false), -1);
});
