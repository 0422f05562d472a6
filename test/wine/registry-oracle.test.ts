// Wine itself as the oracle: its server reads and saves our files, its regedit reads and writes what ours does.
// A prefix of registry files and links to Wine's own programs is enough for both, and takes no wineboot.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import * as fc from 'fast-check';
import { applyDelta, rankOf } from '../../src/wine/registry/apply.js';
import { diffRegistry } from '../../src/wine/registry/diff.js';
import {
  fileOf,
  fold,
  HIVES,
  type Hive,
  type Registry,
  type RegistryKey,
} from '../../src/wine/registry/hive.js';
import { parseHive } from '../../src/wine/registry/parse.js';
import { readRegedit, writeRegedit } from '../../src/wine/registry/regedit.js';
import { decodeValue, encodeValue } from '../../src/wine/registry/value.js';
import { emptyHive, writeHive } from '../../src/wine/registry/write.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { registry, seen } from './registry/arbitrary.js';

const skip = requires({ packages: ['wine', 'wine64'] });
const seed = campaign('seed', Date.now() % 2 ** 31);

/** All keys of the tests lie here: the rest is Wine's own. */
const OURS = 'Software\\Varve Oracle';

/** What Wine reads in ways that one would not guess; each stands in a key of its own. */
const ODD = String.raw`
[Software\\Varve Oracle\\odd\\1] 5
"dw"=dword:1ffffffff
"neg"=dword:-1
"none"=dword:
"spaced"  =   "x" more
 	@="indented"
[Software\\Varve Oracle\\odd\\2] 5
"str"=str:"a"
"hex"=hex:1,2 , ff
"bad hex"=hex:0g
"big hex"=hex:1ff
"type"=hex(1f):aa
"no type"=str(3):"a"
"no end"="a
"x"="1"
"X"="2"
  [Software\\Varve Oracle\\odd\\3\\\\deep\\]
"esc\x41pe\101\x"="\x20ac\xd800\0\0011\a\q"
[Software\\Varve Oracle\\odd\\3\\Deep]
"more"="1"
nonsense
"cut"=hex:01,\
[Software\\Varve Oracle\\odd\\4]
"still deep"="1"
[\\Software\\Varve Oracle\\odd\\5]
"lost"="1"
[Software\\Varve Oracle\\odd\\6
"lost"="1"
[Software\\Varve Oracle\\odd\\7]
#class="k\x20ac"
#class="l"
"empty"=
"-"=-
"" ="no name"
"lines"=hex(7):61,00,\
	62,00,\
  00,00
`.trimStart();

const CRLF = '[Software\\\\Varve Oracle\\\\crlf] 5\r\n"a"=hex:01,\\\r\n  02\r\n"b"="c"\r\n';
const UTF8 = Buffer.from('[Software\\\\Varve Oracle\\\\é€😀] 5\n"ü"="ß😀"\n').toString('latin1');

test('Wine reads our files as we do, and saves what it was given', { skip }, (t) => {
  const given = [registryBelow(sample()), registryOf(ODD), registryOf(CRLF), registryOf(UTF8)];
  const prefix = new Prefix(t);
  const text = given.map(({ system }) => bodyOf(system)).join('\n');
  const system = parseHive(Buffer.from(`${headOf('system')}\n${text}`, 'latin1'));
  prefix.put({ ...nothing(), system });
  prefix.wine('regedit', '/E', 'Z:\\dev\\null', `HKEY_LOCAL_MACHINE\\${OURS}\\odd`);
  const saved = prefix.end();
  assert.ok(ours(system).size > 5);
  assert.deepEqual(seenOurs(saved.system), seenOurs(system));
  for (const name of HIVES) isWritten(saved[name]);
});

test('changes for regedit do in Wine what applying them does, and its files read back', {
  skip,
}, (t) => {
  const prefix = new Prefix(t);
  // Regedit knows no classes, and takes them from the keys that it opens.
  const below = withoutClasses(registryBelow(sample()));
  const now = withoutClasses(registryBelow(sample(1), 'now'));
  const delta = diffRegistry(below, now);
  prefix.put({ ...nothing(), system: below.system });
  writeFileSync(join(prefix.folder, 'drive_c/change.reg'), writeRegedit(delta));
  prefix.wine('regedit', 'C:\\change.reg');
  prefix.wine('regedit', '/E', 'C:\\five.reg', `HKEY_LOCAL_MACHINE\\${OURS}`);
  const saved = prefix.end();
  assert.deepEqual(seenOurs(saved.system), seenOurs(applyDelta(below, delta).system));
  const exported = readRegedit(readFileSync(join(prefix.folder, 'drive_c/five.reg')));
  assert.deepEqual(seenOurs(applyDelta(nothing(), exported).system), seenOurs(saved.system));
});

test('names fold as Wine folds them', { skip }, () => {
  const bytes = readFileSync('/usr/share/wine/nls/l_intl.nls');
  const words = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length >> 1);
  const upper = words[0] + words[words[0]];
  const table = words.subarray(upper + 1, upper + words[upper]);
  const lower = (unit: number) =>
    (unit + table[table[table[unit >> 8] + ((unit >> 4) & 15)] + (unit & 15)]) & 0xffff;
  for (let unit = 0; unit < 0x10000; unit++) {
    const name = String.fromCharCode(unit);
    // Letters that Unicode has got after Wine 8.
    if (unit === 0x1c89 || (unit >= 0xa7cb && unit <= 0xa7dc)) continue;
    assert.equal(fold(`${name}X`), `${String.fromCharCode(lower(unit))}x`, unit.toString(16));
  }
});

