// The results of a bench as charts: time to init and memory against the size of the payload.
// Called by `varve boot bench -o` and bench/boot.ts.
// PNG is made by rsvg-convert(1).

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runTool } from '../run-tool.js';
import type { BenchReport, BenchResult } from './run.js';
import { type Chart, chartSvg, type Series } from './svg.js';

const MB = 1e6;

/** Name of the file without its ending -> chart. */
export function chartsOf(report: BenchReport): Record<string, Chart> {
  const about = [
    `QEMU without hardware acceleration, ${report.memory} MB`,
    ...(report.release === undefined ? [] : [`Linux ${report.release}`]),
    report.rounds === 1 ? 'one boot each' : `best of ${report.rounds} boots`,
  ].join('; ');
  const x = { title: 'Size of the unpacked payload', unit: 'MB' };
  return {
    time: {
      title: 'From the start of the kernel to init',
      subtitle: about,
      x,
      y: { title: 'Time to init', unit: 's' },
      series: seriesOf(report, ({ best }) => best.init),
    },
    memory: {
      title: 'Memory in use when init starts',
      subtitle: about,
      x,
      y: { title: 'Memory', unit: 'MB' },
      series: seriesOf(report, ({ best }) => best.memory / MB),
    },
  };
}

function seriesOf(report: BenchReport, figure: (result: BenchResult) => number): Series[] {
  const byVariant = new Map<string, { x: number; y: number }[]>();
  for (const result of report.results) {
    const points = byVariant.get(result.variant) ?? [];
    points.push({ x: result.bytes / MB, y: figure(result) });
    byVariant.set(result.variant, points);
  }
  return [...byVariant].map(([name, points]) => ({ name, points }));
}

/** Writes NAME.svg and NAME.png of each chart. @throws MountError of kind `permission` when rsvg-convert is missing. */
export async function writeCharts(report: BenchReport, folder: string): Promise<void> {
  for (const [name, chart] of Object.entries(chartsOf(report))) {
    const svg = join(folder, `${name}.svg`);
    writeFileSync(svg, chartSvg(chart));
    // Twice as large as the drawing: for screens with small pixels.
    await runTool('rsvg-convert', ['--zoom', '2', '-o', join(folder, `${name}.png`), svg]);
  }
}
