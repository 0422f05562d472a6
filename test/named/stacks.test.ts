// varve.yaml: what it may say, what is said about mistakes and where, what it means, in which order stacks are mounted.
// Under test: src/named/{parse,expand,stacks,order,schema}.ts. No file and no mount is needed.

import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Ajv } from 'ajv';
import fc from 'fast-check';
import { schemaText } from '../../src/cli/stack-schema.js';
import { expandPath, unexpandPath } from '../../src/named/expand.js';
import { findStackFile } from '../../src/named/find.js';
import { downOrder, upOrder } from '../../src/named/order.js';
import { optionText } from '../../src/named/request.js';
import { resolveStack } from '../../src/named/resolve.js';
import {
  type Stack,
  type StackFile,
  StackFileError,
  stackNamed,
  stacksOf,
} from '../../src/named/stacks.js';
import { MountError } from '../../src/stack/errors.js';
import { nearest } from '../../src/stack/nearest.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

const ENV = { HOME: '/home/u', WHERE: 'there', EMPTY: '' };
const read = (text: string | Uint8Array): Promise<StackFile> =>
  stacksOf(typeof text === 'string' ? Buffer.from(text) : text, '/etc/v/varve.yaml', ENV);

/** Every mistake of a text as `LINE:COLUMN: message`. */
async function mistakes(text: string | Uint8Array): Promise<string[]> {
  try {
    await read(text);
    return [];
  } catch (error) {
    assert.ok(error instanceof StackFileError, String(error));
    assert.doesNotMatch(error.message, /\n/);
    return error.problems.map(({ line, column, message }) => `${line}:${column}: ${message}`);
  }
}

