"""Look into a replica from inside the cluster's network, with the proof that only its gateways have."""

import base64
import json
import secrets
from collections.abc import Mapping
from typing import Any

from shoal_api import naming, proof
from storykit.models import Models


def journal(story: Models, name: str, pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every request that reached this pod of the model, in the order of arrival."""
    found: list[dict[str, Any]] = json.loads(ask(story, name, pod, "/simulator/log"))
    return found


def ask(story: Models, name: str, pod: Mapping[str, Any], path: str) -> str:
    """What this pod of the model answers."""
    secret = story.cluster.get("secret", naming.object_name(name, "shoal"), "-n", story.namespace)
    key = bytes.fromhex(base64.b64decode(secret["data"]["model-key"]).decode().strip())
    mac = proof.request_mac(key, secrets.token_hex(proof.NONCE_CHARACTERS // 2), pod["metadata"]["uid"])
    url = f"http://{pod['status']['podIP']}:30000{path}"
    return story.cluster.run(["curl", "--silent", "--fail", "--header", f"{proof.MAC_HEADER}: {mac}", url])
