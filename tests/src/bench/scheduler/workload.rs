//! The workloads, as upstream's scheduler is measured with. Pure.

use super::cluster::{ZONE, node_name};
use anyhow::{Context, Result};
use serde_json::{Value, json};

pub const BEFORE: &str = "sched-0";
pub const MEASURED: &str = "sched-1";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    Basic,
    DaemonSet,
    Unschedulable,
    Churn,
    Gated,
    Preemption,
    SpreadRequired,
    SpreadPreferred,
    AffinityRequired,
    AffinityPreferred,
    AntiAffinityRequired,
    AntiAffinityPreferred,
    Deployment,
}

/// Pods made of one template.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    pub count: usize,
    /// Spec and labels; of a daemon set's pod each names another node.
    pub template: Value,
    pub per_node: bool,
    /// Whether they get nodes.
    pub bound: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub zones: usize,
    pub before: Vec<Batch>,
    pub measured: Batch,
    /// Nodes, services and pods come and go meanwhile.
    pub churn: bool,
    /// Replicas that a Deployment makes, in place of the measured batch.
    pub deployment: Option<usize>,
}

impl Workload {
    pub const ALL: [Self; 13] = [
        Self::Basic,
        Self::DaemonSet,
        Self::Unschedulable,
        Self::Churn,
        Self::Gated,
        Self::Preemption,
        Self::SpreadRequired,
        Self::SpreadPreferred,
        Self::AffinityRequired,
        Self::AffinityPreferred,
        Self::AntiAffinityRequired,
        Self::AntiAffinityPreferred,
        Self::Deployment,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::DaemonSet => "daemon-set",
            Self::Unschedulable => "unschedulable",
            Self::Churn => "churn",
            Self::Gated => "gated",
            Self::Preemption => "preemption",
            Self::SpreadRequired => "spread",
            Self::SpreadPreferred => "spread-preferred",
            Self::AffinityRequired => "affinity",
            Self::AffinityPreferred => "affinity-preferred",
            Self::AntiAffinityRequired => "anti-affinity",
            Self::AntiAffinityPreferred => "anti-affinity-preferred",
            Self::Deployment => "deployment",
        }
    }

    pub fn parse(word: &str) -> Result<Self> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|workload| workload.name() == word)
            .with_context(|| format!("{word:?} is none of {}", names()))
    }

    /// Pods per second that are wanted.
    pub fn aim(self, nodes: usize) -> Option<f64> {
        let large = nodes > 1_000;
        match self {
            Self::Basic => Some(3_000.0),
            Self::AntiAffinityRequired if large => Some(600.0),
            Self::SpreadRequired if large => Some(850.0),
            Self::SpreadPreferred if large => Some(850.0),
            _ => None,
        }
    }

    /// What kube-scheduler reaches, or is asked to reach at least.
    pub fn upstream(self, nodes: usize) -> Option<&'static str> {
        match (self, nodes) {
            (Self::Basic, 500) => Some("356/s"),
            (Self::Basic, 5_000) => Some("247-275/s"),
            (Self::AntiAffinityRequired, 5_000) => Some("60/s (threshold)"),
            (Self::SpreadRequired | Self::SpreadPreferred, 5_000) => Some("85-460/s (threshold)"),
            _ => None,
        }
    }

    pub fn plan(self, nodes: usize) -> Plan {
        let large = nodes > 1_000;
        let some = if large { 2 * nodes } else { 10 * nodes };
        let mut plan = Plan {
            zones: 3,
            before: Vec::new(),
            measured: batch(some, pod("white", "100m", "500Mi")),
            churn: false,
            deployment: None,
        };
        let few = nodes / 5;
        match self {
            Self::Basic => {}
            Self::DaemonSet => plan.measured.per_node = true,
            Self::Unschedulable => {
                let mut never = batch(200, pod("white", "9", "500Mi"));
                never.bound = false;
                plan.before.push(never);
            }
            Self::Churn => plan.churn = true,
            Self::Gated => {
                let mut gated = batch(10_000, pod("white", "100m", "500Mi"));
                gated.template["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
                gated.bound = false;
                plan.before.push(gated);
            }
            Self::Preemption => {
                let mut victims = pod("white", "900m", "500Mi");
                victims["spec"]["terminationGracePeriodSeconds"] = json!(0);
                plan.before.push(batch(4 * nodes, victims));
                let mut high = pod("white", "3", "500Mi");
                high["spec"]["priorityClassName"] = json!("bench-high");
                plan.measured = batch(nodes, high);
            }
            Self::SpreadRequired | Self::SpreadPreferred => {
                let when = match self {
                    Self::SpreadRequired => "DoNotSchedule",
                    _ => "ScheduleAnyway",
                };
                plan.before.push(batch(nodes, pod("white", "100m", "500Mi")));
                plan.measured.template = pod("blue", "100m", "500Mi");
                plan.measured.template["spec"]["topologySpreadConstraints"] = json!([{
                    "maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": when, "labelSelector": selector("blue"),
                }]);
            }
            Self::AffinityRequired
            | Self::AffinityPreferred
            | Self::AntiAffinityRequired
            | Self::AntiAffinityPreferred => {
                self.with_affinity(&mut plan, nodes, few);
            }
            Self::Deployment => plan.deployment = Some(5_000),
        }
        plan
    }

    fn with_affinity(self, plan: &mut Plan, nodes: usize, few: usize) {
        let required = matches!(self, Self::AffinityRequired | Self::AntiAffinityRequired);
        let (kind, key) = match self {
            Self::AffinityRequired => ("podAffinity", ZONE),
            Self::AffinityPreferred => ("podAffinity", "kubernetes.io/hostname"),
            _ => ("podAntiAffinity", "kubernetes.io/hostname"),
        };
        let term = json!({"topologyKey": key, "namespaces": [BEFORE, MEASURED], "labelSelector": selector("green")});
        let rule = match required {
            true => json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]}),
            false => {
                json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]})
            }
        };
        let mut template = pod("green", "100m", "500Mi");
        template["spec"]["affinity"] = json!({kind: rule});
        if self == Self::AffinityRequired {
            // One zone holds them all, as upstream has it.
            plan.zones = 1;
        }
        plan.before.push(batch(few, template.clone()));
        plan.measured.template = template;
        if self == Self::AntiAffinityRequired {
            plan.measured.count = (nodes - few).min(2_000);
        }
    }
}

