// Records what a command changes as a layer: a temporary prefix, one session in it, and what it leaves behind.
// Called by `varve wine layer add`; the prefix is a folder of the stage, so that nothing is left of a killed recording.
// What equals the layers below and what every session writes goes before the layer appears, by one rename.

import type { ChildProcess } from 'node:child_process';
import { mkdirSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import type { Below } from '../prefix/below.js';
import type { WineBuild } from '../prefix/build.js';
import { ownDelta } from '../prefix/materialise.js';
import { pathsOf, type WinePlaces, winePlaces } from '../prefix/places.js';
import type { PrefixRecord } from '../prefix/record.js';
import { startSession } from '../prefix/session.js';
import { noisyKeys, withoutNoise } from '../registry/noise.js';
import { furnish, refusePendingIn } from './create.js';
import { type Held, holdNamed } from './hold.js';
import type { LayerManifest } from './manifest.js';
import { dropCopies, dropTemporary, namesIn } from './own-files.js';
import { findBase, requireNoLayer } from './shelf.js';
import { keysIn, shelveLayer } from './shelve.js';
import { endLeftSessions, openStage } from './stage.js';
import { windowsCommand } from './windows-command.js';

export interface RecordRequest {
  readonly name: string;
  /** The base to record on; with `prefix` that of the prefix. */
  readonly base?: string;
  /** Layers between it and the recording, topmost first, as a record has them. */
  readonly layers: readonly string[];
  /** A prefix whose files and registry lie below, its own included. */
  readonly prefix?: string;
  readonly command: readonly string[];
  readonly wine: WineBuild;
  readonly env: NodeJS.ProcessEnv;
  readonly quiet: boolean;
  /** Keep what every session writes. */
  readonly keepNoise: boolean;
  /** Keep what a command that failed has left. */
  readonly keepFailed: boolean;
  /** Is told of the process, so that signals can go on to it. */
  readonly onStart?: (child: ChildProcess) => void;
}

export interface RecordedLayer {
  /** Where it is; undefined: the command failed and nothing was kept. */
  readonly path?: string;
  readonly exitCode: number;
  readonly signal?: string;
  /** Names that the layer has, whiteouts included. */
  readonly files: number;
  /** Keys that it changes. */
  readonly keys: number;
  /** Identical copies that were dropped, and their bytes. */
  readonly dropped: { readonly files: number; readonly bytes: number };
  /** Changes of the registry that every session makes, left out. */
  readonly noise: number;
}

/** @throws MountError; then there is no such layer. */
export async function recordLayer(request: RecordRequest): Promise<RecordedLayer> {
  const { name, env } = request;
  const places = winePlaces(env);
  requireNoLayer(name, places);
  const held =
    request.prefix === undefined
      ? undefined
      : await holdNamed(request.prefix, 'record over it', env);
  try {
    await refusePendingIn(request.layers, places);
    return await record(request, recordOf(request, held, places), places);
  } finally {
    held?.release();
  }
}

function recordOf(
  { base, layers, wine }: RecordRequest,
  held: Held | undefined,
  places: WinePlaces,
): PrefixRecord {
  const common = { version: 1, follows: false, wine: wine.wine } as const;
  if (held === undefined) {
    return { ...common, base: findBase(base ?? 'default', places).reference, layers };
  }
  const below = [pathsOf(held.folder).driveC, ...held.record.layers];
  return { ...common, base: held.record.base, layers: [...layers, ...below] };
}

/** Makes the temporary prefix. What a new one has of its own, a profile, lies below it: it is not the installer's. */
async function seed(
  prefix: string,
  apart: string,
  standsOn: PrefixRecord,
  env: NodeJS.ProcessEnv,
): Promise<readonly Below[]> {
  mkdirSync(prefix);
  const below = await furnish(prefix, standsOn, env);
  if (readdirSync(pathsOf(prefix).driveC).length === 0) return below;
  renameSync(prefix, apart);
  mkdirSync(prefix);
  const layers = [pathsOf(apart).driveC, ...standsOn.layers];
  return furnish(prefix, { ...standsOn, layers }, env);
}

/** Menu entries would start a prefix that is gone when its layer is there. */
function withoutMenus(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const overrides = [env['WINEDLLOVERRIDES'] ?? '', 'winemenubuilder.exe=d'];
  return { ...env, WINEDLLOVERRIDES: overrides.filter((text) => text !== '').join(';') };
}

async function record(
  request: RecordRequest,
  standsOn: PrefixRecord,
  places: WinePlaces,
): Promise<RecordedLayer> {
  const { name, env, wine, quiet } = request;
  await endLeftSessions(places);
  const stage = openStage(places);
  try {
    const prefix = join(stage.folder, 'prefix');
    const below = await seed(prefix, join(stage.folder, 'seed'), standsOn, env);
    const session = await startSession({
      folder: prefix,
      below,
      wine,
      env: withoutMenus(env),
      quiet,
    });
    let ended: { code: number | null; signal: NodeJS.Signals | null };
    try {
      const [program = '', ...args] = windowsCommand(request.command);
      ended = await session.run(program, args, 'inherit', { started: request.onStart });
    } finally {
      await session.stop();
    }
    const { driveC } = pathsOf(prefix);
    const dropped = await dropCopies(driveC, below);
    if (!request.keepNoise) dropTemporary(driveC);
    const all = ownDelta(prefix);
    const { delta, noise } = request.keepNoise
      ? { delta: all, noise: undefined }
      : withoutNoise(all);
    const exitCode = ended.code ?? 1;
    const done = {
      exitCode,
      ...(ended.signal === null ? {} : { signal: ended.signal }),
      files: namesIn(driveC),
      keys: keysIn(delta),
      dropped,
      noise: noise === undefined ? 0 : noisyKeys(noise),
    };
    if ((exitCode !== 0 || ended.signal !== null) && !request.keepFailed) return done;
    const made = join(stage.folder, 'layer');
    mkdirSync(made);
    renameSync(driveC, join(made, 'drive_c'));
    const manifest: LayerManifest = {
      version: 1,
      made: new Date().toISOString(),
      from: request.command.join(' '),
      command: request.command,
      exitCode,
      wine: wine.version,
      ...(standsOn.base === undefined ? {} : { base: standsOn.base }),
      ...(standsOn.layers.length === 0 ? {} : { layers: standsOn.layers }),
    };
    await shelveLayer(made, name, delta, manifest, places);
    return { path: join(places.layers, name), ...done };
  } finally {
    stage.close();
  }
}
