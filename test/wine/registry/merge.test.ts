// Properties of merging registries: comparing and applying undo each other, deltas compose, and their file keeps them.
// Rows below are cases that people meet; the properties find the ones that nobody thinks of.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { applyDelta } from '../../../src/wine/registry/apply.js';
import { compose, deltaOfFull } from '../../../src/wine/registry/compose.js';
import { EMPTY_DELTA, isEmpty } from '../../../src/wine/registry/delta.js';
import { parseDelta, writeDelta } from '../../../src/wine/registry/delta-text.js';
import { diffRegistry } from '../../../src/wine/registry/diff.js';
import { fold, type Registry } from '../../../src/wine/registry/hive.js';
import { parseHive } from '../../../src/wine/registry/parse.js';
import { emptyHive, writeHive } from '../../../src/wine/registry/write.js';
import { campaign } from '../../support/campaign.js';
import { delta, plain, registry, seen } from './arbitrary.js';

const numRuns = campaign('ops', 150);
const seed = campaign('seed', Date.now() % 2 ** 31);
const holds = (name: string, property: fc.IRawProperty<unknown>) =>
  test(name, () => fc.assert(property, { numRuns, seed }));

holds(
  'what was compared can be applied',
  fc.property(registry, registry, (below, now) => {
    assert.deepEqual(seen(applyDelta(below, diffRegistry(below, now))), seen(now));
  }),
);

holds(
  'a registry compared with itself has no changes',
  fc.property(registry, (all) => {
    assert.ok(isEmpty(diffRegistry(all, reread(all))));
    assert.ok(isEmpty(diffRegistry(reread(all), all)));
    assert.equal(applyDelta(all, EMPTY_DELTA).system, all.system);
  }),
);

holds(
  'applying twice is applying once',
  fc.property(registry, delta, (below, change) => {
    const once = applyDelta(below, change);
    assert.deepEqual(seen(applyDelta(once, change)), seen(once));
  }),
);

holds(
  'a composed delta does what both do in turn',
  fc.property(registry, delta, delta, (below, one, two) => {
    assert.deepEqual(
      seen(applyDelta(below, compose(one, two))),
      seen(applyDelta(applyDelta(below, one), two)),
    );
  }),
);

holds(
  'composing is associative',
  fc.property(registry, delta, delta, delta, (below, one, two, three) => {
    const left = compose(compose(one, two), three);
    const right = compose(one, compose(two, three));
    assert.deepEqual(seen(applyDelta(below, left)), seen(applyDelta(below, right)));
  }),
);

holds(
  'composing what was compared is associative to the letter',
  fc.property(registry, registry, registry, registry, (a, b, c, d) => {
    const [one, two, three] = [diffRegistry(a, b), diffRegistry(b, c), diffRegistry(c, d)];
    const left = compose(compose(one, two), three);
    assert.deepEqual(plain(left), plain(compose(one, compose(two, three))));
    assert.deepEqual(seen(applyDelta(a, left)), seen(d));
  }),
);

holds(
  'composing with nothing changes nothing',
  fc.property(delta, (change) => {
    assert.deepEqual(plain(compose(EMPTY_DELTA, change)), plain(change));
    assert.deepEqual(plain(compose(change, EMPTY_DELTA)), plain(change));
  }),
);

holds(
  'a delta is the same after its file, and its file after it',
  fc.property(delta, (change) => {
    const bytes = writeDelta(change);
    const again = parseDelta(bytes);
    assert.deepEqual(plain(again), plain(change));
    assert.deepEqual(writeDelta(again), bytes);
  }),
);

holds(
  'a full registry as a layer sets all that it has',
  fc.property(registry, registry, (below, full) => {
    const over = applyDelta(below, deltaOfFull(full));
    assert.deepEqual(seen(applyDelta(over, deltaOfFull(full))), seen(over));
    assert.deepEqual(seen(applyDelta(nothing(), deltaOfFull(full))), seen(full));
    for (const entry of diffRegistry(below, over).system.values()) {
      assert.equal(entry.deleted, undefined);
      assert.equal(entry.removed.size, 0);
    }
  }),
);

