// INIT: what is agreed for which kernel and which wishes.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { INIT, INIT2 } from '../../src/fuse/abi.js';
import { initFlagNames, negotiate, type SessionWishes } from '../../src/fuse/session.js';

const wishes: SessionWishes = { passthrough: false, writeback: false, acl: false };
/** What Linux 6.18 offers, and 6.1 (no passthrough, no resend). */
const modern = { major: 7, minor: 45, max_readahead: 131072, flags: 0x73fffffb, flags2: 0x7ff };
const linux61 = { ...modern, minor: 37, flags2: 0x3 };

const names = (result: ReturnType<typeof negotiate>): string[] =>
  initFlagNames(result.reply.flags ?? 0, result.reply.flags2 ?? 0);

test('a modern kernel gets what pays, and keeps its locks', () => {
  const result = negotiate(modern, wishes);
  assert.deepEqual(names(result).sort(), [
    'ABORT_ERROR',
    'ASYNC_READ',
    'ATOMIC_O_TRUNC',
    'BIG_WRITES',
    'CACHE_SYMLINKS',
    'DONT_MASK',
    'DO_READDIRPLUS',
    'HANDLE_KILLPRIV_V2',
    'HAS_RESEND',
    'INIT_EXT',
    'MAX_PAGES',
    'NO_OPENDIR_SUPPORT',
    'PARALLEL_DIROPS',
    'READDIRPLUS_AUTO',
    'SETXATTR_EXT',
  ]);
  assert.equal(result.reply.max_write, 1 << 20);
  assert.equal(result.reply.max_pages, 256);
  assert.equal(result.reply.max_background, 1024);
  assert.equal(result.reply.time_gran, 1);
  assert.equal(result.session?.setxattrExt, true);
});

test('handles outlive what the kernel remembers only where that is asked for', () => {
  for (const exported of [true, false]) {
    const result = negotiate(modern, { ...wishes, exported });
    assert.equal(((result.reply.flags ?? 0) & INIT.EXPORT_SUPPORT) !== 0, exported);
  }
});

test('passthrough wins over writeback, and allows one overlay on top', () => {
  const result = negotiate(modern, { ...wishes, passthrough: true, writeback: true });
  assert.equal(result.session?.passthrough, true);
  assert.equal(result.session?.writeback, false);
  assert.equal(result.reply.max_stack_depth, 1);
  assert.equal((result.reply.flags ?? 0) & INIT.WRITEBACK_CACHE, 0);
  assert.equal(result.reply.flags2, INIT2.PASSTHROUGH | INIT2.HAS_RESEND);
});

test('without passthrough in the kernel the writeback cache is taken', () => {
  const result = negotiate(linux61, { ...wishes, passthrough: true, writeback: true });
  assert.equal(result.session?.passthrough, false);
  assert.equal(result.session?.writeback, true);
  assert.equal(result.session?.resend, false);
  assert.equal(result.reply.minor, 37);
  assert.equal(result.reply.max_stack_depth, 0);
});

test('flags2 of a kernel without INIT_EXT are not believed', () => {
  const old = { ...modern, minor: 35, flags: modern.flags & ~INIT.INIT_EXT };
  const result = negotiate(old, { ...wishes, passthrough: true });
  assert.equal(result.session?.passthrough, false);
  assert.equal(result.reply.flags2, 0);
});

test('ACLs only when wanted and offered', () => {
  const wanted = { ...wishes, acl: true };
  assert.equal(negotiate(modern, wanted).session?.acl, true);
  assert.equal(negotiate(modern, wishes).session?.acl, false);
  const without = { ...modern, flags: modern.flags & ~INIT.POSIX_ACL };
  assert.equal(negotiate(without, wanted).session?.acl, false);
});

test('nothing is answered that was not offered', () => {
  for (let bit = 0; bit < 31; bit++) {
    const flags = (modern.flags & ~(1 << bit)) >>> 0;
    const { reply } = negotiate(
      { ...modern, flags },
      { passthrough: true, writeback: true, acl: true },
    );
    assert.equal((reply.flags ?? 0) & ~flags, 0);
  }
});

test('a kernel without MAX_PAGES writes 128 KiB', () => {
  const { reply } = negotiate({ ...modern, flags: modern.flags & ~INIT.MAX_PAGES }, wishes);
  assert.equal(reply.max_write, 128 * 1024);
  assert.equal(reply.max_pages, 0);
});

test('an older minor can be claimed', () => {
  assert.equal(negotiate(modern, { ...wishes, minor: 36 }).reply.minor, 36);
});

test('another major version: the kernel is told ours and asks again', () => {
  const result = negotiate({ ...modern, major: 8, minor: 1 }, wishes);
  assert.equal(result.session, undefined);
  assert.equal(result.reply.major, 7);
});

test('a kernel that is too old is refused', () => {
  assert.throws(() => negotiate({ ...modern, minor: 30 }, wishes), /7\.30/);
  assert.throws(() => negotiate({ ...modern, major: 6, minor: 99 }, wishes), /6\.99/);
});
