// Messages of the kernel as annotated rows, both ways; every struct against the C header's sizes.
// Rows were taken from a traced mount and from include/uapi/linux/fuse.h.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Fields, Struct } from '../../src/bytes/struct.js';
import * as abi from '../../src/fuse/abi.js';
import { decodeReply, decodeRequest } from '../../src/fuse/decode.js';
import { MIN_LENGTH, OP, OPCODES, opcodeOf } from '../../src/fuse/opcodes.js';
import { fromRows, type Message, request } from './messages.js';

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

interface Row {
  readonly name: keyof typeof OP;
  readonly message: Message;
  readonly rows: string;
}

const HEADER = (len: string, opcode: string, node = '0100000000000000') => `
  ${len}              // len
  ${opcode}           // opcode
  7700000000000000    // unique
  ${node}             // nodeid
  e8030000 e9030000   // uid 1000, gid 1001
  92100000            // pid 4242
  0000 0000           // total_extlen, padding
`;

const requests: Row[] = [
  {
    name: 'LOOKUP',
    message: { names: ['etc'] },
    rows: `${HEADER('2c000000', '01000000')} "etc" 00`,
  },
  {
    name: 'FORGET',
    message: { nodeid: 5n, args: { nlookup: 3n } },
    rows: `${HEADER('30000000', '02000000', '0500000000000000')} 0300000000000000  // nlookup`,
  },
  {
    name: 'GETATTR',
    message: { args: { getattr_flags: 1, fh: 9n } },
    rows: `${HEADER('38000000', '03000000')}
      01000000 00000000   // FUSE_GETATTR_FH, dummy
      0900000000000000    // fh`,
  },
  {
    name: 'SETATTR',
    message: {
      args: {
        valid: 0x68,
        fh: 2n,
        size: 4096n,
        atime: -1n,
        mtime: 5n,
        ctime: 6n,
        atimensec: 7,
        mtimensec: 8,
        ctimensec: 9,
        mode: 0o644,
        uid: 1,
        gid: 2,
      },
    },
    rows: `${HEADER('80000000', '04000000')}
      68000000 00000000   // valid SIZE|MTIME|FH, padding
      0200000000000000    // fh
      0010000000000000    // size
      0000000000000000    // lock_owner
      ffffffffffffffff    // atime -1
      0500000000000000    // mtime
      0600000000000000    // ctime
      07000000 08000000 09000000
      a4010000            // mode 0644
      00000000            // unused4
      01000000 02000000   // uid, gid
      00000000            // unused5`,
  },
  {
    name: 'SYMLINK',
    message: { names: ['link', '../x'] },
    rows: `${HEADER('32000000', '06000000')} "link" 00 "../x" 00`,
  },
  {
    name: 'MKNOD',
    message: { args: { mode: 0o20600, rdev: 0x103, umask: 0o22 }, names: ['null'] },
    rows: `${HEADER('3d000000', '08000000')}
      80210000            // mode S_IFCHR 0600
      03010000            // rdev 1:3
      12000000 00000000   // umask, padding
      "null" 00`,
  },
  {
    name: 'RENAME2',
    message: { args: { newdir: 2n, flags: 2 }, names: ['a', 'b'] },
    rows: `${HEADER('3c000000', '2d000000')}
      0200000000000000    // newdir
      02000000 00000000   // RENAME_EXCHANGE
      "a" 00 "b" 00`,
  },
  {
    name: 'WRITE',
    message: {
      args: { fh: 1n, offset: 0x1_0000_0001n, size: 3, write_flags: 4, flags: 0x8001 },
      tail: Buffer.from('abc'),
    },
    rows: `${HEADER('53000000', '10000000')}
      0100000000000000    // fh
      0100000001000000    // offset
      03000000 04000000   // size, KILL_SUIDGID
      0000000000000000    // lock_owner
      01800000 00000000   // flags, padding
      "abc"`,
  },
  {
    name: 'SETXATTR',
    message: {
      args: { size: 2, flags: 1, setxattr_flags: 1 },
      names: ['user.a'],
      tail: Buffer.from('hi'),
    },
    rows: `${HEADER('41000000', '15000000')}
      02000000 01000000   // size, XATTR_CREATE
      01000000 00000000   // ACL_KILL_SGID
      "user.a" 00 "hi"`,
  },
  {
    name: 'INIT',
    message: {
      args: { major: 7, minor: 45, max_readahead: 0x20000, flags: 0x73fffffb, flags2: 0x7fd },
    },
    rows: `${HEADER('68000000', '1a000000', '0000000000000000')}
      07000000 2d000000   // 7.45
      00000200            // max_readahead
      fbffff73            // flags
      fd070000            // flags2
      ${'00000000 '.repeat(11)}`,
  },
  {
    name: 'CREATE',
    message: { args: { flags: 0x8241, mode: 0o100644, umask: 0o22 }, names: ['new'] },
    rows: `${HEADER('3c000000', '23000000')}
      41820000            // O_WRONLY|O_CREAT|O_TRUNC|O_LARGEFILE
      a4810000 12000000   // mode, umask
      00000000            // open_flags
      "new" 00`,
  },
  {
    name: 'INTERRUPT',
    message: { args: { unique: 0x76n } },
    rows: `${HEADER('30000000', '24000000', '0000000000000000')} 7600000000000000`,
  },
  {
    name: 'BATCH_FORGET',
    message: {
      args: { count: 2 },
      tail: fromRows('0500000000000000 0100000000000000 0600000000000000 0200000000000000'),
    },
    rows: `${HEADER('50000000', '2a000000', '0000000000000000')}
      02000000 00000000                     // count
      0500000000000000 0100000000000000     // node 5, once
      0600000000000000 0200000000000000     // node 6, twice`,
  },
  {
    name: 'COPY_FILE_RANGE_64',
    message: {
      args: {
        fh_in: 1n,
        off_in: 2n,
        nodeid_out: 3n,
        fh_out: 4n,
        off_out: 5n,
        len: 1n << 40n,
        flags: 0n,
      },
    },
    rows: `${HEADER('60000000', '35000000')}
      0100000000000000 0200000000000000
      0300000000000000 0400000000000000
      0500000000000000 0000000000010000
      0000000000000000`,
  },
];

