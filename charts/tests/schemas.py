"""The schemas of Kubernetes, and of the custom resources that the chart can make.

Kubernetes's come with the Python package kubernetes-validate (Apache-2.0), which scripts/tools.sh
downloads and which is read as the archive that it is. The others are in crds.yaml.
"""

import functools
import json
import zipfile
from pathlib import Path

import yaml
from chart import TOP
from jsonschema_rs import Draft202012Validator, Registry

OLDEST, NEWEST = "1.30", "1.37"
CUSTOM = "crds.yaml"
# Where the schemas' references to each other lead from: nothing is there.
BASE = "json-schema:///api"


@functools.cache
def archive():
    (path,) = (TOP / ".tools" / "schemas").glob("kubernetes_validate-*.whl")
    return zipfile.ZipFile(path)


@functools.cache
def registry(version):
    return Registry([(f"{BASE}/_definitions.json", read(version, "_definitions"))])


def read(version, name):
    return json.loads(archive().read(f"kubernetes_validate/kubernetes-json-schema/v{version}.0-local-strict/{name}.json"))


@functools.cache
def custom():
    return yaml.safe_load(Path(__file__).with_name(CUSTOM).read_text())


@functools.cache
def validator(version, api, kind):
    group, _, api_version = api.rpartition("/")
    if group in custom():
        return Draft202012Validator({"$ref": f"#/{group}/{api_version}/{kind}", **custom()})
    name = "-".join(part for part in (kind.lower(), group.partition(".")[0], api_version) if part)
    return Draft202012Validator(read(version, name), registry=registry(version), base_uri=BASE)


def problem(version, object_):
    """What is wrong with an object for a Kubernetes version; None if it is well."""
    try:
        error = next(validator(version, object_["apiVersion"], object_["kind"]).iter_errors(object_), None)
    except KeyError:
        return f"Kubernetes {version} has no {object_['apiVersion']} {object_['kind']}"
    return error and f"{'.'.join(map(str, error.instance_path))}: {error.message[:300]}"
