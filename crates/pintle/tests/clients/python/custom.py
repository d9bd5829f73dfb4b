"""Kubernetes' official Python client on custom resources: definition, objects, status, scale, watch, patches, deletion."""

import json
import threading

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException

GROUP, PLURAL, NAMESPACE = "python.example.com", "boats", "default"


def definition():
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["length"],
                "properties": {
                    "length": {"type": "integer", "minimum": 1, "maximum": 400},
                    "replicas": {"type": "integer", "default": 1},
                    "sails": {
                        "type": "array",
                        "maxItems": 10,
                        "items": {
                            "type": "object",
                            "required": ["name"],
                            "properties": {"name": {"type": "string"}, "area": {"type": "integer"}},
                        },
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name"],
                    },
                },
                "x-kubernetes-validations": [
                    {"rule": "self.length >= oldSelf.length", "message": "boats do not shrink"},
                ],
            },
            "status": {
                "type": "object",
                "properties": {"afloat": {"type": "boolean"}, "replicas": {"type": "integer"}},
            },
        },
    }
    version = client.V1CustomResourceDefinitionVersion(
        name="v1",
        served=True,
        storage=True,
        schema=client.V1CustomResourceValidation(open_apiv3_schema=schema),
        subresources={"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
    )
    return client.V1CustomResourceDefinition(
        metadata=client.V1ObjectMeta(name=f"{PLURAL}.{GROUP}"),
        spec=client.V1CustomResourceDefinitionSpec(
            group=GROUP,
            scope="Namespaced",
            names=client.V1CustomResourceDefinitionNames(plural=PLURAL, singular="boat", kind="Boat", short_names=["bo"]),
            versions=[version],
        ),
    )


def boat(name, **spec):
    return {"apiVersion": f"{GROUP}/v1", "kind": "Boat", "metadata": {"name": name}, "spec": spec}


MERGE = {"_content_type": "application/merge-patch+json"}
JSON = {"_content_type": "application/json-patch+json"}


def refused(status, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except ApiException as error:
        assert error.status == status, (error.status, error.body)
        return json.loads(error.body)
    raise AssertionError(f"should have been refused with {status}")


def established(extensions):
    name = f"{PLURAL}.{GROUP}"
    stream = watch.Watch().stream(
        extensions.list_custom_resource_definition, field_selector=f"metadata.name={name}", timeout_seconds=30
    )
    for event in stream:
        conditions = event["object"].status and event["object"].status.conditions or []
        if any(condition.type == "Established" and condition.status == "True" for condition in conditions):
            return
    raise AssertionError("not established")


def main():
    config.load_kube_config()
    api = client.ApiClient()
    extensions, custom = client.ApiextensionsV1Api(api), client.CustomObjectsApi(api)
    extensions.create_custom_resource_definition(definition())
    established(extensions)
    place = (GROUP, "v1", NAMESPACE, PLURAL)

    made = custom.create_namespaced_custom_object(*place, boat("sloop", length=9, sails=[{"name": "main", "area": 20}]))
    assert made["spec"]["replicas"] == 1 and made["metadata"]["generation"] == 1, made
    body = refused(422, custom.create_namespaced_custom_object, *place, boat("raft", length=0))
    assert body["details"]["causes"][0]["field"] == "spec.length", body
    body = refused(422, custom.patch_namespaced_custom_object, *place, "sloop", {"spec": {"length": 8}}, **MERGE)
    assert "boats do not shrink" in body["message"], body

    start = custom.list_namespaced_custom_object(*place)["metadata"]["resourceVersion"]
    seen = []

    def follow():
        stream = watch.Watch().stream(
            custom.list_namespaced_custom_object, *place, resource_version=start, timeout_seconds=30
        )
        for event in stream:
            seen.append((event["type"], event["object"]["spec"]["length"]))
            if event["type"] == "DELETED":
                return

    watcher = threading.Thread(target=follow)
    watcher.start()
    custom.patch_namespaced_custom_object(*place, "sloop", {"spec": {"length": 10}}, **MERGE)
    custom.patch_namespaced_custom_object(*place, "sloop", [{"op": "replace", "path": "/spec/length", "value": 11}], **JSON)

    # The status goes its own way, and does not count a generation.
    status = custom.patch_namespaced_custom_object_status(
        *place, "sloop", {"status": {"afloat": True, "replicas": 1}, "spec": {"length": 300}}, **MERGE
    )
    assert status["status"] == {"afloat": True, "replicas": 1} and status["spec"]["length"] == 11, status
    assert status["metadata"]["generation"] == 3, status["metadata"]
    scale = custom.patch_namespaced_custom_object_scale(*place, "sloop", {"spec": {"replicas": 4}}, **MERGE)
    assert scale["kind"] == "Scale" and scale["spec"]["replicas"] == 4, scale

    boats = dynamic.DynamicClient(api).resources.get(api_version=f"{GROUP}/v1", kind="Boat")
    sail = boat("sloop", sails=[{"name": "jib", "area": 12}])
    applied = boats.server_side_apply(body=sail | {"spec": {"length": 11, "sails": sail["spec"]["sails"]}},
                                      namespace=NAMESPACE, field_manager="rigger", force_conflicts=True).to_dict()
    assert [one["name"] for one in applied["spec"]["sails"]] == ["main", "jib"], applied["spec"]

    custom.delete_namespaced_custom_object(*place, "sloop")
    watcher.join(40)
    assert not watcher.is_alive(), seen
    assert seen[0] == ("MODIFIED", 10) and seen[1] == ("MODIFIED", 11) and seen[-1] == ("DELETED", 11), seen
    extensions.delete_custom_resource_definition(f"{PLURAL}.{GROUP}")


main()
