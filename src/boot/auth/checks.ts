// The list that `varve boot verify` fills: one entry for everything that was compared, whatever came out.
// Filled by verify.ts, verify-uki.ts and verify-images.ts; printed by cli/boot-verify.ts.
// A check that fails ends only itself.

import { MountError, reasonOf } from '../../stack/errors.js';

/** `skipped`: there was nothing to compare with; the detail says what is missing. */
export type CheckState = 'ok' | 'failed' | 'skipped';

export interface Check {
  readonly state: CheckState;
  /** What was looked at: a path. */
  readonly subject: string;
  /** What was compared. */
  readonly check: string;
  /** What came out. */
  readonly detail: string;
}

export class Checks {
  readonly list: Check[] = [];

  /** Whether nothing has failed. */
  get ok(): boolean {
    return this.list.every(({ state }) => state !== 'failed');
  }

  add(state: CheckState, subject: string, check: string, detail: string): void {
    this.list.push({ state, subject, check, detail });
  }

  /**
   * @param run gives what came out; what it throws is the failure.
   * @returns whether it did not fail.
   */
  async run(subject: string, check: string, run: () => string | Promise<string>): Promise<boolean> {
    try {
      this.add('ok', subject, check, await run());
      return true;
    } catch (error) {
      const text = error instanceof MountError ? error.message : reasonOf(error);
      this.add(
        'failed',
        subject,
        check,
        text.startsWith(`${subject}: `) ? text.slice(subject.length + 2) : text,
      );
      return false;
    }
  }
}

/** What a check throws. */
export const differs = (text: string): MountError => new MountError('layer', text);
