// The spec of a stack with a lower on its way out of it, and without it.
// Made by ops/detach/detach-lower.ts (the beginning) and by the server itself (the end); pure data.
// Lowers are named by their place from the bottom: a commit puts one on top meanwhile.

import { heightAt } from '../overlay/heights.js';
import type { MountSpec } from './spec.js';

/** @param place of a lower, counted from the bottom of the lowers, from 1. */
export function detachingLower(spec: MountSpec, place: number): MountSpec {
  const lower = spec.lowerdirs.at(-place) as string;
  return { ...spec, detaching: { lower, place } };
}

export function notDetaching(spec: MountSpec): MountSpec {
  const { detaching: _, ...rest } = spec;
  return rest;
}

/** The spec once the lower is gone, and its index until then. */
export function withoutLower(
  spec: MountSpec,
  place: number,
): { readonly next: MountSpec; readonly index: number } {
  const { lowerdirs, datadirs, gone = [] } = spec;
  const at = lowerdirs.length - place;
  const height = heightAt(datadirs.length + place, gone);
  const next = {
    ...notDetaching(spec),
    lowerdirs: lowerdirs.filter((_lower, i) => i !== at),
    gone: [...gone, height].sort((a, b) => a - b),
  };
  return { next, index: at + 1 };
}
