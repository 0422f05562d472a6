// Hostile files of stacks: whatever is in them, they are read, or refused by lines that name a place in them, and soon.
// Under test: src/named/{parse,stacks,edit}.ts. A file that is read can be changed, and then says what it said.

import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { editStacks } from '../../src/named/edit.js';
import { StackFileError, stacksOf } from '../../src/named/stacks.js';
import { MountError } from '../../src/stack/errors.js';
import { campaign } from '../support/campaign.js';

const good = 'stacks:\n  a:\n    layers: [x]\n    mount: m\n';

/** What must hold for any bytes. @returns the problems' first line, or "read". */
async function hold(bytes: Buffer): Promise<string> {
  const started = process.cpuUsage();
  const lines = bytes.toString('utf8').split(/\r\n|\r|\n/);
  try {
    const file = await stacksOf(bytes, '/v/varve.yaml', { HOME: '/h' });
    const text = bytes.toString('utf8');
    const edited = await editStacks(text, (draft) => draft.put('zz-new', { layers: ['n'] }));
    const after = await stacksOf(Buffer.from(edited), '/v/varve.yaml', { HOME: '/h' });
    const said = (from: typeof file): unknown =>
      JSON.stringify(
        [...from.stacks.values()].filter(({ name }) => name !== 'zz-new'),
        (key, value) => (key === 'at' ? undefined : value),
      );
    assert.equal(said(after), said(file));
    assert.ok(after.stacks.has('zz-new'));
    return 'read';
  } catch (error) {
    assert.ok(error instanceof MountError, String((error as Error).stack).slice(0, 800));
    assert.doesNotMatch(error.message, /\n/);
    assert.ok(error.message.length < 2000, error.message.slice(0, 300));
    assert.ok(error instanceof StackFileError, error.message);
    for (const { line, column } of error.problems) {
      assert.ok(line >= 1 && line <= lines.length + 1, `line ${line} of ${lines.length}`);
      assert.ok(column >= 1, `column ${column}`);
    }
    return error.message.replace('/v/varve.yaml:', '');
  } finally {
    // Of the processor: others may be busy beside this.
    const { user } = process.cpuUsage(started);
    assert.ok(user < 5e6, `${user / 1e3} ms`);
  }
}

const bomb = (levels: number, width: number): string => {
  let text = `x-0: &a0 [${Array(width).fill('lol').join(', ')}]\n`;
  for (let i = 1; i <= levels; i++) {
    text += `x-${i}: &a${i} [${Array(width)
      .fill(`*a${i - 1}`)
      .join(', ')}]\n`;
  }
  return text;
};
const keyBomb = `${Array.from(
  { length: 12 },
  (_, i) =>
    `x-${i}: &k${i} {<<: [${
      i === 0
        ? '{q: 1}'
        : Array(9)
            .fill(`*k${i - 1}`)
            .join(', ')
    }]}\n`,
).join('')}`;

