import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { mapMemory, putBytes, scratch } from '../../src/linux/memory.js';
import { freeName, nameAt, nameLength } from '../../src/vfs/names.js';
import {
  allocNode,
  clearFlag,
  F,
  FLAG,
  findIno,
  findName,
  freeNode,
  get,
  hasFlag,
  insertIno,
  insertName,
  put,
  removeIno,
  removeName,
  setFlag,
  slotOf,
  TYPE_MASK,
} from '../../src/vfs/nodes.js';
import { bytesOf, nameText } from './tables.js';

mapMemory();
const at = scratch + 0x10000;
const DIR = 4;
const REG = 8;
const root = allocNode(DIR);

const insert = (slot: number, parent: number, text: string) =>
  insertName(slot, parent, at, putBytes(at, text));
const find = (parent: number, text: string) => findName(parent, at, putBytes(at, text));

test('the first node is the root that FUSE calls 1, generation 0', () => {
  assert.equal(root, 1);
  assert.equal(slotOf(1, 0), 1);
});

test('nodeids that were never given out name no node', () => {
  assert.equal(slotOf(0, 0), 0);
  assert.equal(slotOf(root, 1), 0);
  assert.equal(slotOf(0xffff_ffff, 0xffff_ffff), 0);
  assert.equal(slotOf(123_456, 0), 0);
});

test('a slot is used again, its nodeid never', () => {
  const seen = new Set<string>();
  for (let i = 0; i < 100; i++) {
    const slot = allocNode(REG);
    const generation = get(slot, F.generation);
    const id = `${slot}.${generation}`;
    assert.equal(seen.has(id), false);
    seen.add(id);
    assert.equal(slotOf(slot, generation), slot);
    freeNode(slot);
    assert.equal(slotOf(slot, generation), 0);
  }
  const slots = new Set([...seen].map((id) => id.split('.')[0]));
  assert.equal(slots.size, 1);
});

test('a new record is zero but for its type and generation', () => {
  const first = allocNode(REG);
  for (const field of Object.values(F)) if (field !== F.generation) put(first, field, 0xdead);
  put(first, F.lowerName, 0);
  put(first, F.flags, REG);
  freeNode(first);
  const again = allocNode(DIR);
  assert.equal(again, first);
  for (const field of Object.values(F)) {
    if (field === F.generation) continue;
    assert.equal(get(again, field), field === F.flags ? DIR : 0);
  }
  freeNode(again);
});

test('flags share a word with the type and leave it alone', () => {
  const slot = allocNode(DIR);
  for (const flag of Object.values(FLAG)) {
    assert.equal(flag & TYPE_MASK, 0);
    assert.equal(hasFlag(slot, flag), false);
    setFlag(slot, flag);
    assert.equal(hasFlag(slot, flag), true);
    assert.equal(get(slot, F.flags) & TYPE_MASK, DIR);
    clearFlag(slot, flag);
  }
  assert.equal(get(slot, F.flags), DIR);
  const bits = Object.values(FLAG);
  assert.equal(new Set(bits).size, bits.length);
  for (const bit of bits) assert.equal(bit & (bit - 1), 0);
  freeNode(slot);
});

test('removeName with `keep` hands over the name', () => {
  const slot = allocNode(REG);
  insert(slot, root, 'kept');
  const ref = removeName(slot, true);
  assert.equal(bytesOf(nameAt(ref), nameLength(ref)), 'kept');
  assert.equal(find(root, 'kept'), 0);
  assert.equal(get(slot, F.parent), 0);
  assert.equal(removeName(slot), 0);
  freeName(ref);
  freeNode(slot);
});

interface ModelNode {
  generation: number;
  parent: number;
  name: string | undefined;
  ino: number | undefined;
}

