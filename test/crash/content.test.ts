import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  bytesOf,
  type Content,
  cut,
  isPossible,
  overwritten,
  piece,
  type Step,
  sizeOf,
} from './content.js';

const old: Content = [piece(1, 100)];
const appended: Content = [...old, piece(2, 50)];
const version = (content: Content, step: Step = 'first') => ({ content, step });
const zeros = (length: number): Buffer => Buffer.alloc(length);
const whole = bytesOf(appended);

/** What a file holds after a crash, the versions that it may have, and whether that is possible. */
const rows: [string, Buffer, ReturnType<typeof version>[], boolean][] = [
  ['what is stored', bytesOf(old), [version(old)], true],
  ['nothing', zeros(0), [version(old)], false],
  ['zeros', zeros(100), [version(old)], false],
  ['one byte less', bytesOf(old).subarray(0, 99), [version(old)], false],
  ['an append', whole, [version(old), version(appended, 'append')], true],
  ['half an append', whole.subarray(0, 120), [version(old), version(appended, 'append')], true],
  [
    'an append of zeros',
    Buffer.concat([bytesOf(old), zeros(20)]),
    [version(old), version(appended, 'append')],
    true,
  ],
  [
    'an append that took what was there',
    Buffer.concat([bytesOf(old).subarray(0, 90), zeros(30)]),
    [version(old), version(appended, 'append')],
    false,
  ],
  [
    'an append to what was cut before',
    Buffer.concat([bytesOf(old).subarray(0, 10), zeros(30)]),
    [
      version(old),
      version(cut(old, 10), 'truncate'),
      version([...cut(old, 10), piece(2, 50)], 'append'),
    ],
    true,
  ],
  ['a cut', bytesOf(cut(old, 10)), [version(old), version(cut(old, 10), 'truncate')], true],
  ['another cut', bytesOf(cut(old, 11)), [version(old), version(cut(old, 10), 'truncate')], false],
  [
    'half of what was written over',
    bytesOf(overwritten(old, 20, piece(3, 5))),
    [version(old), version(overwritten(old, 20, piece(3, 10)), 'overwrite')],
    true,
  ],
  [
    'something else in its place',
    bytesOf(overwritten(old, 20, piece(4, 10))),
    [version(old), version(overwritten(old, 20, piece(3, 10)), 'overwrite')],
    false,
  ],
  ['emptied first', zeros(0), [version(old), version([piece(5, 9)], 'rewrite')], true],
];

for (const [what, found, versions, possible] of rows) {
  test(`${possible ? 'possible' : 'impossible'} after a crash: ${what}`, () => {
    assert.equal(isPossible(found, versions), possible);
  });
}

test('no byte of a content is zero, and its parts are found where they belong', () => {
  assert.ok(bytesOf([piece(7, 200_000)]).every((byte) => byte !== 0));
  const changed = overwritten(appended, 90, piece(9, 20));
  assert.equal(sizeOf(changed), 150);
  const bytes = bytesOf(changed);
  assert.deepEqual(bytes.subarray(0, 90), whole.subarray(0, 90));
  assert.deepEqual(bytes.subarray(90, 110), bytesOf([piece(9, 20)]));
  assert.deepEqual(bytes.subarray(110), whole.subarray(110));
});
