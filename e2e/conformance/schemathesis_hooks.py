"""Names models that exist in most of what schemathesis makes up, so that requests get as far as the engines."""

import random

import schemathesis

NAMES = ("writer", "embedder", "writer-alias", "nobody")
draw = random.Random(7)  # noqa: S311  (a repeatable draw is meant)


@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict) and isinstance(body.get("model"), str) and body["model"] and draw.random() < 0.8:
        body["model"] = draw.choice(NAMES)
    return body
