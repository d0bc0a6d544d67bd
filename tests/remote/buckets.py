"""A bucket of a store and a folder, seen past the package."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUCKET = "bucket"


@dataclass(frozen=True)
class Bucket:
    """A bucket of the server, seen past the package.

    Attributes:
        address: of the bucket.
        url: of the server.
        client: of boto3.
    """

    address: str
    url: str
    client: Any

    def files(self, prefix: str) -> dict[str, str]:
        """Return the digests of the objects below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
        return {key.removeprefix(f"{prefix}/"): hashlib.sha256(self.read(key)).hexdigest() for key in keys}

    def read(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return data

    def write(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def write_folder(self, folder: Path, prefix: str) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.write(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def digests(folder: Path) -> dict[str, str]:
    """Return the digests of the files below a folder, as `Bucket.files` does."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
