// Small random registries and deltas for the properties of merging, and what makes two of them the same.
// Few names and many collisions: what matters is how keys lie below one another.

import * as fc from 'fast-check';
import {
  type HiveDelta,
  type KeyDelta,
  optionsOf,
  type RegistryDelta,
} from '../../../src/wine/registry/delta.js';
import {
  fold,
  HIVES,
  type Hive,
  impliedKeys,
  type Registry,
  type RegistryValue,
} from '../../../src/wine/registry/hive.js';
import { parseHive } from '../../../src/wine/registry/parse.js';
import { decodeValue } from '../../../src/wine/registry/value.js';
import { emptyHive, writeHive } from '../../../src/wine/registry/write.js';

const PARTS = ['a', 'B', 'É', 'x]y', '[', 'a b'] as const;
const NAMES = ['', 'v', 'W', 'ü"\\', '[n]'] as const;
/** The second is the first in other words. */
const DATA = [
  '"1"',
  'hex(1):31,00,00,00',
  'dword:00000001',
  'str(7):"a\\0b\\0"',
  'hex:0a,\\\n  0b',
];

const path = fc
  .array(fc.constantFrom(...PARTS), { minLength: 1, maxLength: 3 })
  .map((parts) => parts.join('\\'));
const stamp = fc.constantFrom(' 1', ' 1676758571');
const options = fc.constantFrom<readonly string[]>([], ['#class="c"'], ['#class="c"', '#link']);
const name = fc.constantFrom(...NAMES);

const values = fc
  .array(fc.tuple(name, fc.constantFrom(...DATA)), { maxLength: 3 })
  .map(
    (rows): ReadonlyMap<string, RegistryValue> =>
      new Map(rows.map(([name, data]) => [fold(name), { name, data }])),
  );

const removed = fc
  .array(name, { maxLength: 2 })
  .map((names): ReadonlyMap<string, string> => new Map(names.map((name) => [fold(name), name])));

const key = fc
  .record({ path, stamp, options, values })
  .map((key) => ({ ...key, options: ['#time=1', ...key.options] }));

const hive: fc.Arbitrary<Hive> = fc.array(key, { maxLength: 8 }).map((keys) => {
  const { header } = emptyHive('system', 'win64');
  const made = { header, keys: new Map(keys.map((key) => [fold(key.path), key])) };
  return parseHive(writeHive(made));
});

export const registry: fc.Arbitrary<Registry> = fc.record({
  system: hive,
  user: fc.constant(emptyHive('user', 'win64')),
  userdef: fc.constant(emptyHive('userdef', 'win64')),
});

const entry: fc.Arbitrary<KeyDelta> = fc
  .record({
    path,
    deleted: fc.boolean(),
    present: fc.boolean(),
    stamp: fc.option(stamp, { nil: undefined }),
    options: fc.option(options, { nil: undefined }),
    set: values,
    removed,
  })
  .map(({ path, deleted, present, stamp, options, set, removed }) => ({
    path,
    ...(deleted && { deleted: true as const }),
    ...(present && { present: true as const }),
    ...(stamp && { stamp }),
    ...(options && { options }),
    set,
    removed: new Map([...removed].filter(([folded]) => !set.has(folded))),
  }));

const hiveDelta: fc.Arbitrary<HiveDelta> = fc
  .array(entry, { maxLength: 5 })
  .map((entries) => new Map(entries.map((entry) => [fold(entry.path), entry])));

/** Any delta, also such as no comparison gives. */
export const delta: fc.Arbitrary<RegistryDelta> = fc.record({
  system: hiveDelta,
  user: fc.constant<HiveDelta>(new Map()),
  userdef: fc.constant<HiveDelta>(new Map()),
});

/** What programs see of a registry: every key, implied ones too, with its options and values; no times. */
export function seen(registry: Registry): unknown {
  return HIVES.map((hive) => {
    const { keys } = registry[hive];
    const all = new Set([...impliedKeys(keys), ...keys.keys()]);
    return [...all].sort().map((folded) => {
      const key = keys.get(folded);
      const options = optionsOf(key?.options ?? []);
      const values = [...(key?.values ?? [])].map(([folded, { data }]) => {
        const { type, bytes } = decodeValue(data);
        return `${folded}=${type}:${bytes.toString('hex')}`;
      });
      return [folded, ...options, ...values.sort()];
    });
  });
}

/** A delta as plain data, whatever the order in which it was made. */
export function plain(delta: RegistryDelta): unknown {
  return HIVES.map((hive) =>
    [...delta[hive]]
      .map(([folded, { set, removed, ...rest }]) => ({
        folded,
        ...rest,
        set: [...set.values()]
          .map((value) => `${value.name}=${decodeValue(value.data).bytes.toString('hex')}`)
          .sort(),
        removed: [...removed.keys()].sort(),
      }))
      .sort((a, b) => (a.folded < b.folded ? -1 : 1)),
  );
}
