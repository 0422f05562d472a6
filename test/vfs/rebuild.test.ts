// The tables of a server that died at any store of any operation, as its successor makes them whole again.

// First of all: it watches the C library.
import '../overlay/deaths.js';

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { mapMemory, putBytes, scratch, u32 } from '../../src/linux/memory.js';
import { Counter } from '../../src/vfs/counters.js';
import { allocHandle, freeHandle, H, get as handleGet, handleOf } from '../../src/vfs/handles.js';
import * as journal from '../../src/vfs/journal.js';
import { HEADER } from '../../src/vfs/layout.js';
import { freeText, keepText, nameAt, nameLength, textAt } from '../../src/vfs/names.js';
import {
  allocNode,
  F,
  FLAG,
  findIno,
  findName,
  freeNode,
  get,
  hasFlag,
  insertIno,
  insertName,
  keptField,
  moveName,
  nodesEnd,
  put,
  ROOT,
  removeName,
  setFlag,
  slotOf,
} from '../../src/vfs/nodes.js';
import { rebuildTables } from '../../src/vfs/rebuild.js';
import { dieAt, withCountedStores } from '../overlay/deaths.js';
import { bytesOf } from './tables.js';

withCountedStores(() => mapMemory());
const at = scratch + 0x10000;
const DIR = 4;
const REG = 8;
assert.equal(allocNode(DIR), ROOT);
put(ROOT, F.nlookup, 1);

/** What the kernel would know, and a place that must not be lost. */
interface Known {
  readonly slot: number;
  readonly generation: number;
  readonly type: number;
  ino: number;
  parent: number;
  name: string;
  kept: string;
  handles: { slot: number; generation: number }[];
}

/** Every handle that was ever answered. */
const handlesGiven = new Set<string>();

class Model {
  readonly known = new Map<number, Known>();
  #number = 0;

  /** Directories of the model, the root among them. */
  dirs(): number[] {
    return [
      ROOT,
      ...[...this.known.values()].filter((k) => k.type === DIR && k.name !== '').map((k) => k.slot),
    ];
  }

  /** A node with one lookup, made as lookup makes it: known only if all of it was done. */
  make(type: number, pick: number, name: string, hashed: boolean): void {
    const dirs = this.dirs();
    const parent = dirs[pick % dirs.length] as number;
    if (this.#has(parent, name)) return;
    const ino = 1000 + ++this.#number;
    const slot = allocNode(type);
    insertName(slot, parent, at, putBytes(at, name));
    put(slot, F.inoLo, ino);
    if (hashed) insertIno(slot);
    put(slot, F.nlookup, 1);
    const generation = get(slot, F.generation);
    this.known.set(slot, { slot, generation, type, ino, parent, name, kept: '', handles: [] });
  }

  #has(parent: number, name: string): boolean {
    return [...this.known.values()].some((k) => k.parent === parent && k.name === name);
  }

