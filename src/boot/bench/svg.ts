// A chart of lines as SVG: axes with round ticks, a legend, and each line's name and last value where it ends.
// Made by run.ts of its results; rsvg-convert makes a PNG of it.
// Follows: SVG 1.1 (no script, no style sheet, so that every renderer shows the same).

export interface Series {
  readonly name: string;
  /** In any order; those of a line that is not known everywhere are fewer. */
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

export interface Chart {
  readonly title: string;
  /** What was measured, and on what. */
  readonly subtitle: string;
  readonly x: { readonly title: string; readonly unit: string };
  readonly y: { readonly title: string; readonly unit: string };
  readonly series: readonly Series[];
}

const WIDTH = 960;
const HEIGHT = 600;
/** Where the lines are: right of it there is room for their names. */
const PLOT = { left: 84, top: 122, right: 764, bottom: 524 } as const;
const FONT = "'DejaVu Sans', 'Helvetica Neue', Arial, sans-serif";
const INK = '#1f2933';
const FAINT = '#5f6b7a';
const GRID = '#e3e7ec';
/** Okabe and Ito's, which are told apart without colour vision too, in an order that begins with the strongest. */
const COLOURS = [
  '#d55e00',
  '#e69f00',
  '#8c6bb1',
  '#0072b2',
  '#009e73',
  '#56b4e9',
  '#cc79a7',
  '#4d4d4d',
  '#a6761d',
  '#1b7837',
] as const;
const LABEL_HEIGHT = 17;

/** Ticks from zero to the first that is not below `most`: 1, 2, 2.5 or 5 times a power of ten apart. */
export function roundTicks(most: number, about = 6): number[] {
  if (!(most > 0) || !Number.isFinite(most)) return [0, 1];
  const rough = most / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 2.5, 5, 10].find((f) => f * power >= rough * (1 - 1e-9)) ?? 10;
  const step = factor * power;
  const count = Math.ceil(most / step - 1e-9);
  // 0.1 + 0.2 must not become a tick of 17 digits.
  return Array.from({ length: count + 1 }, (_, i) => Number((i * step).toPrecision(12)));
}

/** The whole file. @throws RangeError when there is nothing to draw. */
export function chartSvg(chart: Chart): string {
  const series = chart.series.filter(({ points }) => points.length > 0);
  if (series.length === 0) throw new RangeError(`chart ${chart.title}: has no points`);
  const all = series.flatMap(({ points }) => points);
  const xTicks = roundTicks(Math.max(...all.map(({ x }) => x)));
  const yTicks = roundTicks(Math.max(...all.map(({ y }) => y)));
  const toX = scale(xTicks, PLOT.left, PLOT.right);
  const toY = scale(yTicks, PLOT.bottom, PLOT.top);
  const drawn = series.map((one, i) => drawSeries(one, i, toX, toY));
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="${FONT}" font-size="14" fill="${INK}">`,
    `<title>${escapeXml(chart.title)}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    `<text x="28" y="42" font-size="21" font-weight="bold">${escapeXml(chart.title)}</text>`,
    `<text x="28" y="66" font-size="13" fill="${FAINT}">${escapeXml(chart.subtitle)}</text>`,
    ...legend(series),
    ...yTicks.map((tick) => yTick(tick, toY(tick))),
    ...xTicks.map((tick) => xTick(tick, toX(tick))),
    `<line x1="${PLOT.left}" y1="${PLOT.bottom}" x2="${PLOT.right}" y2="${PLOT.bottom}" stroke="${INK}" stroke-width="1.2"/>`,
    `<text x="${(PLOT.left + PLOT.right) / 2}" y="${PLOT.bottom + 52}" text-anchor="middle">${escapeXml(withUnit(chart.x))}</text>`,
    `<text transform="translate(30 ${(PLOT.top + PLOT.bottom) / 2}) rotate(-90)" text-anchor="middle">${escapeXml(withUnit(chart.y))}</text>`,
    ...drawn.flatMap(({ shapes }) => shapes),
    ...endLabels(
      drawn.map(({ name, end, colour }) => ({
        text: `${numberText(end.value)} ${chart.y.unit} ${name}`,
        ...end,
        colour,
      })),
    ),
    '</svg>',
    '',
  ].join('\n');
}

type Scale = (value: number) => number;

function scale(ticks: readonly number[], from: number, to: number): Scale {
  const most = ticks.at(-1) as number;
  return (value) => round(from + (value / most) * (to - from));
}

interface Drawn {
  readonly name: string;
  readonly colour: string;
  readonly shapes: string[];
  readonly end: { readonly x: number; readonly y: number; readonly value: number };
}