fn batch(count: usize, template: Value) -> Batch {
    Batch {
        count,
        template,
        per_node: false,
        bound: true,
    }
}

fn selector(color: &str) -> Value {
    json!({"matchLabels": {"color": color}})
}

fn pod(color: &str, cpu: &str, memory: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"labels": {"color": color}},
        "spec": {"containers": [{
            "name": "pause", "image": "registry.k8s.io/pause:3.10", "ports": [{"containerPort": 80}],
            "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}},
        }]},
    })
}

impl Batch {
    /// The pod `at` as it is created.
    pub fn pod(&self, at: usize, nodes: usize) -> (String, Value) {
        let name = format!("pod-{at:06}");
        let mut pod = self.template.clone();
        pod["metadata"]["name"] = json!(name);
        if self.per_node {
            let field = json!({"key": "metadata.name", "operator": "In", "values": [node_name(at % nodes)]});
            pod["spec"]["affinity"]["nodeAffinity"] = json!({"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [field]}],
            }});
        }
        (name, pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_fits_its_nodes() {
        for workload in Workload::ALL {
            assert_eq!(Workload::parse(workload.name()).expect("its own name"), workload);
            for nodes in [4, 500, 5_000] {
                let plan = workload.plan(nodes);
                let pods = plan.before.iter().filter(|batch| batch.bound).map(|batch| batch.count);
                let all = pods.sum::<usize>() + plan.deployment.unwrap_or(plan.measured.count);
                // 40 of a tenth of a core on each node.
                if workload != Workload::Preemption && (workload != Workload::Deployment || nodes > 4) {
                    assert!(all <= 40 * nodes, "{workload:?} on {nodes}");
                }
            }
        }
    }

    #[test]
    fn a_daemon_sets_pods_name_one_node_each() {
        let plan = Workload::DaemonSet.plan(4);
        let (name, pod) = plan.measured.pod(5, 4);
        assert_eq!(name, "pod-000005");
        let terms = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(
            terms["nodeSelectorTerms"][0]["matchFields"][0]["values"][0],
            "node-00001"
        );
    }
}
