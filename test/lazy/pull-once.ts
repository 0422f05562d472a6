// Pulls one image, for pull-kill.test.ts, which kills it: arguments are the reference, the store, and `lazy` or `all`.

import { pullImage } from '../../src/lazy/pull/pull.js';
import { mapMemory } from '../../src/linux/memory.js';
import { parseReference } from '../../src/oci/reference.js';
import { Registry } from '../../src/oci/registry.js';

mapMemory();
const [ref, store, how] = process.argv.slice(2) as [string, string, string];
const registry = new Registry({ plainHttp: true, env: {}, retries: 0 });
await pullImage(registry, parseReference(ref), store, { lazy: how === 'lazy', plainHttp: true });
registry.close();