function drawSeries(series: Series, index: number, toX: Scale, toY: Scale): Drawn {
  const colour = colourOf(index);
  const points = [...series.points].sort((a, b) => a.x - b.x);
  const line = points.map(({ x, y }) => `${toX(x)},${toY(y)}`).join(' ');
  const last = points.at(-1) as { x: number; y: number };
  return {
    name: series.name,
    colour,
    shapes: [
      `<polyline points="${line}" fill="none" stroke="${colour}" stroke-width="2.5" stroke-linejoin="round" stroke-linecap="round"/>`,
      ...points.map(({ x, y }) => marker(index, toX(x), toY(y), colour)),
    ],
    end: { x: toX(last.x), y: toY(last.y), value: last.y },
  };
}

const colourOf = (index: number): string => COLOURS[index % COLOURS.length] as string;

/** A shape of its own for each line: colour is not all that tells them apart. */
function marker(index: number, x: number, y: number, colour: string): string {
  const fill = `fill="${colour}" stroke="#ffffff" stroke-width="1.2"`;
  switch (index % 4) {
    case 0:
      return `<circle cx="${x}" cy="${y}" r="5" ${fill}/>`;
    case 1:
      return `<rect x="${round(x - 4.5)}" y="${round(y - 4.5)}" width="9" height="9" ${fill}/>`;
    case 2:
      return `<path d="M${x} ${round(y - 6)}l6 6l-6 6l-6 -6z" ${fill}/>`;
    default:
      return `<path d="M${x} ${round(y - 6)}l6 10.5h-12z" ${fill}/>`;
  }
}

/** One row, or more where there are many lines. */
function legend(series: readonly Series[]): string[] {
  let x = 28;
  let y = 92;
  return series.map(({ name }, i) => {
    const width = 30 + textWidth(name) + 22;
    if (x + width > WIDTH - 20) {
      x = 28;
      y += 20;
    }
    const at = x;
    x += width;
    return [
      `<line x1="${at}" y1="${y}" x2="${at + 22}" y2="${y}" stroke="${colourOf(i)}" stroke-width="2.5"/>`,
      marker(i, at + 11, y, colourOf(i)),
      `<text x="${at + 30}" y="${y + 5}">${escapeXml(name)}</text>`,
    ].join('');
  });
}

function yTick(tick: number, y: number): string {
  return [
    `<line x1="${PLOT.left}" y1="${y}" x2="${PLOT.right}" y2="${y}" stroke="${GRID}"/>`,
    `<text x="${PLOT.left - 10}" y="${round(y + 5)}" text-anchor="end" fill="${FAINT}">${numberText(tick)}</text>`,
  ].join('');
}

function xTick(tick: number, x: number): string {
  return [
    `<line x1="${x}" y1="${PLOT.bottom}" x2="${x}" y2="${PLOT.bottom + 6}" stroke="${INK}"/>`,
    `<text x="${x}" y="${PLOT.bottom + 24}" text-anchor="middle" fill="${FAINT}">${numberText(tick)}</text>`,
  ].join('');
}

interface EndLabel {
  readonly text: string;
  readonly x: number;
  readonly y: number;
  readonly colour: string;
}

/** Right of the plot, each as near to its line's end as the others allow. */
function endLabels(labels: readonly EndLabel[]): string[] {
  const ordered = [...labels].sort((a, b) => a.y - b.y);
  const places = spreadOut(
    ordered.map(({ y }) => y),
    LABEL_HEIGHT,
    PLOT.top,
    PLOT.bottom,
  );
  return ordered.map(({ text, x, y, colour }, i) => {
    const place = places[i] as number;
    const from = PLOT.right + 14;
    return [
      `<path d="M${round(x + 8)} ${y}L${from} ${round(place)}h6" fill="none" stroke="${colour}" stroke-width="1" stroke-opacity="0.6"/>`,
      `<text x="${from + 10}" y="${round(place + 5)}" font-size="13" fill="${INK}">${escapeXml(text)}</text>`,
    ].join('');
  });
}

/** Moves ascending places apart, at least `distance` between two, as little as it takes, within bounds where they fit. */
export function spreadOut(
  places: readonly number[],
  distance: number,
  least: number,
  most: number,
): number[] {
  const moved: number[] = [];
  for (const place of places) {
    moved.push(Math.max(place, (moved.at(-1) ?? least - distance) + distance));
  }
  let bound = most;
  for (let i = moved.length - 1; i >= 0; i--) {
    moved[i] = Math.min(moved[i] as number, bound);
    bound = (moved[i] as number) - distance;
  }
  return moved;
}

const withUnit = ({ title, unit }: { title: string; unit: string }): string => `${title} (${unit})`;

/** Three digits that say something; more where they stand before the point. */
function numberText(value: number): string {
  if (Math.abs(value) >= 100) return String(Math.round(value));
  return String(Number(value.toPrecision(3)));
}

/** About, at 14 pixels. */
const textWidth = (text: string): number => Math.ceil(text.length * 8.4);

const round = (value: number): number => Math.round(value * 10) / 10;

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
};

function escapeXml(text: string): string {
  // What XML cannot say at all is left out.
  return text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, '')
    .replace(/[&<>"]/g, (c) => ESCAPES[c] as string);
}
