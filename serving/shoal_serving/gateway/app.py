"""The two FastAPI apps: beside the inference paths on the clients' port, and on the internal port."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from shoal_api.load import LOAD_PATH, LOAD_STREAM_PATH, LoadMessage
from shoal_serving.gateway import api_document, routes
from shoal_serving.gateway.keys import Keyring
from shoal_serving.gateway.load_telling import LoadStream
from shoal_serving.gateway.route_table import RouteTable


def for_clients(table: Callable[[], RouteTable], keyring: Callable[[], Keyring | None]) -> FastAPI:
    """What clients reach; the inference paths are only described here, the relay answers them."""
    app = FastAPI(title="Shoal", summary="One address for every model.", docs_url=None, redoc_url=None)
    app.include_router(routes.models_router(table, keyring))
    routes.in_openai_shape(app)
    document = api_document.complete(app.openapi())  # FastAPI keeps what it made, and serves it
    app.openapi_schema = document
    return app


def internal(
    is_ready: Callable[[], bool],
    metrics: Callable[[], Iterator[bytes]],
    load: Callable[[], LoadMessage],
    load_stream: LoadStream,
) -> FastAPI:
    """What Kubernetes, Prometheus and the operator reach."""
    app = FastAPI(title="Shoal gateway, internal", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/livez")
    async def livez() -> Response:
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    async def readyz() -> Response:
        return PlainTextResponse("ok\n") if is_ready() else PlainTextResponse("not ready\n", 503)

    @app.get("/metrics")
    async def show_metrics() -> Response:
        return StreamingResponse(_in_turns(metrics()), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get(LOAD_PATH)
    async def show_load() -> LoadMessage:
        return load()

    app.router.routes.append(Route(LOAD_STREAM_PATH, load_stream, methods=["POST"]))

    return app


async def _in_turns(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Whatever else is to be done comes between two pieces."""
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)
