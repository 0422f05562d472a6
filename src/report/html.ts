// The HTML page of a diff: one file that needs nothing else, with the data, the program and the styles inside.
// Last step of `varve diff --html`; the program is page/main.ts, bundled by the build into dist/bundle/page.
// What comes from a filesystem stands in the page as JSON without a `<`, or escaped; the policy lets nothing else run.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { DiffDocument } from './document.js';
import { escapeHtml } from './html-escape.js';
import { headOf, LOGO } from './html-head.js';
import { plainList } from './html-plain.js';
import { type KeysPart, pageData } from './page-data.js';
import type { PageTexts } from './page-texts.js';

/** The page in pieces. */
export function* pageOf(
  document: DiffDocument,
  texts: PageTexts,
  keys?: KeysPart,
): Generator<string> {
  const script = bundled('page.js');
  const style = bundled('style.css');
  const data = pageData(document, texts.of, keys);
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
${headOf(document, keys)}
<main id="app"></main>
`;
  yield* plainList(document.changes, keys?.document);
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

function titleOf(document: DiffDocument): string {
  const { upperdir } = document.stack;
  return upperdir === '' ? 'Varve diff' : `${basename(upperdir)} – Varve diff`;
}
