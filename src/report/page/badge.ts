// The small marks that stand for a status, and the bar that shows how many there are of each.
// Used by the tree, the map and the details.
// A colour never stands alone: the letter is always beside it.

import { STATUSES, type StatusLetter } from '../page-data.js';
import { STATUS_WORDS } from '../page-words.js';
import { el } from './dom.js';

/** Changes, by position in STATUSES; those that a kind of tree has not may be missing at the end. */
interface Totals {
  readonly changes: number;
  readonly counts: Uint32Array;
}

export function statusClass(status: StatusLetter): string {
  return `s-${status === '=' ? 'same' : status}`;
}

export function badge(status: StatusLetter): HTMLElement {
  return el(
    'span',
    { class: `badge ${statusClass(status)}`, title: STATUS_WORDS[status], 'aria-hidden': 'true' },
    status,
  );
}

/** One stratum for each status. */
export function bar({ counts, changes }: Totals): HTMLElement {
  const strata = STATUSES.flatMap((status, i) => {
    const count = counts[i] ?? 0;
    if (count === 0) return [];
    const stratum = el('i', { class: statusClass(status) });
    stratum.style.flexGrow = String(Math.max(count / changes, 0.06));
    return stratum;
  });
  return el('span', { class: 'bar', 'aria-hidden': 'true' }, ...strata);
}

/** `3 added, 1 deleted`. */
export function countsText({ counts }: Totals): string {
  return STATUSES.flatMap((status, i) => {
    const count = counts[i] ?? 0;
    return count === 0 ? [] : `${count.toLocaleString('en')} ${STATUS_WORDS[status].toLowerCase()}`;
  }).join(', ');
}
