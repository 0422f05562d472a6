// The kernel's side of a mount, in this process: it holds nodeids and handles, asks an overlay, and starts a successor of it
// when it dies, as fuse/server.ts does, with the journal.
// Used by test/overlay/succession*.test.ts; deaths.ts must be imported first.

import assert from 'node:assert/strict';
import { emptyRequest, emptySetAttr } from '../../src/fuse/dispatch.js';
import { O } from '../../src/linux/constants.js';
import { errnoName } from '../../src/linux/errno.js';
import { clearMemory, getBytes, mapMemory, putBytes, u8, u32 } from '../../src/linux/memory.js';
import { setFsIds } from '../../src/linux/process.js';
import { checkLayers } from '../../src/stack/check.js';
import { openFileSystem } from '../../src/stack/open.js';
import { parseOptions } from '../../src/stack/options.js';
import type { MountSpec } from '../../src/stack/spec.js';
import { Attr, Entry } from '../../src/vfs/attr.js';
import {
  ABSENT,
  type DirSink,
  type FileSystem,
  type Host,
  type OpenReply,
  PARKED,
  SETATTR,
  type SetAttr,
} from '../../src/vfs/filesystem.js';
import * as journal from '../../src/vfs/journal.js';
import {
  HANDLE_COUNT,
  HANDLE_SIZE,
  HANDLES,
  HEADER,
  LAYER_DIR_COUNT,
  LAYER_DIR_SIZE,
  LAYER_DIRS,
  NAMES,
  NAMES_SIZE,
  NODES,
  replyBuffer,
  requestBuffer,
  STACKS,
  STACKS_SIZE,
} from '../../src/vfs/layout.js';
import { closeOthers, descriptors, dieAt, withCountedStores } from './deaths.js';

withCountedStores(() => mapMemory());
const OUT = replyBuffer(0) + 16;
const NAME = requestBuffer(0) + 4096;
const NAME_2 = requestBuffer(0) + 8192;
const DATA = requestBuffer(0) + 65536;

export interface Node {
  readonly lo: number;
  readonly hi: number;
  readonly ino: bigint;
}

export interface File {
  readonly node: Node;
  readonly lo: number;
  readonly hi: number;
}

export interface Attributes {
  readonly ino: bigint;
  readonly mode: number;
  readonly nlink: number;
  readonly size: number;
  readonly uid: number;
}

export class Kernel {
  readonly root: Node;
  readonly r = emptyRequest();
  /** Successors so far. */
  deaths = 0;
  /** Backing ids that are registered. */
  readonly backing = new Set<number>();
  readonly #spec: MountSpec;
  readonly #before = descriptors();
  readonly #passthrough: boolean;
  #fs: FileSystem;
  #unique = 0;
  #lastBacking = 0;
  /** The event at which the server dies next; and its successors, each at one later. */
  #plan: number[] = [];

  /** @param options of `varve mount` */
  constructor(options: string, mountpoint: string, { passthrough = false } = {}) {
    for (const [at, size] of [
      [HEADER, 65536],
      [NODES, HANDLES - NODES],
      [HANDLES, HANDLE_SIZE * HANDLE_COUNT],
      [NAMES, NAMES_SIZE],
      [LAYER_DIRS, LAYER_DIR_SIZE * LAYER_DIR_COUNT],
      [STACKS, STACKS_SIZE],
    ] as const) {
      clearMemory(at, size);
    }
    this.#passthrough = passthrough;
    this.#spec = checkLayers(parseOptions([options], { defaults: '' }), mountpoint, false);
    this.#fs = openFileSystem(this.#spec);
    this.#fs.start(this.#host());
    this.root = { lo: 1, hi: 0, ino: 0n };
  }

  #host(): Host {
    const kernel = this;
    return {
      defer: () => ({}),
      resume: () => assert.fail('nothing was put aside'),
      refuse: () => assert.fail('nothing was put aside'),
      invalInode() {},
      invalEntry() {},
      notifyDelete() {},
      storeStart() {},
      errand: () => assert.fail('nothing is that large'),
      backingOpen() {
        kernel.backing.add(++kernel.#lastBacking);
        return kernel.#lastBacking;
      },
      backingClose(id) {
        kernel.backing.delete(id);
      },
      passthrough: this.#passthrough,
      noOpendir: true,
      writeback: false,
      jobs: { parkReply: () => PARKED, run: () => assert.fail('nothing is that large') },
    };
  }

