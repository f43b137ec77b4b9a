// What PM2 runs, made from config.json in TFS_HOME: a mount more there is a process more here. `npm start` uses this
// file after it has made and checked everything; `pm2 start ecosystem.config.js` alone needs that done once.
import { ecosystem } from './dist/tools/cluster/ecosystem.js';

export const apps = ecosystem(process.env);
