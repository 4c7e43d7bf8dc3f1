"""The published Python client, used as its users use it. Needs no node.

Run with KUBECONFIG set; ends with "ok" or with what was not as expected.
"""

import json
import threading
import time

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError

NAMESPACE = "python-client"
STEP_MAX_S = 20


def until(what, probe):
    """Waits until `probe` answers something."""
    end = time.monotonic() + STEP_MAX_S
    while time.monotonic() < end:
        found = probe()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not in {STEP_MAX_S} s: {what}")


def refused(code, call, *arguments, **named):
    """Runs a call that must fail with this code, and answers the error's message."""
    try:
        call(*arguments, **named)
    except ApiException as error:
        assert error.status == code, f"{error.status} instead of {code}: {error.body}"
        return json.loads(error.body)["message"]
    raise AssertionError(f"{call.__name__} succeeded; {code} was expected")


def deployment(name, replicas=2):
    return client.V1Deployment(
        metadata=client.V1ObjectMeta(name=name, labels={"app": name}),
        spec=client.V1DeploymentSpec(
            replicas=replicas,
            selector=client.V1LabelSelector(match_labels={"app": name}),
            template=client.V1PodTemplateSpec(
                metadata=client.V1ObjectMeta(labels={"app": name}),
                spec=client.V1PodSpec(
                    containers=[client.V1Container(name="web", image="example.com/web:1", ports=[client.V1ContainerPort(container_port=80)])]
                ),
            ),
        ),
    )


def basics(core):
    version = client.VersionApi().get_code()
    assert version.major == "1" and version.minor.rstrip("+") == "36", version
    assert "v1" in client.CoreApi().get_api_versions().versions
    groups = {group.name for group in client.ApisApi().get_api_versions().groups}
    assert {"apps", "batch", "rbac.authorization.k8s.io"} <= groups, groups
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    error = refused(409, core.create_namespace, client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    assert f'namespaces "{NAMESPACE}" already exists' in error, error
    until("the service account", lambda: core.list_namespaced_service_account(NAMESPACE).items)


def config_maps(core):
    made = core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(generate_name="made-"), data={"a": "1"}))
    name = made.metadata.name
    assert name.startswith("made-") and len(name) == len("made-") + 5, name
    patched = core.patch_namespaced_config_map(name, NAMESPACE, {"data": {"b": "2", "a": None}})
    assert patched.data == {"b": "2"}, patched.data
    made.data = {"c": "3"}
    refused(409, core.replace_namespaced_config_map, name, NAMESPACE, made)
    patched.data = {"c": "3"}
    assert core.replace_namespaced_config_map(name, NAMESPACE, patched).data == {"c": "3"}
    dry = core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="dry")), dry_run="All")
    assert dry.metadata.uid
    refused(404, core.read_namespaced_config_map, "dry", NAMESPACE)
    pages, token = [], None
    for at in range(7):
        core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"page-{at}", labels={"page": "yes"})))
    while True:
        page = core.list_namespaced_config_map(NAMESPACE, label_selector="page=yes", limit=3, _continue=token)
        pages.append([item.metadata.name for item in page.items])
        token = page.metadata._continue
        if not token:
            break
    assert [len(page) for page in pages] == [3, 3, 1], pages
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="page in (yes)")
    assert not core.list_namespaced_config_map(NAMESPACE, label_selector="page").items
    error = refused(422, core.create_namespaced_config_map, NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="Bad_Name")))
    assert "Invalid value" in error and "RFC 1123" in error, error


