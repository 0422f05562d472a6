// The fuzz target over so many images; `npm test -- erofs/fuzz --seconds 600 --seed 1` for longer.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { campaign } from '../support/campaign.js';
import { fuzz } from './fuzz.js';
import { imageVectors } from './vectors.js';

/** Each node of a run takes images of its own: 12,000 of each find what a minute of the same ones found. */
const SEED = Number.parseInt(process.versions.node, 10) > 20 ? 10_001 : 1;
const IMAGES = 12_000;
/** Images between two signs of life. */
const SLICE = 1000;

test('changed images: an ErofsError or what can be read, soon and in bounded memory', (t) => {
  const seconds = campaign('seconds', 0);
  const first = campaign('seed', SEED);
  const vectors = imageVectors();
  const end = Date.now() + seconds * 1000;
  const tally = { runs: 0, unseen: 0 };
  while (seconds > 0 ? Date.now() < end : tally.runs < IMAGES) {
    const { runs, unseen } = fuzz(vectors, {
      seconds: seconds > 0 ? (end - Date.now()) / 1000 : Number.POSITIVE_INFINITY,
      images: SLICE,
      seed: first + tally.runs,
      patience: 10_000,
      memory: 1024 * 1024 * 1024,
    });
    tally.runs += runs;
    tally.unseen += unseen;
    console.log(`${tally.runs} images`);
  }
  t.diagnostic(`${tally.runs} images, ${tally.unseen} of them without an error`);
  // Otherwise the target does nothing any more.
  assert.ok(tally.runs > seconds * 5, `only ${tally.runs} images in ${seconds} s`);
  assert.ok(tally.unseen < tally.runs * 0.9);
});
