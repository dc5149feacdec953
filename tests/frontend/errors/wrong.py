"""wrong.py [--update] PLINTH FOLDER-OR-FILE...: what `plinth check` says about each program here is what the program's own
lines that begin with `#> ` hold, to the letter. A line `# OPTIONS: --set layers=2` gives options. --update writes the lines
anew: read them before they are kept."""
import concurrent.futures
import difflib
import os
import shlex
import subprocess
import sys


def check(plinth, path, update):
    """What is wrong with one program's messages, or an empty text."""
    folder, name = os.path.split(path)
    text = open(path).read()
    lines = text.splitlines()
    options = [word for line in lines if line.startswith("# OPTIONS: ") for word in shlex.split(line[11:])]
    ran = subprocess.run([plinth, "check", name, *options], cwd=folder, capture_output=True, text=True)
    said = [line.rstrip() for line in (ran.stdout + ran.stderr).splitlines()]
    if ran.returncode not in (0, 1) or (ran.returncode == 1) != any("error[" in line for line in said):
        return f"{path}: exit status {ran.returncode}\n" + "\n".join(said)
    source = [line for line in lines if not line.startswith("#>")]
    expected = [line[3:] for line in lines if line.startswith("#>")]
    if update:
        with open(path, "w") as file:
            file.write("\n".join(source).rstrip("\n") + "\n" + "".join(f"#> {line}".rstrip() + "\n" for line in said))
        return ""
    return "\n".join(difflib.unified_diff(expected, said, path, "said", lineterm=""))


def main(arguments):
    update = "--update" in arguments
    plinth, *paths = [a for a in arguments if a != "--update"]
    files = []
    for path in paths:
        path = os.path.abspath(path)
        files += sorted(os.path.join(path, f) for f in os.listdir(path) if f.endswith(".plinth")) if os.path.isdir(path) else [path]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        wrong = [w for w in pool.map(lambda f: check(os.path.abspath(plinth), f, update), files) if w]
    print("\n".join(wrong), f"{len(files)} programs, {len(wrong)} with other messages than expected", sep="\n")
    return bool(wrong) or not files


sys.exit(main(sys.argv[1:]))
