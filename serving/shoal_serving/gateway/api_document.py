"""The OpenAPI document of the clients' port: every inference path with its body, its answers and its errors.

It names the fields that decide whether a request is understood. All others pass through to the engine untouched, and
the engine judges them, so no schema is closed.
"""

from typing import Any

from shoal_serving.gateway.surfaces import REALTIME_PATH, SURFACES, Dialect, Surface

Json = dict[str, Any]

STATUSES = {
    400: "The body, or a field that the message names, is not valid.",
    401: "No API key, or one that is not valid.",
    403: "The API key may not be used for this model.",
    404: "No such model, or not for this caller; the message names near ones.",
    413: "The body is larger than the gateway takes.",
    415: "The Content-Type is not the one that this path takes.",
    422: "The engine cannot work with a field.",
    429: "Too many requests wait, or the gateway holds too many bytes. Come again after `Retry-After`.",
    500: "The engine failed on this request.",
    503: "No replica could serve in time. Come again after `Retry-After`.",
    504: "The engine did not answer in time.",
}
"""Every status that an inference path answers with besides 200."""

_TEXT: Json = {"type": "string"}
_TEXTS: Json = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}
_PROMPT: Json = {
    "anyOf": [
        _TEXT,
        {"type": "array", "items": _TEXT, "minItems": 1},
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
    ]
}
_CONTENT: Json = {"anyOf": [_TEXT, {"type": "array", "items": {"type": "object"}}]}
_MESSAGES: Json = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "object", "required": ["role"], "properties": {"role": _TEXT, "content": _CONTENT}},
}
_STREAM: Json = {"type": "boolean", "description": "Answer as server-sent events."}
_MODEL: Json = {"type": "string", "minLength": 1, "description": "One of the names that `GET /v1/models` lists."}
_TOKENS: Json = {"type": "integer", "minimum": 1}
_SAMPLING: Json = {
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
}

_FIELDS: dict[str, tuple[list[str], Json]] = {
    "/v1/chat/completions": (
        ["messages"],
        {
            "messages": _MESSAGES,
            "stream": _STREAM,
            "max_completion_tokens": _TOKENS,
            "max_tokens": _TOKENS,
            **_SAMPLING,
        },
    ),
    "/v1/chat/completions/batch": (["messages"], {"messages": {"type": "array", "items": _MESSAGES, "minItems": 1}}),
    "/v1/completions": ([], {"prompt": _PROMPT, "stream": _STREAM, "max_tokens": _TOKENS, **_SAMPLING}),
    "/v1/responses": (
        [],
        {
            "input": {"anyOf": [_TEXT, {"type": "array", "items": {"type": "object"}, "minItems": 1}]},
            "stream": _STREAM,
            "max_output_tokens": _TOKENS,
            **_SAMPLING,
        },
    ),
    "/v1/messages": (
        ["messages", "max_tokens"],
        {"messages": _MESSAGES, "max_tokens": _TOKENS, "stream": _STREAM, **_SAMPLING},
    ),
    "/v1/messages/count_tokens": (["messages"], {"messages": _MESSAGES}),
    "/v1/embeddings": (
        [],
        {
            "input": _PROMPT,
            "messages": _MESSAGES,
            "encoding_format": {"enum": ["float", "base64"]},
            "dimensions": {"type": "integer", "minimum": 1},
        },
    ),
    "/v2/embed": ([], {"texts": {"type": "array", "items": _TEXT, "minItems": 1}}),
    "/pooling": ([], {"input": _PROMPT, "messages": _MESSAGES}),
    "/classify": ([], {"input": _TEXTS, "messages": _MESSAGES}),
    **dict.fromkeys(("/score", "/v1/score"), ([], {"queries": _TEXTS, "documents": _TEXTS})),
    **dict.fromkeys(
        ("/rerank", "/v1/rerank", "/v2/rerank"),
        (
            ["query", "documents"],
            {"query": _TEXT, "documents": {"type": "array", "items": _TEXT, "minItems": 1}, "top_n": _TOKENS},
        ),
    ),
    "/tokenize": ([], {"prompt": _TEXT, "messages": _MESSAGES}),
    "/detokenize": (["tokens"], {"tokens": {"type": "array", "items": {"type": "integer", "minimum": 0}}}),
    **dict.fromkeys(
        ("/v1/audio/transcriptions", "/v1/audio/translations"),
        (["file"], {"file": {"type": "string", "format": "binary"}, "stream": _STREAM}),
    ),
}
"""By path: the fields that must be there besides `model`, and what is known of fields. Others are the engine's own."""

_ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "additionalProperties": False,
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_MESSAGES_ERROR: Json = {
    "type": "object",
    "required": ["type", "error"],
    "additionalProperties": False,
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "additionalProperties": False,
            "properties": {"type": _TEXT, "message": _TEXT},
        },
        "request_id": _TEXT,
    },
}


def complete(document: Json) -> Json:
    """FastAPI's document of the other paths, with the inference paths and the errors of all of them."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.update({"Error": _ERROR, "MessagesError": _MESSAGES_ERROR})
    paths = document.setdefault("paths", {})
    for path in paths.values():
        for operation in path.values():
            operation["responses"].pop("422", None)  # FastAPI's own; nothing in these paths can be invalid
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "As OpenAI's clients send the API key."},
        "key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "As Anthropic's clients do."},
    }
    document["security"] = [{}, {"bearer": []}, {"key": []}]
    for surface in SURFACES.values():
        paths[surface.path] = {"post": _operation(surface)}
    paths[REALTIME_PATH] = {"get": _realtime()}
    return document


def error_answers(*statuses: int, dialect: Dialect = Dialect.OPENAI) -> dict[int | str, Json]:
    """The `responses` entries of these statuses."""
    name = "MessagesError" if dialect is Dialect.MESSAGES else "Error"
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    return {str(status): {"description": STATUSES[status], "content": content} for status in statuses}


def _operation(surface: Surface) -> Json:
    required, fields = _FIELDS.get(surface.path, ([], {}))
    schema = {"type": "object", "required": ["model", *required], "properties": {"model": _MODEL, **fields}}
    kind = "multipart/form-data" if surface.is_form else "application/json"
    answer: Json = {"application/json": {"schema": {}}}
    if surface.endings:
        answer["text/event-stream"] = {"schema": {}}
    return {
        "operationId": surface.path.strip("/").replace("/", "_"),
        "summary": f"Goes to a replica of the model; the API is {surface.dialect}'s.",
        "requestBody": {"required": True, "content": {kind: {"schema": schema}}},
        "responses": {
            "200": {"description": "The engine's answer.", "content": answer},
            **error_answers(*STATUSES, dialect=surface.dialect),
        },
    }


def _realtime() -> Json:
    named = {"name": "model", "in": "query", "required": False, "schema": _TEXT}
    return {
        "operationId": "v1_realtime",
        "summary": "A WebSocket to a replica; the model stands in the query or in the first `session.update`.",
        "parameters": [named],
        "responses": {
            "101": {"description": "Both sides talk in events from here on."},
            "426": {**error_answers(400)["400"], "description": "The request asks for no WebSocket."},
            **error_answers(400, 401, 403, 404, 429, 503),
        },
    }
