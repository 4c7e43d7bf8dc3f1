//! Pods, rule by rule: each row is a piece of a spec and what is said of it.

use crate::validation::{check, container};
use crate::{pod, template};
use serde_json::{Value, json};

fn merged(mut base: Value, extra: &Value) -> Value {
    for (key, value) in extra.as_object().into_iter().flatten() {
        base[key] = value.clone();
    }
    base
}

fn spec(extra: Value) -> Value {
    pod(merged(json!({"containers": [{"name": "c", "image": "i:1"}]}), &extra))
}

fn table(rows: Vec<(Value, Vec<&str>)>) {
    for (object, want) in rows {
        check("pods", object, &want);
    }
}

#[test]
fn hosts_and_names() {
    table(vec![
        (
            spec(json!({"hostUsers": false, "hostNetwork": true, "hostPID": true})),
            vec![
                "spec.hostNetwork: Forbidden: when `pod.Spec.HostUsers` is false",
                "spec.HostPID: Forbidden: when `pod.Spec.HostUsers` is false",
            ],
        ),
        (
            pod(
                json!({"hostNetwork": true, "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 81}]}]}),
            ),
            vec![
                "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
            ],
        ),
        (
            spec(json!({"hostname": "a.b"})),
            vec!["spec.hostname: Invalid value: \"a.b\": must not contain dots"],
        ),
        (
            spec(json!({"hostnameOverride": "a.b", "setHostnameAsFQDN": true})),
            vec!["spec.setHostnameAsFQDN: Forbidden: "],
        ),
        (
            spec(json!({"hostAliases": [{"ip": "x", "hostnames": ["a_b"]}]})),
            vec![
                "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address",
                "spec.hostAliases[0].hostnames[0]: Invalid value: \"a_b\": a lowercase RFC 1123 subdomain must",
            ],
        ),
        (
            spec(
                json!({"dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"], "searches": ["_a.b", "__c"], "options": [{}]}}),
            ),
            vec![
                "spec.dnsConfig.nameservers: Invalid value: [\"1.1.1.1\",\"1.1.1.2\",\"1.1.1.3\",\"1.1.1.4\"]: must not have more than 3 nameservers",
                "spec.dnsConfig.searches[1]: Invalid value: \"__c\": a lowercase RFC 1123 subdomain must",
                "spec.dnsConfig.options[0]: Required value: must not be empty",
            ],
        ),
        (
            spec(json!({"readinessGates": [{"conditionType": "a b"}]})),
            vec!["spec.readinessGates[0].conditionType: Invalid value: \"a b\": name part must consist"],
        ),
        (
            spec(json!({"preemptionPolicy": "Maybe"})),
            vec![
                "spec.preemptionPolicy: Unsupported value: \"Maybe\": supported values: \"PreemptLowerPriority\", \"Never\"",
            ],
        ),
        (
            spec(json!({"ephemeralContainers": [{"name": "d", "image": "i"}]})),
            vec!["spec.ephemeralContainers: Forbidden: cannot be set on create"],
        ),
    ]);
}

