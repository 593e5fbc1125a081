"""The files of a bundle as bytes and tensors, verified."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.bundle.manifest import MANIFEST_FILE, Manifest, read_file
from encoders.errors import BundleError
from encoders.protocols import FloatArray

Tensors = Mapping[str, npt.NDArray[Any]]
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
"""Names of types in safetensors files."""


def read_verified(folder: Path, name: str, manifest: Manifest) -> bytes:
    """The bytes of a file.

    Raises:
        BundleError: If they are not those that the manifest lists.
    """
    path = folder / name
    expected = manifest.files.get(name)
    if expected is None:
        raise BundleError(f"{folder / MANIFEST_FILE} does not list {name}")
    data = read_file(path)
    if len(data) != expected.bytes:
        raise BundleError(f"{path} has {len(data)} bytes, the manifest says {expected.bytes}")
    if sha256(data).hexdigest() != expected.sha256:
        raise BundleError(f"{path} has another SHA-256 than the manifest says: it is damaged or was changed")
    return data


def read_tensors(folder: Path, name: str, manifest: Manifest) -> Tensors:
    """The tensors of a file, every floating point number in them finite.

    Raises:
        BundleError: If it is not the file that the manifest lists, or holds something else.
    """
    try:
        tensors = _parse(read_verified(folder, name, manifest))
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise BundleError(f"{folder / name} cannot be read as safetensors: {error}") from error
    for key, tensor in tensors.items():
        if np.issubdtype(tensor.dtype, np.floating) and not np.isfinite(tensor).all():
            raise BundleError(f"{folder / name}: tensor {key!r} holds NaN or infinity")
    return tensors


def take(tensors: Tensors, path: Path, key: str, shape: tuple[int, ...]) -> FloatArray:
    """One tensor of 32-bit floats; BundleError if it is missing, or of another shape or type."""
    tensor = tensors.get(key)
    if tensor is None:
        raise BundleError(f"{path} has no tensor {key!r}")
    if tensor.shape != shape or tensor.dtype != np.float32:
        raise BundleError(f"{path}: {key!r} is {tensor.dtype} {tensor.shape}, the manifest says float32 {shape}")
    return tensor


def _parse(data: bytes) -> Tensors:
    """The tensors of a safetensors file: a header in JSON that says where each lies.

    The library's own `load` copies all of them while it holds the interpreter's lock, a tenth of a second for a
    million items; numpy lets go of it.

    Raises:
        KeyError, TypeError, ValueError, struct.error: If it is no such file, or of a type that numpy has not.
    """
    (header_bytes,) = struct.unpack_from("<Q", data)
    start = 8 + header_bytes
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, place in header.items():
        begin, end = place["data_offsets"]
        dtype = np.dtype(_DTYPES[place["dtype"]])
        if not 0 <= begin <= end <= len(data) - start:
            raise ValueError(f"{name!r} lies outside of the file")
        flat = np.frombuffer(data, dtype, (end - begin) // dtype.itemsize, start + begin)
        tensors[name] = flat.reshape(place["shape"]).copy()
    return tensors
