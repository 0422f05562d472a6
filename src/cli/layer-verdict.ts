// What reading layers back has found, as a person and as a program is told it.
// Used by images-verify.ts and detach-lazy.ts; lazy/verify.ts looks.
// Text only: the exit code of damage is EXIT.layer.

import type { LayerReport } from '../lazy/verify.js';
import { bytesText } from '../report/words.js';
import { shown } from './image.js';
import { counted } from './output.js';

/** Files of a layer that are named in text. */
const MOST_FILES = 20;

export interface Found extends LayerReport {
  readonly id: string;
  /** Names of the images that have it. */
  readonly images: readonly string[];
  /** --repair: it is whole again. */
  readonly repaired?: boolean;
  /** Why it is not. */
  readonly why?: string;
}

export const isWhole = ({ fault, damaged }: LayerReport): boolean =>
  fault === undefined && damaged.length === 0;

/** Those that are not whole now. */
export const damagedOf = (layers: readonly Found[]): Found[] =>
  layers.filter((layer) => !isWhole(layer) && layer.repaired !== true);

/** File names are bytes. */
export const jsonOf = (layer: Found): object => ({ ...layer, files: layer.files.map(shown) });

/** What was looked at, and whether all of it is well. */
export function summaryOf(layers: readonly Found[]): string {
  const bytes = layers.reduce((sum, layer) => sum + layer.bytes, 0);
  const bad = damagedOf(layers).length;
  const verdict = bad === 0 ? 'whole' : `${counted(bad, 'layer')} damaged`;
  return `${verdict}: ${counted(layers.length, 'layer')}, ${bytesText(bytes)} here`;
}

/** Layers that are, or were, damaged: each with its files. */
export const linesOf = (layers: readonly Found[]): string[] =>
  layers.filter((layer) => !isWhole(layer)).flatMap(linesOfOne);

function linesOfOne({ id, images, fault, damaged, chunks, files, repaired, why }: Found): string[] {
  const names = images.length === 0 ? 'no image' : images.join(', ');
  const what = fault ?? `${damaged.length} of ${counted(chunks, 'chunk')} damaged`;
  const end = repaired === true ? ': repaired' : why === undefined ? '' : `: not repaired: ${why}`;
  const shownFiles = files.slice(0, MOST_FILES).map((path) => `  ${shown(path)}`);
  const more = files.length - shownFiles.length;
  return [
    `${id} (${names}): ${what}${end}`,
    ...shownFiles,
    ...(more > 0 ? [`  and ${counted(more, 'more file')}`] : []),
  ];
}
