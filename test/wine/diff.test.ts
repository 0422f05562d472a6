// What a registry delta changes, key by key: values with both sides, tombstones, keys that stand anew, what is implied.
// Under test: src/wine/diff/registry-changes.ts, over registries written by hand, and against what applying the delta gives.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { changesIn, type KeyChange, type KeyData, keysDocument } from '../../src/report/keys.js';
import { registryChanges } from '../../src/wine/diff/registry-changes.js';
import { applyDelta } from '../../src/wine/registry/apply.js';
import { EMPTY_DELTA } from '../../src/wine/registry/delta.js';
import { diffRegistry } from '../../src/wine/registry/diff.js';
import { fold, HIVES, type Registry } from '../../src/wine/registry/hive.js';
import { parseHive } from '../../src/wine/registry/parse.js';
import { decodeValue } from '../../src/wine/registry/value.js';
import { emptyHive } from '../../src/wine/registry/write.js';
import { campaign } from '../support/campaign.js';
import { hiveText } from './prefixes.js';
import { registry as arbitraryRegistry } from './registry/arbitrary.js';

const EMPTY: Registry = {
  system: emptyHive('system', 'win64'),
  user: emptyHive('user', 'win64'),
  userdef: emptyHive('userdef', 'win64'),
};

const user = (keys: string): Registry => ({
  ...EMPTY,
  user: parseHive(Buffer.from(hiveText('\\\\User\\\\S-1-5-21-0-0-0-1000', keys), 'latin1')),
});

const between = (before: Registry, after: Registry): KeyChange[] =>
  registryChanges(before, diffRegistry(before, after));

/** `M Software\App: A a, M b, D c`. */
const inWords = (changes: readonly KeyChange[]): string[] =>
  changes.map(({ path, status, values }) => {
    const words = values.map(({ name, status: letter }) => `${letter} ${name || '@'}`);
    return `${status} ${path.replace('HKEY_CURRENT_USER', '~')}${words.length > 0 ? `: ${words.join(', ')}` : ''}`;
  });

test('values: added, modified, deleted; both sides decoded; spelling is no change', () => {
  const before = user(
    '[Software\\\\App] 1\n@="old"\n"gone"=dword:0000000a\n"same"=hex:61,\\\n  62\n"typed"="1"\n',
  );
  const after = user(
    '[Software\\\\App] 2\n@="new"\n"New"=str(7):"a\\0b\\0"\n"same"=hex:61,62\n"typed"=dword:00000001\n',
  );
  const [key, ...others] = between(before, after);
  assert.deepEqual(others, []);
  assert.deepEqual(key, {
    path: 'HKEY_CURRENT_USER\\Software\\App',
    status: 'M',
    values: [
      {
        name: '',
        status: 'M',
        before: { type: 'REG_SZ', size: 8, text: 'old' },
        after: { type: 'REG_SZ', size: 8, text: 'new' },
      },
      { name: 'gone', status: 'D', before: { type: 'REG_DWORD', size: 4, number: 10 } },
      { name: 'New', status: 'A', after: { type: 'REG_MULTI_SZ', size: 10, lines: ['a', 'b'] } },
      {
        name: 'typed',
        status: 'M',
        before: { type: 'REG_SZ', size: 4, text: '1' },
        after: { type: 'REG_DWORD', size: 4, number: 1 },
      },
    ],
  });
});

test('keys: new, gone with all that they had, standing anew, implied by what lies below', () => {
  const before = user(
    '[Software\\\\Old] 1\n"a"="1"\n\n[Software\\\\Old\\\\Sub] 1\n"b"="1"\n\n[Software\\\\Implied\\\\Child] 1\n"c"="1"\n\n[Zoo] 1\n"z"="1"\n',
  );
  const after = user(
    '[Software\\\\Implied] 1\n"own"="1"\n\n[Software\\\\Implied\\\\Child] 1\n"c"="1"\n\n[Software\\\\New\\\\Deep] 1\n"d"="1"\n\n[Zoo] 9\n"z"="1"\n',
  );
  assert.deepEqual(inWords(between(before, after)), [
    'M ~\\Software\\Implied: A own',
    'A ~\\Software\\New',
    'A ~\\Software\\New\\Deep: A d',
    'D ~\\Software\\Old: D a',
    'D ~\\Software\\Old\\Sub: D b',
  ]);
  assert.deepEqual(between(before, before), []);
  assert.deepEqual(registryChanges(before, EMPTY_DELTA), []);
});

test('noise is marked, and so is a key that is new for the sake of noise alone', () => {
  const noisy = '[Software\\\\Wine\\\\Drivers\\\\w\\\\devices\\\\a] 1\n"x"="1"\n';
  const told = between(EMPTY, user(noisy));
  assert.deepEqual(inWords(told), [
    'A ~\\Software',
    'A ~\\Software\\Wine',
    'A ~\\Software\\Wine\\Drivers',
    'A ~\\Software\\Wine\\Drivers\\w',
    'A ~\\Software\\Wine\\Drivers\\w\\devices',
    'A ~\\Software\\Wine\\Drivers\\w\\devices\\a: A x',
  ]);
  assert.ok(told.every(({ noise }) => noise !== undefined));
  const { summary, keys } = keysDocument(told, false);
  assert.deepEqual([keys, changesIn(summary), summary.noise], [[], 0, 7]);
  const mixed = between(EMPTY, user(`${noisy}\n[Software\\\\Wine\\\\Own] 1\n"y"="1"\n`));
  const own = keysDocument(mixed, false).keys;
  assert.deepEqual(inWords(own), [
    'A ~\\Software',
    'A ~\\Software\\Wine',
    'A ~\\Software\\Wine\\Own: A y',
  ]);
});

