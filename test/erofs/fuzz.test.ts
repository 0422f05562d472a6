// The fuzz target for a while: `npm test -- erofs/fuzz --seconds 600 --seed 1` for longer.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { campaign } from '../support/campaign.js';
import { fuzz } from './fuzz.js';
import { imageVectors } from './vectors.js';

test('changed images: an ErofsError or what can be read, soon and in bounded memory', (t) => {
  const seconds = campaign('seconds', 60);
  const seed = campaign('seed', 1);
  const { runs, unseen } = fuzz(imageVectors(), {
    seconds,
    seed,
    patience: 10_000,
    memory: 1024 * 1024 * 1024,
  });
  t.diagnostic(`${runs} images, ${unseen} of them without an error`);
  // Otherwise the target does nothing any more.
  assert.ok(runs > seconds * 5, `only ${runs} images in ${seconds} s`);
  assert.ok(unseen < runs * 0.9);
});
