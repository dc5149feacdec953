"""codes.py ERRORS.DEF FOLDER: every code of the front end (E01 to E06, warnings) is said by a program in FOLDER."""
import os
import re
import sys

table, folder = sys.argv[1:]
# told when a program is differentiated, of weights that do not fit it, and when one is divided: after the front end
elsewhere = {"E0350", "E0650", "W0009"}
codes = re.findall(r"^ERROR\(([EW]\d+)", open(table).read(), re.M)
mine = [c for c in codes if (re.match(r"E0[1-6]|W0", c)) and c not in elsewhere]
said = "".join(open(os.path.join(folder, name)).read() for name in sorted(os.listdir(folder)) if name.endswith((".plinth", ".test")))
missing = [c for c in mine if f"[{c}]" not in said]
if missing:
    sys.exit("no program here is told " + ", ".join(missing))
programs = [name for name in os.listdir(folder) if name.endswith(".plinth")]
assert len(mine) > 60 and len(programs) > 100, (len(mine), len(programs))
