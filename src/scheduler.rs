//! What the scheduler is told (`--scheduler-config`), and what it tells (`skiff scheduler explain`).

use crate::cli::{ExplainArgs, SchedulerAction, SchedulerArgs};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use skiff_scheduler::{Inspection, NodeVerdict, Settings, Verdict};
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// No node will do: not an error, but scripts may want to know.
const NOWHERE: u8 = 2;

/// From a KubeSchedulerConfiguration, in YAML or JSON; the defaults without one.
pub fn settings(file: Option<&Path>) -> Result<Settings> {
    let Some(path) = file else {
        return Ok(Settings::default());
    };
    let told = || format!("--scheduler-config {}", path.display());
    let text = std::fs::read_to_string(path).with_context(told)?;
    let document: serde_json::Value = serde_saphyr::from_str(&text).with_context(told)?;
    Settings::parse(&document).with_context(told)
}

pub async fn run(args: SchedulerArgs) -> Result<ExitCode> {
    match &args.action {
        SchedulerAction::Explain(explain) => explain_pod(&args, explain).await,
    }
}

async fn explain_pod(args: &SchedulerArgs, explain: &ExplainArgs) -> Result<ExitCode> {
    let settings = settings(explain.scheduler_config.as_deref())?;
    let (client, _) = crate::client::from_kubeconfig(&args.access.kubeconfig()).await?;
    let namespace = explain.namespace.as_deref().unwrap_or(client.default_namespace());
    let inspection = skiff_scheduler::inspect(&client, &settings, namespace, &explain.pod)
        .await
        .with_context(|| format!("cannot explain {} (-n says in which namespace it is)", explain.pod))?;
    match explain.output.as_str() {
        "json" => println!("{}", serde_json::to_string_pretty(&document(&inspection))?),
        _ => print!("{}", table(&inspection)),
    }
    Ok(match inspection.refusal {
        Some(_) => ExitCode::from(NOWHERE),
        None => ExitCode::SUCCESS,
    })
}

/// The nodes that will do first, the best on top.
fn sorted(inspection: &Inspection) -> Vec<&NodeVerdict> {
    let mut nodes: Vec<&NodeVerdict> = inspection.explanation.nodes.iter().collect();
    let total = |verdict: &NodeVerdict| match &verdict.verdict {
        Verdict::Fits { total, .. } => Some(*total),
        Verdict::Refused(_) => None,
    };
    nodes.sort_by(|a, b| total(b).cmp(&total(a)).then_with(|| a.node.cmp(&b.node)));
    nodes
}

fn table(inspection: &Inspection) -> String {
    let Inspection { namespace, name, .. } = inspection;
    let mut out = String::new();
    let told = match (&inspection.node, &inspection.held_back, &inspection.refusal) {
        (Some(node), _, None) => format!("is on the node {node}; were it to be placed now:"),
        (Some(node), _, Some(why)) => format!("is on the node {node}; were it to be placed now: {why}"),
        (None, Some(why), _) => format!("is not tried: {why}"),
        (None, None, Some(why)) => format!("cannot be placed: {why}"),
        (None, None, None) => "can be placed".to_string(),
    };
    let _ = writeln!(out, "pod {namespace}/{name} {told}\n");
    let rows: Vec<[String; 3]> = sorted(inspection).into_iter().map(row).collect();
    let titles = ["NODE", "SCORE", "WHY"].map(String::from);
    let width = |at: usize| rows.iter().chain([&titles]).map(|row| row[at].chars().count()).max();
    let (first, second) = (width(0).unwrap_or(0), width(1).unwrap_or(0));
    for [node, score, why] in std::iter::once(&titles).chain(&rows) {
        let _ = writeln!(out, "{}", format!("{node:<first$}  {score:<second$}  {why}").trim_end());
    }
    out
}

fn row(verdict: &NodeVerdict) -> [String; 3] {
    match &verdict.verdict {
        Verdict::Fits { scores, total } => {
            let share = |score: &skiff_scheduler::PluginScore| {
                let weight = match score.weight {
                    1 => String::new(),
                    weight => format!("*{weight}"),
                };
                format!("{}={}{weight}", score.plugin.name(), score.score)
            };
            let shares: Vec<String> = scores.iter().map(share).collect();
            [verdict.node.clone(), total.to_string(), shares.join(" ")]
        }
        Verdict::Refused(refusal) => {
            let why = format!("{}: {}", refusal.plugin.name(), refusal.reasons.join(", "));
            [verdict.node.clone(), "-".to_string(), why]
        }
    }
}