  /** The server dies before event `at` of the next request; its successor before event `more[0]` of what it does first. */
  die(at: number, ...more: number[]): void {
    this.#plan = [at, ...more];
  }

  /** Events of the last request. */
  events = 0;

  /** SIGKILL between two requests. */
  kill(): void {
    this.#succeed();
  }

  /** Ends the mount. */
  stop(): void {
    this.#fs.stop();
    closeOthers(this.#before);
  }

  /** Sends a request, again and again until it is answered. @returns what the filesystem returned. */
  ask(what: (fs: FileSystem) => number): number {
    this.#unique++;
    this.r.uniqueLo = this.#unique;
    let result = 0;
    const handle = (redo: boolean): void => {
      journal.begin(this.#unique, 0);
      this.r.redo = redo;
      result = what(this.#fs);
      journal.done(Math.max(result, 0) + 16);
      journal.idle();
    };
    const first = this.#plan.shift() ?? Number.POSITIVE_INFINITY;
    let events = dieAt(first, () => handle(false));
    while (events === undefined) {
      const next = this.#plan.shift() ?? Number.POSITIVE_INFINITY;
      events = dieAt(next, () => {
        this.#succeed();
        const left = journal.inherit();
        this.r.redo = left.state === journal.JOURNAL.INHERITED;
        if (left.state === journal.JOURNAL.DONE) return;
        if (this.r.redo) {
          journal.resume();
          result = what(this.#fs);
          journal.done(Math.max(result, 0) + 16);
          journal.idle();
        } else {
          handle(false);
        }
      });
    }
    this.r.redo = false;
    this.events = events;
    return result;
  }

  #succeed(): void {
    this.deaths++;
    setFsIds(process.geteuid?.() ?? 0, process.getegid?.() ?? 0);
    closeOthers(this.#before);
    this.#fs = openFileSystem(this.#spec);
    this.#fs.succeed?.(this.#host());
  }

  #about(node: Node): void {
    this.r.nodeLo = node.lo;
    this.r.nodeHi = node.hi;
  }

  #entry(result: number): Node | string {
    if (result < 0) return nameOf(result);
    const k = OUT >>> 2;
    return {
      lo: u32[k] as number,
      hi: u32[k + 1] as number,
      ino: u64(OUT + Entry.attr + Attr.ino),
    };
  }

  lookup(parent: Node, name: string): Node | string {
    return this.#entry(this.#named(parent, name, (fs, n) => fs.lookup(this.r, NAME, n, OUT)));
  }

  #named(parent: Node, name: string, what: (fs: FileSystem, length: number) => number): number {
    return this.ask((fs) => {
      this.#about(parent);
      return what(fs, putBytes(NAME, name));
    });
  }

  /** The node at a path, which must be there. */
  at(path: string): Node {
    let node = this.root;
    for (const name of path.split('/').filter(Boolean)) {
      const found = this.lookup(node, name);
      if (typeof found === 'string') throw new Error(`${path}: ${found}`);
      node = found;
    }
    return node;
  }

  /** The folder of a path and its last name. Nobody dies of looking for it. */
  #place(path: string): [Node, string] {
    const plan = this.#plan;
    this.#plan = [];
    const slash = path.lastIndexOf('/');
    const folder = this.at(path.slice(0, Math.max(slash, 0)));
    this.#plan = plan;
    return [folder, path.slice(slash + 1)];
  }

  forget(node: Node, count = 1): void {
    this.#fs.forget(node.lo, node.hi, count);
  }

  getattr(node: Node): Attributes | string {
    const result = this.ask((fs) => {
      this.#about(node);
      return fs.getattr(this.r, false, 0, 0, OUT);
    });
    return result < 0 ? nameOf(result) : attributes(OUT);
  }

  setattr(node: Node, set: Partial<SetAttr>): Attributes | string {
    const all = { ...emptySetAttr(), ...set };
    const result = this.ask((fs) => {
      this.#about(node);
      return fs.setattr(this.r, all, OUT);
    });
    return result < 0 ? nameOf(result) : attributes(OUT);
  }

