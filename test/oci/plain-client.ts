// A client of registries on loopback: no TLS, nobody's credentials or configuration, hardly a pause before it asks again.
// For tests of what is pushed and pulled; tests of the client itself make their own.

import { Registry, type RegistryOptions } from '../../src/oci/registry.js';
import type { Cleanup } from '../support/temp.js';

/** It is closed with the test. @param options what is to be otherwise */
export function plainClient(t: Cleanup, options: RegistryOptions = {}): Registry {
  const registry = new Registry({ plainHttp: true, env: {}, retries: 2, pause: 5, ...options });
  t.after(() => registry.close());
  return registry;
}
