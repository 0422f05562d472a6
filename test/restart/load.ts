// One program at work on a mount whose server is being killed: goes on in rounds until it is told to stop, and checks each.
// Started by clients.ts as `node load.js KIND FOLDER STOP [SOURCE]`; ends with 0 when every round was right, prints the first fault.
// Nothing here retries: a program that knows nothing of Varve must see no error.

import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { pattern } from '../oracle/layers.js';
import { Random } from '../oracle/random.js';

const [kind, folder, stop, source] = process.argv.slice(2) as [string, string, string, string];
const random = new Random(Number(process.env['VARVE_LOAD_SEED'] ?? 1));
let rounds = 0;

function fault(what: string): never {
  throw new Error(`round ${rounds}: ${what}`);
}

function run(command: string, args: readonly string[], input = ''): string {
  const result = spawnSync(command, args, {
    input,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    env: { ...process.env, HOME: '/nonexistent', GIT_CONFIG_NOSYSTEM: '1', LC_ALL: 'C' },
  });
  if (result.status !== 0 || result.stderr !== '') {
    const how = result.error ?? result.signal ?? result.status;
    fault(`${command} ${args.join(' ')}: ${how}: ${result.stderr.slice(0, 2000)}`);
  }
  return result.stdout;
}

/** Reads and writes of one file against a copy in memory, which stays open over many rounds; as fsx does it. */
class File {
  readonly #path: string;
  #fd: number;
  #model = Buffer.alloc(0);

  constructor(path: string) {
    this.#path = path;
    if (existsSync(path)) this.#model = readFileSync(path);
    this.#fd = openSync(path, existsSync(path) ? 'r+' : 'wx+');
  }

