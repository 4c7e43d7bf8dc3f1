//! Workload controllers on two real nodes, driven with `kubectl`: rollouts, sets, jobs, deletion, lost nodes.

use anyhow::{Context, Result, ensure};
use skiff_tests::{Cluster, Network, Programs, until};
use std::time::Duration;

const NETWORK: u8 = 212;
/// Long enough for a slow machine; most things here take a second or two.
const LONG: Duration = Duration::from_secs(60);

struct Session(Cluster);

impl Session {
    fn open() -> Result<Self> {
        let programs = Programs::beside(&std::env::current_exe()?)?;
        let mut cluster = Cluster::new(programs, Network { id: NETWORK })?;
        cluster.add_host()?;
        cluster.add_host()?;
        cluster.start_server(&[])?;
        cluster.wait_ready(1)?;
        cluster.start_agent(1)?;
        cluster.wait_ready(2)?;
        Ok(Self(cluster))
    }

    /// `kubectl` with the words of a line.
    fn run(&self, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.0.kubectl(&words)
    }

    fn apply(&self, manifest: &str) -> Result<String> {
        self.0.kubectl_with_input(&["apply", "-f", "-"], manifest)
    }

    /// A field of an object by JSONPath.
    fn field(&self, object: &str, path: &str) -> Result<String> {
        self.0.kubectl(&["get", object, "-o", &format!("jsonpath={path}")])
    }

    fn wait(&self, what: &str, object: &str, path: &str, wanted: &str) -> Result<()> {
        let end = until(LONG, what, || {
            let seen = self.field(object, path)?;
            Ok(if seen == wanted { Ok(()) } else { Err(seen) })
        });
        end.with_context(|| self.run("describe pods").unwrap_or_default())
    }

    fn gone(&self, what: &str, selection: &str) -> Result<()> {
        until(LONG, what, || {
            let left = self.run(&format!("get {selection} -o name --ignore-not-found"))?;
            Ok(if left.is_empty() { Ok(()) } else { Err(left) })
        })
    }
}

fn template(app: &str, command: &str) -> String {
    format!(
        r#"{{"metadata": {{"labels": {{"app": "{app}"}}}}, "spec": {{"terminationGracePeriodSeconds": 1,
            "containers": [{{"name": "c", "image": "skiff.local/web:0.1.0", "command": ["sh", "-c", "{command}"]}}]}}}}"#
    )
}

const SLEEP: &str = "trap exit TERM; sleep 1000000 & wait";

fn workload(api: &str, kind: &str, name: &str, spec: &str) -> String {
    let template = template(name, SLEEP);
    format!(
        r#"{{"apiVersion": "{api}", "kind": "{kind}", "metadata": {{"name": "{name}"}}, "spec": {{
            "selector": {{"matchLabels": {{"app": "{name}"}}}}, "template": {template}, {spec}}}}}"#
    )
}

fn job(name: &str, command: &str, spec: &str) -> String {
    let template = template(name, command).replacen(r#""spec": {"#, r#""spec": {"restartPolicy": "Never", "#, 1);
    format!(
        r#"{{"apiVersion": "batch/v1", "kind": "Job", "metadata": {{"name": "{name}"}}, "spec": {{
            "template": {template}, {spec}}}}}"#
    )
}

#[test]
fn workloads_do_what_they_promise() -> Result<()> {
    let session = Session::open()?;
    rollouts(&session).context("rollouts")?;
    sets(&session).context("sets")?;
    jobs(&session).context("jobs")?;
    deletion(&session).context("deletion")?;
    budgets(&session).context("budgets")?;
    nodes(&session).context("nodes")
}