suite('hostile files', () => {
  const rows: [string, string | Buffer, RegExp][] = [
    ['nothing but a byte order mark', '\uFEFF', /^read$/],
    ['two byte order marks', `\uFEFF\uFEFF${good}`, /^1:\d+: /],
    ['UTF-16', Buffer.from(`\uFEFF${good}`, 'utf16le'), /^1:1: not UTF-8/],
    ['NUL bytes', Buffer.alloc(100), /^1:1: /],
    ['a NUL in a path', 'stacks: {a: {upper: "x\\0y"}}\n', /^1:21: .* has a NUL: name a path/],
    ['control characters', good.replace('x', '\x01\x1b[31m'), /^(read|3:)/],
    ['lone surrogates', 'stacks: {a: {upper: "\\ud800"}}\n', /^(read|1:)/],
    ['line separators of Unicode', good.replace('[x]', '["\u2028\u2029\u0085"]'), /^read$/],
    ['old line ends', good.replace(/\n/g, '\r'), /^\d+:\d+: /],
    ['mixed line ends', good.replace('\n', '\r\n'), /^read$/],
    ['tabs after a colon', good.replace('layers: ', 'layers:\t'), /^read$/],
    ['tabs between', 'stacks:\n  a:\t{layers:\t[x],\tmount:\tm}\n', /^read$/],
    ['tabs as indentation', good.replace(/ {2}/g, '\t'), /^2:1: a tab as indentation/],
    ['a key twice, in another form', 'stacks: {a: {}, "a": {}}\n', /^1:17: the same key twice/],
    [
      'a key twice, by a merge',
      'x-m: &m {create: true}\nstacks: {a: {<<: *m, create: false, layers: [x], mount: m}}\n',
      /^read$/,
    ],
    ['two merges', 'x-m: &m {create: true}\nstacks: {a: {<<: *m, <<: *m}}\n', /^(read|2:)/],
    ['a merge of text', 'stacks: {a: {<<: text}}\n', /^1:18: "<<" takes a mapping/],
    ['a merge of itself', 'stacks: {a: &a {<<: *a, layers: [x]}}\n', /^(read|\d+:\d+: )/],
    ['a mapping in itself', 'stacks: &s {a: *s}\n', /^\d+:\d+: /],
    ['a list in itself', 'stacks: {a: {layers: &l [*l]}}\n', /^\d+:\d+: /],
    [
      'a bomb of aliases',
      `${bomb(8, 9)}${good}`,
      /^\d+:\d+: its aliases \(\*NAME\) grow without measure/,
    ],
    ['a bomb of merges', `${keyBomb}${good}`, /^(read|\d+:\d+: )/],
    ['a bomb in the layers', `${bomb(3, 9)}stacks: {a: {layers: *a3}}\n`, /^\d+:\d+: /],
    ['an anchor twice', 'x-a: &a 1\nx-b: &a [x]\nstacks: {s: {layers: *a}}\n', /^read$/],
    [
      'an alias before its anchor',
      'stacks: {s: {layers: *a}}\nx-a: &a [x]\n',
      /^1:22: \*a: no anchor/,
    ],
    ['an alias as a key', 'x-a: &a s\nstacks: {*a : {layers: [x]}}\n', /^(read|2:)/],
    ['ten thousand brackets', '['.repeat(10_000), /^1:\d+: nested too deeply/],
    ['ten thousand braces', '{a: '.repeat(10_000), /^1:\d+: nested too deeply/],
    [
      'deep and closed',
      `stacks: {a: {upper: ${'['.repeat(3000)}${']'.repeat(3000)}}}\n`,
      /^1:\d+: /,
    ],
    [
      'deep indentation',
      Array.from({ length: 600 }, (_, i) => `${' '.repeat(i)}k${i}:\n`).join(''),
      /^\d+:\d+: /,
    ],
    [
      'a line of a quarter of a megabyte',
      `stacks: {a: {description: ${'x'.repeat((1 << 18) - 100)}}}\n`,
      /^read$/,
    ],
    ['ten megabytes', Buffer.alloc(10 << 20, '# x\n'), /^1:1: larger than 256 KiB/],
    [
      'a thousand stacks',
      `stacks:\n${Array.from({ length: 1000 }, (_, i) => `  s${i}: {layers: [l${i}]}\n`).join('')}`,
      /^read$/,
    ],
    [
      'a thousand mistakes',
      `stacks:\n${Array.from({ length: 1000 }, (_, i) => `  s${i}: {layer: 1}\n`).join('')}`,
      /^2:8: .* \(and 999 more: /,
    ],
    [
      'a chain of bases',
      `stacks:\n${Array.from({ length: 90 }, (_, i) => `  s${i}: {layers: [l${i}]${i === 0 ? '' : `, base: s${i - 1}`}}\n`).join('')}`,
      /^read$/,
    ],
    [
      'a long chain the other way',
      `stacks:\n${Array.from({ length: 1000 }, (_, i) => `  s${i}: {layers: [l${i}]${i === 999 ? '' : `, base: s${i + 1}`}}\n`).join('')}`,
      /^\d+:\d+: base: the 100th one below another/,
    ],
    ['ten thousand comments', `${'# c\n'.repeat(10_000)}${good}`, /^read$/],
    ['a key of 200 kB', `stacks: {a: {${'k'.repeat(200_000)}: 1}}\n`, /^1:14: .*unknown key/],
    ['__proto__', 'stacks: {__proto__: {layers: [x]}}\n', /^1:10: .*is no name/],
    [
      '__proto__ as a key',
      'stacks: {a: {__proto__: {create: 5}, layers: [x]}}\n',
      /^1:14: .*unknown key "__proto__"/,
    ],
    [
      'constructor',
      'stacks: {constructor: {layers: [x]}, toString: {base: constructor}, valueOf: {base: hasOwnProperty}}\n',
      /^1:85: base: no stack hasOwnProperty/,
    ],
    ['a directive', `%YAML 1.1\n---\n${good}`, /^read$/],
    ['a directive from the future', `%YAML 9.9\n---\n${good}`, /^1:7: unsupported YAML version/],
    ['a reserved directive', `%FOO bar\n---\n${good}`, /^1:1: /],
    ['a document end', `${good}...\n`, /^read$/],
    ['more after the end', `${good}...\nmore: 1\n`, /^6:1: a second document/],
    ['an explicit key', 'stacks:\n  ? a\n  : layers: [x]\n', /^read$/],
    ['a key that is a list', 'stacks:\n  ? [a]\n  : layers: [x]\n', /^2:5: a key must be text/],
    [
      'block text as a path',
      'stacks:\n  a:\n    layers:\n      - |\n        x\n        y\n',
      /^read$/,
    ],
    ['folded text as a path', 'stacks:\n  a:\n    upper: >-\n      x\n      y\n', /^read$/],
    [
      'null and yes and dates',
      'stacks: {a: {layers: [null]}}\n',
      /^1:23: .*must be text or a mapping \(KEY: VALUE\), not nothing/,
    ],
    ['numbers that are too large', 'version: 1e999\n', /^1:10: version: .*must be 1/],
    ['not a number', 'version: .nan\n', /^1:10: version/],
    ['tags', 'stacks: !!python/object:os.system {a: 1}\n', /^1:9: a tag/],
    ['binary', 'stacks: {a: {upper: !!binary aGk=}}\n', /^1:21: a tag/],
    ['an unfinished quote', 'stacks: {a: {upper: "x\n', /^\d+:\d+: /],
    ['an unfinished list', 'stacks: {a: {layers: [x\n', /^\d+:\d+: /],
    ['HTML', '<!doctype html>\n<title>404</title>\n', /^1:1: must be a mapping/],
    ['JSON', '{"stacks": {"a": {"layers": ["x"], "mount": "m"}}}', /^read$/],
    ['TOML', '[stacks]\na = 1\n', /^\d+:\d+: /],
    ['an image', Buffer.from('\x7fELF\x02\x01\x01\x00'.repeat(50), 'latin1'), /^\d+:\d+: /],
    [
      'a variable in a variable',
      'stacks: {a: {upper: "${A:-${B}}"}}\n',
      /^1:21: .*begins a variable/,
    ],
    [
      'a name that a shell would like',
      'stacks: {"-rf": {}, "$(x)": {}, "a b": {}, "..": {}, "": {}}\n',
      /^1:10: .*\(and 4 more: /,
    ],
    ['a name in another script', 'stacks: {層: {layers: [x]}}\n', /^1:10: .*is no name/],
    [
      'paths to nowhere good',
      'stacks: {a: {layers: [/, /proc/self/fd/0, ../../../..], upper: /dev/null, mount: /}}\n',
      /^read$/,
    ],
    [
      'escapes of terminals in a message',
      'stacks: {a: {"\\e[31mred": 1}}\n',
      /^1:14: .*unknown key "\\u001b\[31mred"/,
    ],
    ['a line break in a message', 'stacks: {a: {"x\\ny": 1, base: "p\\nq"}}\n', /^1:14: /],
  ];
  for (const [what, content, expected] of rows) {
    test(what, async () => {
      const said = await hold(Buffer.from(content));
      assert.match(said, expected);
      assert.doesNotMatch(said, /[\x00-\x1f\x7f]/);
    });
  }

  test('any text, and any damage to a good one', async () => {
    const piece = fc.constantFrom(
      ...[
        'stacks',
        'layers',
        'a',
        'x',
        ': ',
        ':',
        '- ',
        '\n',
        '\n  ',
        '\n    ',
        ' ',
        '[',
        ']',
        '{',
        '}',
        ',',
        '&a ',
        '*a',
        '<<',
        '|',
        '>',
        '"',
        "'",
        '#',
        '!',
        '%',
        '---',
        '...',
        '?',
        '\t',
        '\r',
        '~',
        '${',
        '$$',
        '\\',
        'é',
        '\u2028',
      ],
    );
    const full =
      'version: 1\nx-a: &a {noatime: true}\nstacks:\n  # c\n  a:\n    layers: [x, {stack: b}] # d\n    options: *a\n  b:\n    base: c\n    mount: "m"\n  c:\n    layers:\n    - ~/y\n';
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.array(piece, { maxLength: 40 }).map((pieces) => pieces.join('')),
          fc
            .tuple(fc.nat(full.length), fc.nat(6), fc.array(piece, { maxLength: 3 }))
            .map(([at, cut, pieces]) => full.slice(0, at) + pieces.join('') + full.slice(at + cut)),
        ),
        async (text) => {
          await hold(Buffer.from(text));
        },
      ),
      { numRuns: campaign('ops', 400), seed: campaign('seed', 1) },
    );
  });
});
