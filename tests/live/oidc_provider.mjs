// SPDX-License-Identifier: GPL-3.0-or-later
// A certified OpenID provider on loopback. People are read from a file at each login, so that a test
// can change their groups. Settings come as JSON in OIDC_PROVIDER.
import { readFileSync } from 'node:fs';

const given = JSON.parse(process.env.OIDC_PROVIDER);
const { default: Provider } = await import(given.module);

const person = (id) => JSON.parse(readFileSync(given.people, 'utf8'))[id];

const provider = new Provider(given.url, {
  clients: [{
    client_id: 'trailgate',
    client_secret: given.secret,
    redirect_uris: given.redirects,
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
  }],
  pkce: { required: () => true },
  conformIdTokenClaims: given.userinfo,
  scopes: ['openid', 'profile', 'groups', 'offline_access'],
  claims: { openid: ['sub'], profile: ['name'], groups: ['groups'] },
  async findAccount(ctx, id) {
    if (!person(id)) return undefined;
    return { accountId: id, claims: async () => ({ sub: id, ...person(id) }) };
  },
  cookies: { keys: [given.secret] },
  ttl: { AccessToken: 600, IdToken: 600, RefreshToken: 86400, Session: 86400, Grant: 86400, Interaction: 600 },
});
provider.listen(given.port, '127.0.0.1', () => console.log('ready'));
