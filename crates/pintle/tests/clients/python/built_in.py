"""Kubernetes' official Python client on built-in kinds: typed API, dynamic API, watches, patches, errors, pages."""

import datetime
import json
import threading

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError

NAMESPACE = "python"


def refused(status, reason, call, *args, **kwargs):
    """The Status with which a call is refused."""
    try:
        call(*args, **kwargs)
    except ApiException as error:
        body = json.loads(error.body)
        assert (error.status, body["reason"]) == (status, reason), (error.status, body)
        assert body["kind"] == "Status" and body["code"] == status, body
        return body
    raise AssertionError(f"{call.__name__} should have been refused with {status} {reason}")


def config_map(name, data, **metadata):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, **metadata), data=data)


def create_read_update(core):
    made = core.create_namespaced_config_map(NAMESPACE, config_map("one", {"a": "1"}, labels={"app": "x"}))
    assert isinstance(made.metadata.creation_timestamp, datetime.datetime) and made.metadata.uid
    assert core.read_namespaced_config_map("one", NAMESPACE) == made
    made.data["b"] = "2"
    newer = core.replace_namespaced_config_map("one", NAMESPACE, made)
    assert newer.data == {"a": "1", "b": "2"} and newer.metadata.uid == made.metadata.uid
    # The resource version is that of before the replacement.
    body = refused(409, "Conflict", core.replace_namespaced_config_map, "one", NAMESPACE, made)
    assert "the object has been modified; please apply your changes to the latest version" in body["message"]
    refused(409, "AlreadyExists", core.create_namespaced_config_map, NAMESPACE, config_map("one", {}))
    body = refused(404, "NotFound", core.read_namespaced_config_map, "two", NAMESPACE)
    assert body["message"] == 'configmaps "two" not found', body
    body = refused(422, "Invalid", core.create_namespaced_config_map, NAMESPACE, config_map("Not_A_Name", {}))
    assert body["details"]["causes"][0]["field"] == "metadata.name", body
    # Of a dry run nothing stays.
    core.create_namespaced_config_map(NAMESPACE, config_map("dry", {}), dry_run="All")
    refused(404, "NotFound", core.read_namespaced_config_map, "dry", NAMESPACE)


def patches(api, core):
    """Each of the four kinds of patch, chosen as the client chooses them: by the body's type, or by header."""
    merged = core.patch_namespaced_config_map("one", NAMESPACE, {"data": {"b": None, "c": "3"}})
    assert merged.data == {"a": "1", "c": "3"}, merged.data
    tested = core.patch_namespaced_config_map(
        "one", NAMESPACE, [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "remove", "path": "/data/a"}]
    )
    assert tested.data == {"c": "3"}, tested.data
    failed = [{"op": "test", "path": "/data/c", "value": "4"}, {"op": "remove", "path": "/data/c"}]
    refused(422, "Invalid", core.patch_namespaced_config_map, "one", NAMESPACE, failed)
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"mine": "1"}}

    def apply(manager, value, force):
        applied["data"]["mine"] = value
        return core.patch_namespaced_config_map(
            "applied", NAMESPACE, applied, field_manager=manager, force=force, _content_type="application/apply-patch+yaml"
        )

    first = apply("first", "1", False)
    assert [entry.manager for entry in first.metadata.managed_fields] == ["first"], first.metadata.managed_fields
    body = refused(409, "Conflict", apply, "second", "2", False)
    assert body["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "first"', "field": ".data.mine"}
    ], body
    assert apply("second", "2", True).data == {"mine": "2"}