function sample(nth = 0): Registry {
  return fc
    .sample(registry, { numRuns: 40, seed: seed + nth })
    .reduce((one, other) => (one.system.keys.size > other.system.keys.size ? one : other));
}

const nothing = (): Registry => ({
  system: emptyHive('system', 'win64'),
  user: emptyHive('user', 'win64'),
  userdef: emptyHive('userdef', 'win64'),
});

const headOf = (name: (typeof HIVES)[number]) =>
  writeHive(emptyHive(name, 'win64')).toString('latin1');

const bodyOf = (hive: Hive) =>
  writeHive({ header: hive.header, keys: new Map(hive.keys) })
    .toString('latin1')
    .slice(headOf('system').length);

const registryOf = (body: string): Registry => ({
  ...nothing(),
  system: parseHive(Buffer.from(`${headOf('system')}\n${body}`, 'latin1')),
});

/** The registry below OURS; links are files' business, for Wine refuses values in them. */
function registryBelow(all: Registry, word = 'below'): Registry {
  const keys = new Map<string, RegistryKey>();
  for (const key of all.system.keys.values()) {
    const path = `${OURS}\\${key.path}`;
    const options = key.options.filter((line) => line !== '#link');
    keys.set(fold(path), { path, stamp: key.stamp, options, values: key.values });
  }
  const path = `${OURS}\\${word}`;
  keys.set(fold(path), { path, stamp: ' 5', options: [], values: new Map() });
  return { ...nothing(), system: { header: emptyHive('system', 'win64').header, keys } };
}

function withoutClasses(all: Registry): Registry {
  const keys = [...all.system.keys].map(
    ([folded, key]) => [folded, { ...key, options: [] }] as const,
  );
  return { ...all, system: { header: all.system.header, keys: new Map(keys) } };
}

const ours = (hive: Hive) =>
  new Map([...hive.keys].filter(([folded]) => folded.startsWith(fold(OURS))));

const seenOurs = (hive: Hive) => seen({ ...nothing(), system: { header: [], keys: ours(hive) } });

/** Everything in a file that Wine has saved is in the order and the form in which we would write it. */
function isWritten(hive: Hive): void {
  const paths = [...hive.keys.keys()];
  assert.deepEqual(
    paths,
    paths.toSorted((a, b) => (rankOf(a) < rankOf(b) ? -1 : 1)),
  );
  for (const key of hive.keys.values()) {
    const names = [...key.values.keys()];
    assert.deepEqual(names, names.toSorted());
    for (const { name, data } of key.values.values()) {
      const { type, bytes } = decodeValue(data);
      assert.equal(encodeValue(type, bytes, name), data);
    }
  }
  const copy: Hive = {
    header: hive.header,
    keys: new Map(
      [...hive.keys].map(([folded, { path, stamp, options, values }]) => [
        folded,
        { path, stamp, options, values },
      ]),
    ),
  };
  assert.deepEqual(writeHive(copy).toString('latin1'), writeHive(hive).toString('latin1'));
}

/** Registry files, and the programs of Wine where a prefix has them. */
class Prefix {
  readonly folder: string;
  readonly #env: NodeJS.ProcessEnv;

  constructor(t: TestContext) {
    this.folder = makeTempDir();
    t.after(() => {
      this.#run('wineserver', '-k');
      removeTempDir(this.folder);
    });
    this.#env = {
      HOME: this.folder,
      PATH: process.env['PATH'],
      WINEPREFIX: this.folder,
      WINEDEBUG: '-all',
    };
    const system32 = join(this.folder, 'drive_c/windows/system32');
    mkdirSync(system32, { recursive: true });
    mkdirSync(join(this.folder, 'dosdevices'));
    symlinkSync('../drive_c', join(this.folder, 'dosdevices/c:'));
    symlinkSync('/', join(this.folder, 'dosdevices/z:'));
    writeFileSync(join(this.folder, '.update-timestamp'), 'disable\n');
    const programs = programsOfWine();
    for (const name of readdirSync(programs))
      symlinkSync(join(programs, name), join(system32, name));
  }

  put(all: Registry): void {
    for (const hive of HIVES) {
      writeFileSync(join(this.folder, fileOf(hive)), writeHive(all[hive]));
    }
  }

  wine(...args: string[]): void {
    const { status, output } = this.#run('wine', ...args);
    assert.equal(status, 0, `wine ${args.join(' ')}: ${output}`);
  }

  /** Ends the server, which saves. */
  end(): Registry {
    this.#run('wineserver', '-k');
    this.#run('wineserver', '-w');
    const hive = (name: (typeof HIVES)[number]) =>
      parseHive(readFileSync(join(this.folder, fileOf(name))));
    return { system: hive('system'), user: hive('user'), userdef: hive('userdef') };
  }

  /** Output goes to a file: Wine's services hold a pipe for seconds after the program. */
  #run(program: string, ...args: string[]) {
    const path = join(this.folder, 'output');
    const out = openSync(path, 'w');
    const { status } = spawnSync(program, args, {
      cwd: this.folder,
      env: this.#env,
      stdio: ['ignore', out, out],
      timeout: 60_000,
      killSignal: 'SIGKILL',
    });
    closeSync(out);
    return { status, output: readFileSync(path, 'latin1') };
  }
}

/** Where Debian keeps the Windows side of Wine's programs. */
function programsOfWine(): string {
  const folders = readdirSync('/usr/lib').map((name) => `/usr/lib/${name}/wine/x86_64-windows`);
  const found = folders.find((folder) => existsSync(join(folder, 'regedit.exe')));
  assert.ok(found, 'no regedit.exe below /usr/lib');
  return found;
}
