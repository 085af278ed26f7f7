"""Writes the safetensors container: u64 header length, JSON header padded to 8 bytes, tensor bytes."""

import json
import os
import struct

_ITEM_SIZE = {"I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U8": 1, "I8": 1}


def write_checkpoint(directory, tensors, shards):
    """`tensors`: name -> (dtype, shape, bytes). One file, or `shards` files with an index; neighbours are dealt to
    different shards, so that one layer (even one expert) always spans several of them."""
    names = sorted(tensors)
    if shards == 1:
        write_file(os.path.join(directory, "model.safetensors"), {n: tensors[n] for n in names})
        return
    weight_map = {}
    for index in range(shards):
        file = f"model-{index + 1:05d}-of-{shards:05d}.safetensors"
        part = {n: tensors[n] for n in names[index::shards]}
        write_file(os.path.join(directory, file), part)
        weight_map.update({n: file for n in part})
    index_file = {"metadata": {"total_size": sum(len(t[2]) for t in tensors.values())},
                  "weight_map": dict(sorted(weight_map.items()))}
    with open(os.path.join(directory, "model.safetensors.index.json"), "w", encoding="utf-8") as out:
        json.dump(index_file, out, indent=2)
        out.write("\n")


def write_file(path, tensors):
    # Wide items first keeps every tensor aligned to its item size.
    order = sorted(tensors, key=lambda n: (-_ITEM_SIZE[tensors[n][0]], n))
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in order:
        dtype, shape, data = tensors[name]
        count = 1
        for size in shape:
            count *= size
        assert len(data) == count * _ITEM_SIZE[dtype], name
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)))
        out.write(text)
        for name in order:
            out.write(tensors[name][2])
