#!/usr/bin/env python3
"""Runs code for AVX-512 in an emulated processor: boot.py BUILD.

The test programs of kernels (tests/unit/test_cpu_*.c) compile for a processor that this machine need not be, and write
launches with what they should give (tests/unit/launch.h) instead of running them; models are compiled into packages.
They, run_launches and run_package go into an initial file system, which Debian's kernel boots in Bochs, a model of a
whole PC whose Skylake-X has AVX-512. What is printed to the serial port is read here: what launches gave was compared
there, and the numbers of training steps are compared with those of the same packages' other code, here. Exit status 77:
something that this needs is not installed.

  --keep FOLDER   work there, and leave everything: boot.iso, bochsrc, serial.txt, bochs.log
  --kernel FILE   a vmlinuz with a serial console and initial file systems built in; else Debian's, downloaded once
"""
import argparse
import glob
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

# What the emulated processor has of AVX-512: F, CD, BW, DQ, VL.
MODEL = "corei7_skylake_x"
# What is compiled for it and by which programs; products of bf16 pairs are trapped (trap.h).
CPUS = {
    "skylake-avx512": ["test_cpu_loops", "test_cpu_scan", "test_cpu_dot", "test_cpu_attention", "test_cpu_grouped"],
    "skylake-avx512,+avx512bf16": ["test_cpu_dot", "test_cpu_attention", "test_cpu_grouped"],
}
# Models whose training steps run, with which precision and sizes.
MODELS = [("gpt2", "f32", "B=2,T=8"), ("llama", "bf16", "B=1,T=8"), ("mixtral", "f32", "B=2,T=8")]
STEPS = 2
# What a number may differ by, as a share: rounding of products, grown by the steps of Adam.
ALLOWED = {"f32": 1e-4, "bf16": 2e-2}
# Bochs 2.7 says of the protection keys' state that it is there and has no size, which Linux takes for a faulty
# processor without AVX; sizes are of the standard format only. Without ACPI the kernel is there sooner.
KERNEL_OPTIONS = "console=ttyS0,115200 quiet clearcpuid=pku,xsaves,xsavec,tsc lpj=5000 idle=halt nokaslr mitigations=off panic=-1 audit=0 cryptomgr.notests=1 lsm= norandmaps nopti acpi=off"
ISOLINUX = "/usr/lib/ISOLINUX/isolinux.bin"
LDLINUX = "/usr/lib/syslinux/modules/bios/ldlinux.c32"
BIOS = "/usr/share/bochs/BIOS-bochs-latest"
VGA = "/usr/share/bochs/VGABIOS-lgpl-latest"
NEEDED = [BIOS, VGA, ISOLINUX, LDLINUX, "/usr/bin/bochs-bin", "/usr/bin/xorriso", "/bin/busybox",
          "/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so"]

INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
cd /work
echo PLINTH-BEGIN
/bin/busybox grep -m1 -E '^flags' /proc/cpuinfo
./run_launches */*.launches
status=$?
for package in *.plx
do
  echo PLINTH-PACKAGE $package
  ./run_package $package STEPS
done
echo PLINTH-END $status
/bin/busybox sleep 1000000
"""


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def kernel(given, folder):
    """A kernel's image: the one given, or Debian's, taken out of its package without being installed."""
    if given:
        return given
    image = os.path.join(folder, "vmlinuz")
    if os.path.exists(image):
        return image
    depends = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True).stdout
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if not found:
        skip("apt knows no linux-image-cloud-amd64; --kernel names another kernel")
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as d:
        if subprocess.run(["apt-get", "download", "-qq", found[1]], cwd=d, capture_output=True).returncode:
            skip(f"{found[1]} cannot be downloaded; --kernel names another kernel")
        subprocess.run(["dpkg", "-x", glob.glob(d + "/*.deb")[0], d], check=True)
        os.rename(glob.glob(d + "/boot/vmlinuz-*")[0], image)
    return image


def record(build, cpu, programs, folder):
    """Launches compiled for `cpu`."""
    environment = dict(os.environ, PLINTH_RECORD=folder, PLINTH_RECORD_CPU=cpu)
    for program in programs:
        done = subprocess.run([f"{build}/tests/{program}"], env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{program} cannot record for {cpu}:\n{done.stdout}{done.stderr}")


# Where trap.h does an instruction that Bochs gets wrong: which, and the opcode that takes the place of its own.
REPLACED = [(re.compile(r"vcvtps2ph "), {0x1d: 0x1c}), (re.compile(r"kshift[lr]w +\$0xf,"), {0x30: 0x34, 0x32: 0x36})]


def file_offset(library, address):
    """Where the byte that is loaded at `address` is in an ELF file."""
    at, size, n = struct.unpack_from("<Q", library, 32)[0], *struct.unpack_from("<HH", library, 54)
    for i in range(n):
        kind, _, offset, start, _, bytes_there = struct.unpack_from("<IIQQQQ", library, at + i * size)
        if kind == 1 and start <= address < start + bytes_there:
            return address - start + offset
    raise ValueError(f"no byte of the file is loaded at {address:#x}")


def prepare(path):
    """Replaces in a file of launches the instructions that are left to trap.h. Gives how many instructions there are of
    512-bit registers, and how many were replaced."""
    with open(path, "rb") as f:
        data = bytearray(f.read())
    _, size = struct.unpack_from("QQ", data)
    with tempfile.NamedTemporaryFile() as library:
        library.write(data[16:16 + size])
        library.flush()
        text = subprocess.run(["objdump", "-d", library.name], capture_output=True, text=True, check=True).stdout
    wide = replaced = 0
    for line in text.splitlines():
        column = line.split("\t")
        if len(column) < 3:
            continue
        wide += "%zmm" in column[2]
        for pattern, opcode in REPLACED:
            if pattern.match(column[2]):
                at = 16 + file_offset(data[16:16 + size], int(column[0].rstrip(":"), 16))
                at += 4 if data[at] == 0x62 else 3  # EVEX; VEX of three bytes
                data[at] = opcode[data[at]]
                replaced += 1
    with open(path, "wb") as f:
        f.write(data)
    return wide, replaced


def compile_models(build, work):
    """A package of each model, for AVX2 and AVX-512; gives what the code for AVX2 computes, by package."""
    expected = {}
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for model, precision, sizes in MODELS:
        wide = "skylake-avx512,+avx512bf16" if precision == "bf16" else "skylake-avx512"
        package = f"{model}_{precision}.plx"
        made = subprocess.run([f"{build}/plinth", "compile", f"{source}/models/{model}.plinth", "--preset", "tiny", "--precision", precision,
                               "--sizes", sizes, "--cpu", f"x86-64-v3,{wide}", "-o", f"{work}/{package}"], capture_output=True, text=True)
        if made.returncode:
            sys.exit(f"{package}: {made.stdout}{made.stderr}")
        ran = subprocess.run([f"{build}/tests/run_package", f"{work}/{package}", str(STEPS)], capture_output=True, text=True)
        if ran.returncode:
            sys.exit(f"{package}: {ran.stdout}{ran.stderr}")
        expected[package] = numbers(ran.stdout)
    return expected


def numbers(text):
    """What run_package printed: names and numbers, in order."""
    return [(m[1], float(m[2])) for m in re.finditer(r"^(\S+) (-?[\d.]+(?:e[-+]\d+)?|nan|-?inf)\r?$", text, re.M)]


def compare(package, want, got):
    """Prints the largest difference; true where the numbers are the same but for rounding."""
    if [name for name, _ in want] != [name for name, _ in got]:
        print(f"{package}: {len(got)} of {len(want)} numbers came")
        return False
    allowed = ALLOWED["bf16" if "bf16" in package else "f32"]
    worst, name = max((abs(x - y) / max(abs(x), 1e-6), name) if x == x and y == y else (float("inf"), name)
                      for (name, x), (_, y) in zip(want, got))
    print(f"{package}: {len(want)} numbers of {STEPS} training steps, off by at most {worst:.2g} ({name}), {allowed:.2g} allowed")
    return worst <= allowed


def libraries(program):
    """The shared libraries of a program, and its loader: paths."""
    text = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"(/\S+) \(0x", text)


class Archive:
    """A cpio archive in the format `newc`, as the kernel unpacks it. Written here because devices in it need no root."""

    def __init__(self, path):
        self.file = open(path, "wb")
        self.number = 0
        self.folders = set()

    def add(self, name, mode, data=b"", device=(0, 0)):
        self.number += 1
        words = [self.number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08X" % w for w in words) + name.encode() + b"\0"
        self.file.write(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))

    def folder(self, name):
        if name and name not in self.folders:
            self.folder(os.path.dirname(name))
            self.folders.add(name)
            self.add(name, 0o40755)

    def copy(self, path, name, mode=0o100755):
        self.folder(os.path.dirname(name))
        with open(path, "rb") as f:
            self.add(name, mode, f.read())

    def close(self):
        self.add("TRAILER!!!", 0)
        self.file.close()


def image(work, kernel_image, build, recorded):
    """A CD that boots: isolinux, the kernel, and an initial file system with everything."""
    iso = f"{work}/iso"
    os.makedirs(iso)
    runners = [f"{build}/tests/run_launches", f"{build}/tests/run_package"]
    archive = Archive(f"{iso}/initrd")
    for name in ["dev", "proc"]:
        archive.folder(name)
    archive.add("dev/console", 0o20600, device=(5, 1))
    archive.add("dev/null", 0o20666, device=(1, 3))
    archive.add("init", 0o100755, INIT.replace("STEPS", str(STEPS)).encode())
    archive.copy("/bin/busybox", "bin/busybox")
    for path in sorted({path for runner in runners for path in libraries(runner)}):
        archive.copy(path, path.lstrip("/"))
    for runner in runners:
        archive.copy(runner, "work/" + os.path.basename(runner))
    for path in sorted(recorded):
        archive.copy(path, "work/" + os.path.relpath(path, work), 0o100644)
    archive.close()
    shutil.copy(kernel_image, f"{iso}/vmlinuz")
    shutil.copy(ISOLINUX, iso)
    shutil.copy(LDLINUX, iso)
    with open(f"{iso}/isolinux.cfg", "w") as f:
        f.write(f"DEFAULT x\nLABEL x\n KERNEL vmlinuz\n INITRD initrd\n APPEND {KERNEL_OPTIONS}\n")
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", f"{work}/boot.iso", "-b", "isolinux.bin", "-c", "boot.cat",
                    "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", iso], check=True, capture_output=True)


def boot(work, seconds):
    """Boots it and gives what was printed to the serial port, until PLINTH-END or the time is over."""
    serial = f"{work}/serial.txt"
    with open(f"{work}/bochsrc", "w") as f:
        f.write(f"megs: 1024\nromimage: file={BIOS}\nvgaromimage: file={VGA}\n"
                f"cpu: model={MODEL}, count=1, ips=50000000, reset_on_triple_fault=0\n"
                f"ata0-master: type=cdrom, path={work}/boot.iso, status=inserted\nboot: cdrom\ndisplay_library: term\n"
                f"com1: enabled=1, mode=file, dev={serial}\nlog: {work}/bochs.log\nclock: sync=none\n"
                "sound: waveoutdrv=dummy\nerror: action=ignore\npanic: action=fatal\n")
    with open(f"{work}/commands", "w") as f:
        f.write("c\n")  # Debian's Bochs begins in its debugger: go on
    with open(f"{work}/screen.txt", "w") as screen:
        emulator = subprocess.Popen(["/usr/bin/bochs-bin", "-q", "-f", f"{work}/bochsrc", "-rc", f"{work}/commands"],
                                    stdin=subprocess.DEVNULL, stdout=screen, stderr=screen, env=dict(os.environ, TERM="vt100"))
        text, until = "", time.time() + seconds
        try:
            while emulator.poll() is None and "PLINTH-END" not in text and time.time() < until:
                time.sleep(1)
                if os.path.exists(serial):
                    with open(serial, errors="replace") as f:
                        text = f.read()
        finally:
            emulator.kill()  # it takes SIGTERM for a wish to debug
            emulator.wait()
    return text


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("build")
    options.add_argument("--keep")
    options.add_argument("--kernel")
    options.add_argument("--seconds", type=int, default=1200)
    o = options.parse_args()
    missing = [path for path in NEEDED if not os.path.exists(path)]
    if missing:
        skip(f"there is no {missing[0]}: scripts/install-deps full installs what runs AVX-512 code in an emulator")
    linux = kernel(o.kernel, f"{o.build}/emulator")
    work = os.path.abspath(o.keep) if o.keep else tempfile.mkdtemp(prefix="plinth-emulator-")
    try:
        shutil.rmtree(work, ignore_errors=True)
        for cpu, programs in CPUS.items():
            os.makedirs(f"{work}/{cpu}")
            record(o.build, cpu, programs, f"{work}/{cpu}")
            counts = [prepare(path) for path in glob.glob(f"{work}/{cpu}/*")]
            print(f"{cpu}: {sum(c[0] for c in counts)} instructions of 512-bit registers, {sum(c[1] for c in counts)} to be trapped")
            if not sum(c[0] for c in counts):
                sys.exit(f"{cpu}: nothing was recorded that uses 512-bit registers: are the programs in {o.build}/tests of this source?")
        launches = [p for cpu in CPUS for p in glob.glob(f"{work}/{cpu}/*")]
        expected = compile_models(o.build, work)
        image(work, linux, o.build, launches + [f"{work}/{package}" for package in expected])
        begin = time.time()
        text = boot(work, o.seconds)
        print(text)
        print(f"{time.time() - begin:.0f} s in the emulator")
    finally:
        if not o.keep:
            shutil.rmtree(work, ignore_errors=True)
    end = re.search(r"PLINTH-END (\d+)", text)
    if not end:
        sys.exit("the emulated machine did not come to an end")
    if not re.search(r"^flags.* avx512f ", text, re.M):
        sys.exit("the emulated processor has no AVX-512")
    fine = end[1] == "0" and text.count(" launches, 0 wrong") == len(launches)
    for part in text.split("PLINTH-END")[0].split("PLINTH-PACKAGE ")[1:]:
        package = part.split()[0]
        fine &= "code for skylake-avx512" in part and compare(package, expected.pop(package), numbers(part))
    if not fine or expected:
        sys.exit("code for AVX-512 computes something else")


if __name__ == "__main__":
    main()
