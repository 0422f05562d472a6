// The tests that every layer passes: one suite, owned by the interface src/layer/layer.ts.
// An implementation supplies a factory that holds a given tree (directory.test.ts is the first).
// What is expected is taken from the description of the tree, never from the layer under test.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Layer } from '../../src/layer/layer.js';
import { closeFile, D, dirGet, readFile } from '../../src/layer/layer.js';
import { E } from '../../src/linux/errno.js';
import { emptyPath, Statx, statBuffer } from '../../src/linux/files.js';
import { getBytes, getU64, mapMemory, putBytes, scratch, u32 } from '../../src/linux/memory.js';
import { requires } from '../support/requires.js';
import { dir, type Entry, file, type Tree } from './tree.js';

mapMemory();
// Parts of this thread's scratch that no system call wrapper uses.
const NAME = scratch + 0x10000;
const ATTR = scratch + 0x11000;
const OUT = scratch + 0x12000;
const HANDLE = scratch + 0x2b000;

/** A layer that holds the tree; closed by the factory when the test ends. */
export type LayerFactory = (t: TestContext, tree: Tree) => Layer;

const S_IFMT = 0o170000;
const modeOf = { dir: 0o040000, file: 0o100000, symlink: 0o120000, fifo: 0o010000, chr: 0o020000 };
const typeOf = { dir: 4, file: 8, symlink: 10, fifo: 1, chr: 2, link: 8, whiteout: 2 };

function put(at: number, text: string): number {
  putBytes(at, text);
  return at;
}

const name = (text: string) => put(NAME, text);
const attr = (text: string) => put(ATTR, text);

/** Enters each name on the way; the caller releases the record, which holds the ones above. */
function enter(layer: Layer, path: string): number {
  let at = layer.root;
  for (const part of path === '' ? [] : path.split('/')) {
    const next = layer.enter(at, name(part), part.length);
    assert.ok(next > 0);
    if (at !== layer.root) layer.release(at);
    at = next;
  }
  return at;
}

function refs(record: number): number {
  return dirGet(record, D.refs);
}

interface Listed {
  ino: bigint;
  type: number;
}

function list(layer: Layer, record: number): Map<string, Listed> {
  const found = new Map<string, Listed>();
  const result = layer.list(record, (at, length, lo, hi, type) => {
    const text = getBytes(at, length);
    assert.equal(found.has(text), false, `${text} is listed twice`);
    found.set(text, { ino: BigInt(lo) + (BigInt(hi) << 32n), type });
  });
  assert.equal(result, 0);
  return found;
}

function statIno(): bigint {
  const s = (statBuffer() + Statx.ino) >>> 2;
  return BigInt(u32[s]) + (BigInt(u32[s + 1]) << 32n);
}

const bytes = Array.from({ length: 255 }, (_, i) => String.fromCharCode(i + 1)).join('');
const oddNames = [
  '\xff\xfe\xfd',
  '\xc3\xbc',
  ' ',
  'new\nline',
  '-',
  '...',
  'x'.repeat(255),
  bytes.replace('/', '_'),
];

