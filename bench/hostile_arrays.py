"""Files of own arrays as nobody should write them, and as other machines do: `name, bytes` each.

`same_arrays` yields files that hold `PLAIN` in another form: trained on, they give the same bits.
`hostile_arrays` yields files that must be refused in one line, `odd_arrays` those that train with a
notice. `python -m bench.hostile_arrays DIR` writes them all.
"""

from __future__ import annotations

import pickle
import struct
import sys
import warnings
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

N = 40
Arrays = dict[str, NDArray[Any]]
Files = Iterator[tuple[str, bytes]]
CENTRAL = b"PK\x01\x02"  # begins an entry of an archive's directory
# Where an entry of the directory has what, by struct's letter: flags, method, checksum, sizes.
FIELDS = {
    "flags": (8, "H"),
    "method": (10, "H"),
    "crc": (16, "I"),
    "compressed": (20, "I"),
    "size": (24, "I"),
    "offset": (42, "I"),
}


def build_plain() -> Arrays:
    """Forty pictures of 8 x 8 bytes, labels 0 to 3, and a factor of two values."""
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 4
    images = rng.integers(0, 256, (N, 8, 8), dtype=np.uint8)
    return {"images": images, "labels": labels, "factor_odd": labels % 2}


PLAIN = build_plain()


class Payload:
    """An object whose pickle ends the process that loads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit(99)",)


def build_header(descr: object, shape: object, is_fortran: object = False) -> str:
    """The text of a header of npy."""
    return repr({"descr": descr, "fortran_order": is_fortran, "shape": shape})


def pack_npy(header: str, content: bytes, version: tuple[int, int] = (1, 0)) -> bytes:
    """A member: magic, version, the header with its length, and the numbers' bytes."""
    text = f"{header}\n".encode("latin1")
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + content


def save_npy(values: NDArray[Any]) -> bytes:
    """A member as numpy writes it."""
    file = BytesIO()
    np.save(file, values)
    return file.getvalue()