fn document(inspection: &Inspection) -> Value {
    let nodes: Vec<Value> = sorted(inspection)
        .into_iter()
        .map(|verdict| match &verdict.verdict {
            Verdict::Fits { scores, total } => {
                let scores: Vec<Value> = scores
                    .iter()
                    .map(|score| json!({"plugin": score.plugin.name(), "score": score.score, "weight": score.weight}))
                    .collect();
                json!({"node": verdict.node, "fits": true, "total": total, "scores": scores})
            }
            Verdict::Refused(refusal) => json!({
                "node": verdict.node, "fits": false, "plugin": refusal.plugin.name(), "reasons": refusal.reasons,
                "removingPodsMayHelp": !refusal.unresolvable,
            }),
        })
        .collect();
    json!({
        "namespace": inspection.namespace, "name": inspection.name, "nodeName": inspection.node,
        "schedulerName": inspection.scheduler, "heldBack": inspection.held_back, "message": inspection.refusal,
        "nodes": nodes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_scheduler::{Explanation, Plugin, PluginScore, Refusal};

    fn inspection() -> Inspection {
        let fits = |node: &str, score| NodeVerdict {
            node: node.into(),
            verdict: Verdict::Fits {
                scores: vec![
                    PluginScore {
                        plugin: Plugin::TaintToleration,
                        score: 100,
                        weight: 3,
                    },
                    PluginScore {
                        plugin: Plugin::NodeResourcesFit,
                        score,
                        weight: 1,
                    },
                ],
                total: 300 + score,
            },
        };
        let refused = NodeVerdict {
            node: "full".into(),
            verdict: Verdict::Refused(Refusal {
                plugin: Plugin::NodeResourcesFit,
                reasons: vec!["Insufficient cpu".into(), "Too many pods".into()],
                unresolvable: false,
            }),
        };
        Inspection {
            namespace: "d".into(),
            name: "web".into(),
            node: None,
            scheduler: "default-scheduler".into(),
            refusal: None,
            held_back: None,
            explanation: Explanation {
                blocked: None,
                nodes: vec![fits("a", 7), fits("the-best", 90), refused],
            },
        }
    }

    #[test]
    fn the_best_node_is_on_top_and_the_refused_last() {
        let expected = "\
pod d/web can be placed

NODE      SCORE  WHY
the-best  390    TaintToleration=100*3 NodeResourcesFit=90
a         307    TaintToleration=100*3 NodeResourcesFit=7
full      -      NodeResourcesFit: Insufficient cpu, Too many pods
";
        assert_eq!(table(&inspection()), expected);
    }

    #[test]
    fn the_document_says_the_same() {
        let document = document(&inspection());
        assert_eq!(document["nodes"][0]["node"], "the-best");
        assert_eq!(document["nodes"][0]["scores"][1]["score"], 90);
        assert_eq!(document["nodes"][2]["reasons"][1], "Too many pods");
        assert_eq!(document["nodes"][2]["removingPodsMayHelp"], true);
    }

    #[test]
    fn what_keeps_it_is_told_first() {
        let mut held = inspection();
        held.held_back = Some("its scheduling gates are closed".into());
        assert!(table(&held).starts_with("pod d/web is not tried: its scheduling gates are closed\n"));
        held.node = Some("a".into());
        assert!(table(&held).starts_with("pod d/web is on the node a"));
    }

    #[test]
    fn a_configuration_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("scheduler.yaml");
        std::fs::write(&file, "kind: Pod\n").expect("a file");
        let error = format!("{:#}", settings(Some(&file)).expect_err("it is none"));
        assert!(error.contains("scheduler.yaml: apiVersion: must be"), "{error}");
        let good = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n- schedulerName: mine\n";
        std::fs::write(&file, good).expect("a file");
        let settings = settings(Some(&file)).expect("settings");
        assert_eq!(settings.profiles.keys().collect::<Vec<_>>(), ["mine"]);
    }
}
