"""`keygen`, `pack`, `sign`, `verify`: who vouches for a voice's files."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from segue.errors import SegueError
from segue_cli.console import say_line

KeyOption = Annotated[Path, typer.Option("--key", "-k", help="Private key made by segue keygen.")]
FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder with the files of one version.")]


class BundleError(SegueError):
    """A bundle or key file that cannot be made or read."""


def keygen(
    out: Annotated[Path, typer.Option("-o", "--out", help="Private key file to make.")] = Path("segue.key"),
) -> None:
    """Make a signing key: FILE (private, mode 0600) and FILE.pub (for fleets that shall trust it)."""
    from segue.signing import generate_key

    key = generate_key()
    public = out.with_name(out.name + ".pub")
    try:
        fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as stream:
            stream.write(key.to_pem())
        public.write_text(key.public.to_text() + "\n", encoding="ascii")
    except FileExistsError as error:
        raise BundleError(f"{out} exists; keys are never overwritten, name another file with -o") from error
    except OSError as error:
        raise BundleError(f"{error.filename or out} cannot be written: {error.strerror}") from error
    say_line(f"{out} (private), {public}\n{key.public.to_text()}  key id {key.public.key_id}")


def pack(
    folder: FolderArgument,
    name: Annotated[str | None, typer.Option(help="Name of the bundle; default: the folder's.")] = None,
) -> None:
    """Write bundle.json: the sha256 and size of every file in the folder."""
    from segue.signing import MANIFEST_NAME, BundleFile, Manifest, pack_manifest

    files = {file.relative_to(folder).as_posix(): BundleFile(*_measure(file)) for file in _files(folder)}
    if not files:
        raise BundleError(f"{folder} holds no files")
    manifest = Manifest(name=name or folder.resolve().name, created=datetime.now(UTC), files=files)
    target = folder / MANIFEST_NAME
    _write(target, pack_manifest(manifest))
    say_line(f"{target}: {len(files)} files; sign it with: segue sign {folder} --key KEY")


def sign(folder: FolderArgument, key: KeyOption) -> None:
    """Sign bundle.json; a second key adds a second signature."""
    from segue.signing import SIGNATURE_NAME, parse_private_key
    from segue.signing import sign as sign_bytes

    content = _manifest(folder)
    private = parse_private_key(_read(key))
    target = folder / SIGNATURE_NAME
    existing = target.read_bytes() if target.exists() else b""
    others = [line for line in existing.splitlines(keepends=True) if private.public.key_id.encode() not in line]
    _write(target, b"".join(others) + sign_bytes(content, private))
    say_line(f"{target}: signed by {private.public.key_id}")


def verify(
    folder: FolderArgument,
    key: Annotated[list[str], typer.Option("--key", "-k", help="Trusted public key, or a .pub file; repeatable.")],
) -> None:
    """Check signature, digests and sizes of a bundle; exit code 1 when anything does not hold."""
    from segue.signing import SIGNATURE_NAME, parse_manifest, parse_public_key, verify_signature

    trusted = [parse_public_key(_public(each)) for each in key]
    content = _manifest(folder)
    signatures = folder / SIGNATURE_NAME
    key_id = verify_signature(content, signatures.read_bytes() if signatures.exists() else b"", trusted)
    manifest = parse_manifest(content)
    for file_name, promised in manifest.files.items():
        file = folder / file_name
        if not file.resolve().is_relative_to(folder.resolve()):
            raise BundleError(f"{file_name} leads out of the bundle")
        if not file.is_file():
            raise BundleError(f"{file} is in the manifest but not in the folder")
        if _measure(file) != (promised.sha256, promised.size_bytes):
            raise BundleError(f"{file} is not what was signed")
    say_line(f"{folder}: {len(manifest.files)} files hold, signed by {key_id}")


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder")
    found = (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith((".", "bundle.json")))
    return sorted(found)


def _measure(file: Path) -> tuple[str, int]:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), file.stat().st_size


def _manifest(folder: Path) -> bytes:
    from segue.signing import MANIFEST_NAME

    return _read(folder / MANIFEST_NAME, hint=f"; make it with: segue pack {folder}")


def _public(text: str) -> str:
    return text if text.startswith("ed25519:") else _read(Path(text)).decode("ascii", errors="replace")


def _read(file: Path, *, hint: str = "") -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}{hint}") from error


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise BundleError(f"{file} cannot be written: {error.strerror}") from error
