// Where a reference is looked for: hosts to be asked in turn, and the name of the repository there.
// Made of registries.conf, used by registry.ts.
// Follows: containers-registries.conf(5), "Remapping and mirroring registries".

import { RegistryError } from './errors.js';
import { formatReference, parseReference, type Reference } from './reference.js';
import { prefixLength, type RegistriesConf, ruleFor } from './registries-conf.js';

/** Its registry has another address than its name. */
const DOCKER = 'docker.io';
const DOCKER_HOST = 'registry-1.docker.io';

export interface Endpoint {
  /** Host and port to connect to. */
  readonly host: string;
  /** What credentials are kept under. */
  readonly registry: string;
  /** The name of the repository there. */
  readonly repository: string;
  /** Neither TLS nor its certificates are insisted on. */
  readonly insecure: boolean;
  readonly mirror: boolean;
}

/**
 * The mirrors of a reference in their order, then the registry itself.
 *
 * @throws RegistryError `refused` when registries.conf blocks it
 */
export function endpointsOf(conf: RegistriesConf, ref: Reference): Endpoint[] {
  const name = `${ref.registry}/${ref.repository}`;
  const rule = ruleFor(conf, name);
  if (rule === undefined) return [endpoint(name, false, false)];
  if (rule.blocked) {
    throw new RegistryError(
      'refused',
      `${formatReference(ref)}: registries.conf blocks ${rule.prefix}`,
    );
  }
  const rest = name.slice(prefixLength(rule.prefix, name));
  const kind = ref.digest === undefined ? 'tag-only' : 'digest-only';
  const mirrors = rule.mirrors
    .filter(({ pull }) => pull === 'all' || pull === kind)
    .map(({ location, insecure }) => endpoint(location + rest, insecure, true));
  const own = rule.location === '' ? name : rule.location + rest;
  return [...mirrors, endpoint(own, rule.insecure, false)];
}

/** @param place `host[:port]/repository` */
function endpoint(place: string, insecure: boolean, mirror: boolean): Endpoint {
  const slash = place.indexOf('/');
  const registry = slash < 0 ? place : place.slice(0, slash);
  const rest = slash < 0 ? '' : place.slice(slash + 1);
  // What registries.conf has put together is checked like any other name.
  const { repository } = parseReference(`${registry === DOCKER ? DOCKER : 'localhost'}/${rest}`);
  return {
    host: registry === DOCKER ? DOCKER_HOST : registry,
    registry,
    repository,
    insecure,
    mirror,
  };
}
