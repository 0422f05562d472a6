// `npm run numbers`: the matrix of filesystems and events, for varve and for kernel overlayfs, as the table of docs/numbers.md.
// Runs matrix.ts for each; root only.
// `--objects` says how many objects a stack has.

import { parseArgs } from 'node:util';
import { isRoot } from '../support/requires.js';
import { withTempDir } from '../support/temp.js';
import { ROWS } from './filesystems.js';
import { type Cell, EVENTS, measure, SUBJECTS } from './matrix.js';
import { timeMounts } from './mount-time.js';

const help = `npm run numbers -- [flags]

  --objects N      objects of each stack (100000)
  --rows TEXT      only rows whose name contains it
  --subjects A,B   of ${SUBJECTS.join(', ')}
  --mount-time     the time of a mount for 1,000 and for 1,000,000 objects instead
`;

const { values } = parseArgs({
  options: {
    objects: { type: 'string', default: '100000' },
    rows: { type: 'string', default: '' },
    subjects: { type: 'string', default: SUBJECTS.join(',') },
    'mount-time': { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

function refuse(line: string): never {
  process.stderr.write(`numbers: ${line}\n`);
  process.exit(2);
}

if (values.help) {
  process.stdout.write(help);
  process.exit(0);
}
if (!isRoot()) refuse("needs root, for loop devices and the kernel's overlayfs");
if (values['mount-time']) {
  await withTempDir(async (base) => {
    for (const { objects, fastestMs } of await timeMounts(base, [1000, 1_000_000], 15)) {
      process.stdout.write(`${objects} objects: ${fastestMs.toFixed(0)} ms\n`);
    }
  });
  process.exit(0);
}
const objects = Number(values.objects);
if (!Number.isSafeInteger(objects) || objects < 200)
  refuse('--objects: a whole number from 200 on');
const rows = ROWS.filter(({ name }) => name.includes(values.rows));
const subjects = SUBJECTS.filter((name) => values.subjects.split(',').includes(name));
if (rows.length === 0 || subjects.length === 0) refuse('no such row or subject: see --help');

const shown = (cell: Cell): string => {
  const more = [
    cell.duplicates > 0 ? `${cell.duplicates} twice` : '',
    cell.listedOtherwise > 0 ? `${cell.listedOtherwise} d_ino` : '',
  ].filter((text) => text !== '');
  return [String(cell.changed), ...more].join(', ');
};

process.stdout.write(`| Layers | by | objects | ${EVENTS.join(' | ')} | st_dev |\n`);
process.stdout.write(`|---|---|${'---|'.repeat(EVENTS.length + 2)}\n`);
for (const row of rows) {
  for (const subject of subjects) {
    const cells = new Map<string, Cell>();
    let failure = '';
    await withTempDir(async (base) => {
      try {
        await measure(row, subject, objects, base, (cell) => cells.set(cell.event, cell));
      } catch (error) {
        failure = error instanceof Error ? (error.message.split('\n')[0] as string) : String(error);
      }
    });
    const first = cells.get('mount');
    const fields = EVENTS.map((event) => {
      const cell = cells.get(event);
      return cell === undefined ? '' : shown(cell);
    });
    const devices = [...cells.values()].map((cell) => cell.devices);
    const total =
      first === undefined
        ? ''
        : `${first.compared}${first.duplicates + first.listedOtherwise > 0 ? ` (${shown(first)})` : ''}`;
    process.stdout.write(
      `| ${row.name} | ${subject} | ${total} | ${fields.join(' | ')} | ${Math.max(0, ...devices)} |${failure === '' ? '' : ` ${failure}`}\n`,
    );
  }
}
process.exit(0);