suite('mistakes, with line and column and what to do', () => {
  const one = 'stacks:\n  web:\n    layers: [a]\n    mount: m\n';
  const rows: [string, string | Uint8Array, string[]][] = [
    ['none', one, []],
    ['an empty file', '', []],
    ['comments only', '# nothing yet\n', []],
    ['no stacks yet', 'version: 1\nstacks: {}\n', []],
    ['a byte order mark', `\uFEFF${one}`, []],
    ['CRLF', one.replace(/\n/g, '\r\n'), []],
    ['x- keys hold anything', `x-common: {what: [1, ever]}\n${one}`, []],
    ['the schema as a key', `$schema: ./varve.schema.json\n${one}`, []],
    [
      'an unknown key',
      `${one}    layer: [b]\n`,
      ['5:5: stacks.web: unknown key "layer": did you mean layers?'],
    ],
    [
      'one that resembles nothing',
      'wholly: different\n',
      ['1:1: unknown key "wholly": one of $schema, version, stacks'],
    ],
    [
      'an unknown option',
      `${one}    options: {notime: true}\n`,
      ['5:15: stacks.web.options: unknown key "notime": did you mean noatime?'],
    ],
    [
      'a key of the stack as an option',
      `${one}    options: {upperdir: u}\n`,
      ['5:15: stacks.web.options: unknown key "upperdir": see `varve help mount`'],
    ],
    [
      'a number where text must be',
      'stacks: {web: {layers: [2024]}}\n',
      [
        '1:25: stacks.web.layers[0]: must be text or a mapping (KEY: VALUE), not 2024: put it in quotes',
      ],
    ],
    [
      'text where a list must be',
      'stacks: {web: {layers: a}}\n',
      ['1:24: stacks.web.layers: must be a list (- ITEM), not text ("a")'],
    ],
    [
      'nothing where a mapping must be',
      'stacks:\n  web:\n',
      ['2:3: stacks.web: must be a mapping (KEY: VALUE), not nothing'],
    ],
    [
      'an empty path',
      'stacks: {web: {upper: ""}}\n',
      ['1:23: stacks.web.upper: is empty: write something, or leave it out'],
    ],
    [
      'a choice',
      `${one}    options: {metacopy: maybe}\n`,
      ['5:25: stacks.web.options.metacopy: "maybe": must be one of on, off, true, false'],
    ],
    [
      'a value that the option refuses',
      `${one}    options: {timeout: soon}\n`,
      ['5:24: option timeout=soon: must be a number of seconds, 0 or more'],
    ],
    [
      'a name with a slash',
      'stacks: {a/b: {layers: [a]}}\n',
      [
        '1:10: stacks: "a/b" is no name: letters, digits and _ . - inside, up to 100, beginning with a letter or digit',
      ],
    ],
    ['another version', 'version: 2\n', ['1:10: version: 2: must be 1']],
    [
      'a circle of bases',
      'stacks:\n  a: {base: b}\n  b: {base: c}\n  c: {base: b}\n',
      ['4:13: base: b on c on b: builds on itself: cut the circle'],
    ],
    [
      'an unknown base',
      `${one}  api: {base: wep}\n`,
      ['5:15: base: no stack wep: did you mean web?'],
    ],
    [
      'an unknown stack as layer',
      `${one}  api: {layers: [{stack: wbe}], mount: n}\n`,
      ['5:26: stack: no stack wbe: did you mean web?'],
    ],
    [
      'a layer of a stack without a mount',
      'stacks: {a: {}, b: {layers: [{stack: a}]}}\n',
      ['1:38: stack: a has no mount: name one there, or build on it with base'],
    ],
    [
      'an image without a store',
      'stacks: {a: {layers: [{image: x}]}}\n',
      ['1:23: the content of an image lies in a store: name it with store'],
    ],
    [
      'a layer that is two things',
      'stacks: {a: {layers: [{image: x, stack: a}]}}\n',
      ['1:23: a layer is a path, {stack: NAME} or {image: IMAGE, store: DIR}: write one'],
    ],
    [
      'a mount without layers',
      'stacks: {a: {mount: m}}\n',
      ['1:21: a: it has no layer to show: name one under layers'],
    ],
    [
      'a workdir without upper',
      'stacks: {a: {workdir: w}}\n',
      ['1:23: workdir: means something with an upper only: name an upper'],
    ],
    [
      'a mode without an image',
      'stacks: {a: {layers: [x], mode: follow}}\n',
      ['1:33: mode: follow: is of a stack whose one layer is {image: ...}: leave it out'],
    ],
    [
      'one mount point twice',
      `${one}  api: {layers: [b], mount: ./x/../m}\n`,
      ['5:29: mount: /etc/v/m: is the mount point of web too: take another one'],
    ],
    [
      'one upper twice',
      'stacks: {a: {upper: u}, b: {upper: u}}\n',
      ['1:36: upper: /etc/v/u: is the directory of a too: take another one'],
    ],
    [
      'a variable that is not set',
      'stacks: {a: {upper: "${NOPE}/x"}}\n',
      ['1:21: ${NOPE}: is not set: set it, or write ${NOPE:-DEFAULT}'],
    ],
    [
      'a lonely dollar sign',
      'stacks: {a: {upper: "5$"}}\n',
      ['1:21: "$" begins a variable, ${NAME}: write $$ for a dollar sign'],
    ],
    [
      "another user's home",
      'stacks: {a: {upper: ~root/x}}\n',
      ['1:21: ~root: only ~ itself is known: write the path (./~root is a name)'],
    ],
    ['a tab', 'stacks:\n\tweb: {}\n', ['2:1: a tab as indentation: take spaces']],
    [
      'a key twice',
      'stacks:\n  a: {}\n  a: {}\n',
      ['3:3: the same key twice: drop one of the two'],
    ],
    [
      'two documents',
      `${one}---\na: b\n`,
      ['5:1: a second document begins here: a file holds one, without "---" in it'],
    ],
    ['a tag', 'stacks: !!set {a}\n', ['1:9: a tag (!...) means nothing here: drop it']],
    ['an alias of nothing', 'stacks: *x\n', ['1:9: *x: no anchor &x stands before it: add one']],
    ['no mapping at all', '- a\n- b\n', ['1:1: must be a mapping (KEY: VALUE), not a list']],
    [
      'no UTF-8',
      Buffer.concat([Buffer.from('stacks:\n  caf'), Buffer.from([0xe9, 0x0a])]),
      ['2:6: not UTF-8: save the file as UTF-8'],
    ],
    [
      'too much',
      Buffer.alloc((1 << 18) + 1, '#'),
      ['1:1: larger than 256 KiB: is this a file of stacks?'],
    ],
    [
      'several, in the order of the file',
      'stacks:\n  a: {uper: u}\n  b: {layers: 1}\nversion: x\n',
      [
        '2:7: stacks.a: unknown key "uper": did you mean upper?',
        '3:15: stacks.b.layers: must be a list (- ITEM), not 1',
        '4:10: version: "x": must be 1',
      ],
    ],
    [
      'in what an anchor holds',
      'x-a: &a {layers: [1]}\nstacks:\n  w: *a\n',
      ['1:19: stacks.w.layers[0]: must be text or a mapping (KEY: VALUE), not 1: put it in quotes'],
    ],
    [
      'in what is merged',
      'x-a: &a\n  create: 5\nstacks:\n  w:\n    <<: *a\n',
      ['2:11: stacks.w.create: must be true or false, not 5'],
    ],
  ];
  for (const [what, text, expected] of rows) {
    test(what, async () => assert.deepEqual(await mistakes(text), expected));
  }

  test('an error of the command line is the first, and tells of the others', async () => {
    await assert.rejects(read('a: 1\nb: 2\n'), {
      message:
        '/etc/v/varve.yaml:1:1: unknown key "a": one of $schema, version, stacks (and 1 more: `varve stack check`)',
    });
  });
});

