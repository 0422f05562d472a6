// Which proxy a request takes, from the environment.
// Asked by transport.ts for each host once.
// Follows: Go's golang.org/x/net/http/httpproxy, which docker, podman and skopeo use.

import { BlockList, isIP } from 'node:net';

/**
 * @param url of the request
 * @param env HTTP_PROXY, HTTPS_PROXY, NO_PROXY; lower case first, as curl and Go read them
 * @returns the proxy's URL, or undefined for a direct connection
 */
export function proxyFor(url: URL, env: NodeJS.ProcessEnv): string | undefined {
  const name = url.protocol === 'https:' ? 'https_proxy' : 'http_proxy';
  const proxy = env[name] || env[name.toUpperCase()];
  if (!proxy) return undefined;
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase();
  // The machine itself is never asked for through another one.
  if (host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))) {
    return undefined;
  }
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  const exceptions = (env['no_proxy'] || env['NO_PROXY'] || '').split(',');
  if (exceptions.some((rule) => covers(rule.trim().toLowerCase(), host, port))) return undefined;
  return proxy.includes('://') ? proxy : `http://${proxy}`;
}

/** `*`, `10.0.0.0/8`, `10.1.2.3`, `example.com` (its subdomains too), `.example.com` (these alone); each with a port or without. */
function covers(rule: string, host: string, port: string): boolean {
  if (rule === '') return false;
  if (rule === '*') return true;
  if (rule.includes('/')) return inNetwork(rule, host);
  const named = /^(\[[^\]]+\]|[^:]+):([0-9]+)$/.exec(rule);
  if (named !== null && named[2] !== port) return false;
  const name = (named?.[1] ?? rule).replace(/^\[|\]$/g, '').replace(/^\*\./, '.');
  if (isIP(name) !== 0) return name === host;
  return name.startsWith('.') ? host.endsWith(name) : host === name || host.endsWith(`.${name}`);
}

function inNetwork(rule: string, host: string): boolean {
  const [network, bits] = rule.split('/');
  const family = isIP(network ?? '');
  if (family === 0 || isIP(host) !== family) return false;
  const list = new BlockList();
  try {
    list.addSubnet(network!, Number(bits), family === 4 ? 'ipv4' : 'ipv6');
  } catch {
    return false;
  }
  return list.check(host, family === 4 ? 'ipv4' : 'ipv6');
}
