import { readFile } from 'node:fs/promises';
import { configPath, parseConfig } from '../../common/config.ts';

/**
 * The digit in the names of a cluster is in its configuration alone: that of `home` is asked if it is there and is of
 * the cluster that wrote the block.
 *
 * @returns the digit, or undefined where nothing tells
 */
export async function digitOfHome(
  home: string,
  clusterUuid: string | undefined,
): Promise<number | undefined> {
  try {
    const { cluster } = parseConfig(JSON.parse(await readFile(configPath(home), 'utf8')), home);
    return clusterUuid === undefined || cluster.uuid === clusterUuid ? cluster.digit : undefined;
  } catch {
    // An offline tool must do without a cluster, and without its configuration.
    return undefined;
  }
}