for (const { name, message, rows } of requests) {
  test(`request ${name}: value and bytes`, () => {
    const bytes = fromRows(rows);
    assert.equal(hex(request(name, message)), hex(bytes));
    const decoded = decodeRequest(bytes);
    assert.ok(!(decoded instanceof Error), String(decoded));
    assert.equal(decoded.opcode?.name, name);
    assert.equal(decoded.header.uid, 1000);
    for (const [field, value] of Object.entries(message.args ?? {})) {
      assert.equal((decoded.args as Record<string, unknown>)[field], value, field);
    }
    assert.deepEqual(decoded.names.map(text), [...(message.names ?? [])]);
    if (message.tail !== undefined && name !== 'BATCH_FORGET') {
      assert.equal(hex(decoded.tail as Uint8Array), hex(message.tail));
    }
    if (name === 'BATCH_FORGET') {
      assert.deepEqual(decoded.forgets, [
        { nodeid: 5n, nlookup: 1n },
        { nodeid: 6n, nlookup: 2n },
      ]);
    }
  });
}

test('a LOOKUP reply as rows', () => {
  const bytes = fromRows(`
    90000000 00000000           // len, error
    7700000000000000            // unique
    0500000000000000            // nodeid
    0100000000000000            // generation
    0a00000000000000            // entry_valid
    0b00000000000000            // attr_valid
    0c000000 0d000000           // nanoseconds of both
    0e00000000000000            // ino
    0010000000000000            // size
    0800000000000000            // blocks
    0100000000000000 ffffffffffffffff 0300000000000000
    04000000 05000000 06000000
    a4810000                    // mode
    01000000 e8030000 e9030000 00000000
    00100000 00000000           // blksize, flags
  `);
  const decoded = decodeReply(bytes, OP.LOOKUP);
  assert.ok(!(decoded instanceof Error), String(decoded));
  const value = {
    nodeid: 5n,
    generation: 1n,
    entry_valid: 10n,
    attr_valid: 11n,
    entry_valid_nsec: 12,
    attr_valid_nsec: 13,
    attr: {
      ino: 14n,
      size: 4096n,
      blocks: 8n,
      atime: 1n,
      mtime: -1n,
      ctime: 3n,
      atimensec: 4,
      mtimensec: 5,
      ctimensec: 6,
      mode: 0o100644,
      nlink: 1,
      uid: 1000,
      gid: 1001,
      rdev: 0,
      blksize: 4096,
      flags: 0,
    },
  };
  assert.deepEqual(decoded.body, value);
  assert.equal(hex(abi.FuseEntryOut.bytes(value)), hex(bytes.subarray(16)));
});

