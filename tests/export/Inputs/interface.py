"""What NAME_describe of an exported library gives, as its header has it, for ctypes."""

import ctypes


class Tensor(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("dtype", ctypes.c_char_p), ("rank", ctypes.c_int), ("dim", ctypes.c_int64 * 10),
                ("bytes", ctypes.c_size_t), ("shape", ctypes.c_char_p)]


class Entry(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("ninput", ctypes.c_int), ("nresult", ctypes.c_int), ("input", ctypes.POINTER(Tensor)),
                ("result", ctypes.POINTER(Tensor)), ("flops", ctypes.c_double)]


class Axis(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("most", ctypes.c_int64)]


class Info(ctypes.Structure):
    _fields_ = [("model", ctypes.c_char_p), ("plinth", ctypes.c_char_p), ("cpu", ctypes.c_char_p), ("nentry", ctypes.c_int),
                ("entry", ctypes.POINTER(Entry)), ("weights_bytes", ctypes.c_size_t), ("state_bytes", ctypes.c_size_t),
                ("naxis", ctypes.c_int), ("axis", ctypes.POINTER(Axis))]
