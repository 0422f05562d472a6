// The HTML page of a diff: one file that needs nothing else, with the data, the program and the styles inside.
// Last step of `varve diff --html`; the program is page/main.ts, bundled by the build into dist/bundle/page.
// What comes from a filesystem stands in the page as JSON without a `<`, or escaped; the policy lets nothing else run.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { ChangeEntry, DiffDocument } from './document.js';
import { pageData, STATUSES, type StatusLetter } from './page-data.js';
import type { PageTexts } from './page-texts.js';
import { STATUS_WORDS, sizeText, visibleText } from './page-words.js';

/** Changes in the list for browsers without scripts. */
const PLAIN_LIMIT = 20_000;

/** The page in pieces. */
export function* pageOf(document: DiffDocument, texts: PageTexts): Generator<string> {
  const script = bundled('page.js');
  const style = bundled('style.css');
  const data = pageData(document, texts.of);
  yield `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy(script, style)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>${escapeHtml(titleOf(document))}</title>
<link rel="icon" href="data:image/svg+xml,${encodeURIComponent(LOGO)}">
<style>${style}</style>
</head>
<body>
${head(document)}
<main id="app"></main>
`;
  yield* plainList(document.changes);
  yield `<script type="application/json" id="data">${json(JSON.stringify(data))}</script>\n`;
  for (const [id, body] of texts.bodies.entries()) {
    yield `<script type="application/json" id="text-${id}">${json(body)}</script>\n`;
  }
  yield `<script>${script}</script>\n</body>\n</html>\n`;
}

/** From dist/src/report and from dist/bundle/programs alike. */
function bundled(name: string): string {
  return readFileSync(new URL(`../../../dist/bundle/page/${name}`, import.meta.url), 'utf8').trim();
}

function policy(script: string, style: string): string {
  const hash = (text: string): string =>
    `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
  return [
    "default-src 'none'",
    `script-src ${hash(script)}`,
    `style-src ${hash(style)}`,
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
}

/**
 * JSON inside a script element: nothing may look like its end, like a comment, or like a line end of old JavaScript; and
 * nothing turns the direction of what a person reads in the source.
 */
function json(text: string): string {
  return text.replace(
    /[<\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** For text and for attribute values; control and direction characters become visible. */
function escapeHtml(text: string): string {
  return visibleText(text).replace(/[&<>"']/g, (char) => ENTITIES[char] as string);
}

function titleOf(document: DiffDocument): string {
  const { upperdir } = document.stack;
  return upperdir === '' ? 'Varve diff' : `${basename(upperdir)} – Varve diff`;
}

/** Four layers of sediment. */
const LOGO =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" width="32" height="32" aria-hidden="true">' +
  '<path fill="#c98a3c" d="M2 7c5-3 9-3 14 0s9 3 14 0v5c-5 3-9 3-14 0S7 9 2 12z"/>' +
  '<path fill="#8a6f55" d="M2 14c5-3 9-3 14 0s9 3 14 0v3c-5 3-9 3-14 0s-9-3-14 0z"/>' +
  '<path fill="#5b8c85" d="M2 19c5-3 9-3 14 0s9 3 14 0v6c-5 3-9 3-14 0s-9-3-14 0z"/></svg>';

/** What needs no program: it is there at once, and nothing moves when the program starts. */
function head({ stack, summary }: DiffDocument): string {
  const { lowerdirs, upperdir } = stack;
  const below = lowerdirs.map((dir) => `<li><code>${escapeHtml(dir)}</code></li>`).join('');
  const layers = lowerdirs.length === 1 ? '1 layer' : `${lowerdirs.length} layers`;
  const over =
    lowerdirs.length === 0
      ? '<p>compared with nothing</p>'
      : `<details class="stack"><summary>over ${layers}</summary><ol>${below}</ol></details>`;
  const counts: Record<StatusLetter, number> = {
    A: summary.added,
    M: summary.modified,
    D: summary.deleted,
    R: summary.renamed,
    T: summary.typeChanged,
    '=': summary.identical,
  };
  const chips = STATUSES.map((status) => {
    const pressed = status !== '=' ? 'true' : 'false';
    return `<button type="button" class="chip" data-status="${status}" aria-pressed="${pressed}"><span class="badge s-${name(status)}" aria-hidden="true">${status}</span><span class="chip-word">${STATUS_WORDS[status]}</span> <b>${counts[status].toLocaleString('en')}</b></button>`;
  }).join('');
  const total = STATUSES.reduce((sum, status) => sum + (status === '=' ? 0 : counts[status]), 0);
  const facts = [
    `<b>${total.toLocaleString('en')}</b> ${total === 1 ? 'change' : 'changes'}`,
    `<b>${sizeText(summary.bytesAdded)}</b> new or grown`,
    `<b>${sizeText(summary.bytesStored)}</b> in the upper`,
  ];
  if (summary.identicalBytes > 0) {
    facts.push(`<b>${sizeText(summary.identicalBytes)}</b> of it identical to what lies below`);
  }
  return `<header class="top">
<span class="logo">${LOGO}</span>
<div class="titles"><h1>What changed${upperdir === '' ? '' : ` in <code>${escapeHtml(upperdir)}</code>`}</h1>
<div class="under"><p class="facts">${facts.join('<span class="dot" aria-hidden="true">·</span>')}</p>
${over}</div></div>
<div class="tools" id="tools"></div>
</header>
<section class="summary" aria-label="Summary">
<div class="chips" role="group" aria-label="Show changes of these kinds" id="chips">${chips}</div>
</section>`;
}

/** A class name of a status. */
function name(status: StatusLetter): string {
  return status === '=' ? 'same' : status;
}

function* plainList(changes: readonly ChangeEntry[]): Generator<string> {
  yield '<noscript>\n<p>This list is plain, as scripts are off here.</p>\n<pre class="plain">';
  let lines = '';
  const news = changes.filter(({ status }) => status !== '=');
  for (const { status, path, from } of news.slice(0, PLAIN_LIMIT)) {
    const shown = path === '' ? '/' : path;
    lines += `${status}  ${escapeHtml(from === undefined ? shown : `${from} → ${shown}`)}\n`;
    if (lines.length < 65_536) continue;
    yield lines;
    lines = '';
  }
  yield lines;
  const more = news.length - PLAIN_LIMIT;
  if (more > 0) yield `… and ${more} more: varve diff --name-status lists them all\n`;
  yield '</pre>\n</noscript>\n';
}
