"""rename.py FROM TO PATTERN REPLACEMENT: a safetensors file with its tensors called otherwise, as re.sub says."""
import json
import re
import sys

source, target, pattern, replacement = sys.argv[1:]
with open(source, "rb") as f:
    size = int.from_bytes(f.read(8), "little")
    header, data = json.loads(f.read(size)), f.read()
named = {k if k == "__metadata__" else re.sub(pattern, replacement, k): v for k, v in header.items()}
text = json.dumps(named).encode()
text += b" " * (-len(text) % 8)
with open(target, "wb") as f:
    f.write(len(text).to_bytes(8, "little") + text + data)
