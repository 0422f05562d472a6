// Sizes, seeds and sources of long-running tests: a default that suits CI, any other by flag.
// `npm test -- --ops 1000000 --seed 7 oracle` sets them for a run (test/run.ts passes them on).

/**
 * @param name which knob: `ops`, `seed`, `seconds`, `rounds`
 * @param fallback the value in CI
 */
export function campaign(name: 'ops' | 'seed' | 'seconds' | 'rounds', fallback: number): number {
  const text = process.env[`VARVE_TEST_${name.toUpperCase()}`];
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new Error(`--${name} takes a whole number, not ${text}`);
  }
  return value;
}

/** A folder named by `--source DIR`, to be tested with instead of one that the test makes. */
export function campaignSource(): string | undefined {
  return process.env['VARVE_TEST_SOURCE'];
}
