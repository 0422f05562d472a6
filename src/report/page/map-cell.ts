// The areas of the treemap: when one is large enough to be drawn, to be named, to hold others.
// Used by map-view.ts; squarify.ts says where the areas lie.
// Lengths in CSS pixels.

import { STATUSES, type StatusLetter } from '../page-data.js';
import type { Totals, TreeItem } from '../page-tree.js';
import type { Rect } from '../squarify.js';

export interface Cell extends Rect {
  readonly node: TreeItem;
  readonly label: string;
  readonly frame: boolean;
  /** A directory whose content is too small to be drawn. */
  heap?: boolean;
  element?: HTMLElement;
}

/** An area smaller than this, in pixels, is not drawn: its directory shows through. */
const LEAST = 20;
const HEADER = 17;

export function isSeen({ width, height }: Rect): boolean {
  return width * height >= LEAST && width >= 2 && height >= 2;
}

export function hasHeader({ width, height }: Rect): boolean {
  return width > 43 && height > 39;
}

/** What a frame has for its content. */
export function insideOf(cell: Cell): Rect {
  const head = hasHeader(cell) ? HEADER : 2;
  return {
    x: cell.x + 2,
    y: cell.y + head,
    width: cell.width - 4,
    height: cell.height - head - 2,
  };
}

/** One stratum for each status, as high as it has changes. */
export function strata({ counts, changes }: Totals): string {
  const stops: string[] = [];
  let at = 0;
  for (const [i, status] of STATUSES.entries()) {
    const count = counts[i] as number;
    if (count === 0) continue;
    const end = at + (100 * count) / changes;
    const colour = `color-mix(in srgb, var(--${FILLS[status]}-fill) 52%, var(--panel))`;
    stops.push(`${colour} ${at}% ${end}%`);
    at = end;
  }
  return `linear-gradient(to bottom, ${stops.join(', ')})`;
}

const FILLS: Readonly<Record<StatusLetter, string>> = {
  A: 'added',
  M: 'modified',
  D: 'deleted',
  R: 'renamed',
  T: 'typed',
  '=': 'same',
};
