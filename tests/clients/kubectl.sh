#!/usr/bin/env bash
# kubectl's verbs as their users type them, against a server without a node.
# Run with KUBECONFIG set; ends with "ok" or with what was not as expected.
set -uo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
faults=0

# expect PATTERN COMMAND...: it succeeds and says so.
expect() {
    local pattern=$1 out code=0
    shift
    out=$(timeout 60 "$@" 2>&1) || code=$?
    if ((code != 0)) || ! grep -qE -- "$pattern" <<<"$out"; then
        echo "WRONG ($code, /$pattern/): $*"
        sed 's/^/    /' <<<"$out" | head -n 12
        faults=$((faults + 1))
    fi
}

# refuse PATTERN COMMAND...: it fails and says so.
refuse() {
    local pattern=$1 out code=0
    shift
    out=$(timeout 60 "$@" 2>&1) || code=$?
    if ((code == 0)) || ! grep -qE -- "$pattern" <<<"$out"; then
        echo "WRONG ($code, not refused as /$pattern/): $*"
        sed 's/^/    /' <<<"$out" | head -n 12
        faults=$((faults + 1))
    fi
}

K="kubectl -n kubectl-verbs"

expect 'created' kubectl create namespace kubectl-verbs
refuse 'AlreadyExists.*namespaces "kubectl-verbs" already exists' kubectl create namespace kubectl-verbs
for _ in $(seq 100); do $K get serviceaccount default >/dev/null 2>&1 && break; sleep 0.1; done

# What there is.
expect 'Server Version: v1\.36' kubectl version
expect 'Kubernetes control plane' kubectl cluster-info
expect '^deployments +deploy +apps/v1 +true +Deployment' kubectl api-resources --api-group=apps
expect '^pods +po +v1 +true +Pod +create,delete,deletecollection,get,list,patch,update,watch' kubectl api-resources -o wide --api-group=
expect '^autoscaling/v2$' kubectl api-versions
expect 'FIELD: +replicas <integer>' kubectl explain deployment.spec.replicas
expect 'Number of desired pods' kubectl explain deployment.spec.replicas
expect 'containerPort.*<integer>.*-required-' kubectl explain pod.spec.containers --recursive
expect 'VERSION: +autoscaling/v1' kubectl explain hpa --api-version=autoscaling/v1 --output=plaintext-openapiv2
refuse 'field "nope" does not exist' kubectl explain pod.spec.nope
expect 'yes' kubectl auth can-i create pods
expect 'system:masters|kubernetes-admin|system:admin' kubectl auth whoami
expect 'pods/exec|\*\.\*' kubectl auth can-i --list

# Create, one by one.
expect 'deployment.apps/web created' $K create deployment web --image=example.com/web:1 --replicas=2 --port=80
expect 'configmap/settings created' $K create configmap settings --from-literal=a=1 --from-literal=b=2
expect 'secret/login created' $K create secret generic login --from-literal=user=me
expect 'secret/pull created' $K create secret docker-registry pull --docker-server=example.com --docker-username=u --docker-password=p
expect 'service/plain created' $K create service clusterip plain --tcp=80:8080
expect 'service/port created' $K create service nodeport port --tcp=80
expect 'service/balanced created' $K create service loadbalancer balanced --tcp=80
expect 'service/elsewhere created' $K create service externalname elsewhere --external-name=example.com
expect 'job.batch/once created' $K create job once --image=example.com/job -- true
expect 'cronjob.batch/often created' $K create cronjob often --image=example.com/job --schedule='*/5 * * * *' -- true
expect 'job.batch/now created' $K create job now --from=cronjob/often
expect 'ingress.networking.k8s.io/in created' $K create ingress in --rule=example.com/api*=plain:80
expect 'serviceaccount/robot created' $K create serviceaccount robot
expect 'role.rbac.authorization.k8s.io/reader created' $K create role reader --verb=get,list --resource=pods,pods/log
expect 'rolebinding.rbac.authorization.k8s.io/robot-reads created' $K create rolebinding robot-reads --role=reader --serviceaccount=kubectl-verbs:robot
expect 'clusterrole.rbac.authorization.k8s.io/kv-reader created' kubectl create clusterrole kv-reader --verb=get --resource=nodes
expect 'clusterrolebinding.rbac.authorization.k8s.io/kv-binds created' kubectl create clusterrolebinding kv-binds --clusterrole=kv-reader --user=jane
expect 'poddisruptionbudget.policy/budget created' $K create poddisruptionbudget budget --selector=app=web --min-available=1
expect 'priorityclass.scheduling.k8s.io/kv-high created' kubectl create priorityclass kv-high --value=1000 --description=high
expect 'resourcequota/quota created' $K create quota quota --hard=configmaps=20,count/jobs.batch=10
expect '^ey[A-Za-z0-9_-]+\.' $K create token robot --duration=10m
expect '^yes' kubectl auth can-i list pods -n kubectl-verbs --as=system:serviceaccount:kubectl-verbs:robot
refuse '^no' kubectl auth can-i delete pods -n kubectl-verbs --as=system:serviceaccount:kubectl-verbs:robot
refuse 'User "jane" cannot list resource "secrets" in API group "" in the namespace "kubectl-verbs"' $K get secrets --as=jane
refuse 'unknown field "spec.replicaz"' $K create --validate=strict -f - <<<'{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x"},"spec":{"replicaz":1}}'
refuse 'spec.selector: Required value' $K create --validate=ignore -f - <<<'{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x"},"spec":{"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}'
expect 'created \(server dry run\)' $K create configmap dry --from-literal=a=1 --dry-run=server
refuse 'NotFound' $K get configmap dry

