// Dispatch without a mount: bytes in, bytes out, against memfs and against a filesystem that misbehaves.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DecodedReply, decodeReply } from '../../src/fuse/decode.js';
import { Dispatcher, type DispatchHost, emptyRequest } from '../../src/fuse/dispatch.js';
import { OP, OPCODES, type OpName } from '../../src/fuse/opcodes.js';
import { undo } from '../../src/fuse/undo.js';
import { E } from '../../src/linux/errno.js';
import { mapMemory, u8 } from '../../src/linux/memory.js';
import { ABSENT, type FileSystem, PARKED } from '../../src/vfs/filesystem.js';
import { note } from '../../src/vfs/journal.js';
import { replyBuffer, requestBuffer } from '../../src/vfs/layout.js';
import { campaign } from '../support/campaign.js';
import { MemoryFileSystem, Trouble } from './memfs.js';
import { type Message, request } from './messages.js';

mapMemory();

const host = (): DispatchHost => ({
  session: undefined,
  defer: () => ({}),
  resume: () => {},
  refuse: () => {},
  invalInode: () => {},
  invalEntry: () => {},
  notifyDelete: () => {},
  storeStart: () => {},
  errand: () => {},
  backingOpen: () => -E.PERM,
  backingClose: () => {},
  passthrough: false,
  writeback: false,
  noOpendir: false,
  jobs: { parkReply: () => -E.AGAIN, run: () => {} },
  interrupted: () => {},
});

class Bench {
  readonly logged: string[] = [];
  readonly dispatcher: Dispatcher;

  constructor(fs: FileSystem, timeout = 1) {
    this.dispatcher = new Dispatcher(emptyRequest(), fs, host(), {
      wishes: { passthrough: false, writeback: false, acl: false },
      timeout,
      log: (line) => this.logged.push(line),
    });
  }

  /** Sends raw bytes. @returns the reply's bytes, or undefined when there is none. */
  raw(bytes: Uint8Array): Uint8Array | undefined {
    u8.set(bytes, requestBuffer(0));
    const length = this.dispatcher.handle(bytes.length);
    const at = replyBuffer(0);
    return length === 0 ? undefined : u8.slice(at, at + length);
  }

  send(name: OpName, message?: Message): DecodedReply {
    const bytes = this.raw(request(name, message));
    assert.ok(bytes, `no reply to ${name}`);
    const reply = decodeReply(bytes, OP[name]);
    if (reply instanceof Error) throw reply;
    assert.equal(reply.header.unique, message?.unique ?? 0x77n);
    return reply;
  }

  init(): this {
    const reply = this.send('INIT', {
      args: { major: 7, minor: 45, flags: 0x7fffffff, flags2: 0xffff },
    });
    assert.equal(reply.header.error, 0);
    return this;
  }
}

const memory = (): [Bench, MemoryFileSystem] => {
  const fs = new MemoryFileSystem();
  fs.add('file', 'content');
  return [new Bench(fs).init(), fs];
};

/** A filesystem whose every method gives the same. */
const constant = (result: unknown): FileSystem =>
  new Proxy({} as FileSystem, {
    get: (_target, name) => (name === 'start' || name === 'stop' ? () => {} : () => result),
  });

test('LOOKUP answers an entry with the timeouts, fractions included', () => {
  const fs = new MemoryFileSystem();
  fs.add('file', 'content');
  const { body } = new Bench(fs, 2.25).init().send('LOOKUP', { names: ['file'] });
  const entry = body as Record<string, unknown>;
  assert.equal(entry['nodeid'], 2n);
  assert.equal(entry['entry_valid'], 2n);
  assert.equal(entry['entry_valid_nsec'], 250_000_000);
  assert.equal(entry['attr_valid_nsec'], 250_000_000);
  assert.equal((entry['attr'] as { size: bigint }).size, 7n);
});

