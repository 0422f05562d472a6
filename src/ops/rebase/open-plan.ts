// Opens an upper over OLD, and NEW, and decides what becomes of it: a plan together with the layers that it reads.
// Used by rebase.ts, which puts the result in the upper's place, and by wine/update, which publishes more than an upper at once.
// Nothing is written here.

import { close } from '../../linux/files.js';
import type { OverlayConfig } from '../../overlay/config.js';
import { openToRead } from '../../stack/open.js';
import type { MountSpec } from '../../stack/spec.js';
import { readChanges } from '../../union/changes.js';
import type { LayerView } from '../../union/view.js';
import { asStack, asUnion, type OpenLayers, openLayers } from '../open-stack.js';
import { withAliases } from './aliases.js';
import { Marker } from './marker.js';
import { originOf } from './origins.js';
import { OwnContent } from './own-content.js';
import { type Plan, planRebase } from './plan.js';
import type { PlanOptions } from './plan-state.js';
import type { Versions } from './versions.js';

/** A plan; its tree is read from the layers when it is written. */
export interface OpenPlan {
  readonly plan: Plan;
  readonly versions: Versions;
  readonly marker: Marker;
  readonly own: OwnContent;
  close(): void;
}

/**
 * @param old with the upper. @param fresh its upper does not count.
 * @throws MountError; SysError, TreeError and ErofsError for what cannot be read.
 */
export function openPlan(old: MountSpec, fresh: MountSpec, options: PlanOptions): OpenPlan {
  const { upperdir: _upper, workdir: _work, ...lowersOnly } = fresh;
  const layers = openLayers({ layers: old });
  const own = new OwnContent(layers.layers[0] as LayerView);
  const opened: OpenLayers = { ...layers, layers: [own, ...layers.layers.slice(1)] };
  let theirs: OpenLayers | undefined;
  let config: OverlayConfig | undefined;
  const closeAll = (): void => {
    opened.close();
    theirs?.close();
    if (config !== undefined) closeOverlay(config);
  };
  try {
    theirs = openLayers({ layers: lowersOnly });
    const oldNames = [...old.lowerdirs, ...old.datadirs];
    const theirUnion = asUnion(theirs);
    let stack = asStack(opened);
    let changes = readChanges(stack);
    const aliased = withAliases(stack, changes);
    if (aliased !== undefined) {
      stack = asStack({ ...opened, layers: [aliased, ...opened.layers.slice(1)] });
      changes = readChanges(stack);
    }
    const versions: Versions = {
      base: { union: stack.before, names: oldNames },
      ours: { union: stack.after, names: [old.upperdir as string, ...oldNames] },
      theirs: { union: theirUnion, names: [...fresh.lowerdirs, ...fresh.datadirs] },
      upper: stack.upper,
      aufs: stack.aufs,
    };
    const marker = new Marker(opened.marks, opened.overrideStat, (place) => {
      config ??= openToRead(fresh);
      return originOf(config, place);
    });
    const plan = planRebase(versions, changes, marker, options);
    return { plan, versions, marker, own, close: closeAll };
  } catch (error) {
    closeAll();
    throw error;
  }
}

function closeOverlay({ upper, lowers, dataLayers, indexFd }: OverlayConfig): void {
  for (const layer of [...lowers, ...dataLayers]) layer.close();
  upper?.close();
  if (indexFd >= 0) close(indexFd);
}
