// `varve boot verify`: everything that a boot hangs on is compared.
// Run by main.ts; boot/auth/verify.ts compares.
// Manual: boot-auth-commands.ts.

import { verifyBoot } from '../boot/auth/verify.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, print, table } from './output.js';

export async function run(given: Arguments): Promise<number> {
  const [folder] = given.operands;
  const [boot, uki, cert, kernel] = ['boot', 'uki', 'cert', 'kernel'].map((name) =>
    given.value(name),
  );
  const nothing = folder === undefined && boot === undefined && uki === undefined;
  const root = given.value('root') ?? (nothing ? '/' : undefined);
  const { ok, checks } = await verifyBoot({ folder, boot, root, uki, cert, kernel });
  print(given, { version: 1, ok, checks }, () => {
    const shown = given.has('quiet') ? checks.filter(({ state }) => state === 'failed') : checks;
    const rows = shown.map(({ state, subject, check, detail }) => [
      state === 'failed' ? 'FAILED' : state,
      subject,
      check,
      detail,
    ]);
    if (given.has('quiet')) return table(rows);
    const count = (wanted: string) => checks.filter(({ state }) => state === wanted).length;
    const end = `${counted(checks.length, 'check')}: ${count('ok')} ok, ${count('failed')} failed, ${count('skipped')} skipped`;
    return `${table(rows)}\n${end}`;
  });
  return ok ? EXIT.ok : EXIT.layer;
}
