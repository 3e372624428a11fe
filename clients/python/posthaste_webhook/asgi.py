"""Middleware for ASGI applications: Starlette, FastAPI, Django and others."""

import asyncio
from typing import Any, Awaitable, Callable, Dict, MutableMapping

from .errors import WebhookError
from .receiver import Receiver
from .verifier import Verifier

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _TooLarge(Exception):
    pass


class _Gone(Exception):
    pass


class ASGIMiddleware:
    """Calls app for verified deliveries only, with the raw body to receive again.

    Others get 401 and are logged; alert(n) is called after alert_after of them within alert_window seconds (600), and
    again after each further alert_after. With a seen store, whose calls run in a thread, an event that was processed
    before is answered with 200; while one delivery of an event is processed in this process, another one waits.
    max_body is in bytes. The event's id is scope["posthaste_webhook.id"]. Requests other than HTTP, such as lifespan
    events, pass.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], verifier: Verifier, **options: Any) -> None:
        self._app = app
        self._receiver = Receiver(verifier, **options)
        self._running: Dict[str, asyncio.Event] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(receive)
        except _TooLarge:
            await _answer(send, 413, "Body too large")
            return
        except _Gone:
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        client = scope.get("client")
        try:
            id = self._receiver.verify(headers, body, client[0] if client else "")
        except WebhookError:
            await _answer(send, 401, "Invalid signature")
            return
        scope = {**scope, "posthaste_webhook.id": id}
        if self._receiver.seen is None or not id:
            await self._app(scope, _again(body, receive), send)
            return
        await self._claim(id)
        try:
            await self._once(id, body, scope, receive, send)
        finally:
            self._running.pop(id).set()

    async def _once(self, id: str, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        try:
            done = await loop.run_in_executor(None, self._receiver.was_processed, id)
        except Exception:  # twice is better than never: the sender tries again
            await _answer(send, 503, "Try again")
            return
        if done:
            await _answer(send, 200, "Event already processed")
            return
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self._app(scope, _again(body, receive), note)
        await loop.run_in_executor(None, self._receiver.mark, id, status)

    async def _claim(self, id: str) -> None:
        while id in self._running:
            await self._running[id].wait()
        self._running[id] = asyncio.Event()

    async def _read(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            body += message.get("body", b"")
            if len(body) > self._receiver.max_body:
                raise _TooLarge
            if not message.get("more_body", False):
                return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """Returns the body again, and then further messages."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _answer(send: Send, status: int, text: str) -> None:
    body = text.encode("utf-8")
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode("ascii"))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