const get = async (text: string, name = 'web'): Promise<Stack> =>
  stackNamed(await read(text), name);

suite('what a stack is', () => {
  test('paths are relative to the file, ~ and variables are filled in', async () => {
    const stack = await get(
      'stacks: {web: {layers: [a, ../b, ~/c, "${WHERE}/d", "$WHERE", "${NOPE:-e}", "$$f"], upper: ~, mount: /m/}}'.replace(
        '~,',
        '"~",',
      ),
    );
    assert.deepEqual(
      stack.layers.map((layer) => layer.kind === 'path' && layer.path),
      [
        '/etc/v/a',
        '/etc/b',
        '/home/u/c',
        '/etc/v/there/d',
        '/etc/v/there',
        '/etc/v/e',
        '/etc/v/$f',
      ],
    );
    assert.equal(stack.upper?.path, '/home/u');
    assert.equal(stack.workdir?.path, '/home/u.work');
    assert.equal(stack.mount?.path, '/m');
    assert.equal(stack.workdirIsOurs, true);
  });

  test('a base gives layers below, data, options, mode and create, and nothing of its own place', async () => {
    const file = await read(`
stacks:
  os: {layers: [os], data: [d], upper: u, mount: m, create: true, options: {noatime, metacopy: on, timeout: 5}}
  mid: {base: os, layers: [mid], options: {timeout: 7}}
  web: {base: mid, layers: [web], data: [e], options: {noatime: false, ro, metacopy: false}}
`);
    const web = stackNamed(file, 'web');
    assert.equal(
      optionText(web, file),
      'lowerdir=/etc/v/web:/etc/v/mid:/etc/v/os::/etc/v/e::/etc/v/d,timeout=7,ro,metacopy=off',
    );
    assert.deepEqual(web.bases, ['mid', 'os']);
    assert.deepEqual([web.own, web.create, web.upper, web.mount], [1, true, undefined, undefined]);
  });

  test('anchors and merge keys', async () => {
    const file = await read(`
x-flags: &flags {noatime: true, timeout: 9}
stacks:
  a: &a {layers: &l [x, y], options: *flags}
  web: {<<: *a, mount: m, options: {<<: *flags, timeout: 1}}
`);
    assert.equal(
      optionText(stackNamed(file, 'a'), file),
      'lowerdir=/etc/v/x:/etc/v/y,noatime,timeout=9',
    );
    assert.match(
      optionText(stackNamed(file, 'web'), file),
      /^lowerdir=\/etc\/v\/x:\/etc\/v\/y,(noatime,timeout=1|timeout=1,noatime)$/,
    );
  });

  test('options of every form', async () => {
    const file = await read(`
stacks:
  web:
    layers: ["a:b,c\\\\d"]
    upper: "u,v"
    workdir: 'w\\'
    options: {writeback: false, fsync: 0, uidmapping: "0:1:2", digest: [${'a'.repeat(64)}, ${'b'.repeat(64)}], device: dev, xattr_permissions: 2, nosuid: , suid: false, context: "a:b:c0,c1"}
`);
    assert.equal(
      optionText(stackNamed(file, 'web'), file),
      [
        'lowerdir=/etc/v/a\\:b\\,c\\\\d',
        'upperdir=/etc/v/u\\,v',
        'workdir=/etc/v/w\\\\/',
        'writeback=0',
        'fsync=0',
        'uidmapping=0:1:2',
        `digest=${'a'.repeat(64)}`,
        `digest=${'b'.repeat(64)}`,
        'device=/etc/v/dev',
        'xattr_permissions=2',
        'nosuid',
        'context=a:b:c0\\,c1',
      ].join(','),
    );
  });

  test('an unknown name is told with what was probably meant', async () => {
    const file = await read('stacks: {website: {}, api: {}}');
    for (const [name, message] of [
      ['webiste', 'did you mean website?'],
      ['xyz', 'it has website, api'],
    ] as const) {
      assert.throws(() => stackNamed(file, name), {
        kind: 'absent',
        message: `${name}: no such stack in /etc/v/varve.yaml: ${message}`,
      });
    }
  });

  test('every path can be written so that it is read again', () => {
    const around = { env: {}, home: '/h' };
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'~$a{}:-/ ') }), (path) => {
        assert.deepEqual(expandPath(unexpandPath(path), around), {
          text: path.startsWith('~') ? `./${path}` : path,
        });
      }),
    );
  });
});

