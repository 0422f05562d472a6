// A base is updated under a delta: what each side has changed is kept, and where both have, it is told.
// The property holds for every value of three random registries; the rows are what people meet.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { applyDelta } from '../../../src/wine/registry/apply.js';
import { isEmpty } from '../../../src/wine/registry/delta.js';
import { writeDelta } from '../../../src/wine/registry/delta-text.js';
import { diffRegistry } from '../../../src/wine/registry/diff.js';
import { fold, type Registry } from '../../../src/wine/registry/hive.js';
import { parseHive } from '../../../src/wine/registry/parse.js';
import { rebaseDelta } from '../../../src/wine/registry/three-way.js';
import { decodeValue } from '../../../src/wine/registry/value.js';
import { emptyHive, writeHive } from '../../../src/wine/registry/write.js';
import { campaign } from '../../support/campaign.js';
import { delta, plain, registry, seen } from './arbitrary.js';

const numRuns = campaign('ops', 150);
const seed = campaign('seed', Date.now() % 2 ** 31);
const holds = (name: string, property: fc.IRawProperty<unknown>) =>
  test(name, () => fc.assert(property, { numRuns, seed }));

const copy = (all: Registry): Registry => ({ ...all, system: parseHive(writeHive(all.system)) });

holds(
  'over the same base a delta stays what it is',
  fc.property(registry, delta, (base, change) => {
    const { delta: rebased, conflicts } = rebaseDelta(base, copy(base), change);
    assert.deepEqual(conflicts, []);
    assert.deepEqual(plain(rebased), plain(change));
  }),
);

holds(
  'what the delta has changed stays, what the base has changed comes or is told',
  fc.property(registry, registry, registry, (old, mine, now) => {
    const { delta: rebased, conflicts } = rebaseDelta(old, now, diffRegistry(old, mine));
    const result = applyDelta(now, rebased);
    const told = new Set(
      conflicts.map(({ path, value }) => `${fold(path)}|${value === undefined ? '' : fold(value)}`),
    );
    const [o, m, n, r] = [old, mine, now, result].map(valuesOf);
    for (const place of new Set([...o.keys(), ...m.keys(), ...n.keys(), ...r.keys()])) {
      const [was, ours, theirs, is] = [o, m, n, r].map((values) => values.get(place));
      if (ours !== was) assert.equal(is, ours, `${place}: ours`);
      else if (is !== theirs) assert.ok(told.has(place), `${place}: theirs, or told`);
      if (ours !== was && theirs !== was && ours !== theirs && o.has(place) && n.has(place)) {
        assert.ok(told.has(place), `${place}: told`);
      }
    }
  }),
);

holds(
  'a base that has come to the same leaves nothing of the delta',
  fc.property(registry, registry, (old, mine) => {
    const { delta: rebased, conflicts } = rebaseDelta(old, copy(mine), diffRegistry(old, mine));
    assert.deepEqual(seen(applyDelta(mine, rebased)), seen(mine));
    for (const { kind } of conflicts) assert.notEqual(kind, 'value');
  }),
);

holds(
  'changes of different keys do not meet: the order counts for nothing',
  fc.property(registry, delta, delta, (old, one, two) => {
    const roots = (change: typeof one) =>
      new Set([...change.system.keys()].map((folded) => folded.split('\\')[0]));
    const others = roots(two);
    fc.pre([...roots(one)].every((root) => !others.has(root)));
    const { delta: rebased, conflicts } = rebaseDelta(old, applyDelta(old, two), one);
    assert.deepEqual(conflicts, []);
    const after = seen(applyDelta(applyDelta(old, two), rebased));
    assert.deepEqual(after, seen(applyDelta(applyDelta(old, one), two)));
  }),
);

/** Every value as `path|name` to its type and bytes. */
function valuesOf(all: Registry): Map<string, string> {
  const values = new Map<string, string>();
  for (const [path, key] of all.system.keys) {
    for (const [name, { data }] of key.values) {
      const { type, bytes } = decodeValue(data);
      values.set(`${path}|${name}`, `${type}:${bytes.toString('hex')}`);
    }
  }
  return values;
}

