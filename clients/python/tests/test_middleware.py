"""Real HTTP on loopback, for both kinds of application."""

import asyncio
import http.client
import json
import logging
import queue
import socketserver
import threading
import unittest
import wsgiref.simple_server
from typing import Any, Callable, Dict, List, Tuple

from posthaste_webhook import ASGIMiddleware, MemoryStore, Verifier, WSGIMiddleware, sign, sign_standard

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
NOW = 1699564800


def payload(id: str, **more: Any) -> bytes:
    return json.dumps({"id": id, "type": "payment.succeeded", "created": NOW, "data": {"object": more}}, ensure_ascii=False).encode()


def signed(body: bytes, id: str = "evt_1") -> Dict[str, str]:
    return {
        "Content-Type": "application/json",
        "Payment-Signature": sign(SECRET, body),
        "webhook-id": id,
        "webhook-timestamp": str(NOW),
        "webhook-signature": sign_standard(SECRET, id, NOW, body),
    }


class Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: List[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class Store(MemoryStore):
    broken = False

    def processed(self, id: str) -> bool:
        if self.broken:
            raise OSError("away")
        return super().processed(id)


class Cases:
    """What both middlewares must do. serve starts a server of handle and returns its port."""

    serve: Callable[[Callable[[bytes, str], int], Dict[str, Any]], int]

    def setUp(self) -> None:
        self.calls: List[Tuple[bytes, str]] = []
        self.answer: Callable[[], int] = lambda: 200
        self.store, self.alerts, self.log = Store(), [], Log()
        logger = logging.Logger("test")
        logger.addHandler(self.log)

        def handle(body: bytes, id: str) -> int:
            self.calls.append((body, id))
            return self.answer()

        self.port = self.serve(handle, dict(seen=self.store, logger=logger, alert_after=2, alert=self.alerts.append, max_body=2000))

    def post(self, body: bytes, headers: Dict[str, str]) -> Tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", "/", body, headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def test_genuine_deliveries(self) -> None:
        body = payload("evt_1", text="é😀").replace(b"{", b"{ ", 1)
        self.assertEqual(self.post(body, signed(body)), (200, "handled"))
        self.assertEqual(self.calls, [(body, "evt_1")])
        again = payload("evt_1", again=True)
        self.assertEqual(self.post(again, signed(again)), (200, "Event already processed"))
        self.assertEqual(len(self.calls), 1)

    def test_refused_ones(self) -> None:
        body = payload("evt_2")
        for headers in ({}, signed(body + b" "), {**signed(body), "webhook-timestamp": str(NOW - 1)}, signed(payload("evt_3"))):
            self.assertEqual(self.post(body, headers), (401, "Invalid signature"))
        self.assertEqual(self.calls, [])
        self.assertEqual(self.alerts, [2, 4])
        self.assertEqual(len(self.log.lines), 4)
        for line in self.log.lines:
            self.assertNotIn("whsec_", line)
            self.assertNotIn("evt_2", line)

    def test_a_failed_event_comes_again(self) -> None:
        body = payload("evt_4")

        def fail() -> int:
            raise RuntimeError("handler failed")

        self.answer = lambda: 500
        self.assertEqual(self.post(body, signed(body))[0], 500)
        self.answer = fail
        try:
            self.assertEqual(self.post(body, signed(body))[0], 500)
        except http.client.HTTPException:
            pass  # the server closes without a response
        self.answer = lambda: 204
        self.assertEqual(self.post(body, signed(body))[0], 204)
        self.assertEqual(len(self.calls), 3)
        self.assertEqual(self.post(body, signed(body)), (200, "Event already processed"))
        self.assertEqual(len(self.calls), 3)

    def test_an_event_is_worked_on_once_at_a_time(self) -> None:
        body, entered, go = payload("evt_5"), threading.Event(), threading.Event()

        def slow() -> int:
            entered.set()
            go.wait(30)
            return 200

        self.answer = slow
        results: List[Tuple[int, str]] = []
        threads = [threading.Thread(target=lambda: results.append(self.post(body, signed(body)))) for _ in range(3)]
        for t in threads:
            t.start()
        self.assertTrue(entered.wait(30))
        go.set()
        for t in threads:
            t.join()
        self.assertEqual(sorted(text for _, text in results), ["Event already processed", "Event already processed", "handled"])
        self.assertEqual(len(self.calls), 1)

    def test_too_large(self) -> None:
        body = payload("evt_6", x="x" * 3000)
        self.assertEqual(self.post(body, signed(body))[0], 413)
        self.assertEqual(self.calls, [])

    def test_no_json(self) -> None:
        for n, body in enumerate((b"not json", b"[1]", b'{"id":7}', b"")):
            id = f"evt_{n}"
            self.assertEqual(self.post(body, signed(body, id))[0], 200)
            self.assertEqual(self.calls.pop(), (body, id))

    def test_store_fails(self) -> None:
        body = payload("evt_7")
        self.store.broken = True
        self.assertEqual(self.post(body, signed(body)), (503, "Try again"))
        self.assertEqual(self.calls, [])
        self.store.broken = False
        self.assertEqual(self.post(body, signed(body)), (200, "handled"))


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass

    def get_stderr(self) -> Any:
        import io

        return io.StringIO()


class Threading(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True


class WSGI(Cases, unittest.TestCase):
    def serve(self, handle: Callable[[bytes, str], int], options: Dict[str, Any]) -> int:
        def app(environ: Dict[str, Any], start_response: Callable[..., Any]) -> List[bytes]:
            body = environ["wsgi.input"].read()
            status = handle(body, environ["posthaste_webhook.id"])
            start_response(f"{status} Whatever", [("Content-Type", "text/plain")])
            return [] if status == 204 else [b"hand", b"led"]

        server = wsgiref.simple_server.make_server(
            "127.0.0.1", 0, WSGIMiddleware(app, Verifier(SECRET, now=lambda: NOW), **options), Threading, Quiet
        )
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.addCleanup(lambda: (server.shutdown(), thread.join(), server.server_close()))
        return server.server_port


async def _serve_http(app: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As much of an ASGI server as the tests need: one request a connection."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = [tuple(part.strip().encode("latin-1") for part in line.split(":", 1)) for line in head[1:] if line]
        length = next((int(v) for k, v in headers if k.lower() == b"content-length"), 0)
        left = length

        async def receive() -> Dict[str, Any]:
            nonlocal left
            part = await reader.read(min(left, 100)) if left else b""  # in pieces
            left -= len(part)
            return {"type": "http.request", "body": part, "more_body": left > 0}

        async def send(message: Dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                lines = [f"HTTP/1.1 {message['status']} Whatever".encode(), b"Connection: close"]
                writer.write(b"\r\n".join(lines + [k + b": " + v for k, v in message.get("headers", [])]) + b"\r\n\r\n")
            else:
                writer.write(message.get("body", b""))

        scope = {"type": "http", "headers": [(k.lower(), v) for k, v in headers], "client": ("127.0.0.1", 1)}
        try:
            await app(scope, receive, send)
        except RuntimeError:
            writer.write(b"HTTP/1.1 500 Failed\r\nConnection: close\r\n\r\n")
        while left:  # so that closing sends no reset
            left -= len(await reader.read(left))
    finally:
        writer.close()


class ASGI(Cases, unittest.TestCase):
    def serve(self, handle: Callable[[bytes, str], int], options: Dict[str, Any]) -> int:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            message = await receive()
            self.assertFalse(message["more_body"])
            loop = asyncio.get_running_loop()
            status = await loop.run_in_executor(None, handle, message["body"], scope["posthaste_webhook.id"])
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"" if status == 204 else b"handled"})

        wrapped = ASGIMiddleware(app, Verifier(SECRET, now=lambda: NOW), **options)
        started: "queue.Queue[Tuple[int, Callable[[], None]]]" = queue.Queue()

        async def main() -> None:
            stop, loop = asyncio.Event(), asyncio.get_running_loop()
            server = await asyncio.start_server(lambda r, w: _serve_http(wrapped, r, w), "127.0.0.1", 0)
            started.put((server.sockets[0].getsockname()[1], lambda: loop.call_soon_threadsafe(stop.set)))
            await stop.wait()
            server.close()

        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        port, stop = started.get(timeout=30)
        self.addCleanup(lambda: (stop(), thread.join()))
        return port

    def test_what_is_not_http_passes(self) -> None:
        seen = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["type"])

        asyncio.run(ASGIMiddleware(app, Verifier(SECRET))({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
        self.assertEqual(seen, ["lifespan"])

    def test_a_client_that_goes_away(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.fail("called")

        async def receive() -> Dict[str, Any]:
            return {"type": "http.disconnect"}

        asyncio.run(ASGIMiddleware(app, Verifier(SECRET))({"type": "http", "headers": []}, receive, None))  # type: ignore[arg-type]


if __name__ == "__main__":
    unittest.main()
