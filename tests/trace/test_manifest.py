"""A manifest that is damaged or edited is one line; no name in it leads out of the run."""

import json
from copy import deepcopy

import numpy as np
import pytest

import specialize
from planted.stored import store_trace
from specialize.errors import TraceError
from specialize.trace import validate_trace
from specialize.trace.manifest import read_manifest, write_manifest

ROUTER = ("routers", 0)
SHARD = ("shards", 0)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trace") / "run"
    store_trace(folder, np.repeat(np.arange(2), 3), {3: np.arange(12).reshape(6, 2) % 4}, num_experts=4)
    return folder


@pytest.fixture
def stored(template):
    """A manifest as it lies on the disk, without its digest: as earlier versions wrote it."""
    manifest = json.loads((template / "manifest.json").read_text())
    return {key: value for key, value in manifest.items() if key != "digest"}


def expect_refusal(folder, text, match):
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    for read in (specialize.open_trace, validate_trace, specialize.syntax):
        with pytest.raises(TraceError, match=match) as caught:
            read(folder)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500


def replaced(manifest, place, value):
    changed = deepcopy(manifest)
    inner = changed
    for part in place[:-1]:
        inner = inner[part]
    if value is LEFT_OUT:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return changed


LEFT_OUT = object()
NESTED = f"""{{"format": "specialize-trace", "version": 2, "model": {"[" * 60}{"]" * 60}}}"""
WRONG = [
    *(((key,), LEFT_OUT, "manifest.json: ") for key in ("format", "version", "complete", "shards", "documents")),
    *(((*ROUTER, key), LEFT_OUT, f"0.{key}: Field required") for key in ("layer", "name", "num_experts", "top_k")),
    *(((*SHARD, key), LEFT_OUT, f"shards.0.{key}: Field required") for key in ("tokens", "files")),
    (("complete",), "yes", "complete: should be a valid boolean, got 'yes'"),
    (("version",), True, "expected format version 1 to 4, got True"),
    (("version",), 10**400, "expected format version"),
    (("routers",), {}, "routers: should be a valid list"),
    (("routers",), [], "a complete trace should have routers"),
    (("routers",), [None], "routers.0: should be"),
    ((*ROUTER, "layer"), "3", "should be a valid integer, got '3'"),
    ((*ROUTER, "layer"), -1, "greater than or equal to 0, got -1"),
    ((*ROUTER, "layer"), 2**40, "less than"),
    ((*ROUTER, "layer"), 3.5, "valid integer"),
    ((*ROUTER, "name"), "", "at least 1 character"),
    ((*ROUTER, "name"), "x" * 5000, "at most 4096 characters"),
    ((*ROUTER, "name"), ["x"], "valid string"),
    ((*ROUTER, "num_experts"), 0, "greater than or equal to 1"),
    ((*ROUTER, "num_experts"), 10**30, "less than or equal to 32767"),
    ((*ROUTER, "top_k"), 5, "top_k and identity_experts should be at most num_experts"),
    ((*ROUTER, "unit"), "word", "'token' or 'sequence', got 'word'"),
    ((*ROUTER, "routing"), None, "got None"),
    ((*ROUTER, "draw"), -1, "greater than or equal to 0, got -1"),
    ((*ROUTER, "draw"), 1, "draw should be 0 for a learned router"),
    (ROUTER, {"layer": 0, "name": "x", "num_experts": 4, "top_k": 1, "routing": "random", "draw": 1}, "without gaps"),
    ((*ROUTER, "colour"), "red", "routers.0.colour: Extra inputs are not permitted"),
    (("contents",), ["pictures"], "'weights', 'logits', 'norms', 'predictions' or 'roles', got 'pictures'"),
    ((*SHARD, "tokens"), -5, "greater than or equal to 0"),
    ((*SHARD, "tokens"), True, "valid integer, got True"),
    ((*SHARD, "tokens"), float("nan"), "valid integer"),
    ((*SHARD, "files"), {"../../etc/passwd": "0" * 64}, "files tokens-00000.arrow and routing-00000.arrow"),
    ((*SHARD, "files"), {"x" * 5000: "0" * 64}, "files tokens-00000.arrow and routing-00000.arrow"),
    ((*SHARD, "files", "tokens-00000.arrow"), "../../etc/passwd", "should match pattern"),
    ((*SHARD, "files", "tokens-00000.arrow"), None, "valid string"),
    (("documents", "count"), "2", "valid integer"),
    (("documents", "sha256"), "G" * 64, "should match pattern"),
    (("documents",), [], "should be"),
    (("settings",), [], "settings: should be a valid dictionary"),
    (("model",), "a model", "model: should be a valid dictionary"),
    (("versions",), {"torch": 2}, "versions.torch: should be a valid string"),
    (("digest",), "0" * 64, "its contents differ from the digest"),
    (("digest",), 7, "digest: should be a valid string"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value", "match"), WRONG)
def test_a_wrong_value(tmp_path, stored, place, value, match):
    expect_refusal(tmp_path / "run", json.dumps(replaced(stored, place, value)), match)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"", "expected JSON"),
        (b"\xff\xfe\x00", "expected JSON"),
        (b'{"format": ' + b"9" * 5000 + b"}", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (NESTED.encode(), "expected values nested at most 50 deep"),
        (b"null", "expected the manifest of a specialize-trace"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_manifest(tmp_path, text, match):
    expect_refusal(tmp_path / "run", text, match)


def test_a_folder_in_place_of_the_file(tmp_path):
    (tmp_path / "run/manifest.json").mkdir(parents=True)
    with pytest.raises(TraceError, match=r"expected a run folder with a manifest\.json, found none"):
        read_manifest(tmp_path / "run")


def test_a_manifest_of_an_earlier_version_has_no_digest(tmp_path, template, stored):
    expected = read_manifest(template)
    (tmp_path / "manifest.json").write_text(json.dumps(stored))
    assert read_manifest(tmp_path) == expected


def test_every_bit_counts(tmp_path, template):
    """No flipped bit changes what is read; those in the key of the digest alone are not noticed."""
    data, expected = (template / "manifest.json").read_bytes(), read_manifest(template)
    unnoticed = 0
    for place in range(0, 8 * len(data), 23):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        (tmp_path / "manifest.json").write_bytes(flipped)
        try:
            read = read_manifest(tmp_path)
        except TraceError:
            continue
        unnoticed += 1
        assert {key: value for key, value in read.items() if key in expected} == expected
    assert unnoticed <= 6  # in the key of the digest, or between values


def test_what_is_written_can_be_read(tmp_path, stored):
    names = {1: "one", 10: "ten", 2: "two"}  # keys that JSON turns into text, and sorts otherwise
    write_manifest(tmp_path, stored | {"model": {"labels": names, "limits": (0.1, float("inf")), "path": "\udcff"}})
    model = read_manifest(tmp_path)["model"]
    assert model == {"labels": {"1": "one", "10": "ten", "2": "two"}, "limits": [0.1, float("inf")], "path": "\udcff"}
    with pytest.raises(TraceError, match="a complete trace should have routers"):
        write_manifest(tmp_path, stored | {"routers": []})
    assert read_manifest(tmp_path)["model"] == model
