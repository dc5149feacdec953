"""exact.py [--update [--all]] TEST_REMAT_EXACT: which values to keep and which to compute again, solved exactly, for small models.

Asks build/tests/test_remat_exact for the problems that plans of small models put (passes/plan/remat.h says what they mean) and
Plinth's own answers, writes each as an integer program, has COIN-OR CBC (Debian: coinor-cbc) solve it within SECONDS, and says whether
Plinth's time is within 1% of the optimum and its lower bound is none above it. --update renews the files here, which
tests/unit/test_remat_exact.c reads, and benchmarks/memory/exact.md; what was solved before, of the very same problem and budget, is
only solved again with --all.

The program is made from the meaning of a problem, not from Plinth's way to solve it. Behind the turn, which is where Plinth
found it, time is divided into slots, one before each step. Variables, of which those marked * are whole:

  k[b]*    the value is kept                        h[b,s]  it is there at step s: kept, or computed again by then
  a[q]*    the step or map q runs again             x[q,s]  it has run again by step s: in its slot or one before
  e[b,s]   it is there after step s, and still needed
  z[s,o,i] output o of step s takes the place of input i, which nobody needs any more

The order within a slot is not modelled: memory there is counted for what is surely alive, so the program's optimum is a lower
bound, and its answer is carried out run by run. Where that needs more than the budget, the set of values kept is excluded and
the program solved again. So `least` (proved) and `optimum` (carried out) are the same where time was enough.
"""
import os
import re
import subprocess
import sys
import tempfile

ALIGN, SECONDS = 64, 60
here = os.path.dirname(os.path.abspath(__file__))
table_path = f"{here}/../../../benchmarks/memory/exact.md"


