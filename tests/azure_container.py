"""Makes a container in Azurite, with the key that every emulator has: azure_container.py PORT NAME"""

import base64
import hashlib
import hmac
import sys
import urllib.request
from email.utils import formatdate

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

port, name = sys.argv[1:]
date = formatdate(usegmt=True)
headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06"
resource = f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
signed = "PUT" + "\n" * 12 + f"{headers}\n{resource}"
digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
request = urllib.request.Request(
    f"http://127.0.0.1:{port}/{ACCOUNT}/{name}?restype=container",
    method="PUT",
    headers={
        "x-ms-date": date,
        "x-ms-version": "2021-08-06",
        "Content-Length": "0",
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
    },
)
urllib.request.urlopen(request, timeout=30)