# Look at it.
expect '^web +0/2 +2 +0' $K get deployment web
expect 'CONTAINERS +IMAGES +SELECTOR' $K get deployment web -o wide
expect '^deployment.apps/web' $K get deployment -o name
expect '^example.com/web:1$' $K get deployment web -o jsonpath='{.spec.template.spec.containers[0].image}{"\n"}'
expect '^web +2$' $K get deployment web -o custom-columns=NAME:.metadata.name,REPLICAS:.spec.replicas
expect '^kind: Deployment' $K get deployment web -o yaml
expect '"kind": "List"' $K get deployment,configmap -o json
expect 'deployment.apps/web' $K get all
expect 'app=web' $K get pods --show-labels -l app=web
expect '^kubectl-verbs +web' kubectl get deployments -A
expect 'settings' $K get configmaps --chunk-size=1
expect 'LAST SEEN +TYPE +REASON' $K get events
expect 'TYPE +REASON' $K events
expect 'Replicas: +2 desired' $K describe deployment web
expect 'Type: +NodePort' $K describe service port
expect 'Labels:' $K describe pods
expect 'Resource +Used +Hard' $K describe quota quota
expect 'Rules:|PolicyRule' $K describe role reader
expect 'web' $K get deploy --field-selector=metadata.name=web
refuse 'field label not supported: spec.nope' $K get pods --field-selector=spec.nope=1
refuse "the server doesn't have a resource type \"nope\"" $K get nope

# Change it.
expect 'deployment.apps/web labeled' $K label deployment web tier=front
refuse "already has a value" $K label deployment web tier=back
expect 'deployment.apps/web labeled' $K label --overwrite deployment web tier=back
expect 'deployment.apps/web annotated' $K annotate deployment web example.com/note=x
expect 'deployment.apps/web scaled' $K scale deployment web --replicas=3 --current-replicas=2
refuse 'Expected replicas to be 2' $K scale deployment web --replicas=4 --current-replicas=2
expect 'deployment.apps/web image updated' $K set image deployment/web web=example.com/web:2
expect 'deployment.apps/web env updated' $K set env deployment/web MODE=test
expect 'deployment.apps/web resource requirements updated' $K set resources deployment web --requests=cpu=10m
expect 'deployment.apps/web serviceaccount updated' $K set serviceaccount deployment web robot
expect 'service/plain selector updated' $K set selector service plain app=web
expect 'rolebinding.rbac.authorization.k8s.io/robot-reads subjects updated' $K set subject rolebinding robot-reads --user=joe
expect 'deployment.apps/web patched' $K patch deployment web -p '{"spec":{"template":{"spec":{"containers":[{"name":"web","imagePullPolicy":"Always"}]}}}}'
expect '^Always 10m$' $K get deployment web -o jsonpath='{.spec.template.spec.containers[*].imagePullPolicy} {.spec.template.spec.containers[*].resources.requests.cpu}{"\n"}'
expect 'deployment.apps/web patched' $K patch deployment web --type=merge -p '{"spec":{"minReadySeconds":1}}'
expect 'deployment.apps/web patched' $K patch deployment web --type=json -p '[{"op":"test","path":"/spec/minReadySeconds","value":1},{"op":"remove","path":"/spec/minReadySeconds"}]'
refuse 'the server rejected our request|testing value|test failed|invalid' $K patch deployment web --type=json -p '[{"op":"test","path":"/spec/replicas","value":99}]'
expect 'deployment.apps/web patched' $K patch deployment web --subresource=status --type=merge -p '{"status":{"observedGeneration":1}}'
expect 'patched \(no change\)' $K patch deployment web --type=merge -p '{}'
expect 'configmap/settings edited' env EDITOR="sed -i s/^..a:.*/\ \ a:\ edited/" $K edit configmap settings
expect '^edited$' $K get configmap settings -o jsonpath='{.data.a}{"\n"}'
expect 'cancelled, no changes made' env EDITOR=true $K edit configmap settings
expect 'service/web exposed' $K expose deployment web --port=80 --target-port=8080
expect 'horizontalpodautoscaler.autoscaling/web autoscaled' $K autoscale deployment web --min=1 --max=3 --cpu-percent=50
expect 'REFERENCE|Deployment/web' $K get hpa web
expect 'restarted' $K rollout restart deployment web
expect 'REVISION' $K rollout history deployment web
expect 'paused' $K rollout pause deployment web
expect 'resumed' $K rollout resume deployment web
expect 'rolled back' $K rollout undo deployment web
expect 'Waiting for deployment' timeout 3 $K rollout status deployment web --watch=false
refuse 'field is immutable' $K patch deployment web --type=merge -p '{"spec":{"selector":{"matchLabels":{"app":"other"}}}}'

