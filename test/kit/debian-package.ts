import { spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';

export interface DebianPackage {
  readonly name: string;
  /** What it brings: it is there when this is. */
  readonly file: string;
}

const NGINX = { name: 'nginx', file: '/usr/sbin/nginx' };
const NGINX_LUA = {
  name: 'libnginx-mod-http-lua',
  file: '/usr/lib/nginx/modules/ngx_http_lua_module.so',
};
const VARNISH = { name: 'varnish', file: '/usr/sbin/varnishd' };
const VARNISH_MODULES = {
  name: 'varnish-modules',
  file: '/usr/share/doc/varnish-modules/copyright',
};
const CHROMIUM = { name: 'chromium', file: '/usr/bin/chromium' };

export const NGINX_PACKAGES: readonly DebianPackage[] = [NGINX, NGINX_LUA];
export const VARNISH_PACKAGES: readonly DebianPackage[] = [VARNISH, VARNISH_MODULES];
export const CHROMIUM_PACKAGES: readonly DebianPackage[] = [CHROMIUM];

/** One at a time: two test files may want packages in the same moment. */
const APT_LOCK = '/tmp/tfs-test-apt.lock';
const LOCK_S_MAX = 200;
/**
 * Packages as arguments. The file that is asked before a package starts a service of its own is there meanwhile: a test wants
 * the program alone. The lists of packages may be there and new enough; where they are not, they are fetched.
 */
const INSTALL = `
policy=/usr/sbin/policy-rc.d
made=
trap '[ -z "$made" ] || rm -f "$policy"' EXIT
if [ ! -e "$policy" ]; then
  made=1
  printf '#!/bin/sh\\n# Made by a test of the picture store while it installs packages.\\nexit 101\\n' > "$policy"
  chmod 755 "$policy"
fi
apt() { seconds=$1; shift; timeout "$seconds" apt-get -o DPkg::Lock::Timeout=100 -o Acquire::http::Timeout=20 "$@"; }
apt 150 install -y --no-install-recommends -q "$@" && exit
apt 60 update -q
apt 150 install -y --no-install-recommends -q "$@"
`;

/**
 * Makes sure that programs of Debian are there: installs them where this process may, without starting their services.
 *
 * @returns undefined when they are there, else why a test has to be skipped, with the command that would help
 */
export function missingPackages(packages: readonly DebianPackage[]): string | undefined {
  if (lacking(packages).length === 0) return undefined;
  const names = packages.map(({ name }) => name).join(' ');
  const byHand = `apt-get update && apt-get install -y --no-install-recommends ${names}`;
  if (process.getuid?.() !== 0) return `needs root, once: sudo sh -c '${byHand}'`;
  if (!isDebian12()) return `needs the programs of Debian 12: ${names}`;
  const why = install(packages);
  return why === undefined ? undefined : `could not be installed (${byHand}): ${why}`;
}

/** @returns undefined, or what was said last */
function install(packages: readonly DebianPackage[]): string | undefined {
  const names = packages.map(({ name }) => name);
  const wait = ['-w', String(LOCK_S_MAX), APT_LOCK];
  const end = spawnSync('flock', [...wait, 'sh', '-c', INSTALL, 'sh', ...names], {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    encoding: 'utf8',
  });
  if (end.status === 0) {
    const [still] = lacking(packages);
    return still === undefined ? undefined : `${still.file} is not there`;
  }
  const said = `${end.error?.message ?? ''}${end.stdout ?? ''}${end.stderr ?? ''}`.trim();
  return said.split('\n').slice(-2).join(' ').slice(0, 300);
}

const lacking = (packages: readonly DebianPackage[]): readonly DebianPackage[] =>
  packages.filter(({ file }) => !isReadable(file));

function isReadable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

function isDebian12(): boolean {
  try {
    return readFileSync('/etc/debian_version', 'utf8').startsWith('12');
  } catch {
    return false;
  }
}
