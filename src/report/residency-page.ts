// A page with a map of what is here of each layer that is being loaded: one file that needs nothing else, and no program.
// Written by `varve top --html`; colours and head are those of the page of a diff.
// A cell stands for as many chunks as make the map fit; how full it is colours it, and what is waited for is framed.

import { escapeHtml } from './html-escape.js';
import { LOGO } from './html-head.js';
import { bytesText } from './words.js';

/** A layer as the page shows it. */
export interface ResidencyLayer {
  readonly id: string;
  readonly form: string;
  readonly mountpoints: readonly string[];
  readonly chunks: number;
  readonly residentChunks: number;
  readonly totalBytes: number;
  readonly residentBytes: number;
  readonly fetchedBytes: number;
  readonly rate: number;
  readonly trouble?: string;
  /** A digit a chunk (0 absent, 1 here, 2 wanted), as [digit, count] pairs. */
  readonly map?: readonly (readonly [number, number])[];
}

export interface ResidencyDocument {
  readonly pid: number;
  readonly layers: readonly ResidencyLayer[];
}

/** Cells in a row of the map, and rows at most. */
const COLUMNS = 96;
const ROWS = 40;
/** Units of the drawing a cell. */
const CELL = 10;

/** One cell: chunks that are here and that are wanted, of `count`. */
interface Cell {
  here: number;
  wanted: number;
  count: number;
}

/** The page. @param at when the facts were taken. */
export function residencyPage(document: ResidencyDocument, at: Date): string {
  const layers = document.layers.map(section).join('\n');
  const body = layers === '' ? '<p class="facts">Nothing is being loaded.</p>' : layers;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>What is here</title>
<link rel="icon" href="data:image/svg+xml,${encodeURIComponent(LOGO)}">
<style>${STYLE}</style>
</head>
<body>
<header><span class="logo">${LOGO}</span><h1>What is here</h1>
<p class="facts">${escapeHtml(at.toISOString())}${document.pid === 0 ? '' : `, loader ${document.pid}`}</p></header>
<main>
${body}
</main>
</body>
</html>
`;
}

function section(layer: ResidencyLayer): string {
  const share = layer.totalBytes === 0 ? 1 : layer.residentBytes / layer.totalBytes;
  const facts = [
    `${bytesText(layer.residentBytes)} of ${bytesText(layer.totalBytes)} (${Math.floor(share * 100)} %)`,
    `${layer.residentChunks} of ${layer.chunks} chunks`,
    `${bytesText(layer.fetchedBytes)} fetched, ${bytesText(layer.rate)}/s`,
    layer.form,
  ];
  const trouble =
    layer.trouble === undefined ? '' : `<p class="trouble">${escapeHtml(layer.trouble)}</p>`;
  const mounts = layer.mountpoints.map((path) => `<code>${escapeHtml(path)}</code>`).join(' ');
  return `<section><h2><code>${escapeHtml(layer.id.slice(0, 19))}</code> ${mounts}</h2>
<p class="facts">${facts.map(escapeHtml).join(' · ')}</p>${trouble}
${drawing(layer)}</section>`;
}

function drawing({ map = [], chunks, id }: ResidencyLayer): string {
  const perCell = Math.max(1, Math.ceil(chunks / (COLUMNS * ROWS)));
  const cells = cellsOf(map, perCell);
  if (cells.length === 0) return '';
  const rows = Math.ceil(cells.length / COLUMNS);
  const rects = cells.map((cell, i) => {
    const x = (i % COLUMNS) * CELL;
    const y = Math.floor(i / COLUMNS) * CELL;
    const here = cell.here / cell.count;
    const level = here === 0 ? 0 : here === 1 ? 4 : 1 + Math.floor(here * 3);
    const kind = cell.wanted > 0 ? `h${level} w` : `h${level}`;
    return `<rect class="${kind}" x="${x}" y="${y}" width="${CELL - 1}" height="${CELL - 1}"/>`;
  });
  const legend = `a cell is ${perCell === 1 ? 'one chunk' : `${perCell} chunks`}, in the order of the content`;
  return `<svg viewBox="0 0 ${COLUMNS * CELL} ${rows * CELL}" role="img" aria-label="map of ${escapeHtml(id)}">${rects.join('')}</svg>
<p class="legend"><i class="k h0"></i>not here <i class="k h2"></i>in part <i class="k h4"></i>here <i class="k h0 w"></i>waited for · ${legend}</p>`;
}

function cellsOf(map: readonly (readonly [number, number])[], perCell: number): Cell[] {
  const cells: Cell[] = [];
  let cell: Cell = { here: 0, wanted: 0, count: 0 };
  for (const [digit, count] of map) {
    for (let left = count; left > 0; ) {
      const n = Math.min(left, perCell - cell.count);
      cell.count += n;
      if (digit === 1) cell.here += n;
      if (digit === 2) cell.wanted += n;
      left -= n;
      if (cell.count < perCell) continue;
      cells.push(cell);
      cell = { here: 0, wanted: 0, count: 0 };
    }
  }
  if (cell.count > 0) cells.push(cell);
  return cells;
}

const STYLE = `
:root { --ground: #fbf9f5; --text: #2c2620; --dim: #766a5c; --none: #e6dfd3; --low: #d9b98a; --mid: #c98a3c; --high: #7b8f6f; --all: #5b8c85; --wait: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ground: #1d1a17; --text: #ece5da; --dim: #a39684; --none: #37312a; --low: #6d5733; --mid: #a8752f; --high: #6f8a6a; --all: #6aa39b; --wait: #f2786d; } }
body { margin: 0 auto; max-width: 64rem; padding: 1.5rem; background: var(--ground); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
header { display: flex; align-items: center; gap: .75rem; flex-wrap: wrap; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1rem; margin: 2rem 0 .25rem; overflow-wrap: anywhere; }
.logo { line-height: 0; } .facts, .legend { color: var(--dim); margin: .25rem 0; font-size: .9rem; }
.trouble { color: var(--wait); margin: .25rem 0; }
svg[role] { width: 100%; height: auto; margin: .5rem 0; }
.h0 { fill: var(--none); background: var(--none); } .h1 { fill: var(--low); background: var(--low); } .h2, .h3 { fill: var(--mid); background: var(--mid); } .h4 { fill: var(--all); background: var(--all); }
.w { stroke: var(--wait); stroke-width: 2; outline: 2px solid var(--wait); }
.k { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .6em; vertical-align: baseline; } .k:first-child { margin-left: 0; }
`;
