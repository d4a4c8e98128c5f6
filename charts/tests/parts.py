"""Parts of rendered objects that several tests look at."""


def pods(manifests):
    """Name, metadata and spec of every pod."""
    for owner, template in manifests.pods():
        yield owner.split()[1], template["metadata"], template["spec"]


def pod(manifests, name="fanfare"):
    return next((metadata, spec) for found, metadata, spec in pods(manifests) if found == name)


def component(each):
    return each["metadata"].get("labels", {}).get("app.kubernetes.io/component")


def gateways(manifests):
    """The name of the gateways' Deployment."""
    return next(each["metadata"]["name"] for each in manifests.all("Deployment") if component(each) == "gateway")


def gateway(manifests):
    """The gateways' container."""
    return pod(manifests, gateways(manifests))[1]["containers"][0]


def configuration(manifests):
    """The text of fanfare.toml."""
    return manifests.one("ConfigMap", gateways(manifests))["data"]["fanfare.toml"]