test('variables as in compose files', () => {
  const around = { env: ENV, home: '/h' };
  for (const [text, expected] of [
    ['${WHERE}', 'there'],
    ['$WHERE/x', 'there/x'],
    ['${EMPTY}', ''],
    ['${EMPTY-d}', ''],
    ['${EMPTY:-d}', 'd'],
    ['${NOPE-}', ''],
    ['${NOPE:-a b}', 'a b'],
    ['${WHERE:?no}', 'there'],
    ['$$WHERE', '$WHERE'],
    ['~', '/h'],
    ['~/a', '/h/a'],
    ['a~', 'a~'],
  ] as const) {
    assert.deepEqual(expandPath(text, around), { text: expected }, text);
  }
  for (const [text, wrong] of [
    ['${NOPE:?say where}', /^\$\{NOPE\}: say where: /],
    ['${EMPTY:?}', /is not set/],
    ['${1}', /begins a variable/],
    ['${WHERE', /begins a variable/],
  ] as const) {
    const got = expandPath(text, around);
    assert.match('wrong' in got ? got.wrong : '', wrong, text);
  }
});

suite('the order of stacks', () => {
  const text = `
stacks:
  top: {layers: [{stack: mid}, x], mount: top}
  mid: {layers: [os/usr, y], mount: mid}
  os: {layers: [z], mount: os, upper: os-changes}
  inside: {layers: [q], mount: os/srv}
  alone: {layers: [os-changes/a], mount: alone}
`;
  const names = (stacks: readonly Stack[]): string => stacks.map(({ name }) => name).join(' ');

  test('what a stack stands on comes before it, and goes after it', async () => {
    const file = await read(text);
    const all = [...file.stacks.values()];
    assert.equal(names(upOrder([stackNamed(file, 'top')], file)), 'os mid top');
    assert.equal(names(upOrder(all, file)), 'os mid top inside alone');
    assert.equal(names(downOrder([stackNamed(file, 'os')], file)), 'top mid inside os');
    assert.equal(names(downOrder([stackNamed(file, 'alone')], file)), 'alone');
  });

  test('a circle is refused', async () => {
    const file = await read(
      'stacks: {a: {layers: [b/x], mount: a}, b: {layers: [{stack: a}], mount: b}}',
    );
    assert.throws(
      () => upOrder([stackNamed(file, 'a')], file),
      (error) => {
        assert.ok(error instanceof MountError);
        return /^a on b on a: stands on itself/.test(error.message);
      },
    );
  });
});

suite('the schema', () => {
  const PATH = fileURLToPath(new URL('../../../docs/varve.schema.json', import.meta.url));

  test('docs/varve.schema.json is what `varve stack schema` prints', () => {
    if (process.env['VARVE_UPDATE'] === '1') writeFileSync(PATH, schemaText());
    assert.ok(existsSync(PATH));
    assert.equal(readFileSync(PATH, 'utf8'), schemaText(), 'VARVE_UPDATE=1 writes it anew');
  });

  test('it is a schema, with nothing in it that nobody knows', () => {
    const ajv = new Ajv({ strict: true, allowUnionTypes: true });
    assert.equal(ajv.validateSchema(JSON.parse(schemaText())), true);
    const validate = ajv.compile(JSON.parse(schemaText()));
    assert.equal(validate({ version: 1, stacks: { a: { layers: ['x', { stack: 'a' }] } } }), true);
    assert.equal(validate({ stacks: { a: { layer: [] } } }), false);
  });

  test('the example of docs/stacks.md is right', async () => {
    const page = readFileSync(
      fileURLToPath(new URL('../../../docs/stacks.md', import.meta.url)),
      'utf8',
    );
    const blocks = [...page.matchAll(/^```yaml\n(.*?)^```$/gms)].map(
      ([, block]) => block as string,
    );
    assert.ok(blocks.length > 0);
    for (const block of blocks)
      await stacksOf(Buffer.from(block), '/etc/v/varve.yaml', { ...ENV, PROJECT: 'p' });
  });
});

