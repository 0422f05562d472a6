import assert from 'node:assert/strict';
import {
  closeSync,
  copyFileSync,
  fstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { type TestContext, test } from 'node:test';
import { ErofsImage } from '../../src/erofs/image.js';
import { FollowFileSystem } from '../../src/imagefs/follow-filesystem.js';
import { MetadataFileSystem } from '../../src/imagefs/metadata-filesystem.js';
import { performVerify } from '../../src/imagefs/verify-job.js';
import { E } from '../../src/linux/errno.js';
import { FileSource } from '../../src/linux/file-source.js';
import { getBytes, mapMemory, putBytes, u8, u32 } from '../../src/linux/memory.js';
import { Objects } from '../../src/store/objects.js';
import {
  type DirSink,
  type FileSystem,
  type Host,
  OPEN,
  type OpenReply,
  PARKED,
  type Request,
} from '../../src/vfs/filesystem.js';
import {
  GIVEN,
  GIVEN_SIZE,
  OBJECTS,
  VERIFIED,
  VERIFIED_SIZE,
  WORK,
  WORK_SIZE,
} from '../../src/vfs/layout.js';
import { tempDir } from '../support/temp.js';
import { BIG, contentOf, MANY, makeSample, objectOf, type Sample, SMALL } from './sample.js';

mapMemory();

// Arena places that no filesystem here uses: a name, what is answered.
const NAME = WORK + WORK_SIZE - 0x1000;
const OUT = WORK + WORK_SIZE / 2;
const ROOT = 1;

interface Opened {
  readonly lo: number;
  readonly hi: number;
  readonly flags: number;
  readonly backing: number;
}

/** What the kernel keeps while servers come and go. */
class Kernel {
  passthrough = false;
  unique = 2;
  nextBacking = 1;
  /** Backing ids and the inode numbers of their files. */
  readonly backing = new Map<number, number>();
  /** Objects that were hashed by a thread. */
  jobs = 0;
  /** Nodes whose first bytes were given, in order. */
  readonly stored: number[] = [];
}

/** One server's life: a filesystem over the arena that all of them share. */
class Life {
  readonly fs: FileSystem;
  readonly #kernel: Kernel;
  readonly #before: Set<string>;
  #resumed = false;
  readonly request: Request = {
    ...{ opcode: 0, uniqueLo: 0, uniqueHi: 0, nodeLo: 0, nodeHi: 0 },
    ...{ uid: 0, gid: 0, pid: 1, umask: 0, killPriv: false, redo: false },
  };

  constructor(kernel: Kernel, open: () => FileSystem, successor: boolean) {
    this.#kernel = kernel;
    this.#before = descriptors();
    this.fs = open();
    const host = {
      passthrough: kernel.passthrough,
      noOpendir: true,
      writeback: false,
      defer: () => ({}),
      resume: () => {
        this.#resumed = true;
      },
      errand: (step: () => boolean) => {
        while (step());
      },
      storeStart: (lo: number) => {
        kernel.stored.push(lo);
      },
      backingOpen: (fd: number) => {
        const id = kernel.nextBacking++;
        kernel.backing.set(id, fstatSync(fd).ino);
        return id;
      },
      backingClose: (id: number) => {
        kernel.backing.delete(id);
      },
      jobs: {
        run: (kind, a, b, c, d, e, done) => {
          kernel.jobs++;
          done(performVerify(kind, a, b, c, d, e));
        },
        parkReply: () => -E.NOSYS,
      },
    } satisfies Partial<Host> as Partial<Host> as Host;
    if (successor) this.fs.succeed?.(host);
    else this.fs.start(host);
    assert.ok(!successor || this.fs.succeed !== undefined);
  }

  /** Handles one request as serve() does: from its start again when it was parked. */
  handle(node: number, call: (r: Request) => number, unanswered = false): number {
    const r = this.request;
    r.uniqueLo = this.#kernel.unique;
    r.nodeLo = node;
    for (;;) {
      const result = call(r);
      if (unanswered) return result;
      if (result !== PARKED) {
        this.#kernel.unique += 2;
        return result;
      }
      assert.ok(this.#resumed, 'nobody resumes a parked request');
      this.#resumed = false;
    }
  }

  lookup(path: string): number {
    let node = ROOT;
    for (const name of path.split('/')) {
      putBytes(NAME, name);
      const result = this.handle(node, (r) => this.fs.lookup(r, NAME, name.length, OUT));
      assert.equal(result, 0, `${name} of ${path}`);
      node = u32[OUT >>> 2] as number;
    }
    return node;
  }

  open(node: number, unanswered = false): Opened {
    const reply: OpenReply = { fhLo: 0, fhHi: 0, flags: 0, backingId: 0 };
    const result = this.handle(node, (r) => this.fs.open(r, 0, reply), unanswered);
    assert.equal(result, 0);
    const { fhLo, fhHi, flags, backingId } = reply;
    return { lo: fhLo, hi: fhHi, flags, backing: backingId };
  }

  read(node: number, { lo, hi }: Opened, size: number, offset: number): Buffer | number {
    const n = this.handle(node, (r) => this.fs.read(r, lo, hi, OUT, size, offset));
    return n < 0 ? n : Buffer.from(u8.slice(OUT, OUT + n));
  }

  release(node: number, { lo, hi }: Opened, unanswered = false): void {
    this.handle(node, (r) => this.fs.release(r, lo, hi), unanswered);
  }

  getxattr(node: number, name: string): number {
    putBytes(NAME, name);
    return this.handle(node, (r) => this.fs.getxattr(r, NAME, name.length, OUT, 0));
  }

  /** Names from a cookie on, at most `most`. @returns them and the next cookie. */
  list(node: number, offset: number, most: number): [string[], number] {
    const names: string[] = [];
    let last = offset;
    const sink: DirSink = {
      plus: false,
      entry: 0,
      fits: () => names.length < most,
      add: (_lo, _hi, next, _type, at, length, bytes) => {
        names.push(
          bytes ? Buffer.from(bytes).toString('latin1', at, at + length) : getBytes(at, length),
        );
        last = next;
      },
    };
    assert.equal(
      this.handle(node, (r) => this.fs.readdir(r, 0, 0, offset, sink)),
      0,
    );
    return [names, last];
  }

  /** Descriptors that it has open, by what they are of. */
  descriptors(): string[] {
    return [...descriptors()].filter((entry) => !this.#before.has(entry));
  }

  /** As SIGKILL: its descriptors close, and nothing else happens. */
  kill(): void {
    for (const entry of this.descriptors()) closeSync(Number(entry.split(' ')[0]));
  }
}

/** Open descriptors of this process: number and path. */
function descriptors(): Set<string> {
  const found = new Set<string>();
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      found.add(`${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`);
    } catch {
      // The one that lists them.
    }
  }
  return found;
}

interface World {
  readonly kernel: Kernel;
  readonly sample: Sample;
  /** The next server. */
  life(): Life;
}

interface Served {
  readonly serve?: 'follow' | 'metadata';
  readonly verify?: boolean;
}

function openSample({ image, objects }: Sample, { serve, verify }: Served): FileSystem {
  const source = FileSource.open(image);
  const options = {
    image: ErofsImage.open(source),
    label: image,
    log: () => {},
    close: () => source.close(),
    trusted: true,
  };
  if (serve === 'metadata') return new MetadataFileSystem(options);
  const folders = [new Objects(objects)];
  return new FollowFileSystem({ ...options, folders, verify: verify ?? true });
}

function world(t: TestContext, served: Served = {}, passthrough = false): World {
  u32.fill(0, OBJECTS >>> 2, (OBJECTS >>> 2) + 32 * 4096);
  u8.fill(0, GIVEN, GIVEN + GIVEN_SIZE / 64);
  u8.fill(0, VERIFIED, VERIFIED + VERIFIED_SIZE);
  const sample = makeSample(tempDir(t));
  const kernel = new Kernel();
  kernel.passthrough = passthrough;
  let lives = 0;
  return {
    kernel,
    sample,
    life: () => new Life(kernel, () => openSample(sample, served), lives++ > 0),
  };
}

const content = (size: number, from: number, length: number): Buffer =>
  contentOf(size).subarray(from, from + length);

test('nodes and directory cookies mean the same to a successor', (t) => {
  for (const serve of ['follow', 'metadata'] as const) {
    const w = world(t, { serve });
    const first = w.life();
    const file = first.lookup('dir/file');
    const many = first.lookup('many');
    const [names, cookie] = first.list(many, 0, 50);
    first.kill();
    const second = w.life();
    assert.equal(second.lookup('dir/file'), file);
    const [rest] = second.list(many, cookie, 1000);
    assert.equal(names.length, 50);
    assert.equal(new Set([...names, ...rest]).size, MANY + 2);
    assert.equal(second.getxattr(file, 'user.plain'), 1);
    second.kill();
  }
});

for (const [how, name, size] of [
  ['hashed at once', 'dir/file', SMALL],
  ['hashed by another thread', 'big', BIG],
] as const) {
  test(`an open object is read on through a successor, ${how}`, (t) => {
    const w = world(t);
    const first = w.life();
    const node = first.lookup(name);
    const file = first.open(node);
    assert.deepEqual(first.read(node, file, 4096, 0), content(size, 0, 4096));
    first.kill();
    const second = w.life();
    assert.deepEqual(second.read(node, file, 4096, 4096), content(size, 4096, 4096));
    const again = second.open(node);
    second.release(node, file);
    assert.deepEqual(second.read(node, again, 100, size - 50), content(size, size - 50, 100));
    second.kill();
    const third = w.life();
    third.release(node, again);
    third.kill();
    const fourth = w.life();
    assert.equal(fourth.read(node, again, 100, 0), -E.BADF);
    fourth.kill();
  });
}

/** Opens a file with one server and reads it with the next; the object was changed between them. */
function readAfter(t: TestContext, change: (object: string) => void, more = {}): Buffer | number {
  const w = world(t, more);
  const first = w.life();
  const node = first.lookup('dir/file');
  const file = first.open(node);
  first.kill();
  change(objectOf(w.sample, SMALL));
  const second = w.life();
  const result = second.read(node, file, SMALL, 0);
  second.kill();
  return result;
}

function flip(path: string, size = SMALL): void {
  const fd = openSync(path, 'r+');
  writeSync(
    fd,
    Buffer.from([contentOf(size)[77] as number]).map((byte) => byte ^ 1),
    0,
    1,
    77,
  );
  closeSync(fd);
}

test('what a successor opens again is compared with its digest first', (t) => {
  assert.equal(readAfter(t, flip), -E.IO);
  assert.equal(readAfter(t, rmSync), -E.IO);
  const replaced = readAfter(t, (object) => {
    copyFileSync(object, `${object}.new`);
    renameSync(`${object}.new`, object);
  });
  assert.deepEqual(replaced, contentOf(SMALL));
  const shorter = readAfter(t, (object) => rmSync(object), { verify: false });
  assert.equal(shorter, -E.IO);
});

test('an object that stays what it was is not hashed again', (t) => {
  const w = world(t);
  const first = w.life();
  const node = first.lookup('big');
  const file = first.open(node);
  first.kill();
  const second = w.life();
  second.read(node, file, 10, 0);
  assert.equal(w.kernel.jobs, 1);
  second.kill();
  flip(objectOf(w.sample, BIG), BIG);
  const third = w.life();
  assert.equal(third.read(node, file, 10, 0), -E.IO);
  assert.equal(w.kernel.jobs, 2);
  third.kill();
});

test('an object that nobody has open is not hashed again either', (t) => {
  const w = world(t);
  // What was changed just now is not remembered.
  const { ctimeMs } = statSync(objectOf(w.sample, BIG));
  while (Date.now() < ctimeMs + 150);
  const first = w.life();
  const node = first.lookup('big');
  first.release(node, first.open(node));
  first.kill();
  const second = w.life();
  const file = second.open(node);
  assert.equal(w.kernel.jobs, 1);
  assert.deepEqual(second.read(node, file, 10, 0), content(BIG, 0, 10));
  second.kill();
});

test('an object that is whole again is read again', (t) => {
  const w = world(t);
  const first = w.life();
  const node = first.lookup('dir/file');
  const file = first.open(node);
  first.kill();
  const object = objectOf(w.sample, SMALL);
  renameSync(object, `${object}.away`);
  const second = w.life();
  assert.equal(second.read(node, file, 10, 0), -E.IO);
  renameSync(`${object}.away`, object);
  assert.deepEqual(second.read(node, file, 10, 0), content(SMALL, 0, 10));
  second.kill();
});

test('an inode keeps its backing id while somebody has it open, whoever serves it', (t) => {
  const w = world(t, {}, true);
  const first = w.life();
  const node = first.lookup('big');
  const other = first.lookup('objects/same-as-big');
  const file = first.open(node);
  assert.equal(file.flags & OPEN.PASSTHROUGH, OPEN.PASSTHROUGH);
  const idle = first.open(first.lookup('dir/file'));
  first.release(first.lookup('dir/file'), idle);
  assert.deepEqual([...w.kernel.backing.keys()], [file.backing, idle.backing]);
  first.kill();

  const second = w.life();
  // What nobody has open is given back; the other one stays.
  assert.deepEqual([...w.kernel.backing.keys()], [file.backing]);
  assert.equal(second.open(node).backing, file.backing);
  const third = second.open(other);
  assert.equal(third.backing, file.backing);
  second.release(node, file);
  second.release(node, file);
  second.kill();

  const last = w.life();
  assert.deepEqual([...w.kernel.backing.keys()], [file.backing]);
  last.release(other, third);
  last.kill();
  w.life().kill();
  assert.equal(w.kernel.backing.size, 0);
});

test('an inode that is read through the server is not passed through by its successor', (t) => {
  const w = world(t);
  const first = w.life();
  const node = first.lookup('dir/file');
  assert.equal(first.open(node).backing, 0);
  first.kill();
  w.kernel.passthrough = true;
  const second = w.life();
  assert.equal(second.open(node).backing, 0);
  second.kill();
});

test('an OPEN and a RELEASE that were not answered count once', (t) => {
  const w = world(t, {}, true);
  const first = w.life();
  const node = first.lookup('dir/file');
  const lost = first.open(node, true);
  first.kill();
  const second = w.life();
  const file = second.open(node);
  assert.deepEqual(file, lost);
  const again = second.open(node);
  second.release(node, file, true);
  second.kill();
  const third = w.life();
  third.release(node, file);
  assert.deepEqual([...w.kernel.backing.keys()], [file.backing], 'one is left');
  third.release(node, again);
  third.kill();
  w.life().kill();
  assert.equal(w.kernel.backing.size, 0, 'none is left');
});

test('a predecessor that had many objects open costs no descriptor', (t) => {
  const w = world(t);
  const first = w.life();
  for (const name of ['big', 'dir/file', 'objects/by-redirect']) first.open(first.lookup(name));
  const before = first.descriptors().length;
  first.kill();
  const second = w.life();
  assert.equal(second.descriptors().length, before - 3);
  second.kill();
});

test('content that was given with a mark is not given again: its page may be waited for', (t) => {
  const w = world(t, { serve: 'metadata' });
  const ask = (life: Life, name: string): number => {
    const node = life.lookup(name);
    assert.equal(life.getxattr(node, 'user.overlay.metacopy'), -E.NODATA);
    return node;
  };
  const first = w.life();
  const node = ask(first, 'many/entry-003');
  ask(first, 'many/entry-003');
  assert.deepEqual(w.kernel.stored, [node]);
  first.kill();
  const second = w.life();
  ask(second, 'many/entry-003');
  assert.deepEqual(w.kernel.stored, [node]);
  const other = ask(second, 'many/entry-004');
  assert.deepEqual(w.kernel.stored, [node, other]);
  second.kill();
});
