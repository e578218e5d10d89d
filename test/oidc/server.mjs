// An authorization server that we did not write: panva's oidc-provider, with the settings
// that Evergrant is tried against. `make reference-oidc` fetches it, and a Node.js to run it
// on (any from 20 on will do). Then
//
//   cd build/reference/oidc
//   EVERGRANT_OIDC_PROVIDER=. bin/node ../../../test/oidc/server.mjs '{"clients": [
//     {"client_id": "web", "client_secret": "s", "redirect_uris": ["http://127.0.0.1:9/cb"]}]}'
//
// It listens on 127.0.0.1 only, prints one line {"issuer": "http://127.0.0.1:PORT", "port": PORT}
// on stdout when it is ready, logs to stderr, and ends on SIGTERM, SIGINT or when its stdin
// closes, so that it never outlives the test that started it.
//
// The argument is one JSON object:
//   clients             as in OpenID Connect registration; token_endpoint_auth_method is
//                       client_secret_basic unless told, and grant_types are authorization_code
//                       and refresh_token. A public client has the method "none".
//   access_token_ttl_s  600 unless told
//   refresh_token_ttl_s 86400 unless told
//   code_ttl_s          60 unless told
//   rotate              true unless told; false: a refresh token stays as it is
//   port                0 unless told: any free one
//
// What it does: authorization code with PKCE S256, required of every client, and `iss` on
// the answer; a refresh token with every grant; rotation at every refresh unless told, and a rotated
// token presented again ends its whole grant; client credentials; revocation, introspection, userinfo,
// discovery. Nobody types a password: whoever arrives is logged in as the `login_hint` of the
// request ("alice" without one) and consents at once, by redirects and cookies alone. The hint
// "deny" is the person who refuses.

import { createServer } from 'node:http';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

console.info = console.error; // stdout is for the ready line

const reference = process.env.EVERGRANT_OIDC_PROVIDER;
if (!reference) {
  console.error('EVERGRANT_OIDC_PROVIDER must name the folder that holds node_modules; run: make reference-oidc');
  process.exit(2);
}
const module = join(resolve(reference), 'node_modules', 'oidc-provider', 'lib', 'index.js');
const { default: Provider, errors } = await import(pathToFileURL(module));

const options = JSON.parse(process.argv[2] ?? '{}');

// Consent at once: a grant of all that is asked for, in place of the consent prompt.
async function consentToAll({ oidc }) {
  const known = oidc.session.grantIdFor(oidc.client.clientId);
  const grant = known && (await oidc.provider.Grant.find(known));
  const wanted = grant || new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
  wanted.addOIDCScope(oidc.params.scope ?? '');
  wanted.addOIDCClaims([...oidc.requestParamClaims]);
  await wanted.save();
  return wanted;
}

const configuration = {
  clients: (options.clients ?? []).map((client) => ({
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    ...client,
  })),
  claims: { openid: ['sub'], profile: ['name'], email: ['email', 'email_verified'] },
  scopes: ['openid', 'offline_access', 'profile', 'email', 'read', 'write'],
  cookies: { keys: ['loopback test server'] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    revocation: { enabled: true },
    userinfo: { enabled: true },
  },
  pkce: { required: () => true },
  issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: options.rotate ?? true,
  ttl: {
    AccessToken: options.access_token_ttl_s ?? 600,
    AuthorizationCode: options.code_ttl_s ?? 60,
    ClientCredentials: options.access_token_ttl_s ?? 600,
    Grant: 86400,
    IdToken: 600,
    Interaction: 600,
    RefreshToken: options.refresh_token_ttl_s ?? 86400,
    Session: 86400,
  },
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  loadExistingGrant: consentToAll,
  findAccount: async (_ctx, sub) => ({
    accountId: sub,
    claims: async () => ({ sub, name: sub, email: `${sub}@example.com`, email_verified: true }),
  }),
};

// The interaction that a person would have: logged in and sent on, or refused.
async function interact(provider, request, response) {
  const { params } = await provider.interactionDetails(request, response);
  const account = params.login_hint || 'alice';
  const result = account === 'deny'
    ? { error: 'access_denied', error_description: 'the person refused' }
    : { login: { accountId: account }, consent: {} }; // which native clients must ask for each time
  await provider.interactionFinished(request, response, result);
}

// Nobody stays logged in, so that one cookie jar can be two people in turn without the page
// on which the first would log out.
function forgetSession(request) {
  const cookies = (request.headers.cookie ?? '').split('; ');
  request.headers.cookie = cookies.filter((cookie) => !/^_session(\.|=)/.test(cookie)).join('; ');
}

const server = createServer();
server.listen(options.port ?? 0, '127.0.0.1', () => {
  const { port } = server.address();
  const issuer = `http://127.0.0.1:${port}`;
  const provider = new Provider(issuer, configuration);
  const handle = provider.callback();
  server.on('request', (request, response) => {
    forgetSession(request);
    if (!request.url.startsWith('/interaction/')) return handle(request, response);
    return interact(provider, request, response).catch((error) => {
      console.error(error);
      response.writeHead(error instanceof errors.SessionNotFound ? 400 : 500).end();
    });
  });
  console.log(JSON.stringify({ issuer, port }));
});

process.on('SIGTERM', () => process.exit(0));
process.on('SIGINT', () => process.exit(0));
process.stdin.on('end', () => process.exit(0)).resume();