def rounded(n):
    return -(-n // ALIGN) * ALIGN


class Step:
    def __init__(self, words):
        number = iter(words)
        take = lambda: int(next(number))
        self.seconds, self.workspace, self.again = float(next(number)), rounded(take()), take() == 1
        self.reads = [take() for _ in range(take())]
        self.writes = [take() for _ in range(take())]
        self.pairs = [(take(), take()) for _ in range(take())]


class Problem:
    def __init__(self, path):
        self.bytes, self.input, self.result, self.step, self.map, self.host, self.asked = [], [], [], [], [], [], []
        self.text = ""
        for line in open(path):
            kind, *rest = line.split()
            if kind == "b":
                self.bytes.append(rounded(int(rest[0])))
                self.input.append(rest[1] == "1")
                self.result.append(rest[2] == "1")
            elif kind == "s":
                self.step.append(Step(rest))
            elif kind == "m":
                self.host.append(int(rest[0]))
                self.map.append(Step(rest[1:]))
            elif kind == "turn":
                self.turn = int(rest[0])
            elif kind == "range":
                self.least, self.most = map(int, rest)
            elif kind == "ask":
                self.asked.append((int(rest[0]), float(rest[1]), float(rest[2]), int(rest[3]), set(map(int, rest[4:]))))
            if kind in "remat b s m".split():
                self.text += line
        n = len(self.bytes)
        self.made = [None] * n
        self.uses = [[] for _ in range(n)]  # steps that make or read it
        for s, step in enumerate(self.step):
            for b in step.writes:
                self.made[b] = s if self.made[b] is None else self.made[b]
                self.uses[b].append(s)
            for b in step.reads:
                self.uses[b].append(s)
        self.by_map = {m.writes[0]: i for i, m in enumerate(self.map)}
        self.may = [b for b in range(n) if self.made[b] is not None and self.made[b] <= self.turn and self.bytes[b]
                    and not self.result[b] and (self.step[self.made[b]].again or b in self.by_map)]
        # of those: the last use up to the turn, the first and the last behind it (or None)
        self.last1 = {b: max(s for s in self.uses[b] if s <= self.turn) for b in self.may}
        behind = {b: [s for s in self.uses[b] if s > self.turn] for b in self.may}
        self.first2 = {b: behind[b][0] if behind[b] else None for b in self.may}
        self.last2 = {b: behind[b][-1] if behind[b] else None for b in self.may}


# ---- carried out run by run ----

def carry_out(p, kept):
    """Peak and seconds."""
    gone = {b for b in p.may if b not in kept}
    again, wanted = set(), set()
    stack = [b for s in p.step[p.turn + 1:] for b in s.reads if b in gone]
    while stack:  # which steps run again, since something without a map needs them
        b = stack.pop()
        if b in wanted:
            continue
        wanted.add(b)
        maker = p.map[p.by_map[b]] if b in p.by_map else p.step[p.made[b]]
        if b not in p.by_map:
            again.add(p.made[b])
        stack += [c for c in maker.reads if c in gone]
    runs, have, seconds = [], set(), 0.0

    def need(b):
        nonlocal seconds
        if b not in gone or b in have:
            return
        by_map = b in p.by_map and p.made[b] not in again
        step = p.map[p.by_map[b]] if by_map else p.step[p.made[b]]
        for c in step.reads:
            need(c)
        runs.append(("m" if by_map else "a", step, set(have)))
        have.update(c for c in step.writes if c in gone)
        seconds += step.seconds

    for s, step in enumerate(p.step):
        if s > p.turn:
            for b in step.reads:
                need(b)
        runs.append(("s", step, set(have)))
    # versions of values: (b, 0) as made first, (b, 1) as made again
    first, last = {}, {}
    for i, (kind, step, there) in enumerate(runs):
        for b in step.reads:
            v = (b, int(b in there))
            first.setdefault(v, 0)
            last[v] = i
        for b in step.writes:
            v = (b, int(kind != "s"))
            first.setdefault(v, i)
            last[v] = i
    for b in range(len(p.bytes)):
        if p.input[b] and (b, 0) in last:
            first[b, 0] = 0
        if p.result[b]:
            first.setdefault((b, 0), 0)
            last[b, 0] = len(runs) - 1
    change = [0] * (len(runs) + 1)
    for v in last:
        change[first[v]] += p.bytes[v[0]]
        change[last[v] + 1] -= p.bytes[v[0]]
    now, peak = 0, 0
    for i, (kind, step, there) in enumerate(runs):
        now += change[i]
        used, taken, out_done = now + step.workspace, set(), set()
        for out, inp in step.pairs:
            v = (inp, int(inp in there))
            before = first[v] < i or (p.input[inp] and not v[1])
            if (out in out_done or v in taken or p.bytes[out] != p.bytes[inp] or not p.bytes[out] or p.result[inp]
                    or last[v] != i or not before or first[out, int(kind != "s")] != i):
                continue
            taken.add(v)
            out_done.add(out)
            used -= p.bytes[out]
        peak = max(peak, used)
    return peak, seconds


# ---- as an integer program ----

class Program:
    def __init__(self):
        self.rows, self.whole, self.cost = [], [], []

    def row(self, terms, sense, right):
        """terms: [(factor, variable)]"""
        total = {}
        for factor, variable in terms:
            total[variable] = total.get(variable, 0) + factor
        left = " ".join(f"{f:+.15g} {v}" for v, f in total.items() if f)
        if left:
            self.rows.append(f" {left} {sense} {right:.15g}")

    def write(self, path):
        with open(path, "w") as to:
            to.write("Minimize\n obj: " + " ".join(f"{c:+.15g} {v}" for c, v in self.cost) + "\nSubject To\n")
            to.writelines(f" r{i}:{row}\n" for i, row in enumerate(self.rows))
            names = sorted(set(re.findall(r"[kahxez]\w+", " ".join(self.rows))))
            to.write("Bounds\n" + "".join(f" 0 <= {v} <= 1\n" for v in names))
            to.write("Binaries\n " + " ".join(self.whole) + "\nEnd\n")


def formulate(p, budget, known):
    """Times in thousandths of a step, memory in MiB: numbers near 1."""
    lp, end = Program(), len(p.step) - 1
    may = set(p.may)
    unit, scale = sum(s.seconds for s in p.step) / 1000, 1 / 2**20
    slots = range(p.turn + 1, end + 1)
    # what can run again: (name, step, the values that it brings back)
    runs = [(f"s{i}", s, [b for b in s.writes if b in may]) for i, s in enumerate(p.step[:p.turn + 1]) if s.again]
    runs = [r for r in runs if r[2]] + [(f"m{i}", m, m.writes) for i, m in enumerate(p.map) if m.writes[0] in may]
    makers = {b: [q for q, _, makes in runs if b in makes] for b in p.may}
    readers = {b: [q for q, step, _ in runs if b in step.reads] for b in p.may}
    k, a = (lambda b: f"k{b}"), (lambda q: f"a{q}")
    x, h, e = (lambda q, s: f"x{q}_{s}"), (lambda b, s: f"h{b}_{s}"), (lambda b, s: f"e{b}_{s}")
    lp.cost = [(step.seconds / unit, a(q)) for q, step, _ in runs]
    lp.whole = [k(b) for b in p.may] + [a(q) for q, _, _ in runs]
    lp.row(lp.cost, "<=", known / unit * (1 + 1e-7))

    for q, step, makes in runs:
        lp.row([(1, x(q, end)), (-1, a(q))], "=", 0)
        for s in slots:
            if s > p.turn + 1:
                lp.row([(1, x(q, s - 1)), (-1, x(q, s))], "<=", 0)
            for b in step.reads:
                if b in may:
                    lp.row([(1, x(q, s)), (-1, h(b, s))], "<=", 0)
            # not before something needs what it makes
            if all(p.first2[b] is None or p.first2[b] > s for b in makes):
                lp.row([(1, x(q, s))] + [(-1, x(r, s)) for b in makes for r in readers[b]], "<=", 0)
    for b in p.may:
        for s in slots:
            lp.row([(1, h(b, s)), (-1, k(b))] + [(-1, x(q, s)) for q in makers[b]], "<=", 0)
            lp.row([(1, h(b, s)), (-1, k(b))], ">=", 0)
            for q in makers[b]:
                lp.row([(1, h(b, s)), (-1, x(q, s))], ">=", 0)
            if p.first2[b] is not None and s >= p.first2[b]:
                lp.row([(1, h(b, s))], ">=", 1)
            # there and needed later
            if p.last2[b] is not None and s < p.last2[b]:
                lp.row([(1, e(b, s)), (-1, h(b, s))], ">=", 0)
            else:
                for q in readers[b]:
                    lp.row([(1, e(b, s)), (-1, h(b, s)), (-1, a(q)), (1, x(q, s))], ">=", -1)
        # kept over the turn: e[b, turn] for all of its time from its last use before
        if p.last2[b] is not None:
            lp.row([(1, e(b, p.turn)), (-1, k(b))], ">=", 0)
        else:
            for q in readers[b]:
                lp.row([(1, e(b, p.turn)), (-1, k(b)), (-1, a(q))], ">=", -1)

    def after(b, s):
        """Is it there after step s and needed later? (constant, variables)"""
        if b not in may:
            ends = end if p.result[b] else max(p.uses[b])
            return int(ends > s), []
        if s < p.last1[b]:
            return 1, []
        return 0, [(1, e(b, max(s, p.turn)))]

    def alive(b):
        return p.bytes[b] and (p.uses[b] or p.result[b])

    def starts(b):
        return 0 if p.input[b] else p.uses[b][0] if p.uses[b] else 0

    for s, step in enumerate(p.step):
        touched, constant, terms = set(step.reads + step.writes), step.workspace, []
        for b in range(len(p.bytes)):
            if not alive(b) or starts(b) > s:
                continue
            if b in touched:
                constant += p.bytes[b]
                continue
            one, more = after(b, s)
            constant += one * p.bytes[b]
            terms += [(f * p.bytes[b], v) for f, v in more]
        place = {}
        for out, inp in step.pairs:
            one, more = after(inp, s)
            fresh = starts(inp) < s or p.input[inp]
            if one or p.bytes[out] != p.bytes[inp] or not p.bytes[out] or p.result[inp] or not fresh or p.uses[out][0] != s:
                continue
            z = f"z{s}_{out}_{inp}"
            lp.row([(1, z)] + more, "<=", 1)
            place.setdefault(("out", out), []).append(z)
            place.setdefault(("in", inp), []).append(z)
            terms.append((-p.bytes[out], z))
        for one in place.values():
            lp.row([(1, z) for z in one], "<=", 1)
        if constant + sum(f for f, _ in terms if f > 0) > budget:
            lp.row([(f * scale, v) for f, v in terms], "<=", (budget - constant) * scale)

    # within a slot, at a run: what it touches, and what was there before the slot and is read at its step or behind it
    for q, step, makes in runs:
        touched = set(step.reads + step.writes)
        for s in slots:
            constant = step.workspace + sum(p.bytes[b] for b in touched if alive(b))
            terms = [(sum(p.bytes[o] for o in {o for o, _ in step.pairs}), None)]
            constant -= terms.pop()[0]  # at the most, all outputs that can are where inputs were
            for b in range(len(p.bytes)):
                if not alive(b) or b in touched or starts(b) > s - 1:
                    continue
                if b not in may:
                    constant += after(b, s - 1)[0] * p.bytes[b]
                elif p.last2[b] is not None and s <= p.last2[b]:
                    terms.append((p.bytes[b], h(b, s - 1) if s > p.turn + 1 else k(b)))
            most = constant + sum(f for f, _ in terms)
            if most > budget:  # only where it runs in this slot
                before = [(-(most - budget) * scale, x(q, s - 1))] if s > p.turn + 1 else []
                lp.row([(f * scale, v) for f, v in terms] + [((most - budget) * scale, x(q, s))] + before, "<=",
                       (budget - constant + most - budget) * scale)
    return lp, unit


def spent():
    """Seconds of a processor that programs called from here took."""
    return os.times().children_user + os.times().children_system


def solve(p, budget, known):
    """Of sets that take no more time than is known to be enough: (least that is proved, optimum that was carried out or None,
    seconds that it took)"""
    lp, unit = formulate(p, budget, known)
    began, least = spent(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        while True:
            left = SECONDS - (spent() - began)
            if left < 1:
                return least, None, SECONDS
            lp.write(f"{folder}/p.lp")
            ran = subprocess.run(["cbc", f"{folder}/p.lp", "sec", f"{left:.0f}", "ratio", "1e-7", "solve", "solu", f"{folder}/s"],
                                 capture_output=True, text=True).stdout
            lines = open(f"{folder}/s").read().splitlines()
            if not lines[0].startswith("Optimal"):
                bound = re.findall(r"^Lower bound: +(\S+)", ran, re.M) or re.findall(r"best possible (\S+)", ran)
                return max(least, float(bound[-1]) * unit if bound else 0.0), None, SECONDS
            least = max(least, float(lines[0].split()[-1]) * unit)
            value = {w[1]: float(w[2]) for w in (line.replace("**", "").split() for line in lines[1:])}
            kept = {b for b in p.may if value.get(f"k{b}", 0) > 0.5}
            peak, seconds = carry_out(p, kept)
            if peak <= budget:
                return least, seconds, spent() - began
            lp.row([(-1 if b in kept else 1, f"k{b}") for b in p.may], ">=", 1 - len(kept))


HEAD = """# Plans beside integer programs

What `tests/golden/remat/exact.py` found: models of two layers and few tokens (so that nothing is made in chunks, which are many steps), a quarter, half and three quarters of the way from the least peak
to that with everything kept. The optimum is CBC's (Debian's coinor-cbc, one thread, 60 s of a processor): the least time that
any set of values kept takes; where it was not found within that, what CBC proved stands alone. Times are of the rough CPU by
which plans without a machine count.

| model | budget, MiB | least to all, MiB | Plinth, ms | optimum, ms | proved, ms | Plinth's bound, ms | CBC, s |
|---|---:|---:|---:|---:|---:|---:|---:|
"""


def solved_before(name, text, budget):
    """What solve() said to this problem, as the files here have it: (proved, optimum or None, seconds); or None."""
    path = f"{here}/{name}.txt"
    if not os.path.exists(path) or not open(path).read().startswith(text + "exact"):
        return None
    found = re.search(rf"^exact {budget} (\S+) (\S+)$", open(path).read(), re.M)
    row = re.search(rf"^\| {re.escape(name)} \| {budget / 2**20:.1f} \|.*$", open(table_path).read(), re.M)
    if not found or not row:
        return None
    cell = [c.strip() for c in row.group().strip("|").split("|")]
    return float(found[2]), float(found[1]) if cell[4] else None, float(cell[7])


def row_of(p, name, asked, again):
    """A line of the table, a line of the file, and whether it is as it should be."""
    budget, seconds, bound, peak, kept = asked
    counted = carry_out(p, kept)
    if counted[0] != peak or abs(counted[1] - seconds) > 1e-9 * seconds or peak > budget:
        sys.exit(f"{name}: Plinth counts {peak} bytes and {seconds} s, exact.py {counted[0]} bytes and {counted[1]} s")
    least, optimum, took = (not again and solved_before(name, p.text, budget)) or solve(p, budget, seconds)
    best = seconds if optimum is None else min(seconds, optimum)
    good = bound <= best * (1 + 1e-9) and (optimum is None or seconds <= 1.01 * optimum)
    line = (f"| {name} | {budget / 2**20:.1f} | {p.least / 2**20:.1f} to {p.most / 2**20:.1f} | {seconds * 1e3:.3f} | "
            + ("" if optimum is None else f"{optimum * 1e3:.3f}")
            + f" | {least * 1e3:.3f} | {bound * 1e3:.3f} | {took:.0f} |\n")
    return line, f"exact {budget} {best:.17g} {least:.17g}\n", good


def main():
    update, again = "--update" in sys.argv, "--update" not in sys.argv or "--all" in sys.argv
    binary = os.path.abspath([a for a in sys.argv[1:] if not a.startswith("--")][0])
    table, good = HEAD, True
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([binary], env={**os.environ, "PLINTH_EXACT": folder}, check=True, stdout=subprocess.DEVNULL)
        print(HEAD, end="", flush=True)
        for file in sorted(os.listdir(folder)):
            p, found = Problem(f"{folder}/{file}"), ""
            for asked in p.asked:
                line, result, fine = row_of(p, file[:-4], asked, again)
                table += line
                found += result
                good &= fine
                print(line if fine else "WRONG: " + line, end="", flush=True)
            if update:
                open(f"{here}/{file}", "w").write(p.text + found)
    if update:
        open(table_path, "w").write(table)
    return not good


if __name__ == "__main__":
    sys.exit(main())