def pages_and_selectors(core):
    for number in range(25):
        group = "even" if number % 2 == 0 else "odd"
        core.create_namespaced_config_map(NAMESPACE, config_map(f"page-{number:02}", {}, labels={"group": group}))
    names, token, rests = [], None, []
    while True:
        page = core.list_namespaced_config_map(NAMESPACE, limit=10, _continue=token)
        names += [item.metadata.name for item in page.items]
        rests.append(page.metadata.remaining_item_count)
        token = page.metadata._continue
        if not token:
            break
    assert names == sorted(names) and len(set(names)) == len(names), names
    assert rests[-1] is None and rests[0] == len(names) - 10, rests
    odd = core.list_namespaced_config_map(NAMESPACE, label_selector="group in (odd)")
    assert len(odd.items) == 12 and all(item.metadata.labels == {"group": "odd"} for item in odd.items)
    one = core.list_namespaced_config_map(NAMESPACE, field_selector="metadata.name=page-03")
    assert [item.metadata.name for item in one.items] == ["page-03"]
    refused(400, "BadRequest", core.list_namespaced_config_map, NAMESPACE, label_selector="a in (b")
    refused(400, "BadRequest", core.list_namespaced_config_map, NAMESPACE, field_selector="data.a=1")
    refused(400, "BadRequest", core.list_namespaced_config_map, NAMESPACE, _continue="nonsense")
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="group=odd")
    left = core.list_namespaced_config_map(NAMESPACE, label_selector="group")
    assert len(left.items) == 13, len(left.items)


def watches(core):
    """A watch from a list's version sees what others do, in order; a typed object comes with each event."""
    start = core.list_namespaced_secret(NAMESPACE).metadata.resource_version
    seen = []

    def follow():
        stream = watch.Watch().stream(
            core.list_namespaced_secret, NAMESPACE, resource_version=start, timeout_seconds=30
        )
        for event in stream:
            seen.append((event["type"], event["object"].metadata.name, event["object"].data))
            if event["type"] == "DELETED":
                return

    watcher = threading.Thread(target=follow)
    watcher.start()
    body = client.V1Secret(metadata=client.V1ObjectMeta(name="seen"), string_data={"key": "value"})
    core.create_namespaced_secret(NAMESPACE, body)
    core.patch_namespaced_secret("seen", NAMESPACE, {"stringData": {"key": "other"}})
    core.delete_namespaced_secret("seen", NAMESPACE)
    watcher.join(40)
    assert not watcher.is_alive(), seen
    first, second = {"key": "dmFsdWU="}, {"key": "b3RoZXI="}
    assert seen == [("ADDED", "seen", first), ("MODIFIED", "seen", second), ("DELETED", "seen", second)], seen


def every_list(api):
    """Every list of every API of the client is read and typed: required fields are there, enumerations known."""
    count = 0
    for name in dir(client):
        if not name.endswith("Api") or name in ("CustomObjectsApi",):
            continue
        if any(part in name for part in ("alpha", "beta", "Alpha", "Beta")):
            continue
        instance = getattr(client, name)(api)
        for method in dir(instance):
            everywhere = method.startswith("list_") and not method.startswith("list_namespaced_")
            if not everywhere or method.endswith("_with_http_info"):
                continue
            if (name, method) == ("EventsV1Api", "list_event_for_all_namespaces"):
                # This client takes no `eventTime: null`, which events of the older form have on every server.
                continue
            try:
                answer = getattr(instance, method)()
            except ApiException as error:
                raise AssertionError(f"{name}.{method}: {error.status} {error.body}") from error
            assert answer.metadata.resource_version, f"{name}.{method}: {answer}"
            count += 1
    print(f"{count} lists read")
    assert count > 50, count


def deployment(apps, core):
    labels = {"app": "web"}
    container = client.V1Container(
        name="web",
        image="example/web:1",
        ports=[client.V1ContainerPort(container_port=80)],
        resources=client.V1ResourceRequirements(requests={"cpu": "10m", "memory": "16Mi"}),
        readiness_probe=client.V1Probe(http_get=client.V1HTTPGetAction(path="/", port=80)),
    )
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels), spec=client.V1PodSpec(containers=[container])
    )
    spec = client.V1DeploymentSpec(replicas=2, selector=client.V1LabelSelector(match_labels=labels), template=template)
    body = client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec)
    made = apps.create_namespaced_deployment(NAMESPACE, body)
    assert made.spec.strategy.rolling_update.max_surge == "25%" and made.spec.revision_history_limit == 10
    scale = apps.read_namespaced_deployment_scale("web", NAMESPACE)
    assert (scale.spec.replicas, scale.status.selector) == (2, "app=web")
    scaled = apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 3}})
    assert scaled.spec.replicas == 3
    # The strategic merge patch of a container goes by its name.
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "example/web:2"}]}}}}
    patched = apps.patch_namespaced_deployment("web", NAMESPACE, patch)
    assert patched.spec.template.spec.containers[0].image == "example/web:2"
    assert patched.spec.template.spec.containers[0].ports[0].container_port == 80
    # The controllers make its pods; with no node they wait.
    for event in watch.Watch().stream(core.list_namespaced_pod, NAMESPACE, label_selector="app=web", timeout_seconds=30):
        pod = event["object"]
        if pod.spec.containers[0].image == "example/web:2":
            assert pod.metadata.owner_references[0].kind == "ReplicaSet"
            break
    else:
        raise AssertionError("no pod of the newer template")
    wrong = client.V1Deployment(
        metadata=client.V1ObjectMeta(name="wrong"),
        spec=client.V1DeploymentSpec(selector=client.V1LabelSelector(match_labels={"a": "b"}), template=template),
    )
    causes = refused(422, "Invalid", apps.create_namespaced_deployment, NAMESPACE, wrong)["details"]["causes"]
    assert [cause["field"] for cause in causes] == ["spec.template.metadata.labels"], causes
    apps.delete_namespaced_deployment("web", NAMESPACE, propagation_policy="Foreground")


