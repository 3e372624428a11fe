"""The wheel and the source archive that pip builds from a checkout."""

import base64
import csv
import hashlib
import importlib.util
import io
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import unittest
import zipfile

ROOT = pathlib.Path(__file__).parents[1]


def backend():
    spec = importlib.util.spec_from_file_location("build_backend", ROOT / "build_backend.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def runs(path: pathlib.Path) -> str:
    """Imports the package from a path and nowhere else, and signs with it."""
    code = "import posthaste_webhook as p; print(p.sign('whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=', b''), p.__file__)"
    out = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(path)!r}); {code}"], capture_output=True, text=True, cwd=path.parent, check=True
    )
    return out.stdout


class Build(unittest.TestCase):
    def setUp(self) -> None:
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        self.path = pathlib.Path(self.dir.name)

    def test_wheel(self) -> None:
        name = backend().build_wheel(self.dir.name)
        wheel = zipfile.ZipFile(self.path / name)
        self.addCleanup(wheel.close)
        record = {row[0]: row for row in csv.reader(io.StringIO(wheel.read([n for n in wheel.namelist() if n.endswith("/RECORD")][0]).decode()))}
        self.assertEqual(set(record), set(wheel.namelist()))
        for path, digest, size in record.values():
            if digest:
                content = wheel.read(path)
                self.assertEqual(digest, "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode())
                self.assertEqual(int(size), len(content))
        sources = {f"posthaste_webhook/{p.name}" for p in (ROOT / "posthaste_webhook").glob("*.py")} | {"posthaste_webhook/py.typed"}
        self.assertEqual(sources, {n for n in wheel.namelist() if n.startswith("posthaste_webhook/")})
        metadata = wheel.read([n for n in wheel.namelist() if n.endswith("/METADATA")][0]).decode()
        for line in ("Name: posthaste-webhook", "Version: ", "Requires-Python: >=3.9", "License: Apache-2.0", "# posthaste-webhook"):
            self.assertIn(line, metadata)
        self.assertIn(name, runs(self.path / name))

    def test_sdist(self) -> None:
        with tarfile.open(self.path / backend().build_sdist(self.dir.name)) as archive:
            names = {n.split("/", 1)[1] for n in archive.getnames()}
        self.assertLessEqual({"PKG-INFO", "README.md", "pyproject.toml", "build_backend.py", "posthaste_webhook/__init__.py"}, names)

    def test_pip_installs_it(self) -> None:
        if importlib.util.find_spec("pip") is None:
            self.skipTest("pip is not installed")
        target = self.path / "site"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--target", str(target), str(ROOT)]
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(str(target), runs(target))


if __name__ == "__main__":
    unittest.main()