test('a name that does not exist is remembered with a timeout, and an error without', () => {
  const remembered = new Bench(new MemoryFileSystem(), 5).init().send('LOOKUP', { names: ['no'] });
  assert.equal((remembered.body as { nodeid: bigint }).nodeid, 0n);
  assert.equal((remembered.body as { entry_valid: bigint }).entry_valid, 5n);
  const not = new Bench(new MemoryFileSystem(), 0).init().send('LOOKUP', { names: ['no'] });
  assert.equal(not.header.error, -E.NOENT);
});

test('READ and WRITE carry data, GETXATTR lengths and values', () => {
  const [bench, fs] = memory();
  bench.send('LOOKUP', { names: ['file'] });
  const nodeid = 2n;
  const tail = Buffer.from('tent!');
  const written = bench.send('WRITE', { nodeid, args: { offset: 3n, size: 5 }, tail });
  assert.deepEqual(written.body, { size: 5 });
  const read = bench.send('READ', { nodeid, args: { offset: 1n, size: 100 } });
  assert.equal(Buffer.from(read.data as Uint8Array).toString(), 'ontent!');
  const value = Buffer.from('value');
  bench.send('SETXATTR', { nodeid, args: { size: 5 }, names: ['user.a'], tail: value });
  const length = bench.send('GETXATTR', { nodeid, args: { size: 0 }, names: ['user.a'] });
  assert.deepEqual([...(length.data as Uint8Array)], [5, 0, 0, 0, 0, 0, 0, 0]);
  const got = bench.send('GETXATTR', { nodeid, args: { size: 10 }, names: ['user.a'] });
  assert.equal(Buffer.from(got.data as Uint8Array).toString(), 'value');
  const small = bench.send('GETXATTR', { nodeid, args: { size: 2 }, names: ['user.a'] });
  assert.equal(small.header.error, -E.RANGE);
  const none = bench.send('GETXATTR', { nodeid, args: { size: 2 }, names: ['user.b'] });
  assert.equal(none.header.error, -E.NODATA);
  assert.equal(fs.nodes.get(2)?.size, 8);
});

test('READDIR and READDIRPLUS fill what fits and go on from their cookies', () => {
  const fs = new MemoryFileSystem();
  const expected = ['.', '..'];
  for (let i = 0; i < 200; i++) {
    const name = `name-${'x'.repeat(i % 30)}${i}`;
    fs.add(name, '');
    expected.push(name);
  }
  for (const op of ['READDIR', 'READDIRPLUS'] as const) {
    const bench = new Bench(fs).init();
    const seen: string[] = [];
    for (let offset = 0n; ; ) {
      const { entries = [] } = bench.send(op, { args: { offset, size: 1000 } });
      const last = entries.at(-1);
      if (last === undefined) break;
      for (const { name, entry } of entries) {
        const text = Buffer.from(name).toString();
        if (entry !== undefined) assert.equal(entry.nodeid === 0n, text.startsWith('.'), text);
        seen.push(text);
      }
      offset = last.dirent.off;
    }
    assert.deepEqual(seen, expected);
  }
});

test('a batch of FORGET that a predecessor has begun is gone on with', () => {
  const fs = new MemoryFileSystem();
  const forgotten: number[] = [];
  fs.forget = (lo) => void forgotten.push(lo);
  const bench = new Bench(fs);
  const tail = new Uint8Array(new BigUint64Array([2n, 1n, 3n, 1n, 4n, 1n]).buffer);
  const batch = request('BATCH_FORGET', { args: { count: 3 }, tail });
  u8.set(batch, requestBuffer(0));
  note(3, 1);
  bench.dispatcher.handle(batch.length, true);
  assert.deepEqual(forgotten, [3, 4], 'after the one that had its turn');
  forgotten.length = 0;
  assert.equal(bench.raw(batch), undefined);
  assert.deepEqual(forgotten, [2, 3, 4]);
});