test('a delta that deletes a key and sets it anew: what differs, not what was done', () => {
  const before = user('[K] 1\n"a"="1"\n"b"="1"\n\n[K\\\\Sub] 1\n"c"="1"\n\n[K2] 1\n"d"="1"\n');
  const set = (name: string, data: string) => new Map([[fold(name), { name, data }]]);
  const removed = new Map<string, string>();
  const delta = {
    ...EMPTY_DELTA,
    user: new Map([
      [
        'k',
        {
          path: 'K',
          deleted: true as const,
          present: true as const,
          set: set('a', '"1"'),
          removed,
        },
      ],
      ['k\\sub', { path: 'K\\Sub', present: true as const, set: set('c', '"2"'), removed }],
      ['never', { path: 'Never', deleted: true as const, set: new Map(), removed }],
      ['k2', { path: 'K2', set: new Map(), removed: new Map([['x', 'x']]) }],
    ]),
  };
  assert.deepEqual(inWords(registryChanges(before, delta)), ['M ~\\K: D b', 'M ~\\K\\Sub: M c']);
  // Nobody knows what is below: everything is told as it stands.
  assert.deepEqual(inWords(registryChanges(undefined, delta)), [
    'A ~\\K: A a',
    'A ~\\K\\Sub: A c',
    'M ~\\K2: D x',
    'D ~\\Never',
  ]);
});

test('class and link of a key are told where they differ; its time is not', () => {
  const before = user('[K] 1\n#time=1\n#class="a"\n"v"="1"\n');
  const after = user('[K] 2\n#time=2\n#class="b"\n"v"="1"\n');
  assert.deepEqual(between(before, after), [
    {
      path: 'HKEY_CURRENT_USER\\K',
      status: 'M',
      options: { before: ['#class="a"'], after: ['#class="b"'] },
      values: [],
    },
  ]);
});

test('data as it is: numbers, bytes, strings that do not end as strings do', () => {
  const rows: [string, KeyData][] = [
    ['dword:ffffffff', { type: 'REG_DWORD', size: 4, number: 0xffffffff }],
    ['hex(4):01,00', { type: 'REG_DWORD', size: 2, bytes: '0100' }],
    ['hex(5):00,00,01,00', { type: 'REG_DWORD_BIG_ENDIAN', size: 4, number: 256 }],
    ['hex(b):00,01,00,00,00,00,00,00', { type: 'REG_QWORD', size: 8, number: 256 }],
    ['hex(b):ff,ff,ff,ff,ff,ff,ff,ff', { type: 'REG_QWORD', size: 8, bytes: 'ffffffffffffffff' }],
    ['str(2):"%a%"', { type: 'REG_EXPAND_SZ', size: 8, text: '%a%' }],
    ['hex(1):61,00', { type: 'REG_SZ', size: 2, text: 'a', bytes: '6100' }],
    ['hex(7):', { type: 'REG_MULTI_SZ', size: 0, lines: [], bytes: '' }],
    ['hex:', { type: 'REG_BINARY', size: 0, bytes: '' }],
    ['hex(1234):00', { type: 'REG_1234', size: 1, bytes: '00' }],
  ];
  for (const [data, expected] of rows) {
    const [key] = between(EMPTY, user(`[K] 1\n"v"=${data}\n`));
    assert.deepEqual(key?.values[0]?.after, expected, data);
  }
});

/** Every value by `path\name`, decoded. */
function valuesOf(registry: Registry): Map<string, string> {
  const found = new Map<string, string>();
  for (const hive of HIVES) {
    for (const [path, key] of registry[hive].keys) {
      for (const [name, { data }] of key.values) {
        const { type, bytes } = decodeValue(data);
        found.set(`${hive}\0${path}\0${name}`, `${type}:${bytes.toString('hex')}`);
      }
    }
  }
  return found;
}

test('what is told is what differs, for any two registries', () => {
  const roots: Record<string, string> = {
    HKEY_CURRENT_USER: 'user',
    HKEY_LOCAL_MACHINE: 'system',
    'HKEY_USERS\\.Default': 'userdef',
  };
  fc.assert(
    fc.property(arbitraryRegistry, arbitraryRegistry, (before, after) => {
      const delta = diffRegistry(before, after);
      const was = valuesOf(before);
      const is = valuesOf(applyDelta(before, delta));
      const expected = new Set<string>();
      for (const [name, data] of was) {
        if (!is.has(name)) expected.add(`D ${name}`);
        else if (is.get(name) !== data) expected.add(`M ${name}`);
      }
      for (const name of is.keys()) if (!was.has(name)) expected.add(`A ${name}`);
      const told = new Set<string>();
      for (const { path, values } of registryChanges(before, delta)) {
        const root = Object.keys(roots).find((one) => path === one || path.startsWith(`${one}\\`));
        const key = fold(path.slice((root ?? '').length + 1));
        for (const { name, status } of values) {
          told.add(`${status} ${roots[root ?? '']}\0${key}\0${fold(name)}`);
        }
      }
      assert.deepEqual([...told].sort(), [...expected].sort());
    }),
    { numRuns: campaign('rounds', 300) },
  );
});
