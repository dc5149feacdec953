"""language.py [--write] PLINTH PAGE: every program on the page checks without an error, is in canonical form up to its
spaces, and the tables of functions are those that plinth prints."""
import os
import re
import subprocess
import sys
import tempfile

write = "--write" in sys.argv
plinth, page = [os.path.abspath(a) for a in sys.argv[1:] if a != "--write"]
text = open(page).read()
ran = subprocess.run([plinth, "explain", "--markdown"], capture_output=True, text=True, check=True).stdout
builtins, ops = ran.rstrip("\n").split("\n\n")
new = re.sub(r"<!-- builtins -->.*?<!-- end -->", lambda m: f"<!-- builtins -->\n{builtins}\n<!-- end -->", text, flags=re.S)
new = re.sub(r"<!-- ops -->.*?<!-- end -->", lambda m: f"<!-- ops -->\n{ops}\n<!-- end -->", new, flags=re.S)
if write:
    open(page, "w").write(new)
elif new != text:
    sys.exit("the tables of functions are not those of `plinth explain --markdown`: language.py --write renews them")

wrong = 0
programs = [(m.group(1), text[: m.start()].count("\n") + 2) for m in re.finditer(r"^```plinth\n(.*?)^```$", text, re.S | re.M)]
for source, line in programs:
    with tempfile.NamedTemporaryFile("w", suffix=".plinth") as file:
        file.write("\n" * (line - 1) + source)  # so that messages have the page's lines
        file.flush()
        ran = subprocess.run([plinth, "check", "--graph", file.name], capture_output=True, text=True)
        read = subprocess.run([plinth, "opt", "-"], input=ran.stdout, capture_output=True, text=True)
        formatted = subprocess.run([plinth, "fmt", "-"], input=source, capture_output=True, text=True)
    warned = set(re.findall(r"warning\[(W\d+)\]", ran.stderr))
    if ran.returncode or warned or read.returncode or formatted.returncode:
        print(f"{page}:{line}:\n{ran.stderr}{read.stderr}{formatted.stderr}")
        wrong += 1
print(f"{len(programs)} programs, {wrong} wrong")
sys.exit(wrong > 0 or len(programs) < 10)
