# SPDX-License-Identifier: MIT
"""The programs called parked-*: starting one, and holding what asyncflame saw of it against what the
program itself says should be seen.

The program's account knows its own async functions, the lines of their awaits, its leaves' addresses, and the
types of what is awaited (std::any::type_name). None of that is from debug info.
"""
import contextlib
import json
import re
import subprocess
from collections import Counter


class Parked:
    """A program that has parked its tasks, and its account of them."""

    def __init__(self, process, lines):
        self.process = process
        self.pid = process.pid
        accounts = [json.loads(line) for line in lines]
        self.many = [line for line in accounts if "many" in line]
        self.tasks = {line["task"]: line for line in accounts if "task" in line}
        assert len(self.tasks) + len(self.many) == len(accounts), "two tasks of one name"

    def command(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def answer(self):
        return json.loads(self.process.stdout.readline())


@contextlib.contextmanager
def parked(program, *words, env=None, under=()):
    """The program, running and parked, ended afterwards; started by the command line `under`, if there is one."""
    with subprocess.Popen([*map(str, under), str(program), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True, env=env) as process:
        try:
            lines = []
            while (line := process.stdout.readline().strip()) != "parked":
                assert line, f"{program} ended with {process.wait()}"
                lines.append(line)
            yield Parked(process, lines)
        finally:
            process.kill()


# --- names

def without_generics(name):
    """`a::B<C>::d<E>` as `a::B::d`; what stands in front, `<A as B>::c`, stays."""
    out, depth, keep = [], 0, 0
    for at, char in enumerate(name.replace("->", "")):
        if char == "<":
            if depth == 0 and not out:
                keep = 1
                out.append(char)
            depth += 1
            continue
        if char == ">":
            depth -= 1
            if keep and depth == 0:
                keep = 0
                out.append(char)
            continue
        if depth == 0 or keep and depth == 1:
            out.append(char)
    return "".join(out).replace("::::", "::")


PARTS = re.compile(r"::\{[^}]*\}+")
WRAPS = re.compile(r"^(&mut |&(?:'_ )?|core::pin::Pin<(?=.*>$)|alloc::boxed::Box<(?=.*>$)"
                   r"|core::future::from_generator::GenFuture<(?=.*>$))")


def awaited_type(name):
    """What is shown of an awaited type, closures and blocks left out; "" where nothing is known."""
    while found := WRAPS.match(name):
        name = name[found.end():]
        if found.group().endswith("<"):
            name = name[:-1]
            name = name.removesuffix(", alloc::alloc::Global")
    # What lies between two futures, and is not shown.
    if name.startswith(("dyn ", "(dyn ", "futures_util::future::maybe_done::MaybeDone",
                        "async_std::task::join_handle::JoinHandle")):
        return ""
    return PARTS.sub("", without_generics(name))


def tail(path):
    """The last two parts of a path."""
    return "/".join(path.split("/")[-2:]) if path else path


# --- what the program says

def told(node, trees=()):
    """What should be seen. Where an await is written on several lines, any of these is right: then it is
    the one that was seen in `trees`."""
    if "leaf" in node:
        return ("leaf", node["address"])
    line = node["line"]
    if node["last_line"] > line:
        line = next((tree[2] for tree in trees if tree[0] == node["function"] and
                     line <= tree[2] <= node["last_line"]), line)
    below = tuple(sorted(map(told, node["children"]), key=repr))
    if node["opaque"] and not any(tree[3] for tree in trees if tree[0] == node["function"]):
        below = ()
    return (node["function"], tail(node["file"]), line, below)


def leaves(node):
    """The addresses of all leaves below, held ones too."""
    if "leaf" in node:
        return {node["address"]}
    return set().union(*map(leaves, node["children"] + node.get("held", [])), set())


# --- what was seen

class Seen:
    """A dump's tree with only the program's own frames and leaves in it."""

    def __init__(self, crate):
        self.crate = crate
        self.errors = []
        self.held = []

    def is_own(self, node):
        return node["state"] == "suspended" and (
            node["name"].startswith((f"{self.crate}::", f"<{self.crate}::")))

    def shown(self, node):
        """The own nodes that stand for this one: itself, or those below it."""
        if node["name"].startswith(f"{self.crate}::oracle::Never"):
            return [("leaf", node["address"])]
        if node["state"] in ("unreadable", "unknown", "panicked"):
            self.errors.append(f"{node['name']} at {node['address']} is {node['state']}")
        below = []
        for child in node["children"]:
            if child["relation"] == "held":
                self.held.append((node, child))
            elif child["state"] not in ("done", "same"):
                below += self.shown(child)
        if self.is_own(node):
            return [(without_generics(node["name"]), tail(node["file"]), node["line"],
                     tuple(sorted(below, key=repr)))]
        return below


def seen_leaves(trees):
    found = set()
    for tree in trees:
        found |= {tree[1]} if tree[0] == "leaf" else seen_leaves(tree[3])
    return found


def text(trees, indent=4):
    """For people."""
    lines = []
    for tree in trees:
        if tree[0] == "leaf":
            lines.append(" " * indent + f"leaf {tree[1]}")
        else:
            lines.append(" " * indent + f"{tree[0]} at {tree[1]}:{tree[2]}")
            lines += text(tree[3], indent + 2)
    return lines


EXECUTORS = {"tokio": {"tokio"}, "local": {"tokio", "async-task"}, "async-task": {"async-task"},
             "block_on": {"block_on"}, "own": {"other", "block_on"}}


class Comparison:
    """Every difference between the account and a dump, as sentences."""

    def __init__(self, account, dump, crate):
        self.account, self.crate = account, crate
        self.wrong, self.missing = [], []
        self.right = Counter()
        self.by_leaf = {}
        for label, task in account.items():
            for address in set().union(*map(leaves, task["stack"]), set()):
                self.by_leaf[address] = label
        self.labels = {}  # of a task's address
        found = {}
        for task in dump["tasks"]:
            if task["tree"] is not None:
                self.place(task, found)
        for label in account:
            if label not in found and account[label]["kind"] != "blocking":
                self.missing.append(f"{label} ({account[label]['kind']}): no such task")
        for label, (task, seen, trees) in found.items():
            self.compare(label, task, seen, trees)

    def place(self, task, found):
        """Finds whose task this is: by its leaves, else by the outermost function."""
        seen = Seen(self.crate)
        trees = sorted(seen.shown(task["tree"]), key=repr)
        if not trees:
            return
        labels = Counter(self.by_leaf.get(address) for address in seen_leaves(trees))
        if not labels:
            labels = Counter(label for label, told_task in self.account.items()
                             if told_task["stack"] and told_task["stack"][0].get("function") == trees[0][0])
        label = labels.most_common(1)[0][0] if labels else None
        if label is None or label in found:
            self.wrong.append("\n".join([f"a task of nobody's, or {label} again:"] + text(trees)))
            return
        found[label] = (task, seen, trees)
        self.labels[task["address"]] = label

    def compare(self, label, task, seen, trees):
        expected = sorted((told(node, trees) for node in self.account[label]["stack"]), key=repr)
        kind = self.account[label]["kind"]
        if trees != expected:
            lost = seen_leaves(expected) - seen_leaves(trees)
            kept = seen_leaves(trees) <= seen_leaves(expected)
            to = self.missing if lost and kept else self.wrong
            to.append("\n".join([f"{label} ({kind}): expected"] + text(expected) + ["  seen"] + text(trees)))
        else:
            self.right["tasks"] += 1
            self.right["leaves"] += len(seen_leaves(trees))
        if task["executor"] not in EXECUTORS[kind]:
            self.wrong.append(f"{label}: is of {kind}, not of {task['executor']}")
        if task["state"] != "parked":
            self.wrong.append(f"{label}: is parked, not {task['state']}")
        self.wrong += [f"{label}: {error}" for error in seen.errors]
        self.awaits(label, self.account[label]["stack"], self.frames(task["tree"]))
        self.held(label, seen)

    def frames(self, node):
        """The outermost own frames at or below a node, as the dump has them."""
        if Seen(self.crate).is_own(node):
            return [node]
        return [frame for child in node["children"] if child["relation"] != "held"
                for frame in self.frames(child)]

    def awaits(self, label, told_nodes, nodes):
        """The types of what is awaited, and the tasks that are waited for."""
        used = set()
        for told_node in told_nodes:
            if "leaf" in told_node:
                continue
            same = [(at, node) for at, node in enumerate(nodes) if at not in used
                    and without_generics(node["name"]) == told_node["function"]
                    and told_node["line"] <= node["line"] <= told_node["last_line"]]
            if not same:
                continue  # has been said already
            at, node = same[0]
            used.add(at)
            below = [child for child in node["children"] if child["relation"] == "awaited"]
            expected = awaited_type(told_node["awaits"])
            shown = [awaited_type(child["name"]) for child in below]
            if expected and shown != [expected]:
                self.wrong.append(f"{label}: {told_node['function']} awaits {expected}, not {shown}")
            elif expected:
                self.right["awaited types"] += 1
            tasks = sorted(self.tasks_below(below))
            if tasks != sorted(told_node["tasks"]):
                self.wrong.append(f"{label}: waits for the tasks {sorted(told_node['tasks'])}, not {tasks}")
            elif tasks:
                self.right["tasks waited for"] += len(tasks)
            inner = [frame for child in below for frame in self.frames(child)]
            self.awaits(label, told_node["children"], inner)

    def tasks_below(self, nodes):
        found = []
        for node in nodes:
            if node.get("task"):
                label = self.labels.get(node["task"])
                blocking = [other for other, task in self.account.items()
                            if task["kind"] == "blocking"]
                found.append(label or (blocking[0] if len(blocking) == 1 else "?"))
            elif not Seen(self.crate).is_own(node):
                found += self.tasks_below(node["children"])
        return found

    def held(self, label, seen):
        """Held leaves that were polled are this task's own, and held."""
        allowed = set()

        def collect(node):
            if "leaf" not in node:
                for child in node["held"]:
                    allowed.update(leaves(child))
                for child in node["children"] + node["held"]:
                    collect(child)

        for node in self.account[label]["stack"]:
            collect(node)
        for parent, child in seen.held:
            inner = Seen(self.crate)
            for address in seen_leaves(inner.shown(child)):
                if address in allowed:
                    self.right["held leaves"] += 1
                elif address in self.by_leaf:
                    self.wrong.append(f"{label}: {parent['name']} holds as {child['label']} a leaf of "
                                      f"{self.by_leaf[address]} at {address}")
                else:
                    self.right["held, not polled"] += 1

    def report(self):
        return "\n".join([f"{len(self.wrong)} wrong, {len(self.missing)} missing, {dict(self.right)}"] +
                         ["WRONG " + line for line in self.wrong] +
                         ["MISSING " + line for line in self.missing])


# --- what tokio's own dump says

def trace_of(frames, crate):
    """The crate's own functions in a backtrace of tokio's, outermost first, with their lines; of what a
    function consists of (closures of macros) only the function."""
    own = [(without_generics(PARTS.sub("", name.rsplit("::h", 1)[0])), line)
           for name, _, line in reversed(frames) if name.startswith((f"{crate}::", f"<{crate}::"))]
    return tuple(once(own))


def once(frames):
    before = None
    for frame in frames:
        if frame[0] != before:
            yield frame
        before = frame[0]