/** Each step picks its node by position among the live ones. */
const step = fc.oneof(
  fc.record({ op: fc.constant('add' as const), on: fc.nat(), name: nameText }),
  fc.record({ op: fc.constant('rename' as const), on: fc.nat(), to: fc.nat(), name: nameText }),
  fc.record({ op: fc.constant('unlink' as const), on: fc.nat() }),
  fc.record({ op: fc.constant('ino' as const), on: fc.nat(), ino: fc.nat({ max: 20 }) }),
  fc.record({ op: fc.constant('unino' as const), on: fc.nat() }),
  fc.record({ op: fc.constant('free' as const), on: fc.nat() }),
);

test('the table agrees with a Map under any sequence of changes', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 150 }), (steps) => {
      const model = new Map<number, ModelNode>();
      const key = (parent: number, name: string) => `${parent}/${name}`;
      const names = new Map<string, number>();
      const dead: [number, number][] = [];
      const pick = (n: number) => [...model.keys()][n % model.size];
      const unlink = (slot: number) => {
        const node = model.get(slot) as ModelNode;
        if (node.name === undefined) return;
        removeName(slot);
        names.delete(key(node.parent, node.name));
        node.name = undefined;
        node.parent = 0;
      };
      for (const s of steps) {
        if (s.op === 'add') {
          const parents = [root, ...model.keys()];
          const parent = parents[s.on % parents.length];
          if (names.has(key(parent, s.name))) {
            assert.equal(find(parent, s.name), names.get(key(parent, s.name)));
            continue;
          }
          const slot = allocNode(DIR);
          assert.equal(model.has(slot), false);
          assert.equal(insert(slot, parent, s.name), true);
          const generation = get(slot, F.generation);
          model.set(slot, { generation, parent, name: s.name, ino: undefined });
          names.set(key(parent, s.name), slot);
          continue;
        }
        if (model.size === 0) continue;
        const slot = pick(s.on);
        const node = model.get(slot) as ModelNode;
        if (s.op === 'rename') {
          const parents = [root, ...model.keys()];
          const parent = parents[s.to % parents.length];
          const there = names.get(key(parent, s.name));
          if (there === slot) continue;
          if (there !== undefined) unlink(there);
          unlink(slot);
          insert(slot, parent, s.name);
          node.parent = parent;
          node.name = s.name;
          names.set(key(parent, s.name), slot);
        } else if (s.op === 'unlink') {
          unlink(slot);
        } else if (s.op === 'ino') {
          if (node.ino !== undefined) continue;
          put(slot, F.inoLo, s.ino);
          put(slot, F.inoHi, s.ino % 3);
          insertIno(slot);
          node.ino = s.ino;
        } else if (s.op === 'unino') {
          if (node.ino === undefined) continue;
          removeIno(slot);
          node.ino = undefined;
        } else {
          // What refers to it as a parent goes first, as in forget.ts.
          for (const [child, { parent }] of model) if (parent === slot) unlink(child);
          unlink(slot);
          freeNode(slot);
          model.delete(slot);
          dead.push([slot, node.generation]);
        }
      }
      for (const [slot, generation] of dead) assert.equal(slotOf(slot, generation), 0);
      const children = new Map<number, number>();
      for (const [slot, node] of model) {
        assert.equal(slotOf(slot, node.generation), slot);
        assert.equal(get(slot, F.parent), node.parent);
        assert.equal(hasFlag(slot, FLAG.HASHED_INO), node.ino !== undefined);
        if (node.name !== undefined) {
          assert.equal(find(node.parent, node.name), slot);
          children.set(node.parent, (children.get(node.parent) ?? 0) + 1);
        }
        if (node.ino !== undefined) {
          const found = findIno(node.ino, node.ino % 3);
          assert.equal(model.get(found)?.ino, node.ino);
        }
      }
      for (const slot of [root, ...model.keys()]) {
        assert.equal(get(slot, F.children), children.get(slot) ?? 0);
      }
      for (let ino = 0; ino <= 20; ino++) {
        const entered = [...model.values()].some((node) => node.ino === ino);
        assert.equal(findIno(ino, ino % 3) !== 0, entered);
      }
      for (const slot of [...model.keys()]) unlink(slot);
      for (const slot of model.keys()) freeNode(slot);
      assert.equal(get(root, F.children), 0);
    }),
    { numRuns: 300 },
  );
});