  step(): void {
    const size = this.#model.length;
    switch (random.below(9)) {
      case 0:
      case 1:
      case 2: {
        const at = random.below(262_144);
        const data = pattern(random.below(1000), 1 + random.below(20_000));
        if (writeSync(this.#fd, data, 0, data.length, at) !== data.length) fault('short write');
        const next = Buffer.alloc(Math.max(size, at + data.length));
        this.#model.copy(next);
        data.copy(next, at);
        this.#model = next;
        break;
      }
      case 3: {
        const to = random.below(300_000);
        ftruncateSync(this.#fd, to);
        const next = Buffer.alloc(to);
        this.#model.copy(next);
        this.#model = next;
        break;
      }
      case 4:
        fsyncSync(this.#fd);
        break;
      case 5:
        closeSync(this.#fd);
        this.#fd = openSync(this.#path, 'r+');
        break;
      case 6: {
        const other = `${this.#path}.new`;
        writeFileSync(other, this.#model);
        renameSync(other, this.#path);
        // The old one goes on without a name for a while.
        this.#check();
        closeSync(this.#fd);
        this.#fd = openSync(this.#path, 'r+');
        break;
      }
      default:
        this.#check();
    }
    if (statSync(this.#path).size !== this.#model.length) fault(`${this.#path}: size`);
  }

  #check(): void {
    const seen = Buffer.alloc(this.#model.length + 1);
    let n = 0;
    for (let got = -1; got !== 0; n += got) {
      got = readSync(this.#fd, seen, n, seen.length - n, n);
    }
    if (!seen.subarray(0, n).equals(this.#model)) fault(`${this.#path}: content, ${n} bytes`);
  }

  close(): void {
    this.#check();
    closeSync(this.#fd);
  }
}

/** The program of that name, where there is one: the same with mappings, and what it forgets after each round. */
function fsx(): void {
  const file = join(folder, `fsx${rounds % 3}`);
  const seed = String(1 + random.below(1_000_000));
  run('fsx', ['-q', '-S', seed, '-N', '1500', '-l', '262144', '-P', process.cwd(), file]);
}

/** Files that have lost their names while they are open. */
function unnamed(): void {
  const path = join(folder, 'temporary');
  const fd = openSync(path, 'wx+');
  const data = pattern(rounds, 70_000);
  writeSync(fd, data.subarray(0, 30_000), 0, 30_000, 0);
  unlinkSync(path);
  writeSync(fd, data, 30_000, 40_000, 30_000);
  const seen = Buffer.alloc(70_000);
  readSync(fd, seen, 0, seen.length, 0);
  closeSync(fd);
  if (!seen.equals(data)) fault('content of an unlinked file');
  if (existsSync(path)) fault('an unlinked file has its name again');
}

/** Names come and go one at a time: each call must succeed exactly once. */
function names(): void {
  const base = join(folder, `n${rounds % 3}`);
  mkdirSync(base);
  writeFileSync(join(base, 'a'), 'first', { flag: 'wx' });
  linkSync(join(base, 'a'), join(base, 'b'));
  symlinkSync('a', join(base, 'link'));
  renameSync(join(base, 'a'), join(base, 'c'));
  mkdirSync(join(base, 'sub', 'deep'), { recursive: true });
  renameSync(join(base, 'sub'), join(base, 'moved'));
  writeFileSync(join(base, 'moved', 'deep', 'x'), 'x', { flag: 'wx' });
  const listed = readdirSync(base).sort().join();
  if (listed !== 'b,c,link,moved') fault(`listing ${listed}`);
  if (statSync(join(base, 'c')).nlink !== 2) fault('link count');
  if (readFileSync(join(base, 'b'), 'utf8') !== 'first') fault('content of a second name');
  unlinkSync(join(base, 'b'));
  unlinkSync(join(base, 'c'));
  unlinkSync(join(base, 'link'));
  unlinkSync(join(base, 'moved', 'deep', 'x'));
  rmdirSync(join(base, 'moved', 'deep'));
  rmdirSync(join(base, 'moved'));
  rmdirSync(base);
}

function sqlite(): void {
  const file = join(folder, 'data.db');
  const mode = ['delete', 'wal', 'truncate'][rounds % 3] as string;
  const n = 400;
  const text = run(
    'sqlite3',
    ['-batch', '-bail', file],
    `.timeout 20000
     CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, k INTEGER, v BLOB);
     CREATE INDEX IF NOT EXISTS byk ON t (k);
     PRAGMA journal_mode=${mode};
     BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${n})
       INSERT INTO t (k, v) SELECT ${rounds} * 1000 + i, zeroblob(i % 700) FROM n; COMMIT;
     UPDATE t SET k = k + 1 WHERE id % 7 = ${rounds % 7};
     BEGIN; DELETE FROM t WHERE id % 3 = 0; ROLLBACK;
     DELETE FROM t WHERE id <= (SELECT max(id) FROM t) - 4000;
     PRAGMA integrity_check; SELECT count(*) = min(4000, ${n} * ${rounds + 1}) FROM t;`,
  );
  if (!text.endsWith('ok\n1\n')) fault(`sqlite3 says ${text}`);
}

const git = (repository: string, ...args: string[]): string =>
  run('git', [
    ...['-C', repository, '-c', 'user.name=t', '-c', 'user.email=t@example.org', '-c', 'gc.auto=0'],
    ...['-c', 'safe.directory=*', ...args],
  ]);

function useGit(): void {
  const repository = join(folder, `repo${rounds % 2}`);
  rmSync(repository, { recursive: true, force: true });
  run('git', ['-c', 'safe.directory=*', 'clone', '-q', '--no-hardlinks', source, repository]);
  git(repository, 'checkout', '-q', '-b', 'work');
  for (const name of readdirSync(repository).filter((name) => name.startsWith('d'))) {
    writeFileSync(join(repository, name, 'more'), pattern(rounds, 5000));
  }
  git(repository, 'mv', 'd1', 'moved');
  git(repository, 'add', '--all');
  git(repository, 'commit', '-q', '-m', 'more');
  git(repository, 'checkout', '-q', 'main');
  git(repository, 'merge', '-q', '--no-ff', '-m', 'merged', 'work');
  git(repository, 'gc', '-q', '--prune=now');
  git(repository, 'fsck', '--full', '--strict', '--no-dangling', '--no-progress');
  if (git(repository, 'status', '--porcelain') !== '') fault('git status');
}

const sums = (root: string): string =>
  run('sh', [
    '-c',
    'cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum && find . -printf "%y %m %p %l\n" | LC_ALL=C sort',
    'sh',
    root,
  ]);

function useTar(): void {
  const into = ['one', 'two'].map((name) => join(folder, name));
  for (const path of into) {
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path);
  }
  // Both at the same time, each from the tree in the layers below.
  const copy =
    'tar -C "$1" -cf - . | tar -C "$2" -xf - & a=$!; tar -C "$1" -cf - . | tar -C "$3" -xf -';
  run('bash', ['-c', `set -o pipefail; ${copy} && wait $a`, 'bash', source, ...into]);
  const expected = sums(source);
  for (const path of into) if (sums(path) !== expected) fault(`${path} differs from ${source}`);
}

/** Everything that can be read, by name, by content, by attributes. */
let first = '';
function reads(): void {
  const seen = sums(source);
  if (first === '') first = seen;
  else if (seen !== first) fault('the tree differs from before');
}

/** How long single calls take; the longest is printed at the end. */
let longest = 0;
function stalls(): void {
  for (let i = 0; i < 50; i++) {
    const before = performance.now();
    if (source !== undefined)
      statSync(join(source, `nothing-${rounds}-${i}`), { throwIfNoEntry: false });
    else {
      const path = join(folder, `s${i}`);
      mkdirSync(path);
      rmdirSync(path);
    }
    longest = Math.max(longest, performance.now() - before);
  }
}

const kinds: Record<string, () => void> = {
  file: () => {
    const file = files[rounds % files.length] as File;
    for (let i = 0; i < 20; i++) file.step();
    unnamed();
  },
  fsx,
  names,
  sqlite,
  git: useGit,
  tar: useTar,
  reads,
  stalls,
};
const files: File[] = [];
const work = kinds[kind] ?? fault(`no kind ${kind}`);
if (kind === 'file') for (let i = 0; i < 4; i++) files.push(new File(join(folder, `file${i}`)));
// Programs keep their own temporary files off the mount.
process.chdir(mkdtempSync(join(tmpdir(), 'varve-load-')));
try {
  do {
    work();
    rounds++;
  } while (!existsSync(stop));
  for (const file of files) file.close();
  console.log(JSON.stringify({ rounds, longest }));
} catch (error) {
  console.log(JSON.stringify({ rounds, fault: `${error instanceof Error ? error.stack : error}` }));
  process.exitCode = 1;
} finally {
  rmSync(process.cwd(), { recursive: true, force: true });
}
