// `varve top`: what is being loaded, looked at again and again; with --html a page with a map of what is here.
// Run by main.ts; the facts are the loader's (stack/loader-status.ts).
// Manual: registry-commands.ts.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isatty } from 'node:tty';
import type { LayerStatus, LoaderStatus } from '../lazy/protocol.js';
import { mountAt } from '../linux/mountinfo.js';
import { residencyPage } from '../report/residency-page.js';
import { bytesText, plain } from '../report/words.js';
import { mountpointPath } from '../stack/check.js';
import { MountError } from '../stack/errors.js';
import { limitLoader, loaderStatus } from '../stack/loader-status.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, harmless, print, table } from './output.js';
import { writeFile } from './output-file.js';
import { rateOf } from './registry.js';

/** Lines of those who wait, for each layer. */
const MOST_WAITING = 8;

export async function run(given: Arguments): Promise<number> {
  const [path] = given.operands;
  const mountpoint = path === undefined ? undefined : mountpointPath(path);
  await limit(given);
  if (mountpoint !== undefined) await requireMount(mountpoint);
  const page = given.value('html');
  if (page !== undefined) {
    const status = await loaderStatus({ mountpoint, map: true });
    const html = Buffer.from(residencyPage(status ?? NOBODY, new Date()));
    await writeFile(page, (write) => write(html));
    return EXIT.ok;
  }
  const interval = intervalOf(given);
  if (given.has('once') || given.has('json') || !isatty(1)) {
    const status = (await loaderStatus({ mountpoint })) ?? NOBODY;
    print(given, status, () => topText(status));
    return EXIT.ok;
  }
  return watch(mountpoint, interval);
}

const NOBODY: LoaderStatus = { pid: 0, layers: [] };

/** One that the loader knows may lie in another mount namespace. */
async function requireMount(mountpoint: string): Promise<void> {
  if (mountAt(mountpoint) !== undefined) return;
  if (((await loaderStatus({ mountpoint }))?.layers.length ?? 0) > 0) return;
  throw new MountError('absent', `${mountpoint}: nothing is mounted there: see \`varve status\``);
}

/** @throws MountError when there is no loader to be limited. */
async function limit(given: Arguments): Promise<void> {
  const rate = rateOf(given);
  if (rate === undefined) return;
  // One that has nothing left to load is about to end, and the next one begins anew.
  const isBusy = ((await loaderStatus({}))?.layers.length ?? 0) > 0;
  if (isBusy && (await limitLoader(rate))) return;
  throw new MountError(
    'absent',
    'nothing is being loaded: give --limit-rate to `varve mount` or `varve run`, or set $VARVE_RATE for loaders to come',
  );
}

function intervalOf(given: Arguments): number {
  const text = given.value('interval') ?? '1';
  const seconds = Number(text);
  if (seconds >= 0.1 && seconds <= 3600) return seconds;
  throw new MountError(
    'option',
    `--interval=${text}: must be a number of seconds from 0.1 to 3600`,
  );
}

/** Until q or Ctrl-C. */
async function watch(mountpoint: string | undefined, seconds: number): Promise<number> {
  const stop = new AbortController();
  const end = (): void => stop.abort();
  // Whoever is ended by these leaves the terminal as it is.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, end);
  if (isatty(0)) {
    process.stdin.setRawMode(true).resume();
    process.stdin.on('data', (keys) => {
      if (keys.includes('q') || keys.includes('\x03')) end();
    });
  }
  // The other screen, without a cursor; both are given back at the end.
  process.stdout.write('\x1b[?1049h\x1b[?25l');
  try {
    while (!stop.signal.aborted) {
      const text = harmless(topText((await loaderStatus({ mountpoint })) ?? NOBODY));
      process.stdout.write(`\x1b[H\x1b[J${text}\n`);
      await sleep(seconds * 1000, undefined, { signal: stop.signal }).catch(() => {});
    }
  } finally {
    process.stdout.write('\x1b[?25h\x1b[?1049l');
    if (isatty(0)) process.stdin.setRawMode(false).pause();
  }
  return EXIT.ok;
}

/** What `varve top` shows of one look. */
export function topText(status: LoaderStatus): string {
  if (status.layers.length === 0) return 'Nothing is being loaded.';
  const rows = status.layers.map((layer) => [
    layer.id.slice('sha256:'.length, 'sha256:'.length + 12),
    bar(layer),
    `${bytesText(layer.residentBytes)} of ${bytesText(layer.totalBytes)}`,
    `${bytesText(layer.rate)}/s`,
    timeLeft(layer),
    counted(layer.waiting.length, 'wait'),
    layer.mountpoints.join(' '),
  ]);
  const head = ['LAYER', 'HERE', '', 'RATE', 'LEFT', 'WAITING', 'MOUNTS'];
  const most = status.limit === undefined ? '' : `, at most ${bytesText(status.limit)}/s`;
  const lines = [`loader ${status.pid}${most}`, table([head, ...rows])];
  for (const layer of status.layers) {
    if (layer.trouble !== undefined)
      lines.push(`${layer.id.slice(7, 19)}: ${plain(layer.trouble)}`);
    for (const { chunk, waiters, milliseconds, pids } of layer.waiting.slice(0, MOST_WAITING)) {
      const who =
        pids === undefined || pids.length === 0 ? '' : ` (${pids.map(called).join(', ')})`;
      const readers = counted(waiters, 'reader');
      lines.push(`  ${readers}${who} of chunk ${chunk} for ${(milliseconds / 1000).toFixed(1)} s`);
    }
  }
  return lines.join('\n');
}

/** `cat 1234` */
function called(pid: number): string {
  try {
    return `${plain(readFileSync(`/proc/${pid}/comm`, 'utf8').trim())} ${pid}`;
  } catch {
    return String(pid);
  }
}

const WIDTH = 20;

function bar({ residentBytes, totalBytes }: LayerStatus): string {
  const full = totalBytes === 0 ? WIDTH : Math.floor((residentBytes / totalBytes) * WIDTH);
  return `[${'#'.repeat(full)}${'.'.repeat(WIDTH - full)}]`;
}

function timeLeft({ residentBytes, totalBytes, rate }: LayerStatus): string {
  const left = totalBytes - residentBytes;
  if (left <= 0) return 'done';
  if (rate <= 0) return '-';
  const seconds = Math.ceil(left / rate);
  return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}
