// The manual pages in man/ are what the program would generate: they are committed so that packagers find them.
// After a change of a command or option: VARVE_UPDATE=1 npm test -- test/cli/man.test.ts writes them anew.

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { manPages } from '../../src/cli/man.js';
import { version } from '../../src/cli/version.js';

const FOLDER = fileURLToPath(new URL('../../../man', import.meta.url));

test('man/ holds the generated pages', () => {
  const pages = manPages(version());
  if (process.env['VARVE_UPDATE'] === '1') {
    for (const name of readdirSync(FOLDER)) rmSync(join(FOLDER, name));
    for (const { file, text } of pages) writeFileSync(join(FOLDER, file), text);
  }
  assert.deepEqual(readdirSync(FOLDER).sort(), pages.map((page) => page.file).sort());
  for (const { file, text } of pages) {
    assert.ok(existsSync(join(FOLDER, file)), file);
    assert.equal(
      readFileSync(join(FOLDER, file), 'utf8'),
      text,
      `${file}: VARVE_UPDATE=1 writes it anew`,
    );
  }
});
