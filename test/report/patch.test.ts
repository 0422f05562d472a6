// Patches: git apply and patch(1) make the tree after of the tree before, for random changes; each header as git writes it.
// Invariant: after = apply(before, patchOf(changes)), byte for byte, mode by mode as git knows modes.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { S } from '../../src/linux/constants.js';
import { patchOf } from '../../src/report/patch.js';
import { makeNode, memoryContent, type TreeNode } from '../../src/tree/tree.js';
import type { Change, Differs } from '../../src/union/change.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { withTempDir } from '../support/temp.js';

const NONE: Differs = { content: false, mode: false, owner: false, xattr: false, time: false };

/** A file or symlink of a sample; content and names are latin1. */
interface Thing {
  readonly kind: 'file' | 'symlink';
  readonly executable: boolean;
  readonly content: string;
}

type Sample = ReadonlyMap<string, Thing>;

function nodeOf(thing: Thing): TreeNode {
  if (thing.kind === 'symlink') return makeNode(S.IFLNK | 0o777, { target: thing.content });
  const bytes = Buffer.from(thing.content, 'latin1');
  return makeNode(S.IFREG | (thing.executable ? 0o755 : 0o644), {
    size: bytes.length,
    content: memoryContent(bytes),
  });
}

/** Changes from one sample to the other; `moved` names where a path of the second comes from. */
function changesOf(before: Sample, after: Sample, moved: ReadonlyMap<string, string>): Change[] {
  const paths = [...new Set([...before.keys(), ...after.keys()])].sort();
  const sources = new Set(moved.values());
  return paths.flatMap((path): Change[] => {
    const from = moved.get(path);
    const was = before.get(from ?? path);
    const is = after.get(path);
    const changes: Change[] = [];
    const differs = (a: Thing, b: Thing) => ({
      ...NONE,
      content: a.content !== b.content,
      mode: a.executable !== b.executable,
    });
    const old = before.get(path);
    if (from !== undefined && was !== undefined && is !== undefined) {
      if (old !== undefined && !sources.has(path)) {
        changes.push({ path, status: 'D', before: nodeOf(old), differs: NONE, stored: 0 });
      }
      const rename = { path, from, status: 'R', differs: differs(was, is), stored: 0 } as const;
      changes.push({ ...rename, before: nodeOf(was), after: nodeOf(is) });
    } else if (is === undefined && was !== undefined) {
      if (!sources.has(path)) {
        changes.push({ path, status: 'D', before: nodeOf(was), differs: NONE, stored: 0 });
      }
    } else if (is !== undefined && (was === undefined || sources.has(path))) {
      changes.push({ path, status: 'A', after: nodeOf(is), differs: NONE, stored: 1 });
    } else if (is !== undefined && was !== undefined) {
      const status = is.kind === was.kind ? 'M' : 'T';
      const both = { before: nodeOf(was), after: nodeOf(is), differs: differs(was, is) };
      changes.push({ path, status, ...both, stored: 1 });
    }
    return changes;
  });
}

const bytes = (text: string) => Buffer.from(text, 'latin1');

function writeSample(root: string, sample: Sample): void {
  for (const [path, thing] of sample) {
    const full = bytes(`${root}/${path}`);
    mkdirSync(bytes(dirname(`${root}/${path}`)), { recursive: true });
    if (thing.kind === 'symlink') symlinkSync(bytes(thing.content), full);
    else {
      writeFileSync(full, bytes(thing.content));
      chmodSync(full, thing.executable ? 0o755 : 0o644);
    }
  }
}

function readSample(root: string, below = ''): Map<string, Thing> {
  const found = new Map<string, Thing>();
  for (const name of readdirSync(bytes(root + below), { encoding: 'latin1' }).sort()) {
    const path = `${below}/${name}`;
    const full = bytes(root + path);
    const stat = lstatSync(full);
    if (stat.isDirectory()) {
      for (const [inner, thing] of readSample(root, path)) found.set(inner, thing);
    } else if (stat.isSymbolicLink()) {
      const content = readlinkSync(full, { encoding: 'latin1' });
      found.set(path.slice(1), { kind: 'symlink', executable: false, content });
    } else {
      const content = readFileSync(full, 'latin1');
      found.set(path.slice(1), { kind: 'file', executable: (stat.mode & 0o100) !== 0, content });
    }
  }
  return found;
}

