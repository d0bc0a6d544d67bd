"""Addresses, read and checked."""

from dataclasses import dataclass
from pathlib import Path

from specialize.errors import StoreError

MANIFEST = "manifest.json"
LOCAL = ("file", "local")  # the protocols of local files
_WITH_USERS = ("abfs", "abfss", "az", "sftp", "ssh")  # protocols whose addresses name a container or user before an @


@dataclass(frozen=True)
class Address:
    """A place in an object store.

    Attributes:
        protocol: such as ``s3``.
        path: bucket and name, without slashes at the ends.
    """

    protocol: str
    path: str

    def __str__(self) -> str:
        return f"{self.protocol}://{self.path}"

    def below(self, name: str) -> "Address":
        """Return the address of something below this one; of itself if the name is empty."""
        return Address(self.protocol, f"{self.path}/{name}".strip("/"))


def parse_address(text: str) -> Address:
    """Return the address that a text is.

    Raises:
        StoreError: it contains credentials, a chain of protocols, or names that cannot be those of files.
    """
    protocol, _, path = text.partition("://")
    protocol = protocol.lower()
    if "::" in protocol:
        raise StoreError(
            f"{protocol}://…: expected the address of one store, got a chain of protocols; give the last one alone"
        )
    place = path.split("/", 1)[0]
    user, at, host = place.rpartition("@")
    if at and (":" in user or protocol not in _WITH_USERS):
        raise StoreError(
            f"{protocol}://…@{host}: expected an address without credentials, which would be stored"
            " with the run; set them as the store's library reads them, such as the environment variables of AWS"
        )
    if protocol in ("http", "https") and "?" in path:
        raise StoreError(f"{protocol}://{place}/…: expected an address without a query, which may hold credentials")
    parts = path.strip("/").split("/")
    if any(part in ("", ".", "..") or part.startswith("..") or "\0" in part for part in parts):
        raise StoreError(f"{text}: expected an address PROTOCOL://BUCKET/NAME without empty parts, . and ..")
    return Address(protocol, "/".join(parts))


def local_path(text: str) -> Path:
    """Return the path of an address of a local file."""
    path = text.partition("://")[2]
    return Path(path.removeprefix("localhost") if path.startswith("localhost/") else path)