fn rollouts(session: &Session) -> Result<()> {
    session.apply(&workload(
        "apps/v1",
        "Deployment",
        "web",
        r#""replicas": 3, "progressDeadlineSeconds": 2, "revisionHistoryLimit": 1"#,
    ))?;
    session.run("rollout status deploy/web --timeout=60s")?;
    // An image that nobody has: the old pods stay, and the deadline is told.
    session.run("set image deploy/web c=skiff.local/none:1")?;
    let progressing = r#"{.status.conditions[?(@.type=="Progressing")].reason}"#;
    session.wait(
        "the deadline is exceeded",
        "deploy/web",
        progressing,
        "ProgressDeadlineExceeded",
    )?;
    ensure!(
        session
            .field("deploy/web", "{.status.availableReplicas}")?
            .parse::<u32>()?
            >= 2
    );
    session.run("rollout undo deploy/web")?;
    session.run("rollout status deploy/web --timeout=60s")?;
    session.run("rollout pause deploy/web")?;
    session.run("set env deploy/web A=1")?;
    session.run("rollout resume deploy/web")?;
    session.run("rollout restart deploy/web")?;
    session.run("rollout status deploy/web --timeout=60s")?;
    let sets = || Ok(session.run("get rs -l app=web -o name")?.lines().count());
    until(LONG, "one old revision is kept", || {
        Ok::<_, anyhow::Error>(match sets() {
            Ok(2) => Ok(()),
            other => Err(format!("{:?}", other as Result<usize>)),
        })
    })?;
    // Deleted without its children, these go on; then they go with it.
    session.run("delete deploy web --cascade=orphan")?;
    ensure!(
        session.run("get pods -l app=web -o name")?.lines().count() == 3,
        "orphans stay"
    );
    session.run("delete rs -l app=web --cascade=foreground --timeout=60s")?;
    session.gone("a foreground deletion waits for the pods", "pods -l app=web")
}