def workloads(apps, core):
    apps.create_namespaced_deployment(NAMESPACE, deployment("web"))
    until("two pods", lambda: len(core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items) == 2)
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 3}})
    assert apps.read_namespaced_deployment_scale("web", NAMESPACE).spec.replicas == 3
    until("three pods", lambda: apps.read_namespaced_deployment_status("web", NAMESPACE).status.replicas == 3)
    body = [{"op": "replace", "path": "/spec/replicas", "value": 1}]
    assert apps.patch_namespaced_deployment("web", NAMESPACE, body).spec.replicas == 1
    until("one pod", lambda: len(core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items) == 1)
    pod = core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items[0]
    core.delete_namespaced_pod(pod.metadata.name, NAMESPACE, grace_period_seconds=0)
    until("a new pod", lambda: [p for p in core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items if p.metadata.uid != pod.metadata.uid])
    apps.delete_namespaced_deployment("web", NAMESPACE, propagation_policy="Foreground")
    until("nothing left", lambda: not core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items)


def watching(core):
    seen, started = [], threading.Event()

    def follow():
        version = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
        started.set()
        for event in watch.Watch().stream(core.list_namespaced_config_map, NAMESPACE, resource_version=version, label_selector="watched", timeout_seconds=STEP_MAX_S):
            seen.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    started.wait(STEP_MAX_S)
    core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="seen", labels={"watched": "1"})))
    core.patch_namespaced_config_map("seen", NAMESPACE, {"data": {"x": "y"}})
    core.delete_namespaced_config_map("seen", NAMESPACE)
    thread.join(STEP_MAX_S)
    assert seen == [("ADDED", "seen"), ("MODIFIED", "seen"), ("DELETED", "seen")], seen


