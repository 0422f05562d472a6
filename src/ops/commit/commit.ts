// A commit: the upper becomes a layer, and the stack goes on over it with an empty one.
// Called by cli/commit.ts. Frozen first, by a rename (live-freeze.ts, offline-freeze.ts); an image is built of it afterwards.
// What it may be into: target.ts. docs/commit.md.

import { dirname } from 'node:path';
import { mapMemory } from '../../linux/memory.js';
import { MountError } from '../../stack/errors.js';
import { freeze } from '../../stack/freeze.js';
import { MAX_LAYERS } from '../../stack/option-table.js';
import type { MountSpec } from '../../stack/spec.js';
import { scan } from '../../tree/scan.js';
import { type BuiltLayer, buildLayer, requireNoMarks } from './build-layer.js';
import { makeFrozenPlace, onOneMount, requireMovable } from './frozen-place.js';
import { freezeLive, type LiveFrozen } from './live-freeze.js';
import { withUpper } from './offline-upper.js';
import { type CommitTarget, readTarget } from './target.js';
import { writableStack } from './writable-stack.js';

export interface CommitRequest {
  /** A mount point; else `options`. */
  readonly mount?: string;
  readonly options?: readonly string[];
  readonly into: string;
  readonly dryRun?: boolean;
  readonly onProgress?: (text: string) => void;
}

export interface Committed {
  readonly live: boolean;
  readonly upperdir: string;
  /** The layer as it was asked for: what is to be named as the topmost lowerdir next time. */
  readonly layer: string;
  readonly kind: CommitTarget['kind'];
  /** The directory that has been the upper. A live mount is served from it. */
  readonly frozen: string;
  /** Topmost first: what the mount has now, and what is to be named next time. */
  readonly lowerdirs: readonly string[];
  readonly nextLowerdirs: readonly string[];
  readonly nextDatadirs: readonly string[];
  readonly stallMilliseconds?: number;
  /** Paths (latin1) of files in use that have stayed in the upper. */
  readonly copied: readonly string[];
  /** Those whose copy is from before the last write. */
  readonly changing: readonly string[];
  /** Those that have further names in the lowers: in the layer they are a file of their own. */
  readonly parted: readonly string[];
  readonly image?: BuiltLayer;
}

/** @throws MountError; then nothing was changed, unless it says that the upper is frozen. */
export async function commit(request: CommitRequest): Promise<Committed> {
  mapMemory();
  const { spec, live } = await writableStack(request, 'commit');
  const target = readTarget(request.into, spec);
  const upper = spec.upperdir as string;
  requireMovable(upper);
  if (spec.lowerdirs.length + spec.datadirs.length >= MAX_LAYERS) {
    throw new MountError(
      'option',
      `${MAX_LAYERS} layers: no more can be stacked: flatten some of them`,
    );
  }
  if (target.kind === 'store') requirePlainUpper(upper);
  const isPlace = target.kind === 'directory' && onOneMount(dirname(upper), dirname(target.path));
  const plan = { live, upperdir: upper, kind: target.kind };
  if (request.dryRun) return { ...plan, ...outcome(spec, target, isPlace ? target.path : '') };
  const place = makeFrozenPlace(upper, isPlace ? target.path : undefined);
  const next = specAfter(spec, place.path);
  let told: Pick<LiveFrozen, 'copied' | 'changing' | 'parted'> & Partial<LiveFrozen>;
  try {
    told = live
      ? await freezeLive(spec, next, place.path)
      : withUpper(spec, place.path, 'commit it by its mount point, or', (at) =>
          freeze(at, [], Number.POSITIVE_INFINITY),
        );
  } catch (error) {
    place.abandon();
    throw error;
  }
  const { copied, changing, parted, stallMilliseconds } = told;
  const image = isPlace ? undefined : await build(place.path, target, next, request.onProgress);
  const done = outcome(spec, target, place.path, image);
  return {
    ...plan,
    ...done,
    copied,
    changing,
    parted,
    stallMilliseconds,
    ...(image ? { image } : {}),
  };
}

/** What the layer could not say is refused before anything is frozen. */
function requirePlainUpper(upper: string): void {
  const tree = scan(upper);
  try {
    requireNoMarks(tree.root);
  } finally {
    tree.close();
  }
}

/** The spec of a stack once its upper is the layer `frozen`. */
export function specAfter(spec: MountSpec, frozen: string): MountSpec {
  return { ...spec, lowerdirs: [frozen, ...spec.lowerdirs] };
}

async function build(
  frozen: string,
  target: CommitTarget,
  next: MountSpec,
  onProgress: CommitRequest['onProgress'],
): Promise<BuiltLayer> {
  try {
    return await buildLayer(frozen, target, next, onProgress);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new MountError(
      'layer',
      `${target.path}: ${message}: the upper is frozen as ${frozen}, which can be made into an image by \`varve image build\``,
      { cause: error },
    );
  }
}

function outcome(
  spec: MountSpec,
  target: CommitTarget,
  frozen: string,
  image?: BuiltLayer,
): Omit<Committed, 'live' | 'upperdir' | 'kind'> {
  const layer = image?.path ?? target.path;
  return {
    layer,
    frozen,
    lowerdirs: [frozen === '' ? target.path : frozen, ...spec.lowerdirs],
    nextLowerdirs: [layer, ...spec.lowerdirs],
    nextDatadirs: [...spec.datadirs, ...(image?.objects === undefined ? [] : [image.objects])],
    copied: [],
    changing: [],
    parted: [],
  };
}
