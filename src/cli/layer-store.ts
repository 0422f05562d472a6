// `varve layer-store`: layers of images of registries for podman, which then pulls none.
// Run by main.ts; stack/layer-store-mount.ts does it.
// Manual: layer-store-command.ts.

import { resolve } from 'node:path';
import { loadPolicy } from '../oci/policy-file.js';
import { mountLayerStore } from '../stack/layer-store-mount.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { defaultOptions, stay } from './mounting.js';
import { print, remark } from './output.js';
import { asRegistryFailure, authFileOf, imageStoreOf, policyFileOf } from './registry.js';

export async function run(given: Arguments): Promise<number> {
  const mountpoint = given.operands[0] as string;
  const store = imageStoreOf(given);
  const authFile = authFileOf(given);
  const policyFile = policyOf(given);
  if (given.has('foreground')) (await import('./foreground.js')).holdSignals();
  const mounted = await mountLayerStore({
    store,
    mountpoint,
    options: given.values('options'),
    defaults: defaultOptions(),
    plainHttp: given.has('plain-http'),
    trustIndex: given.has('trust-index'),
    authFile: authFile === undefined ? undefined : resolve(authFile),
    policyFile,
    trace: given.has('trace'),
  });
  const pid = mounted.served?.status.pid;
  if (given.has('json'))
    print(given, { mountpoint: mounted.spec.mountpoint, store, pid }, () => '');
  else {
    remark(
      given,
      `${mounted.spec.mountpoint} has the layers of ${store} (process ${pid}): additionallayerstores=["${mounted.spec.mountpoint}:ref"]`,
    );
  }
  if (given.has('foreground')) return stay(mounted);
  mounted.served?.supervisor.close();
  return EXIT.ok;
}

/** The server and the loader have other working directories. @throws MountError when it is no policy. */
function policyOf(given: Arguments): string | undefined {
  const file = policyFileOf(given);
  if (file === undefined) return undefined;
  try {
    loadPolicy(file, process.env);
  } catch (error) {
    throw asRegistryFailure(error, file);
  }
  return resolve(file);
}
