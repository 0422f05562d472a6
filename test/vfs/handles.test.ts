import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { mapMemory, u32 } from '../../src/linux/memory.js';
import { Counter } from '../../src/vfs/counters.js';
import { allocHandle, freeHandle, get, H, handleOf, KIND, put } from '../../src/vfs/handles.js';
import { HANDLE_COUNT, HEADER } from '../../src/vfs/layout.js';
import { allocNode, F, get as nodeGet } from '../../src/vfs/nodes.js';

mapMemory();
const REG = 8;
const nodes = Array.from({ length: 4 }, () => allocNode(REG));
const live = () => u32[(HEADER + Counter.handles) >>> 2];

/** The handles of a node in the order of its list, both directions checked. */
function listOf(node: number): number[] {
  const list: number[] = [];
  let before = 0;
  for (let h = nodeGet(node, F.handles); h !== 0; h = get(h, H.next)) {
    assert.equal(get(h, H.prev), before);
    list.push(h);
    before = h;
  }
  return list;
}

test('a handle carries what it was opened with, and none names nothing', () => {
  const slot = allocHandle(nodes[0], 17, 0o2, KIND.LOWER);
  assert.equal(get(slot, H.fd), 18);
  assert.equal(get(slot, H.flags), 0o2);
  assert.equal(get(slot, H.kind), KIND.LOWER);
  assert.equal(get(slot, H.node), nodes[0]);
  const generation = get(slot, H.generation);
  assert.equal(handleOf(slot, generation), slot);
  assert.equal(handleOf(slot, generation + 1), 0);
  freeHandle(slot);
  assert.equal(handleOf(slot, generation), 0);
  assert.equal(handleOf(slot, generation + 1), 0);
  assert.equal(handleOf(0, 0), 0);
  assert.equal(handleOf(HANDLE_COUNT, 0), 0);
  assert.equal(handleOf(0xffff_ffff, 0xffff_ffff), 0);
});

test('an fh is never given out twice', () => {
  const seen = new Set<string>();
  for (let i = 0; i < 1000; i++) {
    const slot = allocHandle(nodes[1], i, 0, 0);
    const fh = `${slot}.${get(slot, H.generation)}`;
    assert.equal(seen.has(fh), false);
    seen.add(fh);
    freeHandle(slot);
  }
});

test('lists, lookups and the counter agree with a Map under any sequence of changes', () => {
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.record({ node: fc.nat({ max: 3 }), fd: fc.nat({ max: 9999 }) }) },
    { weight: 2, arbitrary: fc.nat() },
  );
  const start = live();
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const model = new Map<number, { node: number; fd: number; generation: number }>();
      const lists = new Map<number, number[]>(nodes.map((node) => [node, []]));
      for (const s of steps) {
        if (typeof s !== 'number') {
          const node = nodes[s.node];
          const slot = allocHandle(node, s.fd, 0, 0);
          assert.equal(model.has(slot), false);
          model.set(slot, { node, fd: s.fd, generation: get(slot, H.generation) });
          lists.get(node)?.unshift(slot);
        } else if (model.size > 0) {
          const slot = [...model.keys()][s % model.size];
          const { node } = model.get(slot) as { node: number };
          freeHandle(slot);
          model.delete(slot);
          const list = lists.get(node) as number[];
          list.splice(list.indexOf(slot), 1);
        }
      }
      assert.equal(live(), (start as number) + model.size);
      for (const [node, list] of lists) assert.deepEqual(listOf(node), list);
      for (const [slot, { node, fd, generation }] of model) {
        assert.equal(handleOf(slot, generation), slot);
        assert.equal(get(slot, H.node), node);
        assert.equal(get(slot, H.fd), fd + 1);
      }
      for (const slot of model.keys()) freeHandle(slot);
      for (const node of nodes) assert.equal(nodeGet(node, F.handles), 0);
    }),
  );
});

test('a copy that changes a handle in place leaves its list alone', () => {
  const [a, b, c] = [1, 2, 3].map((fd) => allocHandle(nodes[2], fd, 0, KIND.LOWER));
  put(b, H.fd, 99);
  put(b, H.kind, 0);
  assert.deepEqual(listOf(nodes[2]), [c, b, a]);
  for (const slot of [b, a, c]) freeHandle(slot);
});