test('lookups are counted: each entry of a READDIRPLUS once, FORGET and BATCH_FORGET take them back', () => {
  const [bench, fs] = memory();
  bench.send('READDIRPLUS', { args: { size: 4096 } });
  bench.send('LOOKUP', { names: ['file'] });
  bench.send('LOOKUP', { names: ['file'] });
  assert.deepEqual(fs.held(), [[2, 3]]);
  assert.equal(bench.raw(request('FORGET', { nodeid: 2n, args: { nlookup: 2n } })), undefined);
  assert.deepEqual(fs.held(), [[2, 1]]);
  const tail = Buffer.alloc(16);
  tail.writeBigUInt64LE(2n, 0);
  tail.writeBigUInt64LE(1n, 8);
  assert.equal(bench.raw(request('BATCH_FORGET', { args: { count: 1 }, tail })), undefined);
  assert.deepEqual(fs.held(), []);
});

test('a reply that reached nobody takes its lookups and handles back', () => {
  const [bench, fs] = memory();
  bench.send('LOOKUP', { names: ['file'] });
  undo(fs, bench.dispatcher.request);
  bench.send('READDIRPLUS', { args: { size: 4096 } });
  undo(fs, bench.dispatcher.request);
  bench.send('CREATE', { args: { mode: 0o100644 }, names: ['new'] });
  undo(fs, bench.dispatcher.request);
  bench.send('OPEN', { nodeid: 2n });
  undo(fs, bench.dispatcher.request);
  bench.send('OPENDIR');
  undo(fs, bench.dispatcher.request);
  bench.send('LOOKUP', { names: ['absent'] });
  undo(fs, bench.dispatcher.request);
  assert.deepEqual(fs.held(), []);
  assert.equal(fs.handles.size, 0);
});

test('a method that throws, or returns nonsense, is EIO and a logged request', () => {
  const [bench] = memory();
  assert.equal(bench.send('LOOKUP', { names: [Trouble.throws] }).header.error, -E.IO);
  assert.match(bench.logged[0] ?? '', /opcode 1 unique 119 node 1 uid 1000 pid 4242.*asked to/);
  for (const nonsense of [Number.NaN, undefined, 'x', -100000, -512]) {
    const broken = new Bench(constant(nonsense)).init();
    for (const { name, names, answered, node } of OPCODES) {
      if (!answered || !node || ['GETLK', 'SETLK', 'SETLKW', 'IOCTL'].includes(name)) continue;
      const reply = broken.raw(request(name, { names: names.map(() => 'n') }));
      assert.ok(reply, name);
      const decoded = decodeReply(reply, OP[name]);
      assert.ok(!(decoded instanceof Error), name);
      if (decoded.header.error !== -E.NOSYS) assert.equal(decoded.header.error, -E.IO, name);
    }
  }
});

test('errnos pass through, PARKED gives no reply, ABSENT is ENOENT elsewhere', () => {
  const full = new Bench(constant(-E.NOSPC)).init();
  assert.equal(full.send('MKDIR', { names: ['d'] }).header.error, -E.NOSPC);
  const parked = new Bench(constant(PARKED)).init();
  assert.equal(parked.raw(request('FSYNC')), undefined);
  const absent = new Bench(constant(ABSENT)).init();
  assert.equal(absent.send('UNLINK', { names: ['d'] }).header.error, -E.NOENT);
});

test('what nobody implements: ENOSYS, and ENOTTY for an ioctl', () => {
  const [bench] = memory();
  for (const name of ['GETLK', 'SETLK', 'SETLKW', 'BMAP', 'POLL', 'STATX'] as const) {
    assert.equal(bench.send(name).header.error, -E.NOSYS, name);
  }
  assert.equal(bench.send('IOCTL').header.error, -E.NOTTY);
  const unknown = Buffer.from(request('STATFS'));
  for (const opcode of [0, 7, 19, 54, 63, 64, 4096, 0xffffffff]) {
    unknown.writeUInt32LE(opcode, 4);
    const reply = decodeReply(bench.raw(unknown) as Uint8Array, opcode);
    assert.ok(!(reply instanceof Error));
    assert.equal(reply.header.error, -E.NOSYS, String(opcode));
  }
});

