// The sockets by which a command could reach the world outside of its sandbox, and what names them in the environment.
// Read by ops/try: none of them works inside (an overlay has none of its lowers' sockets) unless it is allowed by name.
// Follows the programs' own manuals: dbus-daemon(1), dockerd(8), podman-system-service(1), ssh-agent(1), gpg-agent(1), X(7).

import { statSync } from 'node:fs';
import { resolve } from 'node:path';

export type Environment = Readonly<Record<string, string | undefined>>;

interface SocketRecord {
  readonly name: string;
  /** Variables that say where it is, or who is behind it. */
  readonly env: readonly string[];
  /** Where it is by default; `$XDG_RUNTIME_DIR/` and `~/` stand for the user's folders. May be a directory. */
  readonly paths: readonly string[];
}

const SOCKETS: readonly SocketRecord[] = [
  {
    name: 'dbus-system',
    env: ['DBUS_SYSTEM_BUS_ADDRESS'],
    paths: ['/run/dbus/system_bus_socket'],
  },
  {
    name: 'dbus-session',
    env: ['DBUS_SESSION_BUS_ADDRESS', 'DBUS_STARTER_ADDRESS'],
    paths: ['$XDG_RUNTIME_DIR/bus'],
  },
  {
    name: 'docker',
    env: ['DOCKER_HOST'],
    paths: ['/run/docker.sock', '$XDG_RUNTIME_DIR/docker.sock', '~/.docker/run/docker.sock'],
  },
  {
    name: 'podman',
    env: ['CONTAINER_HOST'],
    paths: ['/run/podman/podman.sock', '$XDG_RUNTIME_DIR/podman/podman.sock'],
  },
  {
    name: 'containerd',
    env: ['CONTAINERD_ADDRESS'],
    paths: ['/run/containerd/containerd.sock'],
  },
  { name: 'crio', env: ['CONTAINER_RUNTIME_ENDPOINT'], paths: ['/run/crio/crio.sock'] },
  { name: 'ssh-agent', env: ['SSH_AUTH_SOCK', 'SSH_AGENT_PID'], paths: [] },
  {
    name: 'gpg-agent',
    env: ['GPG_AGENT_INFO'],
    paths: ['$XDG_RUNTIME_DIR/gnupg/S.gpg-agent', '~/.gnupg/S.gpg-agent'],
  },
  { name: 'x11', env: ['DISPLAY', 'XAUTHORITY', 'SESSION_MANAGER'], paths: ['/tmp/.X11-unix'] },
  { name: 'wayland', env: ['WAYLAND_DISPLAY'], paths: ['$XDG_RUNTIME_DIR/wayland-0'] },
  {
    name: 'sound',
    env: ['PULSE_SERVER', 'PIPEWIRE_REMOTE'],
    paths: ['$XDG_RUNTIME_DIR/pulse', '$XDG_RUNTIME_DIR/pipewire-0'],
  },
  {
    name: 'systemd',
    env: ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'],
    paths: ['/run/systemd/private', '/run/systemd/notify', '$XDG_RUNTIME_DIR/systemd'],
  },
];

export const SOCKET_NAMES: readonly string[] = SOCKETS.map(({ name }) => name);

/** Descriptors that a service manager has passed, which are closed; and terminals inside of terminals. */
const ALWAYS_REMOVED = ['LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES', 'TMUX', 'TMUX_PANE', 'STY'];

/** A path of the real system that is a socket, in forms such as `unix:path=/p,guid=0`, `unix:///p`, `/p:0:1`. */
function socketIn(value: string): string | undefined {
  const path = /^(?:unix:(?:path=|\/\/)?)?(\/[^,;:]+)/.exec(value)?.[1];
  return path !== undefined && isSocket(path) ? path : undefined;
}

function isSocket(path: string): boolean {
  try {
    return statSync(path).isSocket();
  } catch {
    return false;
  }
}

export interface SocketPlan {
  /** What the command has of the environment. */
  readonly env: Record<string, string>;
  /** Sockets and folders of sockets that are shown, absolute. */
  readonly shown: readonly string[];
}

/**
 * @param allowed names of SOCKET_NAMES and absolute paths.
 * @param env of the command, as far as it is the caller's own. @param home, runtime folders of the user.
 */
export function planSockets(
  allowed: readonly string[],
  env: Environment,
  home: string,
  runtime: string | undefined,
): SocketPlan {
  const shown = allowed.filter((word) => word.startsWith('/')).map((path) => resolve(path));
  const kept = new Set<string>();
  const removed = new Set(ALWAYS_REMOVED);
  for (const { name, env: names, paths } of SOCKETS) {
    if (!allowed.includes(name)) {
      for (const variable of names) removed.add(variable);
      continue;
    }
    for (const variable of names) {
      kept.add(variable);
      const named = socketIn(env[variable] ?? '');
      if (named !== undefined) shown.push(named);
    }
    for (const path of paths) {
      const absolute = path.startsWith('$')
        ? runtime && path.replace('$XDG_RUNTIME_DIR', runtime)
        : path.replace(/^~/, home);
      if (absolute !== undefined && absolute !== '') shown.push(absolute);
    }
  }
  const left = Object.entries(env).flatMap(([name, value]) => {
    if (value === undefined || removed.has(name)) return [];
    const socket = kept.has(name) ? undefined : socketIn(value);
    return socket !== undefined && !shown.includes(socket) ? [] : [[name, value] as const];
  });
  return { env: Object.fromEntries(left), shown: [...new Set(shown)] };
}
