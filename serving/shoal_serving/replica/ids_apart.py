"""Send token ids apart from the events, where the gateway asks for that: it must take them out of every stream."""

from shoal_api import proof, token_ids
from shoal_serving.replica.door import App, Message, Receive, Scope, Send

_IDS = proof.IDS_HEADER.encode()


class IdsApart:
    """Stands before the engine's app."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or all(name != _IDS for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        rest = b""
        is_stream = False

        async def send_apart(message: Message) -> None:
            nonlocal rest, is_stream
            if message["type"] == "http.response.start":
                is_stream = any(
                    name.lower() == b"content-type" and value.startswith(b"text/event-stream")
                    for name, value in message["headers"]
                )
            elif is_stream and message["type"] == "http.response.body":
                held = rest + message.get("body", b"")
                # Whole events only: ids that lie in two pieces would be seen in neither.
                end = held.rfind(b"\n\n") if message.get("more_body", False) else len(held)
                whole = held[: end + 2] if end >= 0 else b""
                rest = held[len(whole) :]
                message = {**message, "body": token_ids.moved(whole)}
            await send(message)

        await self._app(scope, receive, send_apart)
