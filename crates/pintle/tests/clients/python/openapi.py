"""Every OpenAPI document of a server, read by a strict validator: v3 of every group, and v2."""

import json
import sys

from kubernetes import client, config
from openapi_spec_validator import OpenAPIV2SpecValidator, OpenAPIV30SpecValidator


def fetch(api, path):
    answer = api.call_api("GET", api.configuration.host + path, header_params={"Accept": "application/json"})
    answer.read()
    assert answer.status == 200, (path, answer.status)
    return json.loads(answer.data)


def spoil(document):
    """The document with one type that is none: what the validator must find."""
    name = next(iter(document["components"]["schemas"]))
    spoilt = json.loads(json.dumps(document))
    spoilt["components"]["schemas"][name]["type"] = "nonsense"
    return spoilt


def main():
    config.load_kube_config()
    api = client.ApiClient()
    wrong = 0
    paths = fetch(api, "/openapi/v3")["paths"]
    for name, place in sorted(paths.items()):
        print(name)
        document = fetch(api, place["serverRelativeURL"])
        if document.get("components", {}).get("schemas"):
            assert list(OpenAPIV30SpecValidator(spoil(document)).iter_errors()), f"{name}: the validator sees nothing"
        for error in list(OpenAPIV30SpecValidator(document).iter_errors())[:5]:
            wrong += 1
            print(f"v3 {name}: {list(error.absolute_path)[:8]} {error.message[:300]}")
    document = fetch(api, "/openapi/v2")
    for error in list(OpenAPIV2SpecValidator(document).iter_errors())[:5]:
        wrong += 1
        print(f"v2: {list(error.absolute_path)[:8]} {error.message[:300]}")
    print(f"{len(paths)} documents of v3 and one of v2 read, {wrong} problems")
    sys.exit(1 if wrong else 0)


main()
