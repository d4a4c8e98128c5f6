#!/usr/bin/env python3
"""chart-docs.py [--check]: writes the table of values into charts/fanfare/README.md, from the
comments of values.yaml that begin with `# --`; or says that it is not up to date."""

import json
import pathlib
import re
import sys

import yaml

CHART = pathlib.Path(__file__).resolve().parent.parent / "charts" / "fanfare"
BEGIN, END = "<!-- values: scripts/chart-docs.py -->", "<!-- end of values -->"


def described(text):
    """Path and description of each value that has one."""
    path, said = [], []
    for number, line in enumerate(text.splitlines(), 1):
        indent, rest = len(line) - len(line.lstrip()), line.strip()
        if rest.startswith("# --"):
            said = [rest.removeprefix("# --").strip()]
        elif rest.startswith("#") and said:
            said.append(rest.removeprefix("#").strip())
        elif key := re.match(r"([\w.-]+):", rest):
            path = [*path[: indent // 2], key[1]]
            if said:
                yield tuple(path), " ".join(said)
            said = []
        elif rest and not rest.startswith(("#", "-")):
            raise SystemExit(f"values.yaml:{number}: not understood: {line}")


def value_at(values, path):
    for key in path:
        values = values[key]
    return values


def leaves(values, documented, path=()):
    """Values that have no description, neither they nor what they are in."""
    for key, value in values.items():
        if (*path, key) in documented:
            continue
        if isinstance(value, dict) and value:
            yield from leaves(value, documented, (*path, key))
        else:
            yield (*path, key)


def table(text):
    values, documented = yaml.safe_load(text), dict(described(text))
    if missing := [".".join(path) for path in leaves(values, documented)]:
        raise SystemExit(f"values.yaml: no description of {', '.join(missing)}")
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for path, meaning in documented.items():
        default = json.dumps(value_at(values, path), ensure_ascii=False)
        rows.append(f"| `{'.'.join(path)}` | `{default}` | {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def main():
    readme = CHART / "README.md"
    old = readme.read_text(encoding="utf-8")
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    new = f"{before}{BEGIN}\n{table((CHART / 'values.yaml').read_text(encoding='utf-8'))}\n{END}{after}"
    if "--check" in sys.argv[1:]:
        if new != old:
            raise SystemExit("charts/fanfare/README.md is not up to date: scripts/chart-docs.py writes it")
    else:
        readme.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