export function layerSuite(label: string, factory: LayerFactory): void {
  const skip = requires({ root: true });
  const suite = (what: string, run: (t: TestContext) => void) =>
    test(`${label}: ${what}`, { skip }, run);

  const mixed: Tree = {
    d: dir({ mode: 0o2750, uid: 1000, gid: 1001, mtime: [1_000_000_000, 123_456_789] }),
    'd/inner': file('inside'),
    f: file('hello world', { mode: 0o4755, uid: 7, gid: 8, mtime: [-5, 999_999_999] }),
    empty: file(''),
    l: { type: 'symlink', data: 'd/inner' },
    p: { type: 'fifo', mode: 0o600 },
    c: { type: 'chr', mode: 0o666 },
    ln: { type: 'link', data: 'f' },
    w: { type: 'whiteout' },
  };

  suite('stat gives type, mode, owner, size, times and links of what stands there', (t) => {
    const layer = factory(t, mixed);
    for (const [path, entry] of Object.entries(mixed)) {
      if (path.includes('/') || entry.type === 'link' || entry.type === 'whiteout') continue;
      const mode = layer.stat(layer.root, name(path));
      checkStat(path, entry, mode);
    }
    assert.equal(layer.stat(layer.root, name('ln')) & S_IFMT, modeOf.file);
    assert.equal(u32[(statBuffer() + Statx.nlink) >>> 2], 2);
    const linked = statIno();
    layer.stat(layer.root, name('f'));
    assert.equal(statIno(), linked);
    assert.equal(layer.stat(layer.root, name('w')) & S_IFMT, modeOf.chr);
    assert.equal(u32[(statBuffer() + Statx.rdev_major) >>> 2], 0);
    assert.equal(u32[(statBuffer() + Statx.rdev_minor) >>> 2], 0);
  });

  function checkStat(path: string, entry: Entry, mode: number): void {
    assert.ok(mode > 0, `${path}: ${mode}`);
    assert.equal(mode & S_IFMT, modeOf[entry.type as keyof typeof modeOf], path);
    const s = statBuffer();
    if (entry.mode !== undefined) assert.equal(mode & 0o7777, entry.mode, path);
    assert.equal(u32[(s + Statx.uid) >>> 2], entry.uid ?? 0, path);
    assert.equal(u32[(s + Statx.gid) >>> 2], entry.gid ?? 0, path);
    if (entry.type === 'file') assert.equal(getU64(s + Statx.size), entry.data?.length ?? 0);
    if (entry.mtime !== undefined) {
      assert.equal(u32[(s + Statx.mtime) >>> 2], entry.mtime[0] >>> 0);
      assert.equal(u32[(s + Statx.mtime + 8) >>> 2], entry.mtime[1]);
    }
  }

  suite('what is not there is ENOENT, below a file ENOTDIR', (t) => {
    const layer = factory(t, mixed);
    assert.equal(layer.stat(layer.root, name('missing')), -E.NOENT);
    assert.equal(layer.open(layer.root, name('missing')), -E.NOENT);
    const record = layer.enter(layer.root, name('f'), 1);
    assert.equal(layer.stat(record, name('x')), -E.NOTDIR);
    layer.release(record);
  });

  suite('a directory record tells its own attributes, the root too', (t) => {
    const layer = factory(t, mixed);
    assert.equal(layer.statDir(layer.root) & S_IFMT, modeOf.dir);
    const record = enter(layer, 'd');
    checkStat('d', mixed.d, layer.statDir(record));
    const own = statIno();
    checkStat('d', mixed.d, layer.stat(record, emptyPath()));
    assert.equal(statIno(), own);
    layer.release(record);
  });

  suite('records are counted: a child holds its parent until both are released', (t) => {
    const layer = factory(t, { 'a/b/c': dir() });
    const start = refs(layer.root);
    const a = layer.enter(layer.root, name('a'), 1);
    const b = layer.enter(a, name('b'), 1);
    assert.equal(refs(layer.root), start + 1);
    assert.equal(refs(a), 2);
    layer.release(a);
    assert.equal(refs(a), 1);
    assert.ok(layer.stat(b, name('c')) > 0);
    layer.release(b);
    assert.equal(refs(layer.root), start);
    // A freed record is used again.
    const again = layer.enter(layer.root, name('a'), 1);
    assert.ok(again === a || again === b);
    assert.ok(layer.stat(again, name('b')) > 0);
    layer.release(again);
    assert.equal(refs(layer.root), start);
  });

  suite('a listing has every name once, with the type and number that stat gives', (t) => {
    const tree: Record<string, Entry> = { ...mixed };
    for (const odd of oddNames) tree[odd] = file(odd);
    const layer = factory(t, tree);
    const found = list(layer, layer.root);
    const expected = Object.keys(tree).filter((path) => !path.includes('/'));
    assert.deepEqual([...found.keys()].sort(), expected.sort());
    for (const [text, { ino, type }] of found) {
      const mode = layer.stat(layer.root, name(text));
      assert.ok(mode > 0, text);
      if (type !== 0) {
        assert.equal(type, mode >>> 12, text);
        assert.equal(type, typeOf[tree[text].type], text);
      }
      assert.equal(ino, statIno(), text);
    }
  });

  suite('a directory of many entries is listed whole', (t) => {
    const tree: Record<string, Entry> = {};
    for (let i = 0; i < 3000; i++) tree[`big/${'n'.repeat(60)}${i}`] = file('');
    tree.none = dir();
    const layer = factory(t, tree);
    const big = enter(layer, 'big');
    assert.equal(list(layer, big).size, 3000);
    layer.release(big);
    const none = enter(layer, 'none');
    assert.equal(list(layer, none).size, 0);
    layer.release(none);
  });

  suite('files are read by what open gives, each of its own', (t) => {
    const layer = factory(t, mixed);
    const fd = layer.open(layer.root, name('f'));
    assert.ok(fd >= 0);
    assert.equal(readFile(fd, OUT, 100, 6), 5);
    assert.equal(getBytes(OUT, 5), 'world');
    closeFile(fd);
    const record = enter(layer, 'd');
    const inner = layer.open(record, name('inner'));
    layer.release(record);
    assert.equal(readFile(inner, OUT, 100, 0), 6);
    closeFile(inner);
  });

  suite('a symlink is read as text and never followed', (t) => {
    const long = `${'t'.repeat(4000)}/..`;
    const layer = factory(t, {
      ...mixed,
      out: { type: 'symlink', data: '/' },
      up: { type: 'symlink', data: '..' },
      long: { type: 'symlink', data: long },
    });
    assert.equal(layer.readlink(layer.root, name('l'), OUT, 4096), 7);
    assert.equal(getBytes(OUT, 7), 'd/inner');
    assert.equal(layer.readlink(layer.root, name('long'), OUT, 4096), long.length);
    assert.equal(getBytes(OUT, long.length), long);
    assert.ok(layer.readlink(layer.root, name('f'), OUT, 4096) < 0);
    for (const text of ['l', 'out', 'up']) {
      assert.equal(layer.open(layer.root, name(text)), -E.LOOP, text);
      assert.equal(layer.stat(layer.root, name(text)) & S_IFMT, modeOf.symlink);
      const record = layer.enter(layer.root, name(text), text.length);
      assert.ok([-E.NOTDIR, -E.LOOP].includes(layer.stat(record, name('etc'))), text);
      assert.ok(layer.list(record, () => assert.fail('listed through a symlink')) < 0);
      layer.release(record);
    }
  });

  suite('extended attributes: names, values, lengths, absence', (t) => {
    const value = `\x00\xff${'v'.repeat(1000)}`;
    const xattrs = { 'user.one': 'first', 'user.two': value, 'trusted.three': '' };
    const layer = factory(t, {
      x: file('', { xattrs }),
      d: dir({ xattrs }),
      plain: file(''),
      l: { type: 'symlink', data: 'x' },
    });
    const names = (length: number) =>
      getBytes(OUT, length)
        .split('\0')
        .slice(0, -1)
        .filter((key) => !key.startsWith('security.'))
        .sort();
    const record = enter(layer, 'd');
    for (const [at, text] of [
      [layer.root, 'x'],
      [layer.root, 'd'],
      [record, ''],
    ] as const) {
      const get = (key: string, size: number) =>
        layer.getxattr(at, name(text), attr(key), OUT, size);
      assert.equal(get('user.two', 0), value.length);
      assert.equal(get('user.two', 10), -E.RANGE);
      assert.equal(get('user.two', 4096), value.length);
      assert.equal(getBytes(OUT, value.length), value);
      assert.equal(get('trusted.three', 4096), 0);
      assert.equal(get('user.none', 4096), -E.NODATA);
      const length = layer.listxattr(at, name(text), OUT, 4096);
      assert.deepEqual(names(length), Object.keys(xattrs).sort());
      assert.equal(layer.listxattr(at, name(text), OUT, 0), length);
      assert.equal(layer.listxattr(at, name(text), OUT, 3), -E.RANGE);
    }
    layer.release(record);
    assert.deepEqual(names(layer.listxattr(layer.root, name('plain'), OUT, 4096)), []);
    // The link itself has none, whatever its target has.
    assert.deepEqual(names(layer.listxattr(layer.root, name('l'), OUT, 4096)), []);
    assert.ok(layer.getxattr(layer.root, name('l'), attr('user.one'), OUT, 4096) < 0);
    assert.ok(layer.getxattr(layer.root, name('missing'), attr('user.one'), OUT, 64) < 0);
  });

  suite('names of bytes: every one is found, and only as it is written', (t) => {
    const tree: Record<string, Entry> = {};
    for (const odd of oddNames) tree[odd] = dir();
    for (const odd of oddNames) tree[`${odd}/child`] = file(odd);
    const layer = factory(t, tree);
    for (const odd of oddNames) {
      assert.ok(layer.stat(layer.root, name(odd)) > 0);
      const record = layer.enter(layer.root, name(odd), odd.length);
      const fd = layer.open(record, name('child'));
      assert.equal(readFile(fd, OUT, 300, 0), odd.length);
      assert.equal(getBytes(OUT, odd.length), odd);
      closeFile(fd);
      layer.release(record);
    }
    assert.equal(layer.stat(layer.root, name('\xff\xfe')), -E.NOENT);
    assert.equal(layer.stat(layer.root, name('\xc3')), -E.NOENT);
    assert.equal(layer.stat(layer.root, name('x'.repeat(254))), -E.NOENT);
  });

  suite('a path far beyond PATH_MAX is walked name by name', (t) => {
    const part = 'd'.repeat(250);
    const depth = 40;
    const deep = Array.from({ length: depth }, () => part).join('/');
    const layer = factory(t, { [`${deep}/bottom`]: file('deep') });
    const start = refs(layer.root);
    const record = enter(layer, deep);
    assert.ok(layer.stat(record, name('bottom')) > 0);
    assert.deepEqual([...list(layer, record).keys()], ['bottom']);
    const fd = layer.open(record, name('bottom'));
    assert.equal(readFile(fd, OUT, 10, 0), 4);
    closeFile(fd);
    layer.release(record);
    assert.equal(refs(layer.root), start);
  });

  suite('a handle is stable and tells objects apart', (t) => {
    const layer = factory(t, mixed);
    const handle = (text: string) => {
      const length = layer.handle(layer.root, name(text), HANDLE);
      return length < 0 ? length : getBytes(HANDLE + 4, length + 4);
    };
    if (handle('f') === -E.OPNOTSUPP) return;
    assert.equal(handle('f'), handle('f'));
    assert.equal(handle('ln'), handle('f'));
    assert.notEqual(handle('f'), handle('empty'));
    assert.notEqual(handle('f'), handle('d'));
    assert.equal(handle('missing'), -E.NOENT);
  });

  suite('statfs tells a block size and a longest name', (t) => {
    const layer = factory(t, mixed);
    assert.equal(layer.statfs(OUT), 0);
    assert.ok(getU64(OUT + 8) >= 512);
    assert.ok(getU64(OUT + 64) >= 255);
  });
}
