# requests-oauthlib refreshes by a stand-in, with no client authentication but a client_id.
import json
import os
import sys

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # http, on loopback
from oauthlib.oauth2 import OAuth2Error
from requests_oauthlib import OAuth2Session

print("ready", flush=True)
told = json.loads(sys.stdin.readline())
session = OAuth2Session(told["id"])
session.trust_env = False
extra = {"client_id": told["id"], "client_secret": told["secret"]}
try:
    answer = session.refresh_token(told["endpoint"], refresh_token=told["refreshToken"], **extra)
except OAuth2Error as error:
    answer = {"error": error.error, "error_description": error.description}
print(json.dumps(answer), flush=True)
