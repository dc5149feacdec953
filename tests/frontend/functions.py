"""functions.py PLINTH PROGRAM: each function that `plinth explain --functions` lists is called in the program."""
import re
import subprocess
import sys

plinth, program = sys.argv[1:]
text = open(program).read()
listed = subprocess.run([plinth, "explain", "--functions"], capture_output=True, text=True, check=True).stdout
names = re.findall(r"^(\w+)\(", listed, re.M)
missing = [n for n in names if not re.search(rf"\b{n}\(", text)]
print(f"{len(names)} functions, not used: {missing}")
sys.exit(len(names) < 80 or missing != [])