holds(
  'keys that are not touched stay the same objects',
  fc.property(registry, delta, (below, change) => {
    const deleted = [...change.system.values()].filter((entry) => entry.deleted);
    for (const [folded, key] of below.system.keys) {
      if (change.system.has(folded)) continue;
      if (deleted.some(({ path }) => `${folded}\\`.startsWith(`${fold(path)}\\`))) continue;
      assert.equal(applyDelta(below, change).system.keys.get(folded), key);
    }
  }),
);

function reread(all: Registry): Registry {
  return {
    system: parseHive(writeHive(all.system)),
    user: parseHive(writeHive(all.user)),
    userdef: parseHive(writeHive(all.userdef)),
  };
}

const nothing = (): Registry => ({
  system: emptyHive('system', 'win64'),
  user: emptyHive('user', 'win64'),
  userdef: emptyHive('userdef', 'win64'),
});

const HEAD =
  'WINE REGISTRY Version 2\n;; All keys relative to REGISTRY\\\\Machine\n\n#arch=win64\n';

const of = (body: string): Registry => ({
  ...nothing(),
  system: parseHive(Buffer.from(HEAD + body, 'latin1')),
});

const textOf = (below: string, now: string) =>
  writeDelta(diffRegistry(of(below), of(now))).toString('latin1');

for (const [what, below, now, expected] of [
  ['a key time', '\n[a] 1\n#time=1\n@="x"\n', '\n[a] 2\n#time=2\n@="x"\n', ''],
  ['a value in other words', '\n[a] 1\n@="x"\n', '\n[a] 1\n@=hex(1):78,00,\\\n  00,00\n', ''],
  ['an empty class', '\n[a] 1\n@="x"\n', '\n[a] 1\n#class=""\n@="x"\n', ''],
  ['the case of names', '\n[A] 1\n"V"="x"\n', '\n[a] 1\n"v"="x"\n', ''],
  ['an empty key that gets a child', '\n[a] 1\n', '\n[a\\\\b] 2\n', '\n+[a\\\\b] 2\n'],
  ['a child that leaves an empty key', '\n[a\\\\b] 1\n', '\n[a] 2\n', '\n+[a] 2\n\n-[a\\\\b]\n'],
  [
    'a key that goes with all below it',
    '\n[a\\\\b\\\\c] 1\n\n[a\\\\b\\\\d] 1\n\n[a\\\\e] 1\n',
    '\n[a\\\\e] 1\n',
    '\n-[a\\\\b]\n',
  ],
  [
    'values',
    '\n[a] 1\n"x"="1"\n"y"="2"\n"z"="3"\n',
    '\n[a] 2\n"x"="1"\n"y"="3"\n"w"="4"\n',
    '\n[a] 2\n"w"="4"\n"y"="3"\n"z"=-\n',
  ],
  [
    'values of a key that only its child keeps',
    '\n[a] 1\n"x"="1"\n\n[a\\\\b] 1\n',
    '\n[a\\\\b] 1\n',
    '\n[a]\n"x"=-\n',
  ],
  ['a class', '\n[a] 1\n#class="x"\n', '\n[a] 2\n', '\n[a] 2\n#\n'],
  ['a link', '\n[a] 1\n', '\n[a] 2\n#time=5\n#link\n', '\n[a] 2\n#link\n'],
  ['data that looks like a deletion', '\n[a] 1\n', '\n[a] 2\n"x"=-\n', '\n[a] 2\n"x"=hex(0):\n'],
] as const) {
  test(`compared: ${what}`, () => {
    const hive = expected === '' ? '' : `\nhive system\n${expected}`;
    assert.equal(textOf(below, now), `VARVE REGISTRY DELTA 1\n${hive}`);
    const applied = applyDelta(of(below), parseDelta(Buffer.from(textOf(below, now), 'latin1')));
    assert.deepEqual(seen(applied), seen(of(now)));
  });
}

