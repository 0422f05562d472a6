// Names without a registry: aliases and the registries in which they are looked for.
// Used where a person has typed a name; what is stored and pushed has its registry in it.
// Follows: containers-registries.conf(5), "short-name aliasing", without asking at the terminal.

import { RegistryError } from './errors.js';
import { namesRegistry, parseReference, type Reference } from './reference.js';
import { loadRegistriesConf, type RegistriesConf } from './registries-conf.js';

/**
 * What a name may stand for, to be tried in turn.
 *
 * @throws RegistryError `refused` for what is no name, or could be several images of different people
 */
export function candidatesOf(conf: RegistriesConf, text: string): Reference[] {
  const short = parseReference(text);
  if (namesRegistry(text)) return [short];
  const bare = text.replace(/^(?:docker|oci):\/\//, '');
  const name = bare.replace(/@.*$/, '').replace(/:[^/]*$/, '');
  const alias = conf.shortNames === 'disabled' ? undefined : conf.aliases.get(name);
  if (alias !== undefined) {
    const { registry, repository } = parseReference(alias);
    return [{ ...short, registry, repository }];
  }
  // Nobody has said where to look: as docker does.
  if (conf.search === undefined) return [short];
  if (conf.search.length === 0) {
    throw new RegistryError(
      'refused',
      `'${text}' names no registry, and registries.conf none to search`,
    );
  }
  if (conf.search.length > 1 && conf.shortNames === 'enforcing') {
    throw new RegistryError(
      'refused',
      `'${text}' may come from ${conf.search.join(', ')}; say from which: ${conf.search[0]}/${bare}`,
    );
  }
  return conf.search.map((registry) => parseReference(`${registry}/${bare}`));
}

/** The same by the registries.conf of an environment. */
export function shortNames(text: string, env: NodeJS.ProcessEnv): Reference[] {
  return candidatesOf(loadRegistriesConf(env), text);
}
