"""Plain manifests for those without Helm: k8s/, made from what the chart renders.

The base is the chart's objects; an overlay is what a further file of values changes in them.
`scripts/k8s.sh` runs this.
"""

import yaml
from chart import CHART, TOP, helm, load_all

K8S = TOP / "k8s"
VALUES = K8S / "values"
OVERLAYS = ("dev", "ha")
# What only Helm knows the meaning of.
HELMS = ("helm.sh/chart", "app.kubernetes.io/managed-by")
MADE = "# Made by scripts/k8s.sh from charts/fanfare and k8s/values: change those.\n"


class Dumper(yaml.SafeDumper):
    """Lists indented and texts as blocks, as people write them; no anchors."""

    def increase_indent(self, flow=False, indentless=False):
        return super().increase_indent(flow, False)

    def ignore_aliases(self, _):
        return True


def block(dumper, text):
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Dumper.add_representer(str, block)


def dump(*documents):
    return MADE + yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, width=120)


def objects(*names):
    """What the chart makes of these files of values, without what is Helm's own."""
    options = [option for name in names for option in ("--values", VALUES / f"{name}.yaml")]
    found = load_all(helm("template", None, (), "fanfare", CHART, options=options))
    found = [without_helm(each) for each in found if "helm.sh/hook" not in each["metadata"].get("annotations", {})]
    # Helm's test is gone, and what was for it alone.
    run = {component(each) for each in found if each["kind"] in ("Deployment", "StatefulSet")}
    return [each for each in found if component(each) in run]


def component(each):
    return each["metadata"]["labels"]["app.kubernetes.io/component"]


def without_helm(each):
    labels = each["metadata"].get("labels", {})
    each["metadata"]["labels"] = {name: value for name, value in labels.items() if name not in HELMS}
    return each


def key(each):
    return each["kind"], each["metadata"]["name"]


def base():
    """The base's files by name."""
    groups = {}
    for each in objects("base"):
        groups.setdefault(component(each), []).append(each)
    files = {f"{name}.yaml": dump(*group) for name, group in groups.items()}
    files["namespace.yaml"] = dump(namespace())
    return {"kustomization.yaml": dump(kustomization(resources=sorted(files))), **files}


def namespace():
    """Only pods that keep to the restricted standard run in it."""
    standard = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fanfare", "labels": standard}}


def kustomization(**content):
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": "fanfare", **content}


def overlay(name):
    """An overlay's files by name: the objects it adds, and patches of the others."""
    before, after = ({key(each): each for each in objects(*names)} for names in (("base",), ("base", name)))
    assert before.keys() <= after.keys(), "an overlay takes nothing away"
    added = [each for found, each in after.items() if found not in before]
    files = {"added.yaml": dump(*added)} if added else {}
    resources, patches = ["../../base", *files], []
    for (kind, name), each in before.items():
        if changes := difference(each, after[kind, name]):
            path = f"{kind.lower()}-{name}.yaml"
            patches.append({"target": {"kind": kind, "name": name}, "path": path})
            files[path] = dump(changes)
    return {"kustomization.yaml": dump(kustomization(resources=resources, patches=patches)), **files}


def difference(before, after, path=""):
    """The JSON patch (RFC 6902) from one to the other."""
    if before == after:
        return []
    if after is None:
        return [{"op": "remove", "path": path}]
    if isinstance(before, dict) and isinstance(after, dict):
        changes = []
        for name in [*before, *(name for name in after if name not in before)]:
            place = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
            if name not in before:
                changes.append({"op": "add", "path": place, "value": after[name]})
            else:
                changes += difference(before[name], after.get(name), place)
        return changes
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [change for index, pair in enumerate(zip(before, after)) for change in difference(*pair, f"{path}/{index}")]
    return [{"op": "replace", "path": path, "value": after}]


def files():
    """All files made, by their path below k8s/."""
    made = {f"base/{name}": text for name, text in base().items()}
    for each in OVERLAYS:
        made |= {f"overlays/{each}/{name}": text for name, text in overlay(each).items()}
    return made


def write():
    for path, text in files().items():
        (K8S / path).parent.mkdir(parents=True, exist_ok=True)
        (K8S / path).write_text(text)


if __name__ == "__main__":
    write()