  chmod(node: Node, mode: number): Attributes | string {
    return this.setattr(node, { valid: SETATTR.MODE, mode });
  }

  mkdir(path: string, mode = 0o755): Node | string {
    const [parent, name] = this.#place(path);
    return this.#entry(this.#named(parent, name, (fs, n) => fs.mkdir(this.r, NAME, n, mode, OUT)));
  }

  mknod(path: string, mode: number, rdev: number): Node | string {
    const [parent, name] = this.#place(path);
    return this.#entry(
      this.#named(parent, name, (fs, n) => fs.mknod(this.r, NAME, n, mode, rdev, OUT)),
    );
  }

  symlink(path: string, target: string): Node | string {
    const [parent, name] = this.#place(path);
    return this.#entry(
      this.#named(parent, name, (fs, n) => {
        putBytes(NAME_2, target);
        return fs.symlink(this.r, NAME, n, NAME_2, OUT);
      }),
    );
  }

  link(old: Node, path: string): Node | string {
    const [parent, name] = this.#place(path);
    return this.#entry(
      this.#named(parent, name, (fs, n) => fs.link(this.r, old.lo, old.hi, NAME, n, OUT)),
    );
  }

  unlink(path: string): string {
    const [parent, name] = this.#place(path);
    return nameOf(this.#named(parent, name, (fs, n) => fs.unlink(this.r, NAME, n)));
  }

  rmdir(path: string): string {
    const [parent, name] = this.#place(path);
    return nameOf(this.#named(parent, name, (fs, n) => fs.rmdir(this.r, NAME, n)));
  }

  rename(from: string, to: string, flags = 0): string {
    const [parent, name] = this.#place(from);
    const [newParent, newName] = this.#place(to);
    return nameOf(
      this.#named(parent, name, (fs, n) =>
        fs.rename(
          this.r,
          NAME,
          n,
          newParent.lo,
          newParent.hi,
          NAME_2,
          putBytes(NAME_2, newName),
          flags,
        ),
      ),
    );
  }

  open(node: Node, flags: number): File | string {
    const reply = noReply();
    const result = this.ask((fs) => {
      this.#about(node);
      return fs.open(this.r, flags, reply);
    });
    return result < 0 ? nameOf(result) : { node, lo: reply.fhLo, hi: reply.fhHi };
  }

  create(path: string, mode = 0o644, flags: number = O.RDWR): File | string {
    const [parent, name] = this.#place(path);
    const reply = noReply();
    const node = this.#entry(
      this.#named(parent, name, (fs, n) =>
        fs.create(this.r, NAME, n, flags | O.CREAT | O.EXCL, mode, OUT, reply),
      ),
    );
    return typeof node === 'string' ? node : { node, lo: reply.fhLo, hi: reply.fhHi };
  }

  tmpfile(path: string, mode = 0o600): File | string {
    const [folder] = this.#place(`${path}/`);
    const reply = noReply();
    const node = this.#entry(
      this.ask((fs) => {
        this.#about(folder);
        return fs.tmpfile(this.r, O.RDWR, mode, OUT, reply);
      }),
    );
    return typeof node === 'string' ? node : { node, lo: reply.fhLo, hi: reply.fhHi };
  }

  read(file: File, size = 64, offset = 0): string {
    const result = this.ask((fs) => {
      this.#about(file.node);
      return fs.read(this.r, file.lo, file.hi, OUT, size, offset);
    });
    return result < 0 ? nameOf(result) : getBytes(OUT, result);
  }

  write(file: File, data: string, offset = 0): number | string {
    const result = this.ask((fs) => {
      this.#about(file.node);
      putBytes(DATA, data);
      return fs.write(this.r, file.lo, file.hi, DATA, data.length, offset, false);
    });
    return result < 0 ? nameOf(result) : result;
  }

  release(file: File): string {
    return nameOf(
      this.ask((fs) => {
        this.#about(file.node);
        return fs.release(this.r, file.lo, file.hi);
      }),
    );
  }

  readlink(node: Node): string {
    const result = this.ask((fs) => {
      this.#about(node);
      return fs.readlink(this.r, OUT, 4096);
    });
    return result < 0 ? nameOf(result) : getBytes(OUT, result);
  }

  getxattr(node: Node, name: string): string {
    const result = this.#named(node, name, (fs, n) => fs.getxattr(this.r, NAME, n, OUT, 4096));
    return result < 0 ? nameOf(result) : getBytes(OUT, result);
  }

  setxattr(node: Node, name: string, value: string, flags = 0): string {
    return nameOf(
      this.#named(node, name, (fs, n) => {
        putBytes(DATA, value);
        return fs.setxattr(this.r, NAME, n, DATA, value.length, flags);
      }),
    );
  }

  removexattr(node: Node, name: string): string {
    return nameOf(this.#named(node, name, (fs, n) => fs.removexattr(this.r, NAME, n)));
  }

  /** Names in a directory, sorted, with the numbers that the listing shows. */
  list(node: Node): Map<string, bigint> | string {
    const names: [string, bigint][] = [];
    const sink: DirSink = {
      plus: false,
      entry: OUT,
      fits: () => true,
      add: (inoLo, inoHi, _offset, _type, name, nameLen, bytes = u8) => {
        const text = Buffer.from(bytes.subarray(name, name + nameLen)).toString('latin1');
        if (text !== '.' && text !== '..') {
          names.push([text, (BigInt(inoHi) << 32n) | BigInt(inoLo)]);
        }
      },
    };
    const result = this.ask((fs) => {
      names.length = 0;
      this.#about(node);
      return fs.readdir(this.r, 0, 0, 0, sink);
    });
    if (result < 0) return nameOf(result);
    return new Map(names.sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  /** The whole tree: a line for each object by its path. */
  tree(): Map<string, string> {
    const lines = new Map<string, string>();
    this.#walk(this.root, '', lines);
    return lines;
  }

  #walk(node: Node, path: string, lines: Map<string, string>): void {
    const st = this.getattr(node);
    if (typeof st === 'string') {
      lines.set(path, st);
      return;
    }
    const type = st.mode & 0o170000;
    const directory = type === 0o040000;
    const words = [st.mode.toString(8), `uid=${st.uid}`];
    if (!directory) words.push(`nlink=${st.nlink}`, `size=${st.size}`);
    if (type === 0o100000) words.push(JSON.stringify(this.#content(node)));
    if (type === 0o120000) words.push(this.readlink(node));
    else words.push(`k=${this.getxattr(node, 'user.k')}`);
    lines.set(path, words.join(' '));
    if (!directory) return;
    const names = this.list(node);
    assert.ok(typeof names !== 'string', `${path}: ${names}`);
    for (const [name, ino] of names) {
      const child = this.lookup(node, name);
      assert.ok(typeof child !== 'string', `${path}/${name}: listed, but ${child}`);
      assert.equal(child.ino, ino, `${path}/${name}: d_ino and st_ino`);
      this.#walk(child, `${path}/${name}`, lines);
      this.forget(child);
    }
  }

  #content(node: Node): string {
    const file = this.open(node, O.RDONLY);
    if (typeof file === 'string') return file;
    const text = this.read(file);
    this.release(file);
    return text;
  }
}

/** What must have come back. */
export function got<T>(answer: T | string): T {
  if (typeof answer === 'string') throw new Error(answer);
  return answer;
}

const noReply = (): OpenReply => ({ fhLo: 0, fhHi: 0, flags: 0, backingId: 0 });

function nameOf(result: number): string {
  if (result >= 0) return 'ok';
  if (result === ABSENT) return 'ENOENT';
  return result === PARKED ? 'parked' : errnoName(result);
}

function u64(at: number): bigint {
  return (BigInt(u32[(at >>> 2) + 1] as number) << 32n) | BigInt(u32[at >>> 2] as number);
}

function attributes(at: number): Attributes {
  return {
    ino: u64(at + Attr.ino),
    mode: u32[(at + Attr.mode) >>> 2] as number,
    nlink: u32[(at + Attr.nlink) >>> 2] as number,
    size: Number(u64(at + Attr.size)),
    uid: u32[(at + Attr.uid) >>> 2] as number,
  };
}