suite('which file', () => {
  const put = (path: string): string => {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, 'stacks: {here: {}}\n');
    return path;
  };

  test('--file, then $VARVE_FILE, then here and above, then the own one', (t) => {
    const folder = tempDir(t);
    const at = (path: string): string => join(folder, path);
    mkdirSync(at('a/b/c'), { recursive: true });
    const find = (cwd: string, env: NodeJS.ProcessEnv, file?: string): string | undefined =>
      findStackFile({ cwd: at(cwd), env, file });
    assert.equal(find('a/b/c', { VARVE_FILE: '../e' }, 'f'), at('a/b/c/f'));
    assert.equal(find('a/b/c', { VARVE_FILE: '../e' }), at('a/b/e'));
    put(at('a/varve.yaml'));
    put(at('config/varve/varve.yaml'));
    put(at('home/.config/varve/varve.yaml'));
    assert.equal(find('a/b/c', {}), at('a/varve.yaml'));
    assert.equal(
      find('.', { XDG_CONFIG_HOME: at('config'), HOME: at('home') }),
      at('config/varve/varve.yaml'),
    );
    assert.equal(find('.', { HOME: at('home') }), at('home/.config/varve/varve.yaml'));
    assert.throws(() => find('a', { VARVE_FILE: '' }), /\$VARVE_FILE: is empty/);
    assert.throws(() => find('a', {}, ''), /--file: is empty/);
  });

  test("somebody else's file on the way up is not believed", {
    skip: requires({ root: true }),
  }, async (t) => {
    const folder = tempDir(t);
    mkdirSync(join(folder, 'below/m'), { recursive: true });
    const path = put(join(folder, 'varve.yaml'));
    const cwd = join(folder, 'below');
    const find = (env: NodeJS.ProcessEnv = {}, file?: string): string | undefined =>
      findStackFile({ cwd, env, file });
    chownSync(path, 1234, 1234);
    assert.throws(find, {
      kind: 'permission',
      message: `${path}: it belongs to user 1234: name it with --file if you trust it`,
    });
    assert.equal(find({}, path), path);
    assert.equal(find({ SUDO_UID: '1234' }), path);
    // A path is a path, whatever lies around; a name is not looked for there.
    const word = (text: string) => resolveStack(join(cwd, text), { cwd, env: {} });
    assert.deepEqual(await word('m'), { kind: 'path', path: join(cwd, 'm') });
    await assert.rejects(resolveStack('here', { cwd, env: {} }), /it belongs to user 1234/);
    chownSync(path, 0, 0);
    chmodSync(path, 0o666);
    assert.throws(find, /everybody may write to it/);
    chmodSync(path, 0o644);
    assert.equal(find(), path);
    assert.equal((await resolveStack('here', { cwd, env: {} })).kind, 'stack');
    assert.equal((await resolveStack('./here', { cwd, env: {} })).kind, 'path');
    assert.equal((await resolveStack('there', { cwd, env: {} })).kind, 'path');
    // Nor is a symlink of somebody else's to a file of ours: its paths would start where it lies.
    symlinkSync(path, join(cwd, 'varve.yaml'));
    lchownSync(join(cwd, 'varve.yaml'), 1234, 1234);
    assert.throws(find, /below\/varve\.yaml: it belongs to user 1234/);
  });
});

test('the word that was meant', () => {
  const known = ['layers', 'upper', 'mount', 'options'];
  assert.deepEqual(
    ['layer', 'Layers', 'uper', 'muont', 'optoins', 'x', ''].map((word) => nearest(word, known)),
    ['layers', 'layers', 'upper', 'mount', 'options', undefined, undefined],
  );
});
