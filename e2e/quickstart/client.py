"""What a first user does, from a pod: `python -c` with the address, the key, a chat model and an embedding model."""

import json
import sys
import urllib.error
import urllib.request
from typing import Any


def ask(path: str, body: dict[str, Any] | None, key: str) -> tuple[int, Any]:
    """Status and answer."""
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{sys.argv[1]}{path}", data, headers)  # noqa: S310  (the gateway's address)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


KEY, CHAT, EMBED = sys.argv[2:5]
MESSAGES = [{"role": "user", "content": "good morning"}]
print(
    json.dumps(
        {
            "models": ask("/models", None, KEY),
            "chat": ask("/chat/completions", {"model": CHAT, "messages": MESSAGES}, KEY),
            "embedding": ask("/embeddings", {"model": EMBED, "input": "good morning"}, KEY),
            "without": ask("/chat/completions", {"model": CHAT, "messages": MESSAGES}, ""),
            "wrong": ask("/models", None, "sk-shoal-wrong"),
        }
    )
)