  #pick(pick: number, of: (k: Known) => boolean): Known | undefined {
    const all = [...this.known.values()].filter(of);
    return all[pick % all.length];
  }

  move(pick: number, name: string): void {
    const k = this.#pick(pick, (k) => k.name !== '' && k.type === REG);
    if (k === undefined || this.#has(ROOT, name)) return;
    // Either place is right at a death; the test looks which one it is.
    const before = { parent: k.parent, name: k.name };
    this.moving = { known: k, before, after: { parent: ROOT, name } };
    moveName(k.slot, ROOT, at, putBytes(at, name));
    Object.assign(k, this.moving.after);
    this.moving = undefined;
  }

  moving:
    | {
        known: Known;
        before: { parent: number; name: string };
        after: { parent: number; name: string };
      }
    | undefined;

  open(pick: number): void {
    const k = this.#pick(pick, (k) => k.type === REG);
    if (k === undefined) return;
    journal.begin(++this.#number, 0);
    const slot = allocHandle(k.slot, 17, 2, 0);
    const generation = handleGet(slot, H.generation);
    const id = `${slot}.${generation}`;
    assert.equal(handlesGiven.has(id), false, `handle ${id} was given out before`);
    journal.idle();
    handlesGiven.add(id);
    k.handles.push({ slot, generation });
  }

  close(pick: number): void {
    const k = this.#pick(pick, (k) => k.handles.length > 0);
    if (k === undefined) return;
    const handle = k.handles.at(-1) as { slot: number; generation: number };
    this.closing = handle;
    freeHandle(handle.slot);
    k.handles.pop();
    this.closing = undefined;
  }

  closing: { slot: number; generation: number } | undefined;

  /** The name goes, the node stays. */
  orphan(pick: number, text: string): void {
    const k = this.#pick(pick, (k) => k.name !== '' && k.type === REG);
    if (k === undefined) return;
    this.orphaning = k;
    put(k.slot, keptField(k.slot), keepText(text));
    k.kept = text;
    setFlag(k.slot, FLAG.ORPHAN);
    removeName(k.slot);
    k.parent = 0;
    k.name = '';
    this.orphaning = undefined;
  }

  orphaning: Known | undefined;

  forget(pick: number): void {
    const k = this.#pick(
      pick,
      (k) => k.handles.length === 0 && ![...this.known.values()].some((c) => c.parent === k.slot),
    );
    if (k === undefined) return;
    put(k.slot, F.nlookup, 0);
    this.known.delete(k.slot);
    removeName(k.slot);
    const kept = get(k.slot, keptField(k.slot));
    put(k.slot, keptField(k.slot), 0);
    freeText(kept);
    freeNode(k.slot);
  }

  /** What an operation that died had come to: either is right. */
  #resolve(): void {
    const { moving, orphaning: k } = this;
    if (moving !== undefined) {
      const { known, before, after } = moving;
      const there = get(known.slot, F.parent) === after.parent && nameOf(known.slot) === after.name;
      Object.assign(known, there ? after : before);
    }
    if (k !== undefined) {
      k.kept = get(k.slot, keptField(k.slot)) === 0 ? '' : k.kept;
      if (get(k.slot, F.name) === 0) Object.assign(k, { parent: 0, name: '' });
    }
    this.moving = undefined;
    this.orphaning = undefined;
  }

  /** Compares the tables with what must be in them. */
  check(): void {
    this.#resolve();
    for (const k of this.known.values()) {
      const { closing } = this;
      // A close is asked for again if it had not come to that.
      k.handles = k.handles.filter((h) => h !== closing || handleOf(h.slot, h.generation) !== 0);
      const what = `node ${k.slot} ${k.name}`;
      assert.equal(slotOf(k.slot, k.generation), k.slot, what);
      assert.equal(get(k.slot, F.inoLo), k.ino, what);
      assert.ok(hasFlag(k.slot, FLAG.INHERITED), what);
      assert.equal(nameOf(k.slot), k.name, what);
      if (k.name !== '') {
        assert.equal(get(k.slot, F.parent), k.parent, what);
        assert.equal(findName(k.parent, at, putBytes(at, k.name)), k.slot, what);
      }
      if (hasFlag(k.slot, FLAG.HASHED_INO)) assert.equal(findIno(k.ino, 0), k.slot, what);
      if (k.kept !== '') assert.equal(textAt(get(k.slot, keptField(k.slot))), k.kept, what);
      for (const { slot, generation } of k.handles) {
        assert.equal(handleOf(slot, generation), slot, what);
        assert.equal(handleGet(slot, H.fd), 0);
      }
      if (k.type === DIR) assert.equal(get(k.slot, F.children), this.#children(k.slot), what);
    }
    assert.equal(get(ROOT, F.children), this.#children(ROOT));
    // Nothing else is there.
    let live = 0;
    for (let slot = ROOT; slot < nodesEnd(); slot++) if (get(slot, F.flags) !== 0) live++;
    assert.equal(live, this.known.size + 1);
    assert.equal(u32[(HEADER + Counter.nodes) >>> 2], live);
    this.closing = undefined;
  }

  #children(slot: number): number {
    return [...this.known.values()].filter((k) => k.parent === slot && k.name !== '').length;
  }
}

function nameOf(slot: number): string {
  const ref = get(slot, F.name);
  return ref === 0 ? '' : bytesOf(nameAt(ref), nameLength(ref));
}

const name = fc.oneof(
  fc.constantFrom('a', 'b', 'c', 'd'),
  fc.integer({ min: 1, max: 255 }).map((n) => 'n'.repeat(n)),
);
const pick = fc.nat(1000);
const text = fc.integer({ min: 1, max: 700 }).map((n) => 'kept/'.repeat(n).slice(0, n));
type Step = (m: Model) => void;
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.tuple(fc.constantFrom(DIR, REG), pick, name, fc.boolean()).map(
    ([type, p, n, h]): Step =>
      (m) =>
        m.make(type, p, n, h),
  ),
  fc.tuple(pick, name).map(
    ([p, n]): Step =>
      (m) =>
        m.move(p, n),
  ),
  fc.tuple(pick, name).map(
    ([p, n]): Step =>
      (m) =>
        m.move(p, n),
  ),
  pick.map(
    (p): Step =>
      (m) =>
        m.open(p),
  ),
  pick.map(
    (p): Step =>
      (m) =>
        m.close(p),
  ),
  fc.tuple(pick, text).map(
    ([p, t]): Step =>
      (m) =>
        m.orphan(p, t),
  ),
  pick.map(
    (p): Step =>
      (m) =>
        m.forget(p),
  ),
);

/** A step, at which store of it the server dies, and at which of its pass the successor, if at all. */
const mortal = fc.tuple(
  step,
  fc.option(fc.nat(30), { freq: 3 }),
  fc.option(fc.nat(200), { freq: 3 }),
);

test('whatever was certain stays, whatever was half made goes, at every store of a death', () => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(fc.array(mortal, { maxLength: 40 }), (steps) => {
      const model = new Model();
      for (const [act, death, second] of steps) {
        const at = death === null ? Number.POSITIVE_INFINITY : death + 1;
        if (dieAt(at, () => act(model)) !== undefined) continue;
        if (second !== null) dieAt(second + 1, rebuildTables);
        rebuildTables();
        journal.idle();
        model.check();
      }
      rebuildTables();
      model.check();
      for (const { slot, generation } of model.known.values()) {
        const id = `${slot}.${generation}`;
        assert.equal(seen.has(id), false, `nodeid ${id} was given out before`);
        seen.add(id);
      }
      // Empty again for the next.
      for (let slot = ROOT + 1; slot < nodesEnd(); slot++) put(slot, F.nlookup, 0);
      for (const { handles } of model.known.values()) for (const h of handles) freeHandle(h.slot);
      rebuildTables();
      assert.equal(get(ROOT, F.children), 0);
    }),
    { numRuns: 1000, endOnFailure: true, includeErrorInReport: true },
  );
});