def dynamic_client(api):
    cluster = dynamic.DynamicClient(api)
    config_maps = cluster.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dynamic"}, "data": {"a": "1"}}
    config_maps.create(body=body, namespace=NAMESPACE)
    got = config_maps.get(name="dynamic", namespace=NAMESPACE)
    assert got.data.a == "1"
    body["data"]["a"] = "2"
    try:
        config_maps.server_side_apply(body=body, namespace=NAMESPACE, field_manager="other")
        raise AssertionError("another writer's field was taken")
    except ConflictError:
        pass
    config_maps.server_side_apply(body=body, namespace=NAMESPACE, field_manager="other", force_conflicts=True)
    config_maps.delete(name="dynamic", namespace=NAMESPACE)
    try:
        config_maps.get(name="dynamic", namespace=NAMESPACE)
        raise AssertionError("it is still there")
    except NotFoundError:
        pass


def reviews(api):
    authorization = client.AuthorizationV1Api(api)
    review = client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(
            resource_attributes=client.V1ResourceAttributes(verb="create", resource="pods", namespace=NAMESPACE)
        )
    )
    assert authorization.create_self_subject_access_review(review).status.allowed
    request = client.AuthenticationV1TokenRequest(
        spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=3600)
    )
    token = client.CoreV1Api(api).create_namespaced_service_account_token("default", NAMESPACE, request).status.token
    seen = client.AuthenticationV1Api(api).create_token_review(
        client.V1TokenReview(spec=client.V1TokenReviewSpec(token=token))
    )
    assert seen.status.user.username == f"system:serviceaccount:{NAMESPACE}:default", seen
    # Who has the token may do nothing yet.
    settings = client.Configuration.get_default_copy()
    settings.cert_file = settings.key_file = None
    settings.api_key = {"authorization": f"Bearer {token}"}
    theirs = client.CoreV1Api(client.ApiClient(settings))
    body = refused(403, "Forbidden", theirs.list_namespaced_secret, NAMESPACE)
    account = f"system:serviceaccount:{NAMESPACE}:default"
    assert body["message"] == (
        f'secrets is forbidden: User "{account}" cannot list resource "secrets" in API group "" '
        f'in the namespace "{NAMESPACE}"'
    ), body


def main():
    config.load_kube_config()
    api = client.ApiClient()
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    version = client.VersionApi(api).get_code()
    assert (version.major, version.minor) == ("1", "37"), version
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    create_read_update(core)
    patches(api, core)
    pages_and_selectors(core)
    watches(core)
    deployment(apps, core)
    dynamic_client(api)
    reviews(api)
    documents = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "made", "namespace": NAMESPACE}},
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "made", "namespace": NAMESPACE},
            "spec": {
                "schedule": "*/5 * * * *",
                "suspend": True,
                "jobTemplate": {
                    "spec": {
                        "template": {
                            "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "example/a:1"}]}
                        }
                    }
                },
            },
        },
    ]
    for document in documents:
        utils.create_from_dict(api, document)
    every_list(api)
    core.delete_namespace(NAMESPACE)
    for event in watch.Watch().stream(core.list_namespace, field_selector=f"metadata.name={NAMESPACE}", timeout_seconds=60):
        if event["type"] == "DELETED":
            break
    else:
        raise AssertionError("the namespace does not go")


main()
