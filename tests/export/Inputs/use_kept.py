"""use_kept.py KEPT WHOLE: a language model exported with keys and values kept, against the same exported whole: what prefill and
step say at each position is what forward says there. Inputs go by name and shape, so any family will do."""

import ctypes
import glob
import os
import sys

import numpy
from interface import Info

VOID, SIZE = ctypes.c_void_p, ctypes.c_size_t
TYPE = {"f32": numpy.float32, "i32": numpy.int32, "b1": numpy.uint8}


def at(array):
    return array.ctypes.data_as(VOID)


def aligned(size):
    room = numpy.zeros(size + 64, numpy.uint8)
    return room[-room.ctypes.data % 64 :][:size]


class Library:
    def __init__(self, folder):
        path = glob.glob(os.path.join(folder, "lib*.so"))[0]
        self.name, self.library, self.model = os.path.basename(path)[3:-3], ctypes.CDLL(path), VOID()
        weights = os.path.join(folder, "weights.safetensors").encode()
        assert self.call("create", weights, ctypes.byref(self.model), None, SIZE(0)) == 0
        info = self.call("describe", self.model, gives=ctypes.POINTER(Info)).contents
        self.entry = {info.entry[i].name.decode(): (i, info.entry[i]) for i in range(info.nentry)}
        self.room = aligned(self.call("workspace_bytes", self.model, 1, gives=SIZE))
        self.state = aligned(self.call("state_bytes", self.model, gives=SIZE))

    def call(self, what, *arguments, gives=ctypes.c_int):
        function = getattr(self.library, f"{self.name}_{what}")
        function.restype = gives
        return function(*arguments)

    def run(self, entry, **given):
        index, e = self.entry[entry]

        def room(t):
            return numpy.zeros(tuple(t.dim[: t.rank]), TYPE[t.dtype.decode()])

        inputs, results = [room(e.input[i]) for i in range(e.ninput)], [room(e.result[i]) for i in range(e.nresult)]
        for i, x in enumerate(inputs):
            x[...] = numpy.reshape(given[e.input[i].name.decode()], x.shape)
        lists = [(VOID * len(x))(*map(at, x)) for x in (inputs, results)]
        assert self.call("run", self.model, index, *lists, at(self.state), at(self.room), SIZE(self.room.nbytes), None) == 0
        return results[0]  # the logits are the first


kept, whole = map(Library, sys.argv[1:3])
assert sorted(kept.entry) == ["prefill", "step"] and len(kept.state)
rank2 = [t for t in (kept.entry["prefill"][1].input[i] for i in range(kept.entry["prefill"][1].ninput)) if t.rank == 2]
piece, e = rank2[-1], whole.entry["forward"][1]  # the tokens come last
name, taken = piece.name.decode(), piece.dim[1]
total, vocabulary = e.result[0].dim[1], e.result[0].dim[2]
tokens = (numpy.arange(total) * 37 + 5) % vocabulary
source = (numpy.arange(e.input[0].dim[1]) * 11 + 3) % vocabulary
rest = {"source": source, "keep": numpy.arange(len(source)) < len(source) - 2}  # of a model that reads one
want = whole.run("forward", **{name: tokens}, **rest)[0]
first = taken - 1  # fewer than prefill takes
got = [kept.run("prefill", past=0, last=first - 1, **{name: numpy.append(tokens[:first], 0)}, **rest)]
got += [kept.run("step", past=at_, **{name: tokens[at_]}) for at_ in range(first, total)]
off = max(abs(g.reshape(-1) - w).max() for g, w in zip(got, want[first - 1 :]))
assert abs(want).max() > 0.1 and off < 1e-5 * abs(want).max(), off
print(f"{total - first} steps after {first} tokens: the same as the whole")