#[test]
fn claims_and_resources() {
    let claimed = |claims: Value, of_pod: Value| {
        pod(
            json!({"resourceClaims": of_pod, "containers": [{"name": "c", "image": "i", "resources": {"claims": claims}}]}),
        )
    };
    let own = json!([{"name": "gpu", "resourceClaimName": "g"}]);
    table(vec![
        (claimed(json!([{"name": "gpu"}]), own.clone()), vec![]),
        (
            claimed(json!([{"name": "x"}]), own.clone()),
            vec![
                "spec.containers[0].resources.claims[0]: Not found: \"x\": must be one of the names in pod.spec.resourceClaims: gpu",
            ],
        ),
        (
            claimed(json!([{"name": "gpu"}, {"name": "gpu"}]), own),
            vec!["spec.containers[0].resources.claims[1]: Duplicate value: \"gpu\""],
        ),
        (
            claimed(json!([]), json!([{"name": "gpu"}])),
            vec![
                "spec.resourceClaims[0]: Invalid value: {\"name\":\"gpu\"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            ],
        ),
        (
            container(json!({"resources": {"requests": {"gpus": "1"}}})),
            vec![
                "spec.containers[0].resources.requests[gpus]: Invalid value: \"gpus\": must be a standard resource type or fully qualified",
                "spec.containers[0].resources.requests[gpus]: Invalid value: \"gpus\": must be a standard resource for containers",
            ],
        ),
        (
            container(json!({"resources": {"requests": {"example.com/gpu": "1"}}})),
            vec![
                "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
            ],
        ),
        (
            container(json!({"resources": {"limits": {"example.com/gpu": "1500m"}}})),
            vec![
                "spec.containers[0].resources.limits[example.com/gpu]: Invalid value: \"1500m\": must be an integer",
                "spec.containers[0].resources.requests[example.com/gpu]: Invalid value: \"1500m\": must be an integer",
            ],
        ),
        (
            container(json!({"resources": {"limits": {"hugepages-2Mi": "2Mi"}}})),
            vec!["spec.containers[0].resources: Forbidden: HugePages require cpu or memory"],
        ),
        (
            container(json!({"resources": {"limits": {"cpu": "1", "hugepages-2Mi": "3Mi"}}})),
            vec![
                "spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                "spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
            ],
        ),
        (
            pod(
                json!({"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}, "containers": [
                {"name": "a", "image": "i", "resources": {"requests": {"cpu": "800m"}}},
                {"name": "b", "image": "i", "resources": {"requests": {"cpu": "300m"}, "limits": {"cpu": "3"}}}]}),
            ),
            vec![
                "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 1100m",
                "spec.resources.containers[1][cpu].limits: Invalid value: \"3\": must be less than or equal to pod limits of 2",
            ],
        ),
        (
            spec(json!({"resources": {"limits": {"ephemeral-storage": "1Gi"}}})),
            vec![
                "spec.resources.limits[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
            ],
        ),
        (
            spec(json!({"overhead": {"cpu": "-1"}})),
            vec!["spec.overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"],
        ),
    ]);
}

#[test]
fn containers() {
    table(vec![
        (
            container(json!({"restartPolicyRules": [{"action": "Stop"}]})),
            vec![
                "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
                "spec.containers[0].restartPolicyRules[0].action: Unsupported value: \"Stop\"",
                "spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified",
            ],
        ),
        (
            container(json!({"resizePolicy": [{"resourceName": "disk", "restartPolicy": "Maybe"}]})),
            vec![
                "spec.containers[0].resizePolicy: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\"",
                "spec.containers[0].resizePolicy: Unsupported value: \"Maybe\": supported values: \"NotRequired\", \"RestartContainer\"",
            ],
        ),
        (
            merged_pod(
                json!({"restartPolicy": "Never"}),
                json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}),
            ),
            vec![
                "spec.containers[0].resizePolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when `restartPolicy` is 'Never'",
            ],
        ),
        (
            container(json!({"livenessProbe": {"grpc": {"port": 0}, "successThreshold": 2}})),
            vec![
                "spec.containers[0].livenessProbe.grpc.port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
        ),
        (
            container(json!({"readinessProbe": {"exec": {"command": ["a"]}, "terminationGracePeriodSeconds": 5}})),
            vec![
                "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
            ],
        ),
        (
            container(json!({"startupProbe": {"httpGet": {"port": "a--b", "httpHeaders": [{"name": "X_Y"}]}}})),
            vec![
                "spec.containers[0].startupProbe.httpGet.port: Invalid value: \"a--b\": must not contain consecutive hyphens",
                "spec.containers[0].startupProbe.httpGet.httpHeaders: Invalid value: \"X_Y\": a valid HTTP header must",
            ],
        ),
        (
            container(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}})),
            vec![
                "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
            ],
        ),
        (
            container(json!({"lifecycle": {"stopSignal": "SIGUSR1"}})),
            vec![
                "spec.containers[0].lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`",
            ],
        ),
        (
            merged_pod(
                json!({"os": {"name": "windows"}}),
                json!({"lifecycle": {"stopSignal": "SIGUSR1"}}),
            ),
            vec![
                "spec.containers[0].lifecycle.stopSignal: Unsupported value: \"SIGUSR1\": supported values: \"SIGKILL\", \"SIGTERM\"",
            ],
        ),
        (
            spec(
                json!({"initContainers": [{"name": "c", "image": "i", "restartPolicy": "Always", "livenessProbe": {}}]}),
            ),
            vec![
                "spec.initContainers[0].name: Duplicate value: \"c\"",
                "spec.initContainers[0].livenessProbe: Required value: must specify a handler type",
            ],
        ),
    ]);
}