const HEAD =
  'WINE REGISTRY Version 2\n;; All keys relative to REGISTRY\\\\Machine\n\n#arch=win64\n';

const of = (body: string): Registry => ({
  system: parseHive(Buffer.from(HEAD + body, 'latin1')),
  user: emptyHive('user', 'win64'),
  userdef: emptyHive('userdef', 'win64'),
});

for (const { what, old, mine, now, left, conflicts } of [
  {
    what: 'both set a value',
    old: '\n[K]\n"v"="1"\n',
    mine: '\n[K] 5\n"v"="2"\n',
    now: '\n[k]\n"V"="3"\n',
    left: '[K] 5\n"v"="2"\n',
    conflicts: [{ path: 'K', value: 'v', kind: 'value', old: '"1"', ours: '"2"', theirs: '"3"' }],
  },
  {
    what: 'both set the same',
    old: '\n[K]\n"v"="1"\n',
    mine: '\n[K] 5\n"v"="2"\n"w"="x"\n',
    now: '\n[K]\n"v"=hex(1):32,00,00,00\n',
    left: '[K] 5\n"w"="x"\n',
    conflicts: [],
  },
  {
    what: 'one removes, the other sets',
    old: '\n[K]\n"u"="0"\n"v"="1"\n"w"="1"\n',
    mine: '\n[K] 5\n"u"="0"\n"w"="2"\n',
    now: '\n[K]\n"u"="0"\n"v"="3"\n',
    left: '[K] 5\n"v"=-\n"w"="2"\n',
    conflicts: [
      { path: 'K', value: 'w', kind: 'value', old: '"1"', ours: '"2"' },
      { path: 'K', value: 'v', kind: 'value', old: '"1"', theirs: '"3"' },
    ],
  },
  {
    what: 'the base deletes a key that has changed',
    old: '\n[A\\\\K]\n"v"="1"\n',
    mine: '\n[A\\\\K] 5\n"v"="2"\n',
    now: '\n[A]\n',
    left: '[A\\\\K] 5\n"v"="2"\n',
    conflicts: [{ path: 'A\\K', kind: 'key-deleted-below' }],
  },
  {
    what: 'the base changes and makes what has been deleted',
    old: '\n[A\\\\K]\n"v"="1"\n\n[A\\\\L]\n',
    mine: '\n[A\\\\L]\n',
    now: '\n[A\\\\K]\n"v"="2"\n\n[A\\\\K\\\\N]\n\n[A\\\\L]\n',
    left: '-[A\\\\K]\n',
    conflicts: [
      { path: 'A\\K', value: 'v', kind: 'key-deleted-above', old: '"1"', theirs: '"2"' },
      { path: 'A\\K\\N', kind: 'key-deleted-above' },
    ],
  },
  {
    what: 'both delete',
    old: '\n[A\\\\K]\n"v"="1"\n"w"="2"\n\n[A\\\\L]\n',
    mine: '\n[A]\n',
    now: '\n[A]\n',
    left: '',
    conflicts: [],
  },
  {
    what: 'both change the class',
    old: '\n[K]\n#class="a"\n',
    mine: '\n[K] 5\n#class="b"\n',
    now: '\n[K]\n#class="c"\n',
    left: '[K] 5\n#class="b"\n',
    conflicts: [
      { path: 'K', kind: 'options', old: '#class="a"', ours: '#class="b"', theirs: '#class="c"' },
    ],
  },
  {
    what: 'both make a key',
    old: '\n[A]\n',
    mine: '\n[A]\n\n[K] 5\n"v"="1"\n',
    now: '\n[A]\n\n[K]\n"v"="1"\n"w"="1"\n',
    left: '',
    conflicts: [],
  },
]) {
  test(`an update: ${what}`, () => {
    const result = rebaseDelta(of(old), of(now), diffRegistry(of(old), of(mine)));
    assert.deepEqual(
      result.conflicts,
      conflicts.map((conflict) => ({ hive: 'system', ...conflict })),
    );
    const head = 'VARVE REGISTRY DELTA 1\n';
    const body = left === '' ? '' : `\nhive system\n\n${left}`;
    assert.equal(writeDelta(result.delta).toString('latin1'), head + body);
    assert.equal(isEmpty(result.delta), left === '');
  });
}
