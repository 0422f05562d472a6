// Whatever can be named as a source: told by its bytes, read in one pass, from standard input as well.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { compareTrees, showDifferences } from '../../src/tree/compare.js';
import { dumpText } from '../../src/tree/dump-write.js';
import { TreeError } from '../../src/tree/errors.js';
import { compileExcludes } from '../../src/tree/exclude.js';
import { openTreeSource } from '../../src/tree/source.js';
import { writeTar } from '../../src/tree/tar-write.js';
import { find, type SourceTree } from '../../src/tree/tree.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

/** A folder, and the same as an archive of each kind; @returns the paths. */
function makeSources(d: string): string[] {
  fs.mkdirSync(join(d, 'in/sub'), { recursive: true });
  fs.writeFileSync(join(d, 'in/sub/hello'), 'hello');
  fs.writeFileSync(join(d, 'in/skip.tmp'), 'x');
  fs.symlinkSync('sub', join(d, 'in/link'));
  const source = openTreeSource(join(d, 'in'));
  const parts: Buffer[] = [];
  writeTar(source.root, (bytes) => void parts.push(Buffer.from(bytes)));
  fs.writeFileSync(join(d, 'tar'), Buffer.concat(parts));
  fs.writeFileSync(join(d, 'dump'), dumpText(source.root));
  source.close();
  execFileSync('sh', ['-c', 'cd "$0/in" && find . | cpio --quiet -o -H newc > ../cpio', d]);
  execFileSync('tar', ['-C', join(d, 'in'), '--format=v7', '-cf', join(d, 'old-tar'), '.']);
  for (const name of ['tar', 'dump', 'cpio']) {
    execFileSync('sh', [
      '-c',
      'zstd -q -c "$0" > "$0.zst" && gzip -c "$0" > "$0.gz"',
      join(d, name),
    ]);
  }
  return [
    'in',
    'old-tar',
    ...['tar', 'dump', 'cpio'].flatMap((name) => [name, `${name}.zst`, `${name}.gz`]),
  ];
}

const needs = { skip: requires({ packages: ['cpio', 'zstd'], commands: ['tar'] }) };

test('a folder, and archives and dumps of it', needs, (t) => {
  const d = tempDir(t);
  const sources = makeSources(d);
  const expected = openTreeSource(join(d, 'in'));
  for (const name of sources) {
    const source = openTreeSource(join(d, name));
    const isWhole = name === 'in' || name.startsWith('tar') || name.startsWith('dump');
    const differences = compareTrees(expected.root, source.root, {
      ignore: isWhole ? [] : ['time'],
    });
    assert.equal(showDifferences(differences), '', name);
    source.close();
    const excludes = compileExcludes({ globs: ['*.tmp', '/sub/'] });
    const some: SourceTree = openTreeSource(join(d, name), { excludes });
    assert.deepEqual([...some.root.entries!.keys()], ['link'], name);
    some.close();
  }
  expected.close();
});

test('standard input: a file, a pipe, a slow one', needs, (t) => {
  const d = tempDir(t);
  makeSources(d);
  const module = new URL('../../src/tree/source.js', import.meta.url).href;
  const program = `
    import { openTreeSource } from ${JSON.stringify(module)};
    const source = openTreeSource('-');
    const opened = source.root.entries.get('sub').entries.get('hello').content.open();
    const out = Buffer.alloc(5);
    opened.read(0, out);
    process.stdout.write(out);
    source.close();`;
  const node = `"$0" --input-type=module -e "$1"`;
  const slow = `(head -c 100 "$2"; sleep 0.2; tail -c +101 "$2") | ${node}`;
  for (const [name, script] of [
    ['tar', `${node} < "$2"`],
    ['tar', `cat "$2" | ${node}`],
    ['tar.zst', slow],
    ['cpio.gz', slow],
    ['dump', slow],
  ] as const) {
    const out = execFileSync('sh', ['-c', script, process.execPath, program, join(d, name)]);
    assert.equal(out.toString(), 'hello', `${name}: ${script}`);
  }
});

test('an empty archive is one, other bytes are nothing', (t) => {
  const d = tempDir(t);
  const path = join(d, 'x');
  fs.writeFileSync(path, Buffer.alloc(10_240));
  const empty = openTreeSource(path);
  assert.equal(empty.root.entries?.size, 0);
  assert.equal(find(empty.root, 'a'), undefined);
  empty.close();
  for (const bytes of ['', 'hello', 'x'.repeat(2000), '/ is no dump', '\0'.repeat(100)]) {
    fs.writeFileSync(path, bytes);
    assert.throws(
      () => openTreeSource(path),
      (error: Error) => {
        assert.ok(error instanceof TreeError);
        assert.match(error.message, /is no tar or cpio archive .* and no composefs dump/);
        return true;
      },
    );
  }
  assert.throws(() => openTreeSource(join(d, 'absent')), /ENOENT/);
});
