// `varve wine diff PREFIX -- PROGRAM`: runs a program and tells what it has changed; with --keep as a layer.
// Called by wine-diff.ts; wine/diff/trial.ts runs it over the prefix, wine/library records what is kept.
// Standard output is the program's.

import { constants } from 'node:os';
import { MountError } from '../stack/errors.js';
import { compareWithBelow } from '../wine/diff/compare.js';
import { findSubject, type Subject } from '../wine/diff/subject.js';
import { tryProgram } from '../wine/diff/trial.js';
import { requirePrefix } from '../wine/library/hold.js';
import { recordLayer } from '../wine/library/record-layer.js';
import { findWine } from '../wine/prefix/build.js';
import { readRecord } from '../wine/prefix/record.js';
import type { Ended } from '../wine/prefix/session.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { remark } from './output.js';
import { tell, wantedOf } from './wine-diff-tell.js';

export async function runTrial(
  given: Arguments,
  subjects: readonly string[],
  command: readonly string[],
): Promise<number> {
  const [prefix] = subjects;
  if (prefix === undefined || subjects.length > 1) {
    throw new MountError('option', 'a PROGRAM runs in one PREFIX: write PREFIX -- PROGRAM...');
  }
  if (command.length === 0) {
    throw new MountError(
      'option',
      'nothing stands behind --: write the PROGRAM to run, or leave -- out',
    );
  }
  let changed = false;
  const look = async (subject: Subject): Promise<void> => {
    const compared = compareWithBelow(subject, wantedOf(given));
    try {
      changed = await tell(given, compared, process.stderr);
    } finally {
      compared.close();
    }
  };
  const ended = await (given.has('keep')
    ? keep(given, prefix, command, look)
    : tryProgram(
        {
          prefix,
          command,
          wine: given.value('wine'),
          env: process.env,
          quiet: given.has('quiet'),
        },
        look,
      ));
  if (given.has('exit-code') && changed) return EXIT.failed;
  if (ended.signal !== null) return 128 + (constants.signals[ended.signal] ?? 0);
  return ended.code ?? EXIT.failed;
}

async function keep(
  given: Arguments,
  prefix: string,
  command: readonly string[],
  look: (subject: Subject) => Promise<void>,
): Promise<Ended> {
  const name = given.value('keep') as string;
  const { env } = process;
  const record = readRecord(requirePrefix(prefix, env));
  const recorded = await recordLayer({
    name,
    prefix,
    layers: [],
    command,
    wine: findWine(given.value('wine') ?? record?.wine, env),
    env,
    quiet: given.has('quiet'),
    keepNoise: given.has('noise'),
    keepFailed: false,
  });
  if (recorded.path === undefined) {
    remark(given, `${command[0]}: ended with exit code ${recorded.exitCode}: nothing is kept`);
  } else {
    await look(await findSubject(`layer:${name}`, env));
    remark(
      given,
      `layer ${name}: is kept: \`varve wine layer put ${name} PREFIX\` puts it into a prefix`,
    );
  }
  return { code: recorded.exitCode, signal: (recorded.signal ?? null) as Ended['signal'] };
}
