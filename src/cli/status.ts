// `varve status`: all mounts as a table, or everything about one.
// Run by main.ts; the facts come from stack/status.ts.
// Manual: commands.ts.

import type { LayerStatus } from '../lazy/protocol.js';
import { mountpointNamed } from '../named/resolve.js';
import { bytesText, plain } from '../report/words.js';
import { mountpointPath } from '../stack/check.js';
import { MountError } from '../stack/errors.js';
import { loaderStatus } from '../stack/loader-status.js';
import { knownMounts } from '../stack/mounts-known.js';
import { type Detaching, type MountReport, reportOf } from '../stack/status.js';
import { UNHELD, unheldMounts } from '../stack/unheld.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { age, counted, print, table } from './output.js';

export async function run(given: Arguments): Promise<number> {
  const mounts = await knownMounts();
  const [path] = given.operands;
  if (path === undefined) {
    const reports = mounts.map(reportOf);
    print(given, reports, () => listText(reports));
    return EXIT.ok;
  }
  const mountpoint = mountpointPath(await mountpointNamed(path));
  const found = mounts.findLast((mount) => mount.mountpoint === mountpoint);
  if (found === undefined) {
    throw new MountError('absent', `${mountpoint}: not a varve mount: \`varve status\` lists them`);
  }
  const report = reportOf(found);
  const loading = await loadingOf(mountpoint);
  const unheld = (await unheldMounts((place) => place === mountpoint)).length > 0;
  print(given, { ...report, ...loading, ...(unheld && { unheld }) }, () =>
    [
      statusText(report),
      ...(loading === undefined ? [] : [loadingText(loading)]),
      ...(unheld ? [`  ${UNHELD}`] : []),
    ].join('\n'),
  );
  return EXIT.ok;
}

/** What of the mount's layers is here, while somebody loads them. */
interface Loading {
  readonly loaderPid: number;
  readonly residentBytes: number;
  readonly totalBytes: number;
  /** Bytes a second. */
  readonly rate: number;
  /** What the loader may fetch at most for all mounts together, where that is limited: bytes a second. */
  readonly limit?: number;
  /** Chunks that somebody waits for. */
  readonly waiting: readonly (LayerStatus['waiting'][number] & { readonly layer: string })[];
  readonly trouble?: string;
}

async function loadingOf(mountpoint: string): Promise<Loading | undefined> {
  const status = await loaderStatus({ mountpoint });
  if (status === undefined || status.layers.length === 0) return undefined;
  const { layers } = status;
  const sum = (of: (layer: LayerStatus) => number): number =>
    layers.reduce((total, layer) => total + of(layer), 0);
  const trouble = layers.find((layer) => layer.trouble !== undefined)?.trouble;
  return {
    loaderPid: status.pid,
    residentBytes: sum((layer) => layer.residentBytes),
    totalBytes: sum((layer) => layer.totalBytes),
    rate: sum((layer) => layer.rate),
    ...(status.limit === undefined ? {} : { limit: status.limit }),
    waiting: layers.flatMap(({ id, waiting }) => waiting.map((one) => ({ layer: id, ...one }))),
    ...(trouble === undefined ? {} : { trouble }),
  };
}

function loadingText(loading: Loading): string {
  const { loaderPid, residentBytes, totalBytes, rate, limit, waiting, trouble } = loading;
  const here = `${bytesText(residentBytes)} of ${bytesText(totalBytes)} are here`;
  const most = limit === undefined ? '' : ` of at most ${bytesText(limit)}/s`;
  const line = `  ${here}, ${bytesText(rate)}/s${most}, ${counted(waiting.length, 'chunk')} waited for (loader ${loaderPid})`;
  return trouble === undefined ? line : `${line}\n  ${plain(trouble)}`;
}

function listText(reports: readonly MountReport[]): string {
  if (reports.length === 0) return 'No mounts.';
  const rows = reports.map((r) => [
    r.mountpoint,
    r.mode ?? r.backend,
    r.state,
    layerCount(r),
    r.pid === undefined ? '-' : String(r.pid),
    r.memory === undefined ? '-' : bytesText(r.memory.pss),
    r.counters === undefined ? '-' : String(r.counters.requests),
  ]);
  const head = ['MOUNTPOINT', 'BACKEND', 'STATE', 'LAYERS', 'PID', 'MEMORY', 'REQUESTS'];
  const whys = reports.filter((r) => r.why !== undefined).map((r) => `${r.mountpoint}: ${r.why}`);
  return [table([head, ...rows]), ...whys].join('\n');
}

