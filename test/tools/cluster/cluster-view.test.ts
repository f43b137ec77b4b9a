import * as assert from 'uvu/assert';
import { defaultConfig, parseConfig } from '../../../common/config.ts';
import { ensureGatewayRole } from '../../../common/secrets.ts';
import { openClusterView } from '../../../tools/cluster/cluster-view.ts';
import { LOCAL_KEYRING, LocalCluster } from '../../kit/local-cluster.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

/** What `tfs status` asks of a cluster whose one NameServer is configured with this id. */
async function viewOf(t: TestContext, id: number) {
  const cluster = await LocalCluster.start(t);
  const home = tempDir(t, 'tfs-view-');
  await ensureGatewayRole(home, () => LOCAL_KEYRING.exportRole('gateway'));
  const shape = defaultConfig({ uuid: 'ab'.repeat(16) });
  const { host, port } = cluster.nameserver.address;
  const nameservers = [{ ...shape.nameservers[0]!, id, host, port }];
  const view = await openClusterView(parseConfig({ ...shape, nameservers }, home));
  t.defer(() => view.close());
  return { cluster, view };
}

describe('what a tool sees of a cluster', (test) => {
  test('the figures of every DataServer; none where no NameServer answers', async (t) => {
    const { cluster, view } = await viewOf(t, 0);
    assert.equal(
      (await view.figures()).map(({ id }) => Number(id)),
      [1, 2, 3],
    );
    await cluster.stopNameServer();
    assert.equal(await view.figures(), []);
    assert.match((await view.nameservers())[0]!.whyNot!, /./);
  });

  test('none where the NameServer that leads is another than the configured ones', async (t) => {
    const { view } = await viewOf(t, 1);
    assert.ok((await view.map()).leader);
    assert.equal(await view.figures(), []);
  });
}, 30_000);
