"""What the gateway answers itself, beside the inference paths: models, health, and the shapes of 404 and 405."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from shoal_serving.gateway import api_document, errors, openai_shapes
from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.keys import SCHEME, Keyring, denied, identify
from shoal_serving.gateway.route_table import RouteTable
from shoal_serving.gateway.surfaces import REALTIME_PATH, SURFACES, Dialect

OWNER = "shoal"


class ModelObject(BaseModel):
    """One name that leads to a model."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = OWNER


class ModelList(BaseModel):
    """Every name that leads to a model."""

    object: str = "list"
    data: list[ModelObject]


def models_router(table: Callable[[], RouteTable], keyring: Callable[[], Keyring | None]) -> APIRouter:
    """GET /v1/models and GET /v1/models/{id}, where an id may hold slashes."""
    router = APIRouter()

    @router.get("/v1/models", response_model=ModelList, responses=api_document.error_answers(401))
    def list_models(request: Request) -> Any:
        """Models that the caller can ask for, also those at zero replicas."""
        now, caller = table(), identify(request.headers.raw, keyring())
        if isinstance(caller, Refusal):
            return _answer(caller)
        return ModelList(data=[_object(name, now) for name in caller.names(now)])

    @router.get(
        "/v1/models/{name:path}", response_model=ModelObject, responses=api_document.error_answers(401, 403, 404)
    )
    def get_model(name: str, request: Request) -> Any:
        """One model by any of its names."""
        now, caller = table(), identify(request.headers.raw, keyring())
        if isinstance(caller, Refusal):
            return _answer(caller)
        route = now.by_name.get(name)
        if route is None:
            return _answer(openai_shapes.not_found(name, caller.names(now)))
        return _object(name, now) if caller.may_use(route, now) else _answer(denied(name))

    @router.get("/health")
    def health() -> dict[str, str]:
        """The gateway runs."""
        return {"status": "ok"}

    return router


def in_openai_shape(app: FastAPI) -> None:
    """Unknown paths, wrong methods and our own faults are answered in the shape that OpenAI's clients read."""

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        path, method = request.url.path, request.method
        surface = SURFACES.get(path.encode())
        if surface is not None and error.status_code == 404:
            # The path exists, but only for POST, and those never come here.
            error = HTTPException(405, headers={"allow": "POST"})
        if path == REALTIME_PATH:
            # As a WebSocket it never comes here, either.
            is_get = method == "GET"
            error = HTTPException(
                426 if is_get else 405, headers={"upgrade": "websocket"} if is_get else {"allow": "GET"}
            )
        refusal = {
            404: Refusal(404, f"Unknown request URL: {method} {path}.", "unknown_url", type="invalid_request_error"),
            426: Refusal(426, "This path is a WebSocket; ask for an upgrade.", "upgrade_required"),
            405: Refusal(405, f"Not allowed to {method} {path}.", "method_not_allowed"),
        }.get(error.status_code, Refusal(error.status_code, str(error.detail)))
        dialect = surface.dialect if surface is not None else Dialect.OPENAI
        return _answer(refusal, dialect, error.headers)

    @app.exception_handler(Exception)
    async def own_fault(_request: Request, _error: Exception) -> Response:
        return _answer(Refusal(500, "The gateway failed on this request.", "internal_error"))


def _object(name: str, table: RouteTable) -> ModelObject:
    return ModelObject(id=name, created=int(table.by_name[name].created.timestamp()))


def _answer(
    refusal: Refusal, dialect: Dialect = Dialect.OPENAI, more_headers: Mapping[str, str] | None = None
) -> JSONResponse:
    answer = JSONResponse(errors.shaped(refusal, dialect), refusal.status, headers=more_headers)
    if refusal.status == 401:
        answer.headers["www-authenticate"] = SCHEME
    return answer
