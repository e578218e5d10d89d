// simple-oauth2 refreshes by a stand-in. It authenticates by Basic.
import { AuthorizationCode } from 'simple-oauth2';
import { told, tell } from './told.mjs';

const { endpoint, refreshToken, id, secret } = await told();
const { origin, pathname } = new URL(endpoint);
const client = new AuthorizationCode({ client: { id, secret }, auth: { tokenHost: origin, tokenPath: pathname } });
try {
  const { token } = await client.createToken({ refresh_token: refreshToken }).refresh();
  tell(token);
} catch (error) {
  tell(error.data?.payload ?? { error: String(error) });
}