test('an INIT reply as rows', () => {
  const value = {
    major: 7,
    minor: 45,
    max_readahead: 131072,
    flags: 0x70 >>> 0,
    max_background: 1024,
    congestion_threshold: 768,
    max_write: 1 << 20,
    time_gran: 1,
    max_pages: 256,
    map_alignment: 0,
    flags2: 0x20,
    max_stack_depth: 1,
    request_timeout: 0,
  };
  const bytes = fromRows(`
    07000000 2d000000 00000200 70000000
    0004 0003                   // max_background, congestion_threshold
    00001000 01000000           // max_write, time_gran
    0001 0000                   // max_pages, map_alignment
    20000000 01000000           // flags2, max_stack_depth
    0000 ${'0000 '.repeat(11)}
  `);
  assert.equal(hex(abi.FuseInitOut.bytes(value)), hex(bytes));
});

const sizes: [Struct<Fields>, number][] = [
  [abi.FuseInHeader, 40],
  [abi.FuseOutHeader, 16],
  [abi.FuseAttr, 88],
  [abi.FuseEntryOut, 128],
  [abi.FuseAttrOut, 104],
  [abi.FuseKstatfs, 80],
  [abi.FuseSetattrIn, 88],
  [abi.FuseInitIn, 64],
  [abi.FuseInitOut, 64],
  [abi.FuseLkIn, 48],
  [abi.FuseCopyFileRangeIn, 56],
  [abi.FuseDirentplus, 152],
] as unknown as [Struct<Fields>, number][];
test('sizes of the C header', () => {
  for (const [struct, size] of sizes) assert.equal(struct.size, size, struct.name);
});

test('every opcode has one record, and its number finds it', () => {
  assert.equal(OPCODES.length, Object.keys(OP).length);
  for (const record of OPCODES) assert.equal(opcodeOf[record.number], record);
  assert.equal(new Set(OPCODES.map(({ number }) => number)).size, OPCODES.length);
});

test('the shortest request of each opcode is accepted, one byte less is not', () => {
  for (const record of OPCODES) {
    const names = record.names.map(() => 'n');
    const whole = request(record.name, { names, argsSize: record.argsMin });
    const decoded = decodeRequest(whole, record.name !== 'SETXATTR');
    assert.ok(!(decoded instanceof Error), `${record.name}: ${decoded}`);
    // The table counts an empty name; the builder used one letter.
    assert.equal(whole.length - names.length, MIN_LENGTH[record.number], record.name);
    if (whole.length === abi.FuseInHeader.size) continue;
    const cut = Buffer.from(whole.subarray(0, -1));
    cut.writeUInt32LE(cut.length, 0);
    assert.ok(decodeRequest(cut, record.name !== 'SETXATTR') instanceof Error, record.name);
  }
});