fn sets(session: &Session) -> Result<()> {
    session.apply(&workload("apps/v1", "DaemonSet", "each", r#""minReadySeconds": 0"#))?;
    session.run("rollout status ds/each --timeout=60s")?;
    let nodes = session.run("get pods -l app=each -o jsonpath={.items[*].spec.nodeName}")?;
    ensure!(nodes.contains("node1") && nodes.contains("node2"), "{nodes}");
    session.run("set env ds/each A=1")?;
    session.run("rollout status ds/each --timeout=60s")?;
    session.run("delete ds each")?;
    session.apply(&workload(
        "apps/v1",
        "StatefulSet",
        "db",
        r#""serviceName": "db", "replicas": 2"#,
    ))?;
    session.run("rollout status sts/db --timeout=60s")?;
    let times = session.run("get pods -l app=db --sort-by=.metadata.name -o jsonpath={.items[*].metadata.name}")?;
    ensure!(times == "db-0 db-1", "{times}");
    session.run("set env sts/db A=1")?;
    session.run("rollout status sts/db --timeout=60s")?;
    session.run("scale sts/db --replicas=1")?;
    session.gone("the highest goes first", "pod/db-1")?;
    ensure!(session.field("pod/db-0", "{.status.phase}")? == "Running");
    session.run("delete sts db")?;
    session.gone("the set's pods", "pods -l app=db")
}

fn jobs(session: &Session) -> Result<()> {
    let jobs = [
        job("three", "true", r#""completions": 3, "parallelism": 2"#),
        job(
            "each",
            "test $JOB_COMPLETION_INDEX != 5",
            r#""completions": 2, "parallelism": 2, "completionMode": "Indexed""#,
        ),
        job("fails", "exit 3", r#""backoffLimit": 0"#),
        job("slow", SLEEP, r#""activeDeadlineSeconds": 2"#),
        job(
            "policy",
            "exit 42",
            r#""backoffLimit": 6, "podFailurePolicy": {"rules": [
                {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]}"#,
        ),
        job(
            "lenient",
            "test $JOB_COMPLETION_INDEX = 1",
            r#""completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 0"#,
        ),
        job("stopped", SLEEP, r#""suspend": true"#),
    ];
    for job in &jobs {
        session.apply(job)?;
    }
    let over = |kind: &str| format!(r#"{{.status.conditions[?(@.type=="{kind}")].reason}}"#);
    for (name, kind, reason) in [
        ("three", "Complete", "CompletionsReached"),
        ("each", "Complete", "CompletionsReached"),
        ("fails", "Failed", "BackoffLimitExceeded"),
        ("slow", "Failed", "DeadlineExceeded"),
        ("policy", "Failed", "PodFailurePolicy"),
        ("lenient", "Failed", "FailedIndexes"),
        ("stopped", "Suspended", "JobSuspended"),
    ] {
        session.wait("the job ends as it should", &format!("job/{name}"), &over(kind), reason)?;
    }
    ensure!(session.field("job/three", "{.status.succeeded}")? == "3");
    ensure!(session.field("job/each", "{.status.completedIndexes}")? == "0,1");
    ensure!(session.field("job/lenient", "{.status.failedIndexes}/{.status.completedIndexes}")? == "0/1");
    session.run(r#"patch job stopped --type=merge -p {"spec":{"suspend":false}}"#)?;
    session.wait("the job is resumed", "job/stopped", "{.status.ready}", "1")?;
    session.run(r#"patch job stopped --type=merge -p {"spec":{"suspend":true}}"#)?;
    session.gone("suspending stops the pods", "pods -l job-name=stopped")?;
    ensure!(
        session.field("job/stopped", "{.status.failed}")?.is_empty(),
        "they do not count as failed"
    );
    session.run("delete jobs --all")?;
    session.gone("pods go with their jobs", "pods -l job-name")
}

fn deletion(session: &Session) -> Result<()> {
    session.run("create namespace busy")?;
    for n in 0..20 {
        session.run(&format!("-n busy create configmap c{n}"))?;
    }
    session.run("-n busy create deployment d --image=skiff.local/web:0.1.0 --replicas=2")?;
    session.run(r#"-n busy patch configmap c0 --type=merge -p {"metadata":{"finalizers":["example.com/stuck"]}}"#)?;
    session.run("delete namespace busy --wait=false")?;
    session.wait(
        "what holds it is told",
        "namespace/busy",
        r#"{.status.conditions[?(@.type=="NamespaceFinalizersRemaining")].status}"#,
        "True",
    )?;
    session.run(r#"-n busy patch configmap c0 --type=merge -p {"metadata":{"finalizers":null}}"#)?;
    session.gone("the namespace", "namespace/busy")?;
    // A claim that nothing uses goes at once.
    session.apply(
        r#"{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Mi"}}}}"#,
    )?;
    session.run("delete pvc data --timeout=20s").map(|_| ())
}

fn budgets(session: &Session) -> Result<()> {
    session.apply(&workload("apps/v1", "Deployment", "kept", r#""replicas": 2"#))?;
    session.run("rollout status deploy/kept --timeout=60s")?;
    session.run("create pdb kept --selector=app=kept --min-available=1")?;
    session.wait("the budget is known", "pdb/kept", "{.status.disruptionsAllowed}", "1")?;
    // The selector is empty, so the endpoints are the user's own.
    session.apply(
        r#"{"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "own"}, "spec": {"ports": [{"port": 80}]}},
            {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "own"}, "subsets": [
                {"addresses": [{"ip": "10.9.9.9"}], "ports": [{"port": 80}]}]}]}"#,
    )?;
    until(LONG, "the endpoints are mirrored", || {
        let path =
            "get endpointslices -l kubernetes.io/service-name=own -o jsonpath={.items[*].endpoints[*].addresses[*]}";
        let seen = session.run(path)?;
        Ok(if seen == "10.9.9.9" { Ok(()) } else { Err(seen) })
    })?;
    session.run("delete service own").map(|_| ())
}

fn nodes(session: &Session) -> Result<()> {
    session.run("drain node2 --ignore-daemonsets --force --timeout=60s")?;
    session.run("rollout status deploy/kept --timeout=60s")?;
    let path = "jsonpath={.items[*].spec.nodeName}";
    ensure!(
        !session
            .run(&format!("get pods -l app=kept -o {path}"))?
            .contains("node2"),
        "drained"
    );
    session.run("uncordon node2")?;
    session.wait("the taint is gone", "node/node2", "{.spec.taints}", "")?;
    session.run("delete deploy kept")?;
    let range = session.field("node/node2", "{.spec.podCIDR}")?;
    ensure!(range.ends_with("/24"), "{range}");
    lost_node(session)
}

fn lost_node(session: &Session) -> Result<()> {
    let template = template("moves", SLEEP).replacen(
        r#""spec": {"#,
        r#""spec": {"nodeName": "node2", "tolerations": [
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}],"#,
        1,
    );
    let pod = template.replacen(r#""labels""#, r#""name": "moves", "labels""#, 1);
    session.apply(&pod.replacen('{', r#"{"apiVersion": "v1", "kind": "Pod", "#, 1))?;
    session.wait("it runs", "pod/moves", "{.status.phase}", "Running")?;
    session.0.stop(1, "-9")?;
    let ready = r#"{.status.conditions[?(@.type=="Ready")].status}"#;
    session.wait("the silent node is lost", "node/node2", ready, "Unknown")?;
    session.wait(
        "its pod is evicted after what it tolerates",
        "pod/moves",
        r#"{.status.conditions[?(@.type=="DisruptionTarget")].reason}"#,
        "DeletionByTaintManager",
    )?;
    session.0.start_agent(1)?;
    session.wait("the node is back", "node/node2", ready, "True")?;
    session.wait("its taints are gone", "node/node2", "{.spec.taints}", "")?;
    session.gone("the evicted pod", "pod/moves")
}
