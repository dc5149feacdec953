# Tests of the command line and of IR text, with lit and FileCheck (Debian's llvm-19-tools). A test is
# a file with RUN lines in comments; tests/ir and tests/passes hold .plg files that are their own input.
#   %gpu  runs a command with the stand-ins for a GPU's driver and libraries, which are in the folder %standin
#   %plinth  the binary under test   %root  the repository   %python  Python   FileCheck, not  as LLVM's
# Run by `ctest --test-dir build -R lit -V`; one, with its commands: lit.py -av --filter=NAME build/tests
import ctypes
import os
import shutil
import sys

import lit.formats

config.name = "plinth"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".plg", ".test"]  # a folder's lit.local.cfg may add its own
config.excludes = ["golden", "unit", "fuzz", "Inputs"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.build_folder, "tests", "lit-output")
config.substitutions += [
    ("%plinth", config.plinth),
    ("%standin", os.path.join(config.build_folder, "tests", "standin")),
    ("%python", sys.executable),
    ("%root", os.path.dirname(config.test_source_root)),
]
config.environment["PATH"] = config.llvm_tools + os.pathsep + os.environ["PATH"]
config.environment["NO_COLOR"] = "1"
if shutil.which("mpirun"):  # several ranks on one machine
    config.available_features.add("mpi")
    config.substitutions.append(("%mpirun", "mpirun --allow-run-as-root --oversubscribe"))
if config.sanitizers:
    config.available_features.add("sanitizers")
    config.environment["LSAN_OPTIONS"] = "print_suppressions=0:suppressions=" + os.path.join(config.test_source_root, "leaks.supp")
    # of ranks: Open MPI leaves memory of plugins behind that it has unloaded, which no suppression can name
    config.environment["OMPI_MCA_mca_base_env_list"] = "ASAN_OPTIONS=detect_leaks=0"
# The compiler of GPU code, which needs no GPU; see names in codegen/cuda/nvrtc.c.
for library in [os.environ["PLINTH_NVRTC"]] if os.environ.get("PLINTH_NVRTC") else [
    "libnvrtc.so.13", "libnvrtc.so.12", "/usr/local/cuda/lib64/libnvrtc.so.13", "/usr/local/cuda/lib64/libnvrtc.so.12"]:
    try:
        ctypes.CDLL(library)
        config.available_features.add("nvrtc")
        break
    except OSError:
        pass
else:
    lit_config.note("skipped: tests that compile CUDA C, and there is no NVRTC")
# Libraries for 64-bit Arm: a compiler for programs that use them, and QEMU to run those.
if shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64"):
    config.available_features.add("aarch64")
# A GPU's path without a GPU: tests/cuda.
standin = os.path.join(config.build_folder, "tests", "standin")
if "nvrtc" in config.available_features and os.path.exists(os.path.join(standin, "libcuda.so.1")):
    config.available_features.add("standin")
config.substitutions.append(("%gpu", "env PLINTH_CUDA_IMAGE=ptx PLINTH_LIBCUDA=" + os.path.join(standin, "libcuda.so.1") +
                             " PLINTH_LIBCUBLASLT=" + os.path.join(standin, "libcublasLt.so.13") +
                             " PLINTH_LIBNCCL=" + os.path.join(standin, "libnccl.so.2")))
for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "HOME", "PLINTH_NVRTC"):
    if name in os.environ:
        config.environment[name] = os.environ[name]
