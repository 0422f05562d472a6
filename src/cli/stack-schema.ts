// `varve stack schema`: the JSON schema of varve.yaml, for editors.
// Run by main.ts; docs/varve.schema.json is the same text.
// Manual: stack-commands.ts.

import { stackSchema } from '../named/schema.js';
import { EXIT } from './exit-codes.js';

export function run(): number {
  process.stdout.write(schemaText());
  return EXIT.ok;
}

export function schemaText(): string {
  return `${JSON.stringify(stackSchema(), undefined, 2)}\n`;
}
