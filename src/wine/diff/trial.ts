// What a program changes: one session in a prefix of its own over the whole of another, which stays as it is.
// Called by `varve wine diff PREFIX -- PROGRAM`; the prefix is made in a stage of the library, so that nothing is left of it.
// The prefix below must be down: what lies below a session must not change.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { furnish } from '../library/create.js';
import { holdNamed } from '../library/hold.js';
import { openStage } from '../library/stage.js';
import { windowsCommand } from '../library/windows-command.js';
import { resolveBelow } from '../prefix/below.js';
import { findWine } from '../prefix/build.js';
import { pathsOf, winePlaces } from '../prefix/places.js';
import type { PrefixRecord } from '../prefix/record.js';
import { type Ended, startSession } from '../prefix/session.js';
import { findSubject, type Subject } from './subject.js';

export interface TrialRequest {
  /** A name or a path. */
  readonly prefix: string;
  readonly command: readonly string[];
  /** As --wine names a build; undefined: that of the prefix. */
  readonly wine: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly quiet: boolean;
}

/** @param look is given what has changed, while it is there. @throws MountError. */
export async function tryProgram(
  request: TrialRequest,
  look: (subject: Subject, ended: Ended) => Promise<void>,
): Promise<Ended> {
  const { prefix, env, quiet } = request;
  const held = await holdNamed(prefix, 'try a program', env);
  try {
    const { record } = held;
    const wine = findWine(request.wine ?? record.wine, env);
    const stage = openStage(winePlaces(env));
    try {
      const folder = join(stage.folder, 'prefix');
      mkdirSync(folder);
      const standsOn: PrefixRecord = {
        ...record,
        follows: false,
        wine: wine.wine,
        layers: [pathsOf(held.folder).driveC, ...record.layers],
      };
      await furnish(folder, standsOn, env);
      const below = await resolveBelow(standsOn, env);
      const session = await startSession({ folder, below, wine, env, quiet });
      let ended: Ended;
      try {
        const [program = '', ...args] = windowsCommand(request.command);
        ended = await session.run(program, args, 'inherit');
      } finally {
        await session.stop();
      }
      const subject = await findSubject(folder, env);
      await look({ ...subject, label: request.command.join(' ') }, ended);
      return ended;
    } finally {
      stage.close();
    }
  } finally {
    held.release();
  }
}
