//! What is written into a claim's status when devices were found for it. Pure.

use super::claim::ClassState;
use super::search::{Offer, Want};
use super::slice::Reach;
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceRequestAllocationResult,
    ResourceClaim,
};
use std::collections::BTreeMap;

pub fn allocation(
    claim: &ResourceClaim,
    classes: &BTreeMap<String, ClassState>,
    chosen: &[(&Want, Offer<'_>)],
    node: &str,
) -> AllocationResult {
    let results = chosen.iter().map(|(want, offer)| DeviceRequestAllocationResult {
        request: want.name.clone(),
        driver: offer.device.id.driver.clone(),
        pool: offer.device.id.pool.clone(),
        device: offer.device.id.device.clone(),
        admin_access: want.admin.then_some(true),
        tolerations: Some(want.tolerations.clone()).filter(|list| !list.is_empty()),
        ..DeviceRequestAllocationResult::default()
    });
    let config = configuration(claim, classes, chosen);
    AllocationResult {
        allocation_timestamp: None,
        devices: Some(DeviceAllocationResult {
            results: Some(results.collect()),
            config: Some(config).filter(|config| !config.is_empty()),
        }),
        node_selector: nodes(chosen, node),
    }
}

/// Of the classes first, then the claim's own for requests that got something.
fn configuration(
    claim: &ResourceClaim,
    classes: &BTreeMap<String, ClassState>,
    chosen: &[(&Want, Offer<'_>)],
) -> Vec<DeviceAllocationConfiguration> {
    let mut wants: Vec<&Want> = chosen.iter().map(|(want, _)| *want).collect();
    wants.dedup_by_key(|want| want.id);
    let mut all = Vec::new();
    for want in &wants {
        let config = classes.get(&want.class).into_iter().flat_map(|class| &class.config);
        all.extend(config.map(|config| DeviceAllocationConfiguration {
            opaque: config.opaque.clone(),
            requests: Some(vec![want.name.clone()]),
            source: "FromClass".into(),
        }));
    }
    let devices = claim.spec.devices.as_ref();
    for config in devices
        .and_then(|devices| devices.config.as_ref())
        .into_iter()
        .flatten()
    {
        let requests = config.requests.as_deref().unwrap_or_default();
        let named = |want: &&Want| {
            let request = want.name.split('/').next().unwrap_or_default();
            requests.iter().any(|name| *name == want.name || name == request)
        };
        if requests.is_empty() || wants.iter().any(named) {
            all.push(DeviceAllocationConfiguration {
                opaque: config.opaque.clone(),
                requests: config.requests.clone(),
                source: "FromClaim".into(),
            });
        }
    }
    all
}

/// The nodes that reach all of the devices; `None`: any does.
fn nodes(chosen: &[(&Want, Offer<'_>)], node: &str) -> Option<NodeSelector> {
    let mut term = NodeSelectorTerm::default();
    let add = |to: &mut Option<Vec<NodeSelectorRequirement>>, rules: &Option<Vec<NodeSelectorRequirement>>| {
        for rule in rules.iter().flatten() {
            let known = to.get_or_insert_default();
            if !known.contains(rule) {
                known.push(rule.clone());
            }
        }
    };
    for (_, offer) in chosen {
        match offer.slice.reach_of(offer.device) {
            Reach::Node(_) => {
                let here = NodeSelectorRequirement {
                    key: "metadata.name".into(),
                    operator: "In".into(),
                    values: Some(vec![node.to_string()]),
                };
                term = NodeSelectorTerm {
                    match_expressions: None,
                    match_fields: Some(vec![here]),
                };
                break;
            }
            // One term is all that slices may have.
            Reach::Nodes { selector, .. } => {
                for one in selector.node_selector_terms.iter().take(1) {
                    add(&mut term.match_expressions, &one.match_expressions);
                    add(&mut term.match_fields, &one.match_fields);
                }
            }
            Reach::All | Reach::PerDevice => {}
        }
    }
    let any = term.match_expressions.is_none() && term.match_fields.is_none();
    (!any).then(|| NodeSelector {
        node_selector_terms: vec![term],
    })
}
