"""Says whether the library for Python takes the request on standard input for signed by a secret."""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

request = json.load(sys.stdin)
try:
    Webhook(request["secret"]).verify(request["body"], request["headers"])
    print("signed")
except WebhookVerificationError as error:
    print(f"refused: {error}")