test('names: too long is ENAMETOOLONG, empty or unterminated EINVAL', () => {
  const [bench] = memory();
  const error = (message: Message): number => bench.send('LOOKUP', message).header.error;
  assert.equal(error({ names: ['n'.repeat(255)] }), 0);
  assert.equal(error({ names: ['n'.repeat(256)] }), -E.NAMETOOLONG);
  assert.equal(error({ names: [''] }), -E.INVAL);
  assert.equal(error({ tail: Buffer.from('open') }), -E.INVAL);
  assert.equal(bench.send('GETATTR', { nodeid: 0n }).header.error, -E.INVAL);
});

test('lengths that lie are refused', () => {
  const [bench] = memory();
  const lie = (name: OpName, message: Message): number => bench.send(name, message).header.error;
  assert.equal(lie('WRITE', { args: { size: 9 }, tail: new Uint8Array(8) }), -E.INVAL);
  assert.equal(lie('WRITE', { args: { size: 0xffffffff } }), -E.INVAL);
  assert.equal(lie('STATFS', { len: 41 }), -E.IO);
  assert.equal(
    lie('SETXATTR', { args: { size: 3 }, names: ['user.a'], tail: Buffer.from('hi') }),
    -E.INVAL,
  );
  const tail = new Uint8Array(16);
  assert.equal(bench.raw(request('BATCH_FORGET', { args: { count: 2 }, tail })), undefined);
  assert.equal(bench.raw(new Uint8Array(39)), undefined);
});

test('a kernel of the wrong major version is answered with ours', () => {
  const bench = new Bench(new MemoryFileSystem());
  const { body } = bench.send('INIT', { args: { major: 8, minor: 0 } });
  assert.equal((body as { major: number }).major, 7);
  const minor = (): number | undefined => bench.dispatcher.session?.minor;
  assert.equal(minor(), undefined);
  bench.init();
  assert.equal(minor(), 45);
});

test('a kernel that is too old fails INIT with EIO', () => {
  const bench = new Bench(new MemoryFileSystem());
  assert.equal(bench.send('INIT', { args: { major: 7, minor: 12 } }).header.error, -E.IO);
  assert.match(bench.logged[0] ?? '', /7\.12/);
});

// Invariant: whatever bytes arrive, handle() neither throws nor writes a reply that the kernel would refuse.
test('random and mutated requests', () => {
  let seed = campaign('seed', 1);
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  const [bench] = memory();
  const rounds = campaign('rounds', 20_000);
  for (let round = 0; round < rounds; round++) {
    const record = OPCODES[random(OPCODES.length)] as (typeof OPCODES)[number];
    if (record.name === 'INIT') continue;
    const names = record.names.map(() => 'abcdefgh'.slice(0, 1 + random(8)));
    const tail = new Uint8Array(random(64)).map(() => random(256));
    const bytes = Buffer.from(request(record.name, { names, tail, nodeid: 1n }));
    for (let i = random(6); i > 0; i--) bytes[4 + random(bytes.length - 4)] = random(256);
    if (random(4) > 0) bytes.writeUInt32LE(bytes.length, 0);
    const opcode = bytes.readUInt32LE(4);
    if (opcode === OP.INIT) continue;
    const message = random(8) === 0 ? bytes.subarray(0, random(bytes.length + 1)) : bytes;
    const reply = bench.raw(message);
    if (reply === undefined) continue;
    const decoded = decodeReply(reply, opcode);
    if (decoded instanceof Error && !/expected/.test(decoded.message)) {
      assert.fail(`seed ${seed} round ${round} opcode ${opcode}: ${decoded.message}`);
    }
    assert.ok(reply.length >= 16);
  }
});
