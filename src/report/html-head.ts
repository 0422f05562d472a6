// The head of the page: what was compared, the tabs, and a chip with a count for each status of each tab.
// Written by html.ts; page/main.ts and the filters work with the buttons.
// Needs no program: it is there at once, and nothing moves when the program starts.

import type { DiffDocument, Summary } from './document.js';
import { escapeHtml } from './html-escape.js';
import { changesIn, type KeyStatus, type KeysSummary } from './keys.js';
import { KEY_STATUSES } from './keys-page.js';
import { type KeysPart, STATUSES, type StatusLetter } from './page-data.js';
import { STATUS_WORDS, sizeText } from './page-words.js';

/** Four layers of sediment. */
export const LOGO =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" width="32" height="32" aria-hidden="true">' +
  '<path fill="#c98a3c" d="M2 7c5-3 9-3 14 0s9 3 14 0v5c-5 3-9 3-14 0S7 9 2 12z"/>' +
  '<path fill="#8a6f55" d="M2 14c5-3 9-3 14 0s9 3 14 0v3c-5 3-9 3-14 0s-9-3-14 0z"/>' +
  '<path fill="#5b8c85" d="M2 19c5-3 9-3 14 0s9 3 14 0v6c-5 3-9 3-14 0s-9-3-14 0z"/></svg>';

/** @param keys of a page that has them, beside the files or alone. */
export function headOf({ stack, summary }: DiffDocument, keys?: KeysPart): string {
  const { lowerdirs, upperdir } = stack;
  const below = lowerdirs.map((dir) => `<li><code>${escapeHtml(dir)}</code></li>`).join('');
  const layers = lowerdirs.length === 1 ? '1 layer' : `${lowerdirs.length} layers`;
  const over =
    lowerdirs.length === 0
      ? '<p>compared with nothing</p>'
      : `<details class="stack"><summary>over ${layers}</summary><ol>${below}</ol></details>`;
  const hasFiles = keys?.alone !== true;
  const facts = [
    ...(hasFiles ? fileFacts(summary, keys === undefined ? '' : ' of files') : []),
    ...(keys === undefined ? [] : keyFacts(keys)),
  ];
  const sections: string[] = [];
  if (hasFiles) sections.push(section('files', 'chips', fileChips(summary), false));
  if (keys !== undefined) {
    const id = keys.title.toLowerCase();
    sections.push(section(id, `chips-${id}`, keyChips(keys.document.summary), hasFiles));
  }
  return `<header class="top">
<span class="logo">${LOGO}</span>
<div class="titles"><h1>What changed${upperdir === '' ? '' : ` in <code>${escapeHtml(upperdir)}</code>`}</h1>
<div class="under"><p class="facts">${facts.join('<span class="dot" aria-hidden="true">·</span>')}</p>
${over}</div></div>
<div class="tools" id="tools"></div>
</header>
${hasFiles && keys !== undefined ? tabRow(summary, keys) : ''}${sections.join('\n')}`;
}

function section(tab: string, id: string, chips: string, isHidden: boolean): string {
  return `<section class="summary" aria-label="Summary" data-tab="${tab}"${isHidden ? ' hidden' : ''}>
<div class="chips" role="group" aria-label="Show changes of these kinds" id="${id}">${chips}</div>
</section>`;
}

/** One tab needs no row of tabs. Follows the tabs pattern of the ARIA Authoring Practices 1.2. */
function tabRow(summary: Summary, { title, document }: KeysPart): string {
  const tab = (name: string, count: number, isFirst: boolean): string => {
    const id = name.toLowerCase();
    return `<button type="button" class="tab" role="tab" id="tab-${id}" aria-controls="panel-${id}" aria-selected="${isFirst}" tabindex="${isFirst ? 0 : -1}">${escapeHtml(name)} <b>${count.toLocaleString('en')}</b></button>`;
  };
  return `<div class="tabs" role="tablist" id="tabs">${tab('Files', fileChanges(summary), true)}${tab(title, changesIn(document.summary), false)}</div>\n`;
}

function fileFacts(summary: Summary, of: string): string[] {
  const total = fileChanges(summary);
  const facts = [
    `<b>${total.toLocaleString('en')}</b> ${total === 1 ? 'change' : 'changes'}${of}`,
    `<b>${sizeText(summary.bytesAdded)}</b> new or grown`,
    `<b>${sizeText(summary.bytesStored)}</b> in the upper`,
  ];
  if (summary.identicalBytes > 0) {
    facts.push(`<b>${sizeText(summary.identicalBytes)}</b> of it identical to what lies below`);
  }
  return facts;
}

function keyFacts({ title, document }: KeysPart): string[] {
  const total = changesIn(document.summary);
  const where = `in the ${escapeHtml(title.toLowerCase())}`;
  return [`<b>${total.toLocaleString('en')}</b> ${total === 1 ? 'change' : 'changes'} ${where}`];
}

function fileChanges({ added, modified, deleted, renamed, typeChanged }: Summary): number {
  return added + modified + deleted + renamed + typeChanged;
}

function fileChips(summary: Summary): string {
  const counts: Record<StatusLetter, number> = {
    A: summary.added,
    M: summary.modified,
    D: summary.deleted,
    R: summary.renamed,
    T: summary.typeChanged,
    '=': summary.identical,
  };
  return STATUSES.map((status) =>
    chip(status, status, STATUS_WORDS[status], counts[status], status !== '='),
  ).join('');
}

function keyChips({ keys, values, noise }: KeysSummary): string {
  const counts: Record<KeyStatus, number> = {
    A: keys.added + values.added,
    M: keys.modified + values.modified,
    D: keys.deleted + values.deleted,
  };
  const chips = KEY_STATUSES.map((status) =>
    chip(status, status, STATUS_WORDS[status], counts[status], true),
  );
  return [...chips, chip('noise', '~', 'Noise', noise, false)].join('');
}

function chip(
  status: string,
  letter: string,
  word: string,
  count: number,
  isPressed: boolean,
): string {
  const style = /^[A-Z]$/.test(letter) ? letter : 'same';
  return `<button type="button" class="chip" data-status="${status}" aria-pressed="${isPressed}"><span class="badge s-${style}" aria-hidden="true">${letter}</span><span class="chip-word">${word}</span> <b>${count.toLocaleString('en')}</b></button>`;
}
