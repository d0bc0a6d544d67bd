"""Changes of inputs that keep their form: values in JSON, members of an input, headers with their lengths."""

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

from analyses.fuzzing.harness import SEPARATOR

Mutate = Callable[[bytes, Random], bytes]


class Raw(str):
    """Text that is written into JSON as it is."""

    __slots__ = ()


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 127, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, -(2**31) - 1, 2**53, 2**63),
    *(-(2**63) - 1, 2**64, 0.5, -0.0, 1e308, 1e-320, "", " ", "a", "text", "id", "\0", "\u2028", "\ufeff", "\u200b"),
    *([], {}, [[]], [{}], {"": None}, [None], [1, "a"], "x" * 300, "../../etc/passwd", "-1", "NaN", "\ud83d\ude42"),
    *(Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e999"), Raw("9" * 5000), Raw("-" + "1" * 400), Raw("1.0")),
    *(Raw(r'"\ud800"'), Raw(r'"a\udfffb"'), Raw("[" * 2000 + "]" * 2000), Raw('{"a":' * 600 + "1" + "}" * 600)),
    *(Raw('{"a":1,"a":2}'), Raw("01"), Raw("'a'"), Raw('"\t"'), Raw(r'"\u0000"')),
)


def dump_json(value: Any) -> str:
    """Return JSON in which `Raw` text stands as it is and pairs of a `_Pairs` may repeat a key."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dump_json(key)}: {dump_json(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(dump_json, value)) + "]"
    return json.dumps(value)


def mutate_value(value: Any, rng: Random) -> Any:
    """Return a JSON value with one part changed: replaced, removed, repeated, renamed or moved."""
    holders = list(_holders(value))
    if not holders or rng.random() < 0.02:
        return rng.choice(VALUES)
    holder = rng.choice(holders)
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    if not keys:
        if isinstance(holder, dict):
            holder[rng.choice(("a", "text", ""))] = rng.choice(VALUES)
        else:
            holder.append(rng.choice(VALUES))
        return value
    key, action = rng.choice(keys), rng.random()
    if action < 0.5:
        holder[key] = _other(holder[key], rng)
    elif action < 0.65:
        del holder[key]
    elif action < 0.8:
        source = rng.choice(holders)
        parts = list(source.values()) if isinstance(source, dict) else source
        holder[key] = json.loads(_plain(rng.choice(parts))) if parts else None
    elif isinstance(holder, list):
        holder[key:key] = [holder[key]] * rng.choice((1, 2, 50))
    elif action < 0.9:
        holder[rng.choice((key + " ", key.upper(), "x" * 3000, "", "\ufeff", Raw(r'"\ud800"')))] = holder.pop(key)
    else:
        holder[Raw(json.dumps(key))] = rng.choice(VALUES)  # the key a second time
    return value


def _other(value: Any, rng: Random) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.4:
        return value + rng.choice((-1, 1, 10, -1000, 2**16, 2**31))
    if isinstance(value, str) and value and rng.random() < 0.3:
        place = rng.randrange(len(value))
        return value[:place] + rng.choice(("", "\0", "é", "\ud800", "\n", "=", "../", "\x1b[31m")) + value[place + 1 :]
    return rng.choice(VALUES)


def _plain(value: Any) -> str:
    text = dump_json(value)
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return "null"
    return text


def _holders(value: Any) -> Any:
    if isinstance(value, dict | list):
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from _holders(each)


def mutate_json(data: bytes, rng: Random) -> bytes:
    """Return JSON with a changed value; bytes are changed where it is no JSON, or nested very deeply."""
    try:
        value = json.loads(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            value = mutate_value(value, rng)
        return dump_json(value).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return mutate_bytes(data, rng)


def mutate_json_line(data: bytes, rng: Random) -> bytes:
    """Return JSON Lines with a changed value in one line, or a line removed, repeated or moved."""
    lines = data.split(b"\n")
    place, action = rng.randrange(len(lines)), rng.random()
    if action < 0.75:
        lines[place] = mutate_json(lines[place], rng)
    elif action < 0.85:
        lines[place:place] = [lines[rng.randrange(len(lines))]] * rng.choice((1, 1, 120))
    elif len(lines) > 1:
        del lines[place]
    return b"\n".join(lines)


def mutate_safetensors(data: bytes, rng: Random) -> bytes:
    """Return a file of safetensors with a changed header, whose length is mostly right."""
    size = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + size], data[8 + size :]
    header = mutate_json(header, rng)
    length = len(header) if rng.random() < 0.8 else rng.choice((0, 2**63, 2**40, len(header) + 1))
    return struct.pack("<Q", length) + header + rest


def mutate_cells(data: bytes, rng: Random, *, separator: bytes = b"\t") -> bytes:
    """Return a table of separated values with a changed cell or line."""
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    cells = lines[place].split(separator)
    cell, action = rng.randrange(len(cells)), rng.random()
    if action < 0.5:
        cells[cell] = rng.choice((b"", b"-1", b"0", b"1", b"nan", b"inf", b"1e999", b"_", b"-", b"1-2", b"2.1", b"\0"))
    elif action < 0.6:
        cells[cell] = rng.choice((b"9" * 30, b'"', b"\xff", b"\xed\xa0\x80", b"\r", b"=1", b"99999999999999999999"))
    elif action < 0.7:
        cells[cell:cell] = [cells[cell]] * rng.choice((1, 2, 200))
    elif action < 0.8:
        del cells[cell]
    else:
        lines.insert(place, lines[rng.randrange(len(lines))])
    lines[place] = separator.join(cells) if action < 0.8 else lines[place]
    return b"\n".join(lines)


def mutate_bytes(data: bytes, rng: Random) -> bytes:
    """Return bytes with a few of them changed, inserted, removed, or cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = rng.randrange(len(changed) + 1)
        action = rng.random()
        if action < 0.4 and place < len(changed):
            changed[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif action < 0.6 and place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
        elif action < 0.75:
            changed[place:place] = rng.choice((b"\0", b"\xff" * 4, b"\n", b"\t", bytes(8), SEPARATOR))
        elif action < 0.9:
            del changed[place : place + rng.choice((1, 2, 8, 64))]
        else:
            del changed[place:]
    return bytes(changed)


def mutate_member(data: bytes, rng: Random, mutate: Mutate) -> bytes:
    """Change one file of an input by `mutate`, or its kind or options."""
    if rng.random() < 0.05:
        place = rng.randrange(2)
        return data[:place] + bytes([rng.randrange(16)]) + data[place + 1 :]
    members = data[2:].split(SEPARATOR)
    place, action = rng.randrange(len(members)), rng.random()
    if action < 0.9:
        members[place] = mutate(members[place], rng)
    elif action < 0.95:
        members.insert(place, members[rng.randrange(len(members))])
    elif len(members) > 1:
        del members[place]
    return data[:2] + SEPARATOR.join(members)