fn merged_pod(of_pod: Value, of_container: Value) -> Value {
    let own = merged(json!({"name": "c", "image": "i:1"}), &of_container);
    pod(merged(json!({"containers": [own]}), &of_pod))
}

#[test]
fn environment() {
    let from = |source: Value| container(json!({"env": [{"name": "A", "valueFrom": source}]}));
    const AT: &str = "spec.containers[0].env[0].valueFrom";
    let rows: Vec<(Value, Vec<String>)> = vec![
        (
            json!({"fileKeyRef": {"volumeName": "v", "path": "a/b", "key": "K"}}),
            vec![],
        ),
        (
            json!({"fileKeyRef": {"path": "../b", "key": "K=1"}}),
            vec![
                format!("{AT}.fileKeyRef.volumeName: Required value"),
                format!("{AT}.fileKeyRef.key: Invalid value: \"K=1\""),
                format!("{AT}.fileKeyRef.path: Invalid value: \"../b\": must not contain '..'"),
            ],
        ),
        (
            json!({"fieldRef": {"fieldPath": "status.phase"}}),
            vec![format!(
                "{AT}.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.name\""
            )],
        ),
        (
            json!({"fieldRef": {"fieldPath": "metadata.name['a']"}}),
            vec![format!(
                "{AT}.fieldRef.fieldPath: Invalid value: \"metadata.name['a']\": error converting fieldPath: field label does not support subscript: metadata.name['a']"
            )],
        ),
        (
            json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}}),
            vec![format!(
                "{AT}.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource"
            )],
        ),
        (
            json!({"secretKeyRef": {"name": "s", "key": "a/b"}}),
            vec![format!(
                "{AT}.secretKeyRef.key: Invalid value: \"a/b\": a valid config key must"
            )],
        ),
        (
            json!({}),
            vec![format!(
                "{AT}: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
            )],
        ),
    ];
    for (source, want) in rows {
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check("pods", from(source), &want);
    }
    check(
        "pods",
        container(json!({"envFrom": [{}]})),
        &["spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"],
    );
}

