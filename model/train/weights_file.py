"""Reads and writes safetensors files with numpy alone.

The format is an 8-byte little-endian header length, a JSON header {name: {dtype, shape, data_offsets}}, then the raw
tensors. bf16 has no numpy type, so it is kept as uint16 on disk and handed out as float32.
"""

import json
import pathlib
import struct

import numpy as np

_TYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I64": np.int64, "I32": np.int32}


def to_bf16(values):
    """float32 -> the bits of the nearest bf16 (ties to even), as uint16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def encode(values, dtype):
    """The array as it stands in a file of that dtype ("F32", "F16" or "BF16")."""
    values = np.ascontiguousarray(values, np.float32)
    if dtype == "BF16":
        return to_bf16(values)
    return values.astype(_TYPES[dtype])


def write(path, tensors):
    """Writes {name: (dtype, array)}; the arrays are already encoded."""
    header, offset = {}, 0
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    header["__metadata__"] = {"format": "pt"}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for _, array in tensors.values():
            file.write(array.tobytes())


def read(path):
    """One file as {name: float32 array}."""
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + at for at in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], _TYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = from_bf16(array) if entry["dtype"] == "BF16" else array.astype(np.float32)
    return tensors


def read_folder(folder):
    """A model folder: model.safetensors, or the shards that model.safetensors.index.json names."""
    folder = pathlib.Path(folder)
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return read(folder / "model.safetensors")
    tensors = {}
    for name in sorted(set(json.loads(index.read_text())["weight_map"].values())):
        tensors.update(read(folder / name))
    return tensors


def write_shards(folder, tensors, limit):
    """Writes {name: (dtype, array)} as model-0000i-of-0000n.safetensors of at most `limit` bytes each, and the index."""
    folder, shards, size = pathlib.Path(folder), [{}], 0
    for name, entry in tensors.items():
        if entry[1].nbytes > limit:
            raise ValueError(f"tensor {name}: {entry[1].nbytes} bytes do not fit a shard of {limit}")
        if size + entry[1].nbytes > limit:
            shards.append({})
            size = 0
        shards[-1][name] = entry
        size += entry[1].nbytes
    where = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write(folder / file, shard)
        where.update({name: file for name in shard})
    total = sum(array.nbytes for _, array in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