test('new keys and values lie where Wine saves them, with the time of the change', () => {
  const below = of('\n[B]\n\n[b\\\\a]\n\n[B b] 1\n"a"="1"\n"c"="3"\n');
  const now = of(
    '\n[a\\\\z] 1676758571\n\n[B\\\\B] 3\n\n[B a] 1676758571\n\n[B b] 2\n"a"="1"\n"B"="2"\n"c"="3"\n',
  );
  const applied = applyDelta(below, diffRegistry(below, now));
  assert.equal(
    writeHive(applied.system).toString('latin1').slice(HEAD.length),
    '\n[a\\\\z] 1676758571\n#time=1d943e69b3ac780\n\n[B]\n\n[B\\\\B] 3\n#time=19db1ded7084380\n' +
      '\n[B a] 1676758571\n#time=1d943e69b3ac780\n\n[B b] 2\n#time=19db1ded66fad00\n"a"="1"\n"B"="2"\n"c"="3"\n',
  );
});

test('a change whose path leads through a link lands where Wine would find it', () => {
  const target = Buffer.from('\\Registry\\Machine\\System\\ControlSet001', 'utf16le');
  const hex = [...target].map((byte) => byte.toString(16).padStart(2, '0')).join(',');
  const below = of(
    `\n[System\\\\ControlSet001\\\\Services] 1\n\n[System\\\\CurrentControlSet] 1\n#link\n"SymbolicLinkValue"=hex(6):${hex}\n`,
  );
  const change = parseDelta(
    Buffer.from(
      'VARVE REGISTRY DELTA 1\nhive system\n[System\\\\CurrentControlSet\\\\Services\\\\x] 2\n@="1"\n',
    ),
  );
  assert.deepEqual(
    [...applyDelta(below, change).system.keys.keys()],
    [
      'system\\controlset001\\services',
      'system\\controlset001\\services\\x',
      'system\\currentcontrolset',
    ],
  );
});

for (const [what, text, message] of [
  [
    'another file',
    'WINE REGISTRY Version 2\n',
    'line 1: no registry delta: it begins with VARVE REGISTRY DELTA 1',
  ],
  ['nothing', '', 'line 1: no registry delta: it begins with VARVE REGISTRY DELTA 1'],
  [
    'a newer version',
    'VARVE REGISTRY DELTA 2\n',
    'line 1: VARVE REGISTRY DELTA 2: this version reads 1; it was written by a newer one',
  ],
  [
    'a hive that is none',
    'VARVE REGISTRY DELTA 1\nhive sam\n',
    'line 2: no such hive: sam (there are system, user, userdef)',
  ],
  ['a key before a hive', 'VARVE REGISTRY DELTA 1\n[a]\n', 'line 2: a key before any `hive` line'],
  [
    'a key without end',
    'VARVE REGISTRY DELTA 1\nhive user\n-[a\n',
    'line 3: a key without its ]: -[a',
  ],
  [
    'a key twice',
    'VARVE REGISTRY DELTA 1\nhive user\n[a]\n[A]\n',
    'line 4: a key for the second time: A',
  ],
  [
    'a hive deleted',
    'VARVE REGISTRY DELTA 1\nhive user\n-[]\n',
    'line 3: a hive cannot be deleted: -[]',
  ],
  [
    'a value before a key',
    'VARVE REGISTRY DELTA 1\nhive user\n@="x"\n',
    'line 3: not understood: @="x"',
  ],
  ['a line of nobody', 'VARVE REGISTRY DELTA 1\nhive user\n[a]\nx\n', 'line 4: not understood: x'],
  [
    'a value without data',
    'VARVE REGISTRY DELTA 1\nhive user\n[a]\n@=\n',
    'line 4: not understood: @=',
  ],
] as const) {
  test(`no delta: ${what}`, () =>
    assert.throws(() => parseDelta(Buffer.from(text)), { name: 'RegistryError', message }));
}
