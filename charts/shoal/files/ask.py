"""What `helm test` runs in a pod: list the models at the gateway, and chat with one where one is named."""

import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any

ADDRESS = os.environ["ADDRESS"]
MODEL = os.environ.get("MODEL", "")
KEY = os.environ.get("API_KEY", "")
SECONDS = float(os.environ.get("TIMEOUT_SECONDS", "300"))


def ask(path: str, body: dict[str, Any] | None = None) -> Any:
    """The answer as JSON; the program ends with one sentence where there is none."""
    request = urllib.request.Request(ADDRESS + path, data=json.dumps(body).encode() if body else None)  # noqa: S310
    request.add_header("content-type", "application/json")
    if KEY:
        request.add_header("authorization", f"Bearer {KEY}")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        sys.exit(f"{path} answered {refused.code}: {refused.read().decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"the gateway at {ADDRESS} does not answer: {error}")


names = [model["id"] for model in ask("/v1/models")["data"]]
print(f"{ADDRESS} serves {', '.join(names) or 'no model yet'}")
if MODEL:
    messages = [{"role": "user", "content": "Say hello."}]
    chat = ask("/v1/chat/completions", {"model": MODEL, "messages": messages, "max_tokens": 8})
    print(f"{MODEL} says {chat['choices'][0]['message']['content']!r}")
