// Whatever bytes a client sends: the loader lives, answers well-formed frames, and others are served as before.
// Invariant: a connection either goes on or ends; nothing is thrown, and no layer is left in use by one that ended.
// Under test: src/lazy/load/connection.ts with a socket in memory.

import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { Connection } from '../../src/lazy/load/connection.js';
import { Loader } from '../../src/lazy/load/loader.js';
import { Ask, FRAME, type LoaderStatus, Tell } from '../../src/lazy/protocol.js';
import { tempDir } from '../support/temp.js';
import { FakeRegistry, makeLayer } from './fake-layer.js';
import { frame, QUIET, use } from './users.js';

class MemorySocket extends Duplex {
  readonly #written: Buffer[] = [];

  override _read(): void {}

  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    this.#written.push(Buffer.from(chunk));
    done();
  }

  get written(): Buffer {
    return Buffer.concat(this.#written);
  }
}

/** Every byte that came belongs to a frame. */
function assertFrames(bytes: Buffer): void {
  let at = 0;
  while (at < bytes.length) {
    const kind = bytes.readUInt32LE(at);
    const count = bytes.readUInt32LE(at + 12);
    assert.ok(kind >= Tell.HELLO && kind <= Tell.JSON_REPLY, `kind ${kind}`);
    const hasJson = kind === Tell.REFUSED || kind === Tell.JSON_REPLY;
    if (hasJson) JSON.parse(bytes.toString('utf8', at + FRAME, at + FRAME + count));
    at += FRAME + (hasJson ? count : 0);
  }
  assert.equal(at, bytes.length);
}

test('any frames, whole and in pieces', async (t) => {
  const layer = makeLayer(join(tempDir(t), 'layer'), new Array<number>(8).fill(600));
  const registry = new FakeRegistry(layer.origin);
  const loader = new Loader({ read: registry.read });
  t.after(() => loader.end());
  const { open, told } = await use(loader, layer.folder.path, {}, '/good');

  const word = fc.oneof(
    fc.integer({ min: 0, max: 10 }),
    fc.constantFrom(0x7fff_ffff, 0x8000_0000, 0xffff_ffff),
  );
  const request = fc.record(
    {
      layer: fc.oneof(word, fc.constant('1')),
      folder: fc.constantFrom(layer.folder.path, '/', 'x', 7, null),
      mountpoint: fc.constantFrom('/mnt', 5),
      policy: fc.constantFrom(QUIET, {}, null, { ...QUIET, stall: 'never' }),
      way: fc.constantFrom('server', 'kernel', 3),
    },
    { requiredKeys: [] },
  );
  const command = fc.record({
    op: fc.constantFrom('status', 'fill', 'evict', 'record', 'nothing', 1),
    mountpoint: fc.constantFrom('/mnt', '/nowhere', undefined),
    folders: fc.constantFrom(undefined, ['/nowhere'], 'no list'),
    keep: fc.constantFrom(0, -1, Number.NaN),
  });
  const json = fc
    .tuple(fc.constantFrom(Ask.USE, Ask.COMMAND), fc.oneof(request, command, fc.jsonValue()))
    .map(([kind, value]) => {
      const body = Buffer.from(JSON.stringify(value) ?? '');
      return Buffer.concat([frame(kind, 1, 0, body.length), body]);
    });
  const plain = fc
    .tuple(fc.integer({ min: 0, max: 8 }), word, word, word)
    .map(([kind, number, first, count]) => frame(kind, number, first, count));
  const noise = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes));
  const stream = fc.array(fc.oneof(plain, json, { arbitrary: noise, weight: 1 }), {
    maxLength: 12,
  });

  await fc.assert(
    fc.asyncProperty(stream, fc.integer({ min: 1, max: 64 }), async (parts, size) => {
      const socket = new MemorySocket();
      new Connection(socket as unknown as Socket, loader);
      const bytes = Buffer.concat([frame(Ask.HELLO, 0, 1, 0), ...parts]);
      for (let at = 0; at < bytes.length && !socket.destroyed; at += size) {
        socket.push(bytes.subarray(at, at + size));
        await turn();
      }
      for (let i = 0; i < 5; i++) await turn();
      assertFrames(socket.written);
      socket.destroy();
      for (let i = 0; i < 5; i++) await turn();
      const { layers } = loader.status();
      assert.deepEqual(
        (layers as LoaderStatus['layers']).map(({ mountpoints }) => mountpoints),
        [['/good']],
      );
    }),
    { numRuns: 300 },
  );
  open.want(7, 1);
  await told.until(({ arrived }) => arrived.has(7));
});
