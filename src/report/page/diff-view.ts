// The lines of one change: unified or side by side, with what differs inside a line marked.
// Made by detail-view.ts from the JSON of a `text-ID` element, which is parsed only when it is looked at.
// A long diff comes in portions, so that no file makes the page slow.

import type { TextBody, TextRef } from '../page-data.js';
import { countText } from '../page-words.js';
import { el, remember, remembered } from './dom.js';
import { type Mark, marked, marksBetween } from './marks.js';

/** Lines that are shown at once. */
const PORTION = 1000;

type Kind = ' ' | '-' | '+' | '\\' | '@';

interface Line {
  readonly kind: Kind;
  readonly text: string;
  readonly old: number;
  readonly now: number;
  /** What another line has in place of part of this one: from, to. */
  mark?: Mark;
}

/** Side by side: what stands left and right. */
type Pair = readonly [Line | undefined, Line | undefined];

export function diffView(ref: TextRef): HTMLElement {
  const source = document.getElementById(`text-${ref.id}`)?.textContent ?? '{"hunks":[]}';
  const body = JSON.parse(source) as TextBody;
  const lines = linesOf(body);
  const table = el('div', { class: 'diff-lines' });
  let isSplit = remembered('split') === 'yes';
  let doesWrap = remembered('wrap') !== 'no';
  const draw = (): void => {
    table.replaceChildren(...(isSplit ? splitTable(lines) : unifiedTable(lines)));
    table.classList.toggle('wrap', doesWrap);
    split.setAttribute('aria-pressed', String(isSplit));
    wrap.setAttribute('aria-pressed', String(doesWrap));
  };
  const button = (label: string, name: string, press: () => void): HTMLElement =>
    el('button', { type: 'button', class: 'toggle', 'data-name': name, click: press }, label);
  const split = button('Side by side', 'split', () => {
    isSplit = !isSplit;
    remember('split', isSplit ? 'yes' : 'no');
    draw();
  });
  const wrap = button('Wrap', 'wrap', () => {
    doesWrap = !doesWrap;
    remember('wrap', doesWrap ? 'yes' : 'no');
    draw();
  });
  draw();
  const notes: string[] = [];
  if (body.latin1) notes.push('Not UTF-8: each byte is shown as a Latin-1 character.');
  if (body.more)
    notes.push(`${countText(body.more, 'further line')} left out: this file is large.`);
  return el(
    'section',
    { class: 'diff', 'aria-label': 'Lines that changed' },
    el(
      'div',
      { class: 'diff-head' },
      el('h3', {}, 'Lines'),
      el('span', { class: 'size grown' }, `+${ref.added.toLocaleString('en')}`),
      el('span', { class: 'size shrunk' }, `−${ref.removed.toLocaleString('en')}`),
      el('span', { class: 'space' }),
      wrap,
      split,
    ),
    table,
    ...notes.map((note) => el('p', { class: 'note' }, note)),
  );
}

function linesOf(body: TextBody): Line[] {
  const lines: Line[] = [];
  for (const [oldStart, oldLines, newStart, newLines, texts] of body.hunks) {
    let old = oldStart;
    let now = newStart;
    const head = `@@ −${oldStart},${oldLines} +${newStart},${newLines} @@`;
    lines.push({ kind: '@', text: head, old, now });
    const first = lines.length;
    for (const line of texts) {
      const kind = line[0] as Kind;
      lines.push({ kind, text: line.slice(kind === '\\' ? 2 : 1), old, now });
      if (kind === ' ' || kind === '-') old++;
      if (kind === ' ' || kind === '+') now++;
    }
    markPairs(lines, first);
  }
  return lines;
}

/** In runs of as many removed lines as added ones each has a partner; what both lack of the other is marked. */
function markPairs(lines: readonly Line[], first: number): void {
  for (let i = first; i < lines.length; ) {
    const removed = runOf(lines, i, '-');
    const added = runOf(lines, i + removed, '+');
    if (removed > 0 && removed === added) {
      for (let k = 0; k < removed; k++) {
        markPair(lines[i + k] as Line, lines[i + removed + k] as Line);
      }
    }
    i += Math.max(1, removed + added);
  }
}

function runOf(lines: readonly Line[], at: number, kind: Kind): number {
  let n = 0;
  while (lines[at + n]?.kind === kind) n++;
  return n;
}

function markPair(a: Line, b: Line): void {
  const marks = marksBetween(a.text, b.text);
  if (marks !== undefined) [a.mark, b.mark] = marks;
}

function textCell({ text, mark }: Line): HTMLElement {
  return el('span', { class: 'text' }, marked(text, mark));
}

/** A number that is not copied with the text. */
function numberCell(n: number | undefined): HTMLElement {
  return el('span', { class: 'no', 'data-no': n ?? '' });
}

const CLASSES: Readonly<Record<Kind, string>> = {
  ' ': 'line',
  '-': 'line removed',
  '+': 'line added',
  '\\': 'line remark',
  '@': 'line hunk',
};

function unifiedTable(lines: readonly Line[]): HTMLElement[] {
  return portions(lines, (line) => {
    const { kind, old, now } = line;
    return el(
      'div',
      { class: CLASSES[kind] },
      numberCell(kind === ' ' || kind === '-' ? old : undefined),
      numberCell(kind === ' ' || kind === '+' ? now : undefined),
      el('span', { class: 'sign' }, kind === '-' ? '−' : kind === '+' ? '+' : ' '),
      textCell(line),
    );
  });
}

function splitTable(lines: readonly Line[]): HTMLElement[] {
  const side = (line: Line | undefined, isOld: boolean): HTMLElement =>
    el(
      'div',
      { class: line === undefined ? 'line none' : CLASSES[line.kind] },
      numberCell(
        line === undefined || line.kind === '\\' ? undefined : isOld ? line.old : line.now,
      ),
      line === undefined ? el('span', { class: 'text' }) : textCell(line),
    );
  return portions(pairsOf(lines), ([left, right]) =>
    left?.kind === '@'
      ? el('div', { class: 'line hunk' }, el('span', { class: 'text' }, left.text))
      : el('div', { class: 'pair' }, side(left, true), side(right, false)),
  );
}

function pairsOf(lines: readonly Line[]): Pair[] {
  const pairs: Pair[] = [];
  for (let i = 0; i < lines.length; ) {
    const line = lines[i] as Line;
    if (line.kind !== '-' && line.kind !== '+') {
      pairs.push([line, line]);
      i++;
      continue;
    }
    const left: Line[] = [];
    const right: Line[] = [];
    let side = left;
    for (; i < lines.length; i++) {
      const next = lines[i] as Line;
      if (next.kind === '-' && right.length > 0) break;
      if (next.kind === '-') side = left;
      else if (next.kind === '+') side = right;
      else if (next.kind !== '\\') break;
      side.push(next);
    }
    for (let k = 0; k < Math.max(left.length, right.length); k++) pairs.push([left[k], right[k]]);
  }
  return pairs;
}

function portions<T>(all: readonly T[], make: (one: T) => HTMLElement): HTMLElement[] {
  const shown = all.slice(0, PORTION).map(make);
  if (all.length <= PORTION) return shown;
  let at = PORTION;
  const text = (): string => `Show ${countText(Math.min(PORTION, all.length - at), 'more line')}`;
  const more = el('button', { type: 'button', class: 'more' }, text());
  more.addEventListener('click', () => {
    more.before(...all.slice(at, at + PORTION).map(make));
    at += PORTION;
    if (at >= all.length) more.remove();
    else more.textContent = text();
  });
  return [...shown, more];
}