const TOOLS = {
  git: ['git', ['apply', '--whitespace=nowarn', '-']],
  patch: ['patch', ['-p1', '--silent', '--no-backup-if-mismatch', '--fuzz=0']],
} as const satisfies Record<string, readonly [string, readonly string[]]>;

function applied(folder: string, before: Sample, patch: string, tool: keyof typeof TOOLS): Sample {
  const root = mkdtempSync(join(folder, `${tool}-`));
  writeSample(root, before);
  const [command, args] = TOOLS[tool];
  const result = spawnSync(command, args, {
    cwd: root,
    input: bytes(patch),
    env: { ...process.env, GIT_CEILING_DIRECTORIES: folder, LC_ALL: 'C' },
  });
  const after = readSample(root);
  rmSync(root, { recursive: true });
  assert.equal(result.status, 0, `${command}: ${result.stderr}${result.stdout}\n${patch}`);
  return after;
}

const plain = (sample: Sample) =>
  [...sample]
    .map(([path, thing]) => ({ path, ...thing }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));

const line = fc.oneof(
  fc.constantFrom('a', 'b', 'c', '', '}', '--- a', '+++ b', '@@ -1 +1 @@', '-- ', '\\ x', 'x\r'),
  fc.string({ unit: fc.constantFrom('\xe9', '\xff', ' ', '\t', 'z', '\x01', '\f'), maxLength: 6 }),
);
const content = fc
  .tuple(fc.array(line, { maxLength: 25 }), fc.boolean())
  .map(([lines, newline]) => lines.join('\n') + (newline && lines.length > 0 ? '\n' : ''));
const target = fc.string({
  unit: fc.constantFrom('a', '/', '.', '\xff', ' ', '\n'),
  minLength: 1,
  maxLength: 9,
});
const thing: fc.Arbitrary<Thing> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('file' as const), executable: fc.boolean(), content }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('symlink' as const),
      executable: fc.constant(false),
      content: target,
    }),
  },
);
const NAMES = [
  'f',
  'g',
  'sp ace',
  'd/x',
  'd/y z',
  'e/q"uote',
  'e/b\\s',
  'u\xc3\xa9',
  'n\xff',
  'n\nl',
  't\tab',
  ' lead',
  'trail ',
  'd/e/deep',
  'b',
  'dev/null',
];

/** The same text with some lines dropped, doubled or replaced: hunks far apart, near, at both ends. */
const edited = (from: Thing) =>
  fc
    .array(fc.tuple(fc.nat(30), fc.constantFrom('drop', 'add', 'set'), line), { maxLength: 4 })
    .map((edits): Thing => {
      const lines = from.content.split('\n');
      for (const [at, how, text] of edits) {
        if (how === 'drop') lines.splice(at % (lines.length + 1), 1);
        else lines.splice(at % (lines.length + 1), how === 'set' ? 1 : 0, text);
      }
      return { ...from, content: lines.join('\n') };
    });

const story = fc
  .array(
    fc.tuple(
      fc.constantFrom(...NAMES),
      thing,
      thing,
      fc.constantFrom('keep', 'edit', 'edit', 'new', 'gone', 'add', 'chmod', 'move'),
    ),
    { minLength: 1, maxLength: 7 },
  )
  .chain((rows) =>
    fc.tuple(
      ...rows.map(([name, first, second, fate]) =>
        (first.kind === 'file' ? edited(first) : fc.constant(second)).map((edit) => ({
          name,
          first,
          second,
          fate,
          edit,
        })),
      ),
    ),
  )
  .map((rows) => {
    const before = new Map<string, Thing>();
    const after = new Map<string, Thing>();
    const moved = new Map<string, string>();
    for (const { name, first, second, fate, edit } of rows) {
      if (before.has(name) || after.has(name)) continue;
      if (fate !== 'add') before.set(name, first);
      if (fate === 'keep') after.set(name, first);
      else if (fate === 'edit') after.set(name, edit);
      else if (fate === 'new' || fate === 'add') after.set(name, second);
      else if (fate === 'chmod')
        after.set(name, { ...first, executable: first.kind === 'file' && !first.executable });
      else if (fate === 'move') {
        after.set(`to/${name}`, first.kind === 'file' ? edit : first);
        moved.set(`to/${name}`, name);
      }
    }
    return { before, after, moved };
  });

