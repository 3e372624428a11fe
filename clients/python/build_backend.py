"""Builds the package with the standard library alone (PEP 517, PEP 660).

Installing from a checkout needs no network: no other build system is downloaded.
"""

import base64
import hashlib
import pathlib
import re
import tarfile
import zipfile
from typing import Any, Dict, List, Optional, Tuple

_ROOT = pathlib.Path(__file__).resolve().parent
_PACKAGE = "posthaste_webhook"


def _project() -> Dict[str, str]:
    """The strings of the [project] table."""
    table = (_ROOT / "pyproject.toml").read_text("utf-8").split("\n[project]\n")[1].split("\n[")[0]
    return dict(re.findall(r'^([a-z-]+) = "(.*)"$', table, re.MULTILINE))


def _metadata(project: Dict[str, str]) -> str:
    """Core metadata (version 2.1), with the README as the description."""
    fields = {
        "Metadata-Version": "2.1",
        "Name": project["name"],
        "Version": project["version"],
        "Summary": project["description"],
        "License": project["license"],
        "Requires-Python": project["requires-python"],
        "Description-Content-Type": "text/markdown",
    }
    readme = (_ROOT / project["readme"]).read_text("utf-8")
    return "".join(f"{name}: {value}\n" for name, value in fields.items()) + "\n" + readme


def _sources() -> List[pathlib.Path]:
    return sorted(p for p in (_ROOT / _PACKAGE).iterdir() if p.suffix == ".py" or p.name == "py.typed")


def _write_wheel(directory: str, files: List[Tuple[str, bytes]]) -> str:
    project = _project()
    stem = f"{_PACKAGE}-{project['version']}"
    info = f"{stem}.dist-info"
    tags = "Wheel-Version: 1.0\nGenerator: posthaste\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = [*files, (f"{info}/METADATA", _metadata(project).encode()), (f"{info}/WHEEL", tags.encode())]
    record = ""
    for path, content in files:
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(content)}\n"
    record += f"{info}/RECORD,,\n"
    name = f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(directory) / name, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, content in [*files, (f"{info}/RECORD", record.encode())]:
            entry = zipfile.ZipInfo(path)  # dated 1980, so that builds are reproducible
            entry.external_attr = 0o644 << 16
            wheel.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return name


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: Optional[str] = None) -> str:
    return _write_wheel(wheel_directory, [(f"{_PACKAGE}/{p.name}", p.read_bytes()) for p in _sources()])


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: Optional[str] = None) -> str:
    return _write_wheel(wheel_directory, [(f"{_PACKAGE}.pth", f"{_ROOT}\n".encode())])


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    project = _project()
    stem = f"{_PACKAGE}-{project['version']}"
    others = [_ROOT / name for name in ("pyproject.toml", "build_backend.py", project["readme"])]
    with tarfile.open(pathlib.Path(sdist_directory) / f"{stem}.tar.gz", "w:gz") as archive:
        for path in [*others, *_sources()]:
            archive.add(path, f"{stem}/{path.relative_to(_ROOT).as_posix()}")
        info = pathlib.Path(sdist_directory) / "PKG-INFO"
        info.write_text(_metadata(project), "utf-8")
        archive.add(info, f"{stem}/PKG-INFO")
        info.unlink()
    return f"{stem}.tar.gz"