# Apply, both ways, and what lies between them.
cat >map.yaml <<'YAML'
apiVersion: v1
kind: ConfigMap
metadata: {name: applied, labels: {app: applied}}
data: {a: "1", b: "2"}
YAML
expect 'configmap/applied created' $K apply -f map.yaml
expect 'configmap/applied unchanged' $K apply -f map.yaml
sed -i 's/, b: "2"/, c: "3"/' map.yaml
out=$($K diff -f map.yaml); [[ $? == 1 && $out == *'+  c: "3"'* ]] || { echo "WRONG: diff: $out"; faults=$((faults + 1)); }
expect 'configmap/applied configured' $K apply -f map.yaml
expect '^\{"a":"1","c":"3"\}$' $K get configmap applied -o jsonpath='{.data}{"\n"}'
expect 'configmap/applied serverside-applied' $K apply --server-side -f map.yaml
sed -i 's/a: "1"/a: "9"/' map.yaml
refuse 'conflict with "kubectl" using v1: \.data\.a|Apply failed with 1 conflict' $K apply --server-side --field-manager=other -f map.yaml
expect 'serverside-applied' $K apply --server-side --field-manager=other --force-conflicts -f map.yaml
expect 'manager: other' $K get configmap applied -o yaml --show-managed-fields
expect 'last-applied|data' $K apply view-last-applied configmap applied
cat >two.yaml <<'YAML'
apiVersion: v1
kind: ConfigMap
metadata: {name: kept, labels: {set: pruned}}
YAML
cp two.yaml three.yaml
sed -i 's/kept/dropped/' three.yaml
expect 'created' $K apply -f two.yaml -f three.yaml
expect 'configmap/dropped pruned' $K apply -f two.yaml --prune -l set=pruned --prune-allowlist=core/v1/ConfigMap
expect 'configmap/kept replaced' $K replace -f two.yaml
expect 'configmap/kept (deleted|replaced)' $K replace --force -f two.yaml
cat >kustomization.yaml <<'YAML'
resources: [two.yaml]
namePrefix: made-
YAML
expect 'configmap/made-kept created' $K apply -k .
expect 'configmap/made-kept condition met|deleted' $K delete -k .
expect 'condition met' $K wait --for=jsonpath='{.data.a}'=9 configmap/applied --timeout=5s
refuse 'timed out' $K wait --for=condition=Available deployment/web --timeout=1s

# Nodes, certificates, access.
expect 'node/kv-node created' kubectl create -f - <<<'{"apiVersion":"v1","kind":"Node","metadata":{"name":"kv-node"}}'
expect 'node/kv-node cordoned' kubectl cordon kv-node
expect 'SchedulingDisabled' kubectl get node kv-node
expect 'node/kv-node uncordoned' kubectl uncordon kv-node
expect 'node/kv-node tainted' kubectl taint node kv-node example.com/a=b:NoSchedule
expect 'node/kv-node untainted' kubectl taint node kv-node example.com/a-
expect 'drained' kubectl drain kv-node --ignore-daemonsets --force --timeout=20s
expect 'deleted' kubectl delete node kv-node
expect 'reconciled|unchanged' kubectl auth reconcile -f - <<<'{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"kv-reader"},"rules":[{"apiGroups":[""],"resources":["nodes"],"verbs":["get","list"]}]}'

# Raw, and the end.
expect '^ok' kubectl get --raw /readyz
expect '^kube-apiserver statusz' kubectl get --raw /statusz
expect '^https-listen-port=' kubectl get --raw /flagz
expect 'readyz check passed' kubectl get --raw '/readyz?verbose'
expect 'apiserver_request_total' kubectl get --raw /metrics
expect '"issuer"' kubectl get --raw /.well-known/openid-configuration
expect 'deleted' $K delete configmap applied kept
expect 'deleted' $K delete deployment web --cascade=foreground
expect 'deleted' $K delete services,ingress,hpa,cronjobs,jobs --all
expect 'deleted' kubectl delete clusterrole/kv-reader clusterrolebinding/kv-binds priorityclass/kv-high
expect 'namespace "kubectl-verbs" deleted' kubectl delete namespace kubectl-verbs --timeout=50s
refuse 'NotFound' kubectl get namespace kubectl-verbs

if ((faults)); then
    echo "$faults commands were not as expected"
    exit 1
fi
echo ok