def pack_npz(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of these members, names twice where they are given twice."""
    file = BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def save_arrays(arrays: Arrays, method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive as numpy writes it."""
    return pack_npz([(f"{name}.npy", save_npy(array)) for name, array in arrays.items()], method)


def change(**arrays: Any) -> bytes:
    """The plain arrays with some others, or without those that are None."""
    changed = {**PLAIN, **arrays}
    return save_arrays({name: values for name, values in changed.items() if values is not None})


def replace_member(name: str, content: bytes) -> bytes:
    """The plain archive with another member in an array's place."""
    members = {array: save_npy(values) for array, values in PLAIN.items()} | {name: content}
    return pack_npz([(f"{array}.npy", packed) for array, packed in members.items()])


def add_member(name: str, content: bytes | None = None) -> bytes:
    """The plain archive with a further member: the factor again, under a name as it stands."""
    content = save_npy(PLAIN["factor_odd"]) if content is None else content
    members = [(f"{array}.npy", save_npy(values)) for array, values in PLAIN.items()]
    return pack_npz([*members, (name, content)])


def patch_entry(archive: bytes, field: str, value: int, nth: int = 0) -> bytes:
    """The archive with another value in a field of the directory's nth entry."""
    place = archive.index(CENTRAL)
    for _ in range(nth):
        place = archive.index(CENTRAL, place + 1)
    offset, letter = FIELDS[field]
    patched = bytearray(archive)
    struct.pack_into(f"<{letter}", patched, place + offset, value)
    return bytes(patched)


def same_arrays() -> Files:
    """The plain arrays as other machines, orders, types and archives have them."""
    images, labels, odd = PLAIN.values()
    yield "plain", save_arrays(PLAIN)
    yield "deflated", save_arrays(PLAIN, zipfile.ZIP_DEFLATED)
    yield "one channel", change(images=images[..., None])
    yield "columns first", change(images=np.asfortranarray(images))
    yield "every second", change(labels=np.repeat(labels, 2)[::2])
    for code in ("<i8", ">i8", "<u8", ">u8", ">i4", "<i2", ">u2", "i1", "u1"):
        yield f"labels {code}", change(labels=labels.astype(code), factor_odd=odd.astype(code))
    yield "factor of truths", change(factor_odd=odd.astype(bool))
    yield "junk before", b"#!/bin/sh\n" + save_arrays(PLAIN)
    yield "a world's arrays", change(world_key=np.array([{}], object), world_row=np.arange(3))
    packed_size = patch_entry(save_arrays(PLAIN), "compressed", (1 << 32) - 2)
    yield "a packed size that lies", packed_size  # the bytes have their number and their checksum
    header = build_header("|u1", images.shape)
    yield "version 2", replace_member("images", pack_npy(header, images.tobytes(), (2, 0)))
    python_2 = header.replace("40, 8, 8", "40L, 8L, 8L")
    yield "by Python 2", replace_member("images", pack_npy(python_2, images.tobytes()))


def same_floats() -> Files:
    """Pictures of floats that all types hold, from -1 to 1: their bits are those of the first."""
    values = (PLAIN["images"].astype(np.float16) - 128) / 128
    for code in ("<f4", ">f4", "<f8", ">f8", "<f2", ">f2"):
        yield f"floats {code}", change(images=values.astype(code))
        yield f"floats {code}, columns first", change(images=np.asfortranarray(values.astype(code)))


def odd_arrays() -> Files:
    """What can be trained, with a notice."""
    images, labels, _ = PLAIN.values()
    rare = labels.copy()
    rare[:10] = np.arange(4, 14)
    yield "classes of one picture", change(labels=rare)
    yield "floats to 255", change(images=images.astype(np.float32))
    yield "a factor of one value", change(factor_odd=np.full(N, 7))
    yield "pictures all the same", change(images=np.zeros_like(images))
    yield "every picture twice", change(images=np.repeat(images[: N // 2], 2, axis=0))


def hostile_arrays() -> Files:
    """What must be refused when it is read; where something is loaded as a pickle, we are gone."""
    yield from bad_pictures()
    yield from bad_labels()
    yield from bad_names()
    yield from bad_headers()
    yield from bad_archives()


def bad_pictures() -> Files:
    """Pictures of types, shapes and numbers that cannot be shown."""
    images = PLAIN["images"]
    for code in ("<g", ">g", "c8", "c16", "i1", "i8", ">u2", "?", "M8[s]", "m8[D]", "U3", "S3"):
        kind = np.dtype(code)
        values = images.astype(np.int64) if kind.kind in "Mm" else images
        yield f"pictures of {code}", change(images=values.astype(kind))
    for number in (np.nan, np.inf, -np.inf, 1e300):
        floats = images / 255
        floats[3, 2, 1] = number
        yield f"a pixel of {number}", change(images=floats)
    for shape in ((), (0,), (N,), (N, 64), (0, 8, 8), (N, 0, 8), (N, 8, 8, 0), (N, 3, 8, 8)):
        yield f"pictures {shape}", change(images=np.zeros(shape, np.uint8))
    yield "five axes", change(images=images.reshape(N, 2, 2, 4, 4))
    yield "channels first", change(images=images[:, None])
    yield "few pictures", change(images=images[:9], labels=np.arange(9) % 3, factor_odd=None)
    yield "no pictures", change(images=None)
    record = np.zeros((N, 8, 8), [("red", "u1"), ("green", "u1")])
    yield "records", change(images=record)
    yield "objects", change(images=np.full((N, 8, 8), Payload(), object))


def bad_labels() -> Files:
    """Labels and factors that are no numbers of classes."""
    labels = PLAIN["labels"]
    floats = labels.astype(float)
    floats[5] = np.nan
    cases: dict[str, Any] = {
        "none": None,
        "floats": labels.astype(float),
        "nan": floats,
        "half floats": labels.astype(np.float16),
        "complex": labels.astype(complex),
        "strings": labels.astype(str),
        "bytes": labels.astype("S"),
        "dates": labels.astype("M8[D]"),
        "negative": labels - 1,
        "most negative": np.where(labels == 0, np.iinfo(np.int64).min, labels),
        "beyond int64": np.where(labels == 3, 2**64 - 1, labels).astype(np.uint64),
        "gaps": labels * 2,
        "from 1": labels + 1,
        "one class": np.zeros(N, int),
        "one fewer": labels[1:],
        "a column": labels[:, None],
        "one number": np.array(3),
        "empty": np.zeros(0, int),
        "objects": np.full(N, Payload(), object),
        "records": np.zeros(N, [("class", "i8")]),
    }
    for name, values in cases.items():
        yield f"labels: {name}", change(labels=values)
    for name in ("floats", "negative", "strings", "one fewer", "objects", "a column", "dates"):
        yield f"factor: {name}", change(factor_odd=cases[name])
    yield "factor: huge", change(factor_odd=labels * 10_000)


def bad_names() -> Files:
    """Members by names that are none of a factor, or the lab's own."""
    for name in (
        "factor_.npy",
        "factor_ .npy",
        "factor_a,b.npy",
        "factor_a[b].npy",
        "factor_a=b.npy",
        "factor_a\nb.npy",
        "factor_a\x1b[31m.npy",
        "factor_$x$.npy",
        "factor_<b>.npy",
        "factor_../../up.npy",
        "factor_/etc/passwd.npy",
        f"factor_{'x' * 65}.npy",
        f"factor_{'x' * 60_000}.npy",
        "factor_class.npy",
        "factor_row.npy",
        "factor_\u202eevil.npy",
        "factor_e\u0301.npy",
        "arr_0.npy",
        "Factor_odd.npy",
        "factor.npy",
        "images.txt",
        "notes",
        "folder/",
        "/images.npy",
    ):
        yield f"a member {name[:40]!r}", add_member(name)
    for name in PLAIN:
        yield f"{name} twice", add_member(f"{name}.npy")
        yield f"{name} without its ending", add_member(name)
    old = add_member("factor_ab.npy")
    yield "a zero byte in a name", old.replace(b"factor_ab.npy", b"labels.npy\0ab")
    yield "a name in a code page", old.replace(b"factor_ab", b"factor_\x82b")
    in_utf8 = add_member("factor_\u00e9.npy")
    yield "a name that is not UTF-8", in_utf8.replace("\u00e9".encode(), b"\xe9\xe9")


def bad_headers() -> Files:
    """Headers of npy that lie, or are none."""
    content = PLAIN["images"].tobytes()
    shape = PLAIN["images"].shape
    texts = {
        "more pictures than bytes": build_header("|u1", (N + 1, 8, 8)),
        "fewer pictures than bytes": build_header("|u1", (N - 1, 8, 8)),
        "more pictures than memory": build_header("|u1", (1 << 50, 8, 8)),
        "more pictures than numbers": build_header("|u1", (1 << 80, 8, 8)),
        "negative sizes": build_header("|u1", (-N, -8, 8)),
        "truths as sizes": build_header("|u1", (N, 64, True)),
        "fractions as sizes": build_header("|u1", (40.0, 8, 8)),
        "a list of sizes": build_header("|u1", [N, 8, 8]),
        "a hundred axes": build_header("|u1", (N, 8, 8, *[1] * 97)),
        "a wider type": build_header("<i8", shape),
        "no type": build_header("<q9", shape),
        "type none": build_header(None, shape),
        "a type with axes": build_header("(8,)u1", (N, 8)),
        "a type of no width": build_header("<U0", shape),
        "bytes without a type": build_header("|V1", shape),
        "objects": build_header("|O", shape),
        "a type of this machine only": build_header("<f12", shape),
        "order maybe": build_header("|u1", shape, "maybe"),
        "a key too few": "{'descr': '|u1', 'shape': (40, 8, 8)}",
        "code": "__import__('os').abort()",
        "a list": "[1, 2]",
        "nothing": "",
        "no text": "\x00\xff\xfe",
        "nested": "(" * 3000 + ")" * 3000,
        "minus without end": "-" * 9000 + "1",
        "a long number": build_header("|u1", shape).replace("40", "4" * 5000),
        "longer than numpy takes": build_header("|u1", shape) + " " * 20_000,
    }
    for name, text in texts.items():
        yield f"header: {name}", replace_member("images", pack_npy(text, content))
    header = build_header("|u1", shape)
    for version in ((0, 0), (3, 0), (9, 9)):
        packed = pack_npy(header, content, version)
        yield f"header: version {version}", replace_member("images", packed)
    whole = save_npy(PLAIN["images"])
    for size in (0, 3, 9, 40, len(whole) - 1):
        yield f"a member of {size} bytes", replace_member("images", whole[:size])
    yield "a member and more", replace_member("images", whole + b"more")
    yield "another magic", replace_member("images", b"\x93NUMPI" + whole[6:])
    yield (
        "a header of 4 GB",
        replace_member("images", whole[:6] + b"\2\0\xff\xff\xff\xff" + content),
    )


def bad_archives() -> Files:
    """Archives that are cut, encrypted, differently packed, or lie about sizes."""
    whole = save_arrays(PLAIN)
    deflated = save_arrays(PLAIN, zipfile.ZIP_DEFLATED)
    yield "nothing", b""
    yield "no archive", b"no archive at all"
    yield "a pickle", pickle.dumps(Payload())
    yield "one array", save_npy(PLAIN["images"])
    yield "an empty archive", pack_npz([])
    for share in (4, 2):
        yield f"cut at 1/{share}", whole[: len(whole) // share]
    yield "the end cut", whole[:-10]
    yield "the start cut", whole[100:]
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield f"method {method}", save_arrays(PLAIN, method)
    for archive, kind in ((whole, "stored"), (deflated, "deflated")):
        place = archive.index(b"NUMPY") + 900 if kind == "stored" else 200
        flipped = bytearray(archive)
        flipped[place] ^= 4
        yield f"{kind}, a bit flipped", bytes(flipped)
        for field, value in (
            ("flags", 1),
            ("method", 99),
            ("crc", 12345),
            ("size", 0),
            ("size", 100),
            ("size", 5000),
            ("size", (1 << 32) - 2),
            ("compressed", 0),
            ("compressed", 50),
            ("offset", 1),
            ("offset", (1 << 32) - 2),
        ):
            yield f"{kind}, {field} {value}", patch_entry(archive, field, value)
    yield "one member under two names", _point_twice(whole)
    yield "a bomb", _build_bomb(1 << 24, claimed=None)
    yield "a bomb that says 4 GB", _build_bomb(1 << 20, claimed=(1 << 32) - 2)


def _point_twice(archive: bytes) -> bytes:
    """The second entry of the directory leads to the first member."""
    return patch_entry(archive, "offset", 0, nth=1)


def _build_bomb(n_bytes: int, claimed: int | None) -> bytes:
    """Noughts behind a header of 40 pictures; or a header and an entry that say a size."""
    header = build_header("|u1", (N, 8, 8))
    if claimed is not None:
        shape = (claimed - 128 >> 6, 8, 8)
        header = build_header("|u1", shape).ljust(117)
    members = [("images.npy", pack_npy(header, bytes(n_bytes)))]
    members += [(f"{name}.npy", save_npy(PLAIN[name])) for name in ("labels", "factor_odd")]
    archive = pack_npz(members, zipfile.ZIP_DEFLATED)
    return archive if claimed is None else patch_entry(archive, "size", claimed // 64 * 64)


def main() -> None:
    """Write all files into a new folder, each by its kind and number."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    for kind in (same_arrays, same_floats, odd_arrays, hostile_arrays):
        for number, (name, content) in enumerate(kind()):
            file = folder / f"{kind.__name__}-{number:03d}.npz"
            file.write_bytes(content)
            print(f"{file.name}  {name!r}")


if __name__ == "__main__":
    main()