for (const tool of ['git', 'patch'] as const) {
  test(`random changes: ${TOOLS[tool][0]} makes the tree after of the tree before`, {
    skip: requires({ packages: [tool] }),
  }, async () => {
    await withTempDir((folder) => {
      fc.assert(
        fc.property(story, ({ before, after, moved }) => {
          const patch = [...patchOf(changesOf(before, after, moved))].join('');
          if (patch === '') return;
          assert.deepEqual(plain(applied(folder, before, patch, tool)), plain(after));
        }),
        {
          numRuns: campaign('rounds', 60),
        },
      );
    });
  });
}

test('headers: every kind of change, as git writes it', () => {
  const text = (content: string, executable = false): Thing => ({
    kind: 'file',
    executable,
    content,
  });
  const lines = Array.from({ length: 20 }, (_, i) => `${i}\n`);
  const before = new Map<string, Thing>([
    ['d/mode', text('x\n')],
    ['gone', text('a\nb')],
    ['mod \xe9', text(lines.join(''))],
    ['old', text(lines.join(''))],
    ['type', text('was\n')],
  ]);
  const after = new Map<string, Thing>([
    ['d/mode', text('x\n', true)],
    ['binary', text('\0')],
    ['mod \xe9', text(lines.with(0, 'zero\n').with(19, 'end').join(''))],
    ['to/new', text(lines.with(9, 'nine\n').join(''))],
    ['type', { kind: 'symlink', executable: false, content: 'is' }],
  ]);
  const patch = [...patchOf(changesOf(before, after, new Map([['to/new', 'old']])))].join('');
  assert.equal(
    patch.replace(/^index .*\n/gm, ''),
    `diff --git a/binary b/binary
new file mode 100644
Binary files /dev/null and b/binary differ
diff --git a/d/mode b/d/mode
old mode 100644
new mode 100755
diff --git a/gone b/gone
deleted file mode 100644
--- a/gone
+++ /dev/null
@@ -1,2 +0,0 @@
-a
-b
\\ No newline at end of file
diff --git "a/mod \\351" "b/mod \\351"
--- "a/mod \\351"
+++ "b/mod \\351"
@@ -1,4 +1,4 @@
-0
+zero
 1
 2
 3
@@ -17,4 +17,4 @@
 16
 17
 18
-19
+end
\\ No newline at end of file
diff --git a/old b/to/new
similarity index 90%
rename from old
rename to to/new
--- a/old
+++ b/to/new
@@ -7,7 +7,7 @@
 6
 7
 8
-9
+nine
 10
 11
 12
diff --git a/type b/type
deleted file mode 100644
--- a/type
+++ /dev/null
@@ -1 +0,0 @@
-was
diff --git a/type b/type
new file mode 120000
--- /dev/null
+++ b/type
@@ -0,0 +1 @@
+is
\\ No newline at end of file
`,
  );
});

test('--binary: git apply makes every byte of what is no text', {
  skip: requires({ packages: ['git'] }),
}, async () => {
  const random = (length: number, seed: number) =>
    String.fromCharCode(...Array.from({ length }, (_, i) => (i * i * 31 + seed * i * 7) & 0xff));
  const thing = (content: string): Thing => ({ kind: 'file', executable: false, content });
  const before = new Map([
    ['changed', thing(random(3000, 1))],
    ['gone', thing(random(53, 2))],
  ]);
  const after = new Map([
    ['changed', thing(random(2999, 3))],
    ['new', thing(random(1, 4) + random(104, 1))],
  ]);
  const patch = [...patchOf(changesOf(before, after, new Map()), { binary: true })].join('');
  assert.match(patch, /^GIT binary patch$/m);
  await withTempDir((folder) => {
    assert.deepEqual(plain(applied(folder, before, patch, 'git')), plain(after));
  });
});

test('content that cannot be read is an error, not a patch that lacks a file', () => {
  const after = makeNode(S.IFREG | 0o644, {
    size: 3,
    content: {
      open: () => {
        throw new Error('it has changed');
      },
    },
  });
  const change: Change = { path: 'a', status: 'A', after, differs: NONE, stored: 3 };
  assert.throws(() => [...patchOf([change])], /^ReportError: "a": cannot be read: it has changed$/);
});
