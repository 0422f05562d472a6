// How a loader of this installation is started, and what it finds in its environment.
// Used by whoever asks the supervisor for one; loads nothing.
// The program is loader.ts.

import { fileURLToPath } from 'node:url';

/** Arguments of node: the bundled file, also where this one is not bundled. */
export function loaderProgram(): readonly string[] {
  return [fileURLToPath(new URL('../../bundle/programs/loader.js', import.meta.url))];
}

/** Credentials, certificates, proxies and limits of whoever asks; the supervisor may have been started by somebody else. */
const NAMES =
  /^(?:HOME|PATH|XDG_[A-Z_]+|DOCKER_CONFIG|REGISTRY_AUTH_FILE|SSL_CERT_(?:FILE|DIR)|NODE_EXTRA_CA_CERTS|CONTAINERS_[A-Z_]+|VARVE_[A-Z_]+|(?:https?|all|no)_proxy|(?:HTTPS?|ALL|NO)_PROXY)$/;

export function loaderEnvironment(env: NodeJS.ProcessEnv = process.env): Record<string, string> {
  const found = Object.entries(env).filter(
    ([name, value]) => NAMES.test(name) && value !== undefined,
  );
  return Object.fromEntries(found) as Record<string, string>;
}
