"""RFC 8032, section 7.1, and what must not verify."""

import random
import unittest

from posthaste_webhook import ed25519

# Seed, public key, message, signature.
RFC8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
ORDER = 2**252 + 27742317777372353535851937790883648493


class Ed25519(unittest.TestCase):
    def test_rfc_8032(self) -> None:
        for seed, public, message, signature in RFC8032:
            with self.subTest(message=message):
                raw = bytes.fromhex(seed)
                self.assertEqual(ed25519.public_key(raw).hex(), public)
                self.assertEqual(ed25519.sign(raw, bytes.fromhex(message)).hex(), signature)
                self.assertTrue(ed25519.verify(bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature)))

    def test_any_changed_bit_is_noticed(self) -> None:
        public, message, signature = (bytes.fromhex(h) for h in RFC8032[2][1:])
        rnd = random.Random(1)
        for what, raw in (("public", public), ("message", message), ("signature", signature)):
            for bit in rnd.sample(range(8 * len(raw)), min(24, 8 * len(raw))):
                changed = bytearray(raw)
                changed[bit // 8] ^= 1 << bit % 8
                values = {"public": public, "message": message, "signature": signature, what: bytes(changed)}
                self.assertFalse(ed25519.verify(values["public"], values["message"], values["signature"]), f"{what}, bit {bit}")

    def test_malformed(self) -> None:
        public, message, signature = (bytes.fromhex(h) for h in RFC8032[1][1:])
        s = int.from_bytes(signature[32:], "little")
        for bad in (b"", signature[:63], signature + b"\0", signature[:32] + (s + ORDER).to_bytes(32, "little"), b"\xff" * 64):
            self.assertFalse(ed25519.verify(public, message, bad))
        for bad in (b"", public[:31], b"\xff" * 32, (2**255 - 19).to_bytes(32, "little"), (2).to_bytes(32, "little")):
            self.assertFalse(ed25519.verify(bad, message, signature))
            self.assertFalse(ed25519.valid_public_key(bad))

    def test_round_trips(self) -> None:
        rnd = random.Random(2)
        for _ in range(10):
            seed, message = rnd.randbytes(32), rnd.randbytes(rnd.randrange(100))
            self.assertTrue(ed25519.verify(ed25519.public_key(seed), message, ed25519.sign(seed, message)))


if __name__ == "__main__":
    unittest.main()
