// Invariant: any bytes are read or refused with RegistryError, at once; what is read is written back the same.
// Mutations of files as Wine writes them, and of odd ones; `npm test -- --ops N --seed S wine/registry/fuzz` for more.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { applyDelta } from '../../../src/wine/registry/apply.js';
import { deltaOfFull } from '../../../src/wine/registry/compose.js';
import { isEmpty, type RegistryDelta } from '../../../src/wine/registry/delta.js';
import { parseDelta, writeDelta } from '../../../src/wine/registry/delta-text.js';
import { diffRegistry } from '../../../src/wine/registry/diff.js';
import { RegistryError } from '../../../src/wine/registry/error.js';
import type { Hive, Registry } from '../../../src/wine/registry/hive.js';
import { parseHive } from '../../../src/wine/registry/parse.js';
import { readRegedit, writeRegedit } from '../../../src/wine/registry/regedit.js';
import { emptyHive, writeHive } from '../../../src/wine/registry/write.js';
import { campaign, campaignSource } from '../../support/campaign.js';
import { seen } from './arbitrary.js';

const rounds = campaign('ops', 600);
const seed = campaign('seed', Date.now() % 2 ** 31);
/** ms of this process's own time: others may use the machine as well. */
const LIMIT = 5000;

function spent(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

const HIVE = Buffer.from(
  'WINE REGISTRY Version 2\n;; All keys relative to REGISTRY\\\\Machine\n\n#arch=win64\n' +
    '\n[Software\\\\A \\[x\\]\\\\\\xe9] 1676758571\n#time=1d943e69b3ac780\n#class="c"\n@="\\x20ac\\0a\\n"\n' +
    '"b\\"\\\\"=hex(7):61,00,\\\n  62,00,\\\n  00\n"d"=dword:0000002a\n"e"=str(2):"%a%"\n' +
    '\n[Software\\\\B] 5\r\n;note\r\n"x"="1"\r\n\n[Software\\\\b]\n#link\n"SymbolicLinkValue"=hex(6):5c,00\n',
  'latin1',
);

const DELTA = Buffer.from(
  'VARVE REGISTRY DELTA 1\n\nhive system\n\n-[A\\\\B]\n+[A\\\\B] 5\n#\n@=-\n"x"=hex:01,\\\n  02\n\nhive user\n\n[c]\n#link\n',
);

const REGEDIT = Buffer.from(
  'REGEDIT4\r\n\r\n[-HKEY_LOCAL_MACHINE\\A]\r\n[HKEY_CURRENT_USER\\B]\r\n@="a\\"b"\r\n"x"=hex(2):01,\\\r\n  02\r\n"y"=-\r\n"z"=dword:1\r\n',
);

const WORDS = [
  '[',
  ']',
  '\\',
  '"',
  '=',
  '@',
  '#',
  ';',
  '\n',
  '\r\n',
  '-',
  '+',
  ',',
  '\\\n  ',
  'hex(',
  '):',
  'hex:',
  'dword:',
  'str(2):"',
  '\\x',
  '\\0',
  '\0',
  '\xff',
  '\xc3',
  '\u00a0',
  ' ',
  '#link\n',
  '#arch=',
  '[]',
  '\n[',
  '\n"',
  '=-',
  'hive user\n',
  '[-HKEY_USERS\\.Default\\',
];

/** xorshift32: the same seed, the same bytes. */
function randomFrom(state: number): (below: number) => number {
  state = state | 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

function mutated(bytes: Buffer, random: (below: number) => number): Buffer {
  let text = bytes.toString('latin1');
  for (let left = 1 + random(6); left > 0; left--) {
    const at = random(text.length + 1);
    const length = random(4) === 0 ? random(60) : random(3);
    const from = random(text.length + 1);
    const piece = [
      '',
      String.fromCharCode(random(256)),
      WORDS[random(WORDS.length)],
      text.slice(from, from + random(80)),
    ][random(4)];
    text = text.slice(0, at) + piece + text.slice(at + length);
  }
  return Buffer.from(random(20) === 0 ? text.slice(0, random(text.length + 1)) : text, 'latin1');
}

/** Reads, or gives undefined for what is refused as it should be. */
function accepted<T>(read: (bytes: Buffer) => T, bytes: Buffer): T | undefined {
  const start = spent();
  try {
    return read(bytes);
  } catch (error) {
    assert.ok(error instanceof RegistryError, `${error}`);
    assert.ok(!error.message.includes('\n'), error.message);
    return undefined;
  } finally {
    assert.ok(spent() - start < LIMIT, 'at once');
  }
}

function fuzz(name: string, bytes: Buffer, check: (bytes: Buffer) => boolean, least = 0.05): void {
  test(`fuzz of ${name}, seed ${seed}`, () => {
    const random = randomFrom(seed);
    let read = 0;
    for (let round = 0; round < rounds; round++) {
      const input = mutated(bytes, random);
      try {
        if (check(input)) read++;
      } catch (error) {
        throw new Error(`round ${round}: ${error}: ${JSON.stringify(input.toString('latin1'))}`, {
          cause: error,
        });
      }
    }
    assert.ok(read > rounds * least, `only ${read} of ${rounds} were read at all`);
  });
}

const registryOf = (system: Hive): Registry => ({
  system,
  user: emptyHive('user', 'win64'),
  userdef: emptyHive('userdef', 'win64'),
});

fuzz('registry files', HIVE, (bytes) => {
  const hive = accepted(parseHive, bytes);
  if (hive === undefined) return false;
  assert.deepEqual(writeHive(hive), bytes);
  // Read beside a file that is much the same, and the other way round.
  assert.deepEqual(seen(registryOf(parseHive(bytes, parseHive(HIVE)))), seen(registryOf(hive)));
  assert.deepEqual(seen(registryOf(parseHive(HIVE, hive))), seen(registryOf(parseHive(HIVE))));
  // As if it had been changed: what is written key by key says the same.
  const copy = { header: hive.header, keys: new Map(hive.keys) };
  assert.deepEqual(seen(registryOf(parseHive(writeHive(copy)))), seen(registryOf(hive)));
  // Read with the help of a file like it.
  const helped = parseHive(bytes, parseHive(HIVE));
  assert.deepEqual(seen(registryOf(helped)), seen(registryOf(hive)));
  assert.deepEqual([...helped.keys.keys()], [...hive.keys.keys()]);
  assert.deepEqual(
    writeHive({ header: helped.header, keys: new Map(helped.keys) }),
    writeHive(copy),
  );
  checkDelta(diffRegistry(registryOf(parseHive(HIVE)), registryOf(hive)), registryOf(hive));
  checkDelta(deltaOfFull(registryOf(hive)), undefined);
  return true;
});

function checkDelta(delta: RegistryDelta, now: Registry | undefined): void {
  const again = parseDelta(writeDelta(delta));
  assert.deepEqual(writeDelta(again), writeDelta(delta));
  if (now === undefined) return;
  assert.deepEqual(seen(applyDelta(registryOf(parseHive(HIVE)), again)), seen(now));
  assert.ok(isEmpty(diffRegistry(applyDelta(registryOf(parseHive(HIVE)), again), now)));
}

fuzz('deltas', DELTA, (bytes) => {
  const delta = accepted(parseDelta, bytes);
  if (delta === undefined) return false;
  checkDelta(delta, undefined);
  readRegedit(writeRegedit(delta));
  applyDelta(registryOf(parseHive(HIVE)), delta);
  return true;
});

fuzz('files for regedit', REGEDIT, (bytes) => {
  const delta = accepted(readRegedit, bytes);
  if (delta === undefined) return false;
  checkDelta(delta, undefined);
  return true;
});

test('wild bytes are refused', () => {
  const random = randomFrom(seed);
  for (let round = 0; round < rounds; round++) {
    const bytes = Buffer.from(Array.from({ length: random(200) }, () => random(256)));
    for (const read of [parseHive, parseDelta, readRegedit]) {
      assert.equal(accepted<unknown>(read, bytes), undefined);
    }
  }
});

for (const [what, piece] of [
  ['lines', '\n'],
  ['blanks', ' '],
  ['keys without end', '\n['],
  ['values without end', '\n"'],
  ['backslashes', '\\'],
  ['bytes that go on', '\n"x"=hex:01,\\'],
  ['bytes that go on into keys', '\n"x"=hex:01,\\\n[k]'],
  ['deep keys', '\n[a\\\\b]\n"x"="1"'],
  ['one byte after the other', '01,'],
] as const) {
  test(`a large file is read in a time that grows with it: ${what}`, () => {
    for (const head of [`${HIVE.toString('latin1')}[k]\n"x"=hex:`, HIVE.toString('latin1')]) {
      const bytes = Buffer.from(head + piece.repeat(400_000 / piece.length), 'latin1');
      const hive = accepted(parseHive, bytes);
      const start = spent();
      for (const key of hive!.keys.values()) key.values.size;
      assert.ok(spent() - start < LIMIT);
      assert.deepEqual(writeHive(hive!), bytes);
    }
  });
}

test('a key of many levels is refused at once, wherever it stands', () => {
  const path = Array.from({ length: 200_000 }, () => 'k').join('\\');
  const escaped = path.replaceAll('\\', '\\\\');
  for (const [read, text] of [
    [parseHive, `WINE REGISTRY Version 2\n[${escaped}]\n`],
    [parseDelta, `VARVE REGISTRY DELTA 1\nhive user\n-[${escaped}]\n`],
    [readRegedit, `REGEDIT4\n[HKEY_CURRENT_USER\\${path}]\n`],
  ] as const) {
    assert.equal(accepted<unknown>(read, Buffer.from(text)), undefined);
  }
});

const source = campaignSource();
if (source !== undefined) {
  test('every registry file of the source comes back the same', () => {
    const files = readdirSync(source, { recursive: true, encoding: 'utf8' });
    for (const file of files.filter((name) => name.endsWith('.reg'))) {
      const bytes: Buffer = readFileSync(join(source, file));
      const hive = accepted(parseHive, bytes);
      if (hive !== undefined) assert.deepEqual(writeHive(hive), bytes, file);
    }
  });
}
