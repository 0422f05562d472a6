// What two texts have of their own, marked inside each.
// Used for lines of files and for values of keys.
// From the first character that differs to the last one.

import { el, visible } from './dom.js';

/** From, to. */
export type Mark = readonly [number, number];

/** undefined: they have little in common, and the mark would be all of them. */
export function marksBetween(a: string, b: string): [Mark, Mark] | undefined {
  const shorter = Math.min(a.length, b.length);
  let head = 0;
  while (head < shorter && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < shorter - head && a.at(-1 - tail) === b.at(-1 - tail)) tail++;
  if (head + tail < Math.max(a.length, b.length) * 0.25) return undefined;
  return [
    [head, a.length - tail],
    [head, b.length - tail],
  ];
}

export function marked(text: string, mark: Mark | undefined): DocumentFragment {
  if (mark === undefined || mark[0] === mark[1]) return visibleLine(text);
  const fragment = document.createDocumentFragment();
  fragment.append(
    visibleLine(text.slice(0, mark[0])),
    el('mark', {}, visibleLine(text.slice(mark[0], mark[1]))),
    visibleLine(text.slice(mark[1])),
  );
  return fragment;
}

/** Tabs stay tabs here. */
function visibleLine(text: string): DocumentFragment {
  const fragment = document.createDocumentFragment();
  text.split('\t').forEach((part, i) => {
    if (i > 0) fragment.append('\t');
    fragment.append(visible(part));
  });
  return fragment;
}
