"""The vectors that every language's library is held to."""

import json
import logging
import pathlib
import random
import unittest

from posthaste_webhook import ErrorCode, Verifier, WebhookError, sign, sign_ed25519, sign_standard
from posthaste_webhook.receiver import Receiver

FILE = json.loads((pathlib.Path(__file__).parents[3] / "webhook/testdata/vectors.json").read_text("utf-8"))


class Vectors(unittest.TestCase):
    def test_the_file_is_whole(self) -> None:
        for part in ("vectors", "ed25519", "deliveries", "secrets_refused", "keys_refused", "alerts"):
            self.assertTrue(FILE.get(part), part)
        official = [v for v in FILE["vectors"] if v["name"] == "the official Standard Webhooks vector"]
        self.assertEqual(official[0]["standard"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        accepted = sum(d["accepted"] for d in FILE["deliveries"])
        self.assertTrue(0 < accepted < len(FILE["deliveries"]))

    def test_signs(self) -> None:
        for v in FILE["vectors"]:
            with self.subTest(v["name"]):
                for body in (v["body"].encode(), bytearray(v["body"].encode()), memoryview(v["body"].encode())):
                    self.assertEqual(sign(v["secret"], body), v["plain"])
                    self.assertEqual(sign_standard(v["secret"], v["id"], v["timestamp"], body), v["standard"])

    def test_signs_with_ed25519(self) -> None:
        for v in FILE["ed25519"]:
            with self.subTest(v["name"]):
                body = v["body"].encode()
                self.assertEqual(sign_ed25519(v["private"], v["id"], v["timestamp"], body), v["standard"])
                headers = {"webhook-id": v["id"], "webhook-timestamp": str(v["timestamp"]), "webhook-signature": v["standard"]}
                self.assertEqual(Verifier(v["public"], now=lambda: v["timestamp"]).verify(headers, body), v["id"])

    def test_deliveries(self) -> None:
        for d in FILE["deliveries"]:
            with self.subTest(d["name"]):
                verifier = Verifier(d["secrets"], now=lambda: d["now"])
                for headers in (d["headers"], {k.upper(): v for k, v in d["headers"].items()}):
                    if d["accepted"]:
                        verifier.verify(headers, d["body"].encode())
                    else:
                        with self.assertRaises(WebhookError):
                            verifier.verify(headers, d["body"].encode())

    def test_alerts(self) -> None:
        for a in FILE["alerts"]:
            with self.subTest(a["name"]):
                clock, alerts, logger = [0], [], logging.Logger("test")
                logger.addHandler(logging.NullHandler())
                receiver = Receiver(
                    Verifier(FILE["vectors"][1]["secret"], now=lambda: clock[0]),
                    logger=logger,
                    alert_after=a["alert_after"],
                    alert_window=a["alert_window"],
                    alert=lambda n: alerts.append([clock[0], n]),
                )
                genuine = {"Payment-Signature": sign(FILE["vectors"][1]["secret"], b"{}")}
                for step in a["steps"]:
                    clock[0] = step["at"]
                    for _ in range(step["forged"]):
                        with self.assertRaises(WebhookError):
                            receiver.verify({"Payment-Signature": "0" * 64}, b"{}", "")
                    for _ in range(step["genuine"]):
                        receiver.verify(genuine, b"{}", "")
                self.assertEqual(alerts, a["alerts"])

    def test_refuses_what_is_no_secret(self) -> None:
        for secret in [*FILE["secrets_refused"], None, 7]:
            with self.subTest(secret), self.assertRaises(WebhookError) as caught:
                Verifier([secret])  # type: ignore[list-item]
            self.assertEqual(caught.exception.code, ErrorCode.BAD_SECRET)
        with self.assertRaises(WebhookError):
            Verifier([])

    def test_refuses_what_is_no_key(self) -> None:
        for key in FILE["keys_refused"]:
            with self.subTest(key), self.assertRaises(WebhookError):
                Verifier(key)
        for key in ("", "whsk_", FILE["ed25519"][0]["public"], FILE["ed25519"][0]["private"][:-4]):
            with self.subTest(key), self.assertRaises(WebhookError) as caught:
                sign_ed25519(key, "a", 1, b"")
            self.assertEqual(caught.exception.code, ErrorCode.BAD_KEY)


class Reasons(unittest.TestCase):
    def test_says_why(self) -> None:
        v = FILE["vectors"][1]
        body = v["body"].encode()
        good = {"webhook-id": v["id"], "webhook-timestamp": str(v["timestamp"]), "webhook-signature": v["standard"]}
        at = lambda shift, **options: Verifier(v["secret"], now=lambda: v["timestamp"] + shift, **options)  # noqa: E731
        at(0).verify(good, body)
        at(301, tolerance=301).verify(good, body)
        at(0, signature_header="Acme-Signature").verify({"acme-signature": v["plain"]}, body)
        for code, verifier, headers, text in [
            (ErrorCode.NO_SIGNATURE, at(0), {}, body),
            (ErrorCode.NO_SIGNATURE, at(0, require_standard=True), {"Payment-Signature": v["plain"]}, body),
            (ErrorCode.MALFORMED, at(0), {**good, "webhook-id": ""}, body),
            (ErrorCode.MALFORMED, at(0), {**good, "webhook-timestamp": "1e5"}, body),
            (ErrorCode.MALFORMED, at(0), {**good, "webhook-timestamp": "١٢"}, body),
            (ErrorCode.MALFORMED, at(0), {**good, "webhook-timestamp": "9" * 13}, body),
            (ErrorCode.MALFORMED, at(0), {**good, "webhook-signature": "v1,x " * 33}, body),
            (ErrorCode.MALFORMED, at(0), {"Payment-Signature": "x"}, body),
            (ErrorCode.BAD_SIGNATURE, at(0), good, body + b" "),
            (ErrorCode.BAD_SIGNATURE, at(0), {"Payment-Signature": v["plain"]}, body + b" "),
            (ErrorCode.TOO_OLD, at(301), good, body),
            (ErrorCode.TOO_NEW, at(-301), good, body),
        ]:
            with self.subTest(code=code, headers=headers), self.assertRaises(WebhookError) as caught:
                verifier.verify(headers, text)
            self.assertEqual(caught.exception.code, code)
            self.assertNotIn(v["secret"][6:], str(caught.exception))
        for wrong in (v["body"], json.loads(v["body"]), None):
            with self.assertRaises(TypeError):
                at(0).verify(good, wrong)

    def test_survives_any_header(self) -> None:
        alphabet = ["v1,", "v1a,", " ", ",", "=", "A", "/", "+", "0", "-", "\0", "é", "😀", "\n", "\udc80"]
        rnd = random.Random(1)
        word = lambda: "".join(rnd.choices(alphabet, k=rnd.randrange(40)))  # noqa: E731
        verifier = Verifier([FILE["vectors"][1]["secret"], FILE["ed25519"][0]["public"]], now=lambda: 1000)
        for _ in range(20_000):
            headers = {
                "webhook-id": word(),
                "webhook-timestamp": rnd.choice(["1000", word()]),
                "webhook-signature": word(),
                "payment-signature": word(),
            }
            with self.assertRaises(WebhookError):
                verifier.verify(headers, word().encode("utf-8", "surrogatepass"))


if __name__ == "__main__":
    unittest.main()
