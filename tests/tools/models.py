"""models.py [--write] PLINTH PAGE: the tables of sizes and families on the models' page: what Plinth counts is what is
published (tests/golden/published_sizes.py), every preset of a published size is in it, FLOPs are those that `plinth show`
prints, and the families' row says what the rows below say; --write renews what Plinth counts."""
import concurrent.futures
import json
import os
import re
import subprocess
import sys

write = "--write" in sys.argv
plinth, page = [os.path.abspath(a) for a in sys.argv[1:] if a != "--write"]
models = os.path.join(os.path.dirname(os.path.dirname(page)), "models")
OWN = {"test", "golden", "fashion", "words"}  # presets of no published model
OWN_OF = {("gpt2", "tiny"), ("llama", "tiny"), ("llama", "llama_110m"), ("llama", "llama_1b"), ("mixtral", "tiny")}


def short(x):
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if x >= 0.9995 * size:
            return f"{x / size:.3g} {unit}"
    return str(x)


def count(row):
    file, preset = row
    ran = subprocess.run([plinth, "show", f"{models}/{file}.plinth", "--preset", preset, "--json"], capture_output=True,
                         text=True)
    if ran.returncode:
        sys.exit(f"{file} {preset}: {ran.stderr}")
    got = json.loads(ran.stdout)
    return f"{got['parameters']:,}", short(got["forward_flops"] / got["units"])


text = open(page).read()
before, table, after = re.match(r"(.*<!-- sizes -->\n)(.*?)(<!-- end -->.*)", text, re.S).groups()
head, rule, *lines = table.rstrip("\n").split("\n")
rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    counted = list(pool.map(count, [row[:2] for row in rows]))
wrong = [f"{row[0]} {row[1]}: Plinth counts {got[0]} parameters, published are {row[3]}"
         for row, got in zip(rows, counted) if got[0] != row[3]]
new = "\n".join([head, rule] + [f"| {r[0]} | {r[1]} | {g[0]} | {r[3]} | {g[1]} |" for r, g in zip(rows, counted)]) + "\n"
listed = {(row[0], row[1]) for row in rows}
for file in sorted({row[0] for row in rows}):
    for preset in re.findall(r"^preset (\w+)", open(f"{models}/{file}.plinth").read(), re.M):
        if preset not in OWN and (file, preset) not in OWN_OF | listed:
            wrong.append(f"{file} {preset}: is not in the table")
text, was = before + new + after, text

# goldens of the table of parity that do not begin with their file's name
GOLDENS = {"llama3": "llama", "qwen2": "llama", "qwen3": "llama", "flan": "t5", "dora": "lora", "prompt": "lora"}
parity = {}
for golden, *off in re.findall(r"^\| `(\w+)_\w+` \| (\S+) \| (\S+) \|", text, re.M):
    parity.setdefault(GOLDENS.get(golden, golden), []).append([float(x) for x in off])


def span(cells):
    return cells[0] if len(cells) < 2 else f"{cells[0]} to {cells[-1]}"


def family(line):
    """A row whose figures are those of the rows below."""
    file, name, *_, data, result = [cell.strip() for cell in line.strip("|").split("|")]
    mine = sorted([(int(g[0].replace(",", "")), *g, r[3]) for r, g in zip(rows, counted) if f"`{r[0]}`" == file])
    off = [f"{max(x):.0e}" for x in zip(*parity.get(file.strip("`"), []))]
    cells = [str(len(mine)), span([m[1] for m in mine]), span([m[3] for m in mine]), span([m[2] for m in mine])] if mine else [""] * 4
    return "| " + " | ".join([file, name, *cells, ", ".join(off), data, result]) + " |"


before, table, after = re.match(r"(.*<!-- families -->\n)(.*?)(<!-- end -->.*)", text, re.S).groups()
head, rule, *lines = table.rstrip("\n").split("\n")
text = before + "\n".join([head, rule] + [re.sub(r"\|  (?=\|)", "| ", family(line)) for line in lines]) + "\n" + after
if write:
    open(page, "w").write(text)
elif was != text:
    wrong.append("what Plinth counts is not what the page has: models.py --write renews it")
print("\n".join(wrong) or f"{len(rows)} sizes, all as published")
sys.exit(bool(wrong))
