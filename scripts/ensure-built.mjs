// Installs the dependencies and compiles, each only when needed; says what it does on stderr.
// Called under a lock by bin/launch.sh (./varve) and scripts/test.sh (npm test); dist/.built tells
// the next start that nothing is to be done. Plain JavaScript: it runs before there is a compiler.

import { spawnSync } from 'node:child_process';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, 'dist');
const stamp = join(dist, '.built');
const sourceFolders = ['src', 'test', 'bench'];
/** Cut where they load a command; see bundle(). */
const commandLines = { main: 'cli/main', wine: 'cli/wine-main' };
const programs = [
  'supervisor/supervisor',
  'supervisor/refuse',
  'stack/server',
  'stack/loader',
  'stack/compare-worker',
  'stack/composefs-worker',
  'fuse/worker',
  'erofs/compress-worker',
  'store/object-worker',
  'lazy/fanotify/fanotify-worker',
  'lazy/tar/build-worker',
  'sandbox/enter',
  'sandbox/init',
];

/** @param {string} line */
const say = (line) => process.stderr.write(`varve: ${line}\n`);

/**
 * @param {string} line
 * @returns {never}
 */
const fail = (line) => {
  say(line);
  process.exit(1);
};

/** @param {string} path */
const mtime = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** @param {string} path @param {number} mode */
const permits = (path, mode) => {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
};

/** Every package of the lock file that must be there has the version that the lock file names. */
const installed = () => {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  return Object.entries(lock.packages).every(([path, entry]) => {
    if (path === '') return true;
    try {
      const found = JSON.parse(readFileSync(join(root, path, 'package.json'), 'utf8'));
      return found.version === entry.version;
    } catch {
      // Binaries of other platforms are optional and rightly absent.
      return entry.optional === true;
    }
  });
};

const install = () => {
  say('installing dependencies (npm ci) ...');
  const env = { ...process.env };
  let cache;
  // A plain user without a home of its own (containers, services) has no place for npm's cache.
  if (!permits(homedir(), constants.W_OK)) {
    cache = mkdtempSync(join(tmpdir(), 'varve-npm-'));
    env['npm_config_cache'] = cache;
  }
  const args = ['ci', '--no-audit', '--no-fund', '--no-update-notifier', '--loglevel=error'];
  const result = spawnSync('npm', args, { cwd: root, env, stdio: ['ignore', 2, 2] });
  if (cache !== undefined) rmSync(cache, { recursive: true, force: true });
  if (result.error) fail(`cannot start npm: ${result.error.message}; install npm with Node`);
  if (result.status !== 0) fail('npm ci failed; its message is above');
};

/**
 * Newest change below a folder, folders included (their time tells of removed files).
 *
 * @param {string} folder
 * @returns {number} milliseconds since 1970, 0 when the folder is absent
 */
const newest = (folder) => {
  let time = mtime(folder);
  if (time === 0) return 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    time = Math.max(time, entry.isDirectory() ? newest(path) : mtime(path));
  }
  return time;
};

const stale = () => {
  const built = mtime(stamp);
  if (built === 0) return true;
  const inputs = [join(root, 'tsconfig.json'), join(root, 'package-lock.json')].map(mtime);
  return Math.max(...inputs, ...sourceFolders.map((name) => newest(join(root, name)))) > built;
};

/**
 * Output whose source is gone would still run as a test or satisfy an import.
 *
 * @param {string} folder below the root, without dist
 */
const prune = (folder) => {
  const place = join(dist, folder);
  if (!existsSync(place)) return;
  for (const entry of readdirSync(place, { withFileTypes: true })) {
    const name = join(folder, entry.name);
    if (entry.isDirectory()) {
      if (existsSync(join(root, name))) prune(name);
      else rmSync(join(dist, name), { recursive: true });
      continue;
    }
    const source = name.replace(/(?:\.d\.ts|\.js)$/, '.ts');
    if (source !== name && !existsSync(join(root, source))) rmSync(join(dist, name));
  }
};

/**
 * The programs that Varve starts, each as one file without imports of its own: Node takes 80 ms to
 * load 60 modules, and a mount starts up to three processes. The command lines alone are cut where
 * they load a command: a package that one command needs would be loaded by all, 70 ms of every start.
 * All in one folder three below the root, as their sources are, so that paths relative to a source
 * file hold here too.
 */
const bundle = async () => {
  const { build: esbuild } = await import('esbuild');
  const folder = join(dist, 'bundle/programs');
  const before = existsSync(folder) ? readdirSync(folder) : [];
  const common = {
    absWorkingDir: root,
    outdir: 'dist/bundle/programs',
    entryNames: '[name]',
    bundle: true,
    packages: 'external',
    platform: /** @type {const} */ ('node'),
    format: /** @type {const} */ ('esm'),
    target: 'node20',
    logLevel: /** @type {const} */ ('warning'),
  };
  /** @param {string} name */
  const compiled = (name) => `dist/src/${name}.js`;
  const made = await Promise.all([
    esbuild({ ...common, entryPoints: programs.map(compiled), metafile: true }),
    ...Object.entries(commandLines).map(([name, source]) =>
      esbuild({
        ...common,
        entryPoints: { [name]: compiled(source) },
        splitting: true,
        chunkNames: `${name}-[hash]`,
        metafile: true,
      }),
    ),
  ]).catch(() => fail('bundling failed; the messages are above'));
  const kept = new Set(
    made.flatMap(({ metafile }) => Object.keys(metafile.outputs).map((path) => basename(path))),
  );
  for (const name of before) {
    if (!kept.has(name)) rmSync(join(folder, name), { force: true });
  }
  await esbuild(page).catch(() => fail('bundling failed; the messages are above'));
};

/**
 * What the HTML page of a diff carries inside: a program and styles, for browsers of the last two
 * years. Only ASCII, so that it is the same in whatever encoding somebody sends the page on.
 */
const page = {
  absWorkingDir: root,
  entryPoints: { page: 'src/report/page/main.ts', style: 'src/report/page/page.css' },
  outdir: 'dist/bundle/page',
  bundle: true,
  minify: true,
  charset: /** @type {const} */ ('ascii'),
  platform: /** @type {const} */ ('browser'),
  format: /** @type {const} */ ('iife'),
  target: ['chrome123', 'firefox128', 'safari17.5'],
  logLevel: /** @type {const} */ ('warning'),
};

const build = async () => {
  say('building ...');
  // A source that changes while the compiler runs must count as newer than the result.
  const started = new Date(Date.now() - 10);
  mkdirSync(dist, { recursive: true });
  // Without a stamp nobody vouches for the files that an incremental build would leave alone.
  if (!existsSync(stamp)) rmSync(join(dist, '.tsbuildinfo'), { force: true });
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const result = spawnSync(process.execPath, [compiler, '-p', root], { stdio: ['ignore', 2, 2] });
  if (result.status !== 0) fail('the build failed; the compiler’s messages are above');
  for (const folder of sourceFolders) prune(folder);
  await bundle();
  writeFileSync(stamp, '');
  utimesSync(stamp, started, started);
};

const major = Number(process.versions.node.split('.')[0]);
if (major < 20) fail(`Node 20 or newer is needed, this is ${process.version}`);

const needsInstall = !installed();
if (needsInstall || stale()) {
  if (!permits(root, constants.W_OK) || (existsSync(dist) && !permits(dist, constants.W_OK))) {
    fail(
      `${root} must be built first, and this user may not write there; run it as its owner once`,
    );
  }
  if (needsInstall) install();
  if (stale()) await build();
}
