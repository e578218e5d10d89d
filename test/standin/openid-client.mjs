// openid-client refreshes by a stand-in. It authenticates in the body and takes nothing
// that RFC 6749 does not allow.
import * as client from 'openid-client';
import { told, tell } from './told.mjs';

const { endpoint, refreshToken, id, secret } = await told();
const server = { issuer: new URL(endpoint).origin, token_endpoint: endpoint };
const config = new client.Configuration(server, id, undefined, client.ClientSecretPost(secret));
client.allowInsecureRequests(config); // http, on loopback
try {
  tell(await client.refreshTokenGrant(config, refreshToken));
} catch (error) {
  tell({ error: error.error ?? String(error), error_description: error.error_description });
}
