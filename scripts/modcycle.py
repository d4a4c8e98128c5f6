#!/usr/bin/env python3
"""Fail when the top-level modules of a Rust crate import each other in a circle.

usage: modcycle.py CRATE_DIR...      (exit 1 on a cycle; reads `crate::a::B`, `use crate::{a, b::C}`
and root re-exports such as `pub use a::B`; ignores comments and #[cfg(test)] tails)
"""
import collections, pathlib, re, sys

COMMENT = re.compile(r'//[^\n]*|/\*.*?\*/', re.S)

def heads(group):
    """First path segment of every entry of a `use crate::{...}` list."""
    depth, token = 0, ''
    for char in group + ',':
        depth += (char == '{') - (char == '}')
        if char == ',' and depth == 0:
            if word := re.match(r'\s*(\w+)', token):
                yield word.group(1)
            token = ''
        else:
            token += char

def graph(crate):
    src = pathlib.Path(crate, 'src')
    modules = {p.relative_to(src).parts[0].removesuffix('.rs') for p in src.rglob('*.rs')} - {'lib', 'main', 'bin', 'tests'}
    reexports = {}
    for root in ('lib.rs', 'main.rs'):
        if (src / root).exists():
            text = COMMENT.sub('', (src / root).read_text())
            for module, names in re.findall(r'\buse\s+(?:self::|crate::)?(\w+)::(\{[^;]*\}|[\w:]+)\s*;', text):
                if module in modules:
                    reexports.update((name, module) for name in re.findall(r'\w+', names) if name not in reexports)
    edges = collections.defaultdict(dict)
    for path in src.rglob('*.rs'):
        here = path.relative_to(src).parts[0].removesuffix('.rs')
        if here not in modules or 'tests' in path.parts or path.name == 'tests.rs':
            continue
        text = re.split(r'#\[cfg\((?:all\()?test', COMMENT.sub('', path.read_text(errors='replace')))[0]
        names = set(re.findall(r'\bcrate::(\w+)', text))
        for group in re.findall(r'\buse\s+crate::\{(.*?)\};', text, re.S):
            names.update(heads(group))
        for name in names:
            target = name if name in modules else reexports.get(name)
            if target and target != here:
                edges[here].setdefault(target, str(path))
    return modules, edges

def cycles(modules, edges):
    index, low, stack, found = {}, {}, [], []
    def visit(node):
        index[node] = low[node] = len(index); stack.append(node)
        for nxt in edges[node]:
            if nxt not in index:
                visit(nxt); low[node] = min(low[node], low[nxt])
            elif nxt in stack:
                low[node] = min(low[node], index[nxt])
        if low[node] == index[node]:
            component = []
            while True:
                component.append(stack.pop())
                if component[-1] == node:
                    break
            if len(component) > 1:
                found.append(sorted(component))
    for module in sorted(modules):
        if module not in index:
            visit(module)
    return found

failed = False
for crate in sys.argv[1:]:
    modules, edges = graph(crate)
    for component in cycles(modules, edges):
        failed = True
        print(f'{crate}: modules import each other in a circle: {", ".join(component)}')
        for here in component:
            for target, path in sorted(edges[here].items()):
                if target in component:
                    print(f'    {here} -> {target}   ({path})')
sys.exit(failed)
