import assert from 'node:assert/strict';
import { test } from 'node:test';
import { campaign } from './campaign.js';
import { requires } from './requires.js';

test('nothing needed, nothing skipped', () => {
  assert.equal(requires({}), false);
});

test('a program that is missing is named', () => {
  assert.equal(
    requires({ commands: ['sh', 'no-such-program'] }),
    'needs the program no-such-program',
  );
});

test('a package outside test/packages.txt is refused, as CI would not install it', () => {
  assert.throws(() => requires({ packages: ['no-such-package'] }), /add no-such-package to/);
});

test('a size of a long test comes from its flag, else from the test', (t) => {
  t.after(() => delete process.env['VARVE_TEST_ROUNDS']);
  assert.equal(campaign('rounds', 12), 12);
  process.env['VARVE_TEST_ROUNDS'] = '3';
  assert.equal(campaign('rounds', 12), 3);
  process.env['VARVE_TEST_ROUNDS'] = 'many';
  assert.throws(() => campaign('rounds', 12), /--rounds takes a whole number, not many/);
});
