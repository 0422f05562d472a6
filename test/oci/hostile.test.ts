// Fuzz target: whatever a registry or a user writes, a parser returns or throws a RegistryError, and soon.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseChallenges } from '../../src/oci/auth.js';
import { RegistryError } from '../../src/oci/errors.js';
import { isIndex, parseManifest } from '../../src/oci/manifest.js';
import { formatReference, parseReference } from '../../src/oci/reference.js';

const numRuns = 2000;

function refuses(work: () => unknown): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    assert.ok(!/[\u0000-\u001f\u007f]/.test(error.message), JSON.stringify(error.message));
  }
}

const digest = `sha256:${'1'.repeat(64)}`;
const field = fc.oneof(
  fc.constantFrom(2, 0, -1, 'application/vnd.oci.image.manifest.v1+json', digest, null, [], {}),
  fc.jsonValue({ maxDepth: 2 }),
);
const descriptor = fc.record(
  {
    mediaType: fc.oneof(fc.constant('x/y'), field),
    digest: fc.oneof(fc.constant(digest), field),
    size: fc.oneof(fc.constant(5), field),
    urls: field,
    annotations: field,
    platform: field,
  },
  { requiredKeys: [] },
);
const document = fc.record(
  {
    schemaVersion: fc.oneof(fc.constant(2), field),
    mediaType: field,
    config: fc.oneof(descriptor, field),
    layers: fc.oneof(fc.array(descriptor, { maxLength: 3 }), field),
    manifests: fc.oneof(fc.array(descriptor, { maxLength: 3 }), field),
    subject: fc.oneof(descriptor, field),
    annotations: field,
    artifactType: field,
  },
  { requiredKeys: [] },
);

test('a field that was to be text, and is no text by any means, is shown as JSON', () => {
  const bytes = Buffer.from('{"schemaVersion":{"toString":false}}');
  assert.throws(() => parseManifest(bytes, undefined, 'it'), /\{"toString":false\}/);
});

test('manifests: any JSON, any bytes', () => {
  fc.assert(
    fc.property(fc.oneof(document, fc.jsonValue()), (value) => {
      refuses(() => {
        const parsed = parseManifest(Buffer.from(JSON.stringify(value)), undefined, 'it');
        // What came through may be used without another look.
        for (const entry of isIndex(parsed)
          ? parsed.manifests
          : [parsed.config, ...parsed.layers]) {
          assert.match(entry.digest, /^sha(256|512):[0-9a-f]+$/);
          assert.ok(Number.isSafeInteger(entry.size) && entry.size >= 0);
        }
      });
    }),
    { numRuns },
  );
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => refuses(() => parseManifest(bytes, undefined, 'it'))),
    { numRuns },
  );
  for (const open of ['[', '{"a":', '{"manifests":[']) {
    refuses(() => parseManifest(Buffer.from(open.repeat(200_000)), undefined, 'it'));
  }
  const deep = `{"annotations":{"x":${'['.repeat(200_000)}${']'.repeat(200_000)}}}`;
  refuses(() => parseManifest(Buffer.from(deep), undefined, 'it'));
});

test('names: what is accepted is written and read back as the same', () => {
  const part = fc.constantFrom(
    'a',
    'B',
    '0',
    '.',
    ':',
    '/',
    '@',
    '-',
    '_',
    '[',
    ']',
    '..',
    'sha256:',
    digest,
    '5000',
    'docker.io',
    'localhost',
    ' ',
    '\n',
    '\u0000',
    'é',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.array(part, { maxLength: 12 }).map((parts) => parts.join('')),
        fc.string(),
      ),
      (text) => {
        refuses(() => {
          const ref = parseReference(text);
          assert.deepEqual(parseReference(formatReference(ref)), ref);
          const url = new URL(`https://${ref.registry}/v2/${ref.repository}/manifests/x`);
          assert.equal(url.pathname, `/v2/${ref.repository}/manifests/x`);
          assert.deepEqual([url.username, url.search, url.hash], ['', '', '']);
        });
      },
    ),
    { numRuns },
  );
});

test('challenges: any text', () => {
  const part = fc.constantFrom('Bearer', 'Basic', ' ', ',', '=', '"', '\\', 'realm', 'a', '  ,  ');
  fc.assert(
    fc.property(
      fc.array(part).map((parts) => parts.join('')),
      (text) => {
        for (const { scheme } of parseChallenges(text)) assert.equal(scheme, scheme.toLowerCase());
      },
    ),
    { numRuns },
  );
  // As long as a header may be, of what makes bad patterns slow.
  for (const piece of [' ', ',', 'a', 'a=', 'a="', '"', '\\', ' ,']) {
    parseChallenges(`Bearer ${piece.repeat(32_768 / piece.length)}(`);
  }
});