#[test]
fn volumes_and_mounts() {
    let volume = |source: Value| spec(json!({"volumes": [merged(json!({"name": "v"}), &source)]}));
    let mounted = |source: Value, mount: Value| {
        let mount = merged(json!({"name": "v", "mountPath": "/v"}), &mount);
        pod(json!({
            "volumes": [merged(json!({"name": "v"}), &source)],
            "containers": [{"name": "c", "image": "i", "volumeMounts": [mount]}],
        }))
    };
    let projected = |source: Value| volume(json!({"projected": {"sources": [source]}}));
    table(vec![
        (
            volume(json!({"hostPath": {"path": "/a/../b", "type": "Pipe"}})),
            vec![
                "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
                "spec.volumes[0].hostPath.type: Unsupported value: \"Pipe\": supported values: \"\", \"BlockDevice\"",
            ],
        ),
        (
            volume(json!({"emptyDir": {"sizeLimit": "-1"}})),
            vec!["spec.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"],
        ),
        (
            volume(json!({"iscsi": {"targetPortal": "1.2.3.4", "iqn": "x", "lun": 256}})),
            vec![
                "spec.volumes[0].iscsi.iqn: Invalid value: \"x\": must be valid format starting with iqn, eui, or naa",
                "spec.volumes[0].iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
            ],
        ),
        (
            volume(json!({"csi": {"driver": ""}})),
            vec![
                "spec.volumes[0].csi.driver: Required value",
                "spec.volumes[0].csi.driver: Invalid value: \"\": a lowercase RFC 1123 subdomain must",
            ],
        ),
        (
            volume(
                json!({"ephemeral": {"volumeClaimTemplate": {"metadata": {"name": "x"}, "spec": {"accessModes": ["ReadWriteOnce"]}}}}),
            ),
            vec![
                "spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
                "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value",
            ],
        ),
        (
            volume(json!({"image": {}})),
            vec!["spec.volumes[0].image.reference: Required value"],
        ),
        (
            projected(json!({"serviceAccountToken": {"path": "t", "expirationSeconds": 60}})),
            vec![
                "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes",
                "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
            ],
        ),
        (
            projected(json!({"clusterTrustBundle": {"path": "ca.pem"}})),
            vec![
                "spec.volumes[0].projected.sources[0].clusterTrustBundle: Required value: either name or signerName must be specified",
            ],
        ),
        (
            projected(json!({"podCertificate": {"signerName": "example.com/s", "keyType": "DSA", "keyPath": "k"}})),
            vec!["spec.volumes[0].projected.sources[0].podCertificate.keyType: Unsupported value: \"DSA\""],
        ),
        (
            projected(
                json!({"secret": {"name": "s", "items": [{"key": "a", "path": "p"}, {"key": "b", "path": "p"}]}}),
            ),
            vec!["spec.volumes[0].projected: Invalid value: \"s\": conflicting duplicate paths"],
        ),
        (
            mounted(
                json!({"emptyDir": {}}),
                json!({"subPath": "../x", "recursiveReadOnly": "Enabled"}),
            ),
            vec![
                "spec.containers[0].volumeMounts.subPath: Invalid value: \"../x\": must not contain '..'",
                "spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
            ],
        ),
        (
            mounted(json!({"emptyDir": {}}), json!({"mountPropagation": "Bidirectional"})),
            vec![
                "spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
            ],
        ),
        // A volume that is wrong is not there to be mounted.
        (
            mounted(json!({"configMap": {}}), json!({})),
            vec![
                "spec.volumes[0].configMap.name: Required value",
                "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
            ],
        ),
    ]);
}

#[test]
fn security() {
    let context = |context: Value| spec(json!({"securityContext": context}));
    let own = |context: Value| container(json!({"securityContext": context}));
    table(vec![
        (
            context(json!({"runAsUser": -1, "supplementalGroups": [-1], "fsGroupChangePolicy": "Never"})),
            vec![
                "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                "spec.securityContext.supplementalGroups[0]: Invalid value: -1: must be between 0",
                "spec.securityContext.fsGroupChangePolicy: Unsupported value: \"Never\"",
            ],
        ),
        (
            context(json!({"seccompProfile": {"type": "Localhost"}})),
            vec![
                "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
            ],
        ),
        (
            context(json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": " x"}})),
            vec![
                "spec.securityContext.appArmorProfile.localhostProfile: Invalid value: \" x\": must not be padded with whitespace",
            ],
        ),
        (
            spec(json!({"hostNetwork": true, "securityContext": {"sysctls": [{"name": "net.ipv4.ip_forward"}]}})),
            vec![
                "spec.securityContext.sysctls[0].name: Invalid value: \"net.ipv4.ip_forward\": may not be specified when 'hostNetwork' is true",
            ],
        ),
        (
            own(json!({"allowPrivilegeEscalation": false, "capabilities": {"add": ["CAP_SYS_ADMIN"]}})),
            vec!["cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"],
        ),
        (
            own(json!({"procMount": "Unmasked"})),
            vec![
                "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`",
            ],
        ),
        (
            spec(json!({"os": {"name": "windows"}, "securityContext": {"runAsUser": 1}, "hostPID": true})),
            vec![
                "spec.hostPID: Forbidden: cannot be set for a windows pod",
                "spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
            ],
        ),
        (
            spec(json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {"runAsUserName": "a"}}})),
            vec!["spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod"],
        ),
        (
            context(json!({"windowsOptions": {"hostProcess": true, "runAsUserName": ""}})),
            vec![
                "spec.securityContext.windowsOptions.runAsUserName: Invalid value: \"\": runAsUserName cannot be an empty string",
                "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers",
            ],
        ),
        (
            spec(json!({"os": {"name": "plan9"}})),
            vec!["spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\""],
        ),
    ]);
}

