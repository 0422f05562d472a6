// Whom TLS connections to a registry trust, and which certificate they show.
// Asked by transport.ts once for each host.
// Follows: containers-certs.d(5); the system's certificates as Go finds them (crypto/x509, SSL_CERT_FILE).

import { readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls';
import { RegistryError } from './errors.js';

/** Debian and Arch, Fedora, openSUSE: Node's own list knows no certificates that an administrator has added. */
const SYSTEM_BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
];

/**
 * @param host with its port, as certs.d's folders are called
 * @param env HOME, SSL_CERT_FILE, NODE_EXTRA_CA_CERTS
 * @param folders of certs.d; the first that knows the host is taken
 * @throws RegistryError `refused` for certificates that cannot be used
 */
export function tlsOf(
  host: string,
  env: NodeJS.ProcessEnv,
  folders: readonly string[] = certFolders(env),
): SecureContext {
  const ca: string[] = [...rootCertificates];
  const bundles = env['SSL_CERT_FILE'] ? [env['SSL_CERT_FILE']] : SYSTEM_BUNDLES;
  for (const path of [...bundles, env['NODE_EXTRA_CA_CERTS']]) {
    const text = path === undefined ? undefined : readText(path);
    if (text !== undefined) ca.push(text);
  }
  const own = ownFiles(host, folders);
  try {
    return createSecureContext({ ...own, ca: [...ca, ...own.ca] });
  } catch (cause) {
    throw new RegistryError(
      'refused',
      `${host}: its certificates in ${own.folder ?? bundles[0]} cannot be used: ${(cause as Error).message}`,
      { cause },
    );
  }
}

function certFolders(env: NodeJS.ProcessEnv): string[] {
  const user = env['XDG_CONFIG_HOME'] || join(env['HOME'] || homedir(), '.config');
  return [join(user, 'containers/certs.d'), '/etc/containers/certs.d', '/etc/docker/certs.d'];
}

/** `*.crt` are authorities; `NAME.cert` and `NAME.key` are who we are. */
function ownFiles(
  host: string,
  folders: readonly string[],
): { folder?: string; ca: string[]; cert?: string[]; key?: string[] } {
  for (const parent of folders) {
    const folder = join(parent, host);
    let names: string[];
    try {
      names = readdirSync(folder).sort();
    } catch {
      continue;
    }
    const texts = (list: readonly string[]): string[] =>
      list.map((name) => {
        const text = readText(join(folder, name));
        if (text !== undefined) return text;
        throw new RegistryError(
          'refused',
          `${join(folder, name)} cannot be read, and ${host} needs it`,
        );
      });
    const certs = names.filter((name) => name.endsWith('.cert'));
    const keys = certs.map((name) => name.replace(/cert$/, 'key'));
    const clients = certs.length === 0 ? {} : { cert: texts(certs), key: texts(keys) };
    return { folder, ca: texts(names.filter((name) => name.endsWith('.crt'))), ...clients };
  }
  return { ca: [] };
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