def dynamic_client(api):
    dyn = dynamic.DynamicClient(api)
    services = dyn.resources.get(api_version="v1", kind="Service")
    made = services.create(namespace=NAMESPACE, body={"metadata": {"name": "dyn"}, "spec": {"selector": {"app": "dyn"}, "ports": [{"port": 80, "targetPort": "http"}]}})
    assert made.spec.clusterIP and made.spec.ports[0].protocol == "TCP"
    maps = dyn.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied", "namespace": NAMESPACE}, "data": {"a": "1"}}
    applied = maps.server_side_apply(namespace=NAMESPACE, name="applied", body=body, field_manager="one")
    assert [entry.manager for entry in applied.metadata.managedFields] == ["one"]
    body["data"]["a"] = "2"
    try:
        maps.server_side_apply(namespace=NAMESPACE, name="applied", body=body, field_manager="two")
        raise AssertionError("the other manager's field was taken without force")
    except ConflictError as error:
        assert 'conflict with "one"' in json.loads(error.body)["message"], error.body
    assert maps.server_side_apply(namespace=NAMESPACE, name="applied", body=body, field_manager="two", force_conflicts=True).data.a == "2"
    maps.delete(name="applied", namespace=NAMESPACE)
    try:
        maps.get(name="applied", namespace=NAMESPACE)
        raise AssertionError("it is still there")
    except NotFoundError:
        pass
    kinds = {resource.kind for resource in dyn.resources.search(group="apps")}
    assert {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"} <= kinds, kinds


def custom_resources(api):
    extensions, custom = client.ApiextensionsV1Api(), client.CustomObjectsApi()
    group, plural = "python.example.com", "crontabs"
    schema = client.V1JSONSchemaProps(
        type="object",
        properties={
            "spec": client.V1JSONSchemaProps(type="object", properties={"replicas": client.V1JSONSchemaProps(type="integer", default=1), "cron": client.V1JSONSchemaProps(type="string", max_length=20)}),
            "status": client.V1JSONSchemaProps(type="object", x_kubernetes_preserve_unknown_fields=True),
        },
    )
    version = client.V1CustomResourceDefinitionVersion(
        name="v1", served=True, storage=True, schema=client.V1CustomResourceValidation(open_apiv3_schema=schema), subresources=client.V1CustomResourceSubresources(status={}, scale=client.V1CustomResourceSubresourceScale(spec_replicas_path=".spec.replicas", status_replicas_path=".status.replicas"))
    )
    names = client.V1CustomResourceDefinitionNames(plural=plural, singular="crontab", kind="CronTab", short_names=["ct"])
    definition = client.V1CustomResourceDefinition(
        api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition", metadata=client.V1ObjectMeta(name=f"{plural}.{group}"), spec=client.V1CustomResourceDefinitionSpec(group=group, scope="Namespaced", names=names, versions=[version])
    )
    extensions.create_custom_resource_definition(definition)
    established = lambda: any(c.type == "Established" and c.status == "True" for c in extensions.read_custom_resource_definition(definition.metadata.name).status.conditions or [])
    until("the definition is established", established)
    body = {"apiVersion": f"{group}/v1", "kind": "CronTab", "metadata": {"name": "one"}, "spec": {"cron": "* * * * *", "unknown": True}}
    made = custom.create_namespaced_custom_object(group, "v1", NAMESPACE, plural, body)
    assert made["spec"] == {"cron": "* * * * *", "replicas": 1}, made["spec"]
    body["metadata"]["name"], body["spec"]["cron"] = "two", "x" * 21
    error = refused(422, custom.create_namespaced_custom_object, group, "v1", NAMESPACE, plural, body)
    assert "spec.cron: Too long: may not be more than 20" in error, error
    changed = custom.patch_namespaced_custom_object(group, "v1", NAMESPACE, plural, "one", {"spec": {"replicas": 4}})
    assert changed["metadata"]["generation"] == 2
    status = custom.patch_namespaced_custom_object_status(group, "v1", NAMESPACE, plural, "one", {"status": {"replicas": 4}})
    assert status["status"] == {"replicas": 4} and status["metadata"]["generation"] == 2
    assert custom.get_namespaced_custom_object_scale(group, "v1", NAMESPACE, plural, "one")["status"]["replicas"] == 4
    assert len(custom.list_cluster_custom_object(group, "v1", plural)["items"]) == 1
    resource = dynamic.DynamicClient(api).resources.get(api_version=f"{group}/v1", kind="CronTab")
    assert resource.get(namespace=NAMESPACE, name="one").spec.replicas == 4
    extensions.delete_custom_resource_definition(definition.metadata.name)
    until("its kind is gone", lambda: gone(custom.list_cluster_custom_object, group, "v1", plural))


def gone(call, *arguments):
    try:
        call(*arguments)
    except ApiException as error:
        return error.status == 404
    return False


def documents(api):
    utils.create_from_dict(api, {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "cron", "namespace": NAMESPACE}, "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "example.com/c"}]}}}}}})
    cron = client.BatchV1Api().read_namespaced_cron_job("cron", NAMESPACE)
    assert cron.spec.concurrency_policy == "Allow" and cron.spec.successful_jobs_history_limit == 3
    review = client.AuthorizationV1Api().create_self_subject_access_review(client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=client.V1ResourceAttributes(verb="create", resource="pods", namespace=NAMESPACE))))
    assert review.status.allowed
    core = client.CoreV1Api()
    token = core.create_namespaced_service_account_token("default", NAMESPACE, client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=["https://kubernetes.default.svc.cluster.local"], expiration_seconds=600)))
    held = client.Configuration.get_default_copy()
    held.cert_file = held.key_file = None
    held.api_key = {"authorization": f"Bearer {token.status.token}"}
    account = client.CoreV1Api(client.ApiClient(held))
    error = refused(403, account.list_namespaced_pod, NAMESPACE)
    assert f'User "system:serviceaccount:{NAMESPACE}:default" cannot list resource "pods"' in error, error


def main():
    config.load_kube_config()
    core, apps, api = client.CoreV1Api(), client.AppsV1Api(), client.ApiClient()
    basics(core)
    for step in (lambda: config_maps(core), lambda: watching(core), lambda: workloads(apps, core), lambda: dynamic_client(api), lambda: documents(api), lambda: custom_resources(api)):
        step()
    core.delete_namespace(NAMESPACE)
    until("the namespace is gone", lambda: gone(core.read_namespace, NAMESPACE))
    print("ok")


main()