#[test]
fn scheduling() {
    let spread = |extra: Value| {
        let base = json!({"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"a": "b"}}});
        spec(json!({"topologySpreadConstraints": [merged(base, &extra)]}))
    };
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    table(vec![
        (
            spread(json!({"matchLabelKeys": ["a"], "nodeTaintsPolicy": "x"})),
            vec![
                "spec.topologySpreadConstraints[0].nodeTaintsPolicy: Unsupported value: \"x\"",
                "spec.topologySpreadConstraints[0].matchLabelKeys[0]: Invalid value: \"a\": exists in both matchLabelKeys and labelSelector",
            ],
        ),
        (
            spread(json!({"whenUnsatisfiable": "ScheduleAnyway", "minDomains": 2})),
            vec![
                "spec.topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
            ],
        ),
        (
            spec(
                json!({"affinity": {"nodeAffinity": {required: {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["-x"]}]}]}}}}),
            ),
            vec!["nodeSelectorTerms[0].matchExpressions[0].values[0]: Invalid value: \"-x\": a valid label must"],
        ),
        (
            spec(
                json!({"affinity": {"podAffinity": {required: [{"topologyKey": "z", "matchLabelKeys": ["a"], "namespaces": ["A"]}]}}}),
            ),
            vec![
                "[0].namespace: Invalid value: \"A\": a lowercase RFC 1123 label must",
                "[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
            ],
        ),
        (
            spec(json!({"tolerations": [{"key": "a", "operator": "Gt", "value": "x"}]})),
            vec!["spec.tolerations[0].value: Invalid value: \"x\": must be a valid integer"],
        ),
    ]);
}

#[test]
fn annotations() {
    let annotated = |key: &str, value: &str, extra: Value| {
        let mut object = spec(extra);
        object["metadata"]["annotations"] = json!({key: value});
        object
    };
    let profile = json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}});
    table(vec![
        (
            annotated("kubernetes.io/config.mirror", "x", json!({})),
            vec!["metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName"],
        ),
        (
            annotated("controller.kubernetes.io/pod-deletion-cost", "+1", json!({})),
            vec![
                "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"+1\": must be a 32bit integer",
            ],
        ),
        (
            annotated("seccomp.security.alpha.kubernetes.io/pod", "runtime/default", profile),
            vec![
                "spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match",
            ],
        ),
        (
            annotated("container.apparmor.security.beta.kubernetes.io/x", "what", json!({})),
            vec![
                "[container.apparmor.security.beta.kubernetes.io/x]: Invalid value: \"x\": container not found",
                "[container.apparmor.security.beta.kubernetes.io/x]: Invalid value: \"what\": invalid AppArmor profile name: \"what\"",
            ],
        ),
    ]);
    // In a template the path goes without `metadata`, as upstream's does.
    let mut of_template = template();
    of_template["metadata"]["annotations"] = json!({"controller.kubernetes.io/pod-deletion-cost": "x"});
    check(
        "deployments.apps",
        json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": of_template}}),
        &[
            "spec.template.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"x\": must be a 32bit integer",
        ],
    );
}