const bad: [what: string, bytes: Uint8Array, reason: RegExp][] = [
  ['nothing', new Uint8Array(0), /no header/],
  ['half a header', request('STATFS').subarray(0, 39), /39 bytes, no header/],
  [
    'a header that says more',
    request('STATFS', { len: 48 }),
    /header says 48 bytes, message has 40/,
  ],
  ['a header that says less', request('LOOKUP', { names: ['a'], len: 41 }), /says 41 bytes/],
  ['node 0', request('GETATTR', { nodeid: 0n }), /GETATTR of node 0/],
  ['a name without NUL', request('LOOKUP', { tail: Buffer.from('abc') }), /name is not terminated/],
  ['an empty name', request('UNLINK', { names: [''] }), /name is empty/],
  ['one name of two', request('SYMLINK', { names: ['a'] }), /target is not terminated/],
  [
    'a NUL beyond the end, behind extensions',
    (() => {
      const bytes = Buffer.from(request('LOOKUP', { tail: Buffer.from('abcdefg\0') }));
      bytes.writeUInt16LE(1, 36);
      return bytes;
    })(),
    /not terminated/,
  ],
  [
    'extensions longer than the message',
    (() => {
      const bytes = Buffer.from(request('STATFS'));
      bytes.writeUInt16LE(0xffff, 36);
      return bytes;
    })(),
    /65535 words of extensions/,
  ],
  [
    'WRITE with less data',
    request('WRITE', { args: { size: 9 }, tail: new Uint8Array(8) }),
    /9 bytes of data in 8/,
  ],
  [
    'WRITE of 4 GiB',
    request('WRITE', { args: { size: 0xffffffff }, tail: new Uint8Array(8) }),
    /4294967295/,
  ],
  [
    'SETXATTR with less value',
    request('SETXATTR', { args: { size: 3 }, names: ['user.a'], tail: Buffer.from('hi') }),
    /3 bytes of value in 2/,
  ],
  [
    'BATCH_FORGET with fewer entries',
    request('BATCH_FORGET', { args: { count: 2 }, tail: new Uint8Array(31) }),
    /2 entries in 31/,
  ],
  [
    'BATCH_FORGET of 2^32-1',
    request('BATCH_FORGET', { args: { count: 0xffffffff } }),
    /4294967295 entries/,
  ],
];
for (const [what, bytes, reason] of bad) {
  test(`rejected: ${what}`, () => {
    const decoded = decodeRequest(bytes);
    assert.ok(decoded instanceof Error);
    assert.match(decoded.message, reason);
  });
}

test('a short SETXATTR of a session without the long form', () => {
  const bytes = request('SETXATTR', {
    args: { size: 2, flags: 2 },
    argsSize: 8,
    names: ['user.a'],
    tail: Buffer.from('hi'),
  });
  const decoded = decodeRequest(bytes, false);
  assert.ok(!(decoded instanceof Error), String(decoded));
  assert.deepEqual(decoded.args, { size: 2, flags: 2, setxattr_flags: 0 });
  assert.deepEqual(decoded.names.map(text), ['user.a']);
});

test('an INIT of Linux 5.4 has 16 bytes of arguments', () => {
  const decoded = decodeRequest(
    request('INIT', { args: { major: 7, minor: 31, flags: 0xffff }, argsSize: 16 }),
  );
  assert.ok(!(decoded instanceof Error), String(decoded));
  assert.equal((decoded.args as { minor: number; flags2: number }).minor, 31);
  assert.equal((decoded.args as { flags2: number }).flags2, 0);
});

test('replies that lie', () => {
  assert.match(String(decodeReply(new Uint8Array(3), OP.LOOKUP)), /no header/);
  assert.match(String(decodeReply(fromRows('18000000 00000000 0000000000000000'), 1)), /says 24/);
  const short = fromRows('18000000 00000000 7700000000000000 0000000000000000');
  assert.match(String(decodeReply(short, OP.LOOKUP)), /8 bytes, 128 expected/);
  const noisy = fromRows('18000000 feffffff 7700000000000000 0000000000000000');
  assert.match(String(decodeReply(noisy, OP.LOOKUP)), /error -2 with a payload/);
});
