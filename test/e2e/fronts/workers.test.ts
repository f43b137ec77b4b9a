import * as assert from 'uvu/assert';
import { missingPackages, NGINX_PACKAGES } from '../../kit/debian-package.ts';
import { ask, Front } from '../../kit/front.ts';
import { ManagedCluster } from '../../kit/managed-cluster.ts';
import { freePorts } from '../../kit/ports.ts';
import { readSecretOf } from '../../kit/secrets.ts';
import { describe } from '../../kit/suite.ts';
import { deletedWhileRead, everyWay, figure, noise, PATIENT, purged } from './scene.ts';

const missing = missingPackages(NGINX_PACKAGES);

describe('two workers of one gateway behind nginx', (test) => {
  if (missing !== undefined) return test.skip(`nginx ${missing}`);

  test('deleted: gone from both and from the cache, and it does not come back', async (t) => {
    const cluster = await ManagedCluster.create(t);
    const port = await freePorts(1);
    cluster.configure((config) => ({
      ...config,
      gateway: { ...config.gateway, workers: 2, maxPictureBytes: 2 << 20 },
      images: PATIENT,
      purge: purged([port]),
    }));
    const started = await cluster.tool('start');
    assert.is(started.code, 0, `${started.stdout}${started.stderr}`);
    const gateway = { host: '127.0.0.1', port: cluster.port };
    const front = await Front.nginx(t, 'nginx.conf', { origins: [gateway, gateway], port });
    const authorization = `Bearer ${readSecretOf(cluster.home, 'token')}`;
    const put = await ask(`${cluster.url}/images`, 'POST', { authorization }, await noise(1200, 900));
    assert.is(put.status, 201, put.body.toString());
    const { name } = JSON.parse(put.body.toString()) as { name: string };
    const remove = async () =>
      (await ask(`${cluster.url}/images/${name}`, 'DELETE', { authorization })).status;
    // A connection goes to one worker, the next one to the other.
    const ways = everyWay([front], [cluster.url, cluster.url, cluster.url], name);
    figure('nginx, two workers of one gateway', await deletedWhileRead(remove, ways));
    // Here, because a stop on a busy machine may take longer than a cleanup may.
    assert.is((await cluster.tool('stop')).code, 0);
  });
}, 120_000);