function layerCount({ layers }: MountReport): string {
  if (layers === undefined) return '-';
  const lowers = layers.lowerdirs.length + layers.datadirs.length;
  return layers.upperdir === undefined ? String(lowers) : `${lowers}+1`;
}

function whoServes({ backend, mode, pid }: MountReport): string {
  const server = `varve's server${pid === undefined ? '' : `, process ${pid}`}`;
  if (mode === undefined) return backend === 'kernel' ? "the kernel's overlayfs" : server;
  if (mode === 'kernel') return 'the kernel (mode kernel)';
  const above = mode === 'overlay' ? "the kernel's overlayfs over the metadata of " : '';
  return `${above}${server} (mode ${mode})`;
}

function restartsText({ restarts, lastRestart }: MountReport): string {
  if (restarts === undefined || lastRestart === undefined) return '';
  const { reason, at, stallMilliseconds } = lastRestart;
  const stall = stallMilliseconds === undefined ? '' : `, ${stallMilliseconds} ms without a server`;
  return `; ${counted(restarts, 'restart')}, the last ${age(Date.now() - Date.parse(at))} ago (${reason})${stall}`;
}

function detachingText({ lower, state, copied = 0, bytes = 0 }: Detaching): string {
  if (state === 'failed')
    return `${lower}: its detaching was given up: \`varve detach\` tries again`;
  return `${lower} is being detached: ${counted(copied, 'object')} copied (${bytesText(bytes)})`;
}

/** Everything about one mount; also used by the demo. */
export function statusText(r: MountReport): string {
  const lines = [`${r.mountpoint}: ${r.state}, ${whoServes(r)}`];
  if (r.why !== undefined) lines.push(`  ${r.why}`);
  if (r.state === 'lost') {
    lines.push(
      '  its supervisor is gone: nobody replaces its server when that dies; `varve umount` still works',
    );
  }
  if (r.layers !== undefined) {
    const rows: string[][] = [];
    if (r.layers.upperdir !== undefined) rows.push(['upper', r.layers.upperdir]);
    r.layers.lowerdirs.forEach((path, i) => {
      rows.push([r.image === undefined ? `lower ${i + 1}` : 'image', path]);
    });
    if (r.image?.digest !== undefined) rows.push(['digest', r.image.digest]);
    r.layers.datadirs.forEach((path, i) => {
      rows.push([r.image === undefined ? `data ${i + 1}` : 'objects', path]);
    });
    if (r.layers.workdir !== undefined) rows.push(['work', r.layers.workdir]);
    lines.push(table(rows, '  '));
  }
  if (r.detaching !== undefined) lines.push(`  ${detachingText(r.detaching)}`);
  if (r.since !== undefined) lines.push(`  up for ${age(Date.now() - Date.parse(r.since))}`);
  if (r.supervisorPid !== undefined)
    lines.push(`  supervisor ${r.supervisorPid}${restartsText(r)}`);
  if (r.memory !== undefined)
    lines.push(`  memory ${bytesText(r.memory.pss)} (PSS), ${bytesText(r.memory.rss)} (RSS)`);
  const c = r.counters;
  if (c !== undefined) {
    lines.push(
      `  ${counted(c.requests, 'request')}, ${c.lookupsCached} lookups answered from memory, ${counted(c.errors, 'error')}`,
      `  ${counted(c.copyUps, 'copy-up')} (${bytesText(c.copyUpBytes)}), ${counted(c.nodes, 'node')}, ${counted(c.handles, 'open file')}, ${c.parked} handed to other threads`,
    );
    if (c.misfits > 0) {
      const times = counted(c.misfits, 'lookup');
      const what = 'met what no longer fits the layers below';
      lines.push(`  ${times} ${what}: \`varve check ${r.mountpoint}\` lists it`);
    }
    const names = Object.entries(c.opcodes).sort(([, a], [, b]) => b - a);
    if (names.length > 0) lines.push(`  ${names.map(([name, n]) => `${name} ${n}`).join(', ')}`);
  }
  return lines.join('\n');
}
