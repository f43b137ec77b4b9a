import { nodeNet } from '../../../common/adapters/node-net.ts';
import { netContract } from '../../contract/net.ts';

netContract('tcp', () => nodeNet);
