//! Updates of services: what was allocated stays or is given back, and what may not
//! change once it is set.

use super::validate::balancer_status;
use super::{is_headless, is_health_checked, reached_from_outside};
use crate::check::{Errors, Path};
use crate::core::pod::gather;
use crate::rules::copy;
use crate::tree::{Tree, each, set_int};
use serde_json::{Value, json};
use skiff_api::FieldError;

fn has_node_ports(spec: &Value) -> bool {
    match spec.text("type") {
        "NodePort" => true,
        "LoadBalancer" => spec.at("allocateLoadBalancerNodePorts") != &Value::Bool(false),
        _ => false,
    }
}

fn has_addresses(spec: &Value) -> bool {
    spec.text("type") != "ExternalName"
}

const ADDRESSES: [&str; 4] = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"];

pub(super) fn prepare(sub: &str, new: &mut Value, old: &Value) {
    let before = old.at("spec");
    let Some(spec) = new.get_mut("spec").filter(|s| s.is_object()) else {
        return;
    };
    if !sub.is_empty() {
        return;
    }
    mirror(spec, before);
    keep(spec, before);
    to_single_stack(spec, before);
    give_back(spec, before);
}

/// Of `clusterIP` and `clusterIPs` an old client writes only the first.
fn mirror(spec: &mut Value, before: &Value) {
    let ip = spec.text("clusterIP").to_string();
    if ip == before.text("clusterIP") || spec.at("clusterIPs") != before.at("clusterIPs") {
        return;
    }
    spec["clusterIPs"] = if ip.is_empty() { json!([]) } else { json!([ip]) };
}

/// What the update does not speak of is as it was allocated.
fn keep(spec: &mut Value, before: &Value) {
    if has_addresses(spec) && has_addresses(before) {
        if spec.text("clusterIP").is_empty() && spec.items("clusterIPs").is_empty() {
            for key in ADDRESSES {
                copy(spec, before, key);
            }
        } else if spec.items("clusterIPs").is_empty() && spec.text("clusterIP") == before.text("clusterIP") {
            copy(spec, before, "clusterIPs");
        }
    }
    if has_node_ports(spec) && has_node_ports(before) {
        let mut used: Vec<i64> = spec
            .items("ports")
            .iter()
            .filter_map(|p| p.int("nodePort"))
            .filter(|n| *n != 0)
            .collect();
        for port in each(spec, "ports").filter(|p| p.int("nodePort").unwrap_or(0) == 0) {
            let twin = before
                .items("ports")
                .iter()
                .find(|p| p.int("port") == port.int("port") && p.text("protocol") == port.text("protocol"));
            if let Some(number) = twin.and_then(|p| p.int("nodePort"))
                && !used.contains(&number)
            {
                set_int(port, "nodePort", number);
                used.push(number);
            }
        }
    }
    if is_health_checked(spec)
        && is_health_checked(before)
        && let Some(check) = before.int("healthCheckNodePort")
    {
        set_int(spec, "healthCheckNodePort", check);
    }
}

/// Who asks for one family and says nothing of the second gives it back.
fn to_single_stack(spec: &mut Value, before: &Value) {
    let dual = |s: &Value| !matches!(s.text("ipFamilyPolicy"), "" | "SingleStack");
    if !has_addresses(spec) || !dual(before) || dual(spec) {
        return;
    }
    for key in ["clusterIPs", "ipFamilies"] {
        if spec.at(key) == before.at(key) && spec.items(key).len() > 1 {
            spec[key] = json!([spec.items(key)[0]]);
        }
    }
}

/// What the new type has no use for goes, unless the update says otherwise.
fn give_back(spec: &mut Value, before: &Value) {
    let drop_same = |spec: &mut Value, key: &str| {
        if spec.at(key) == before.at(key) {
            copy(spec, &Value::Null, key);
        }
    };
    if has_addresses(before) && !has_addresses(spec) {
        for key in ADDRESSES.into_iter().chain(["internalTrafficPolicy"]) {
            drop_same(spec, key);
        }
    }
    if has_node_ports(before) && !has_node_ports(spec) {
        let numbers = |s: &Value| -> Vec<i64> { s.items("ports").iter().filter_map(|p| p.int("nodePort")).collect() };
        let old = numbers(before);
        if numbers(spec).iter().all(|n| old.contains(n)) {
            each(spec, "ports").for_each(|p| copy(p, &Value::Null, "nodePort"));
        }
    }
    if is_health_checked(before) && !is_health_checked(spec) {
        drop_same(spec, "healthCheckNodePort");
    }
    if before.text("type") == "LoadBalancer" && spec.text("type") != "LoadBalancer" {
        drop_same(spec, "allocateLoadBalancerNodePorts");
        drop_same(spec, "loadBalancerClass");
    }
    if reached_from_outside(before) && !reached_from_outside(spec) {
        drop_same(spec, "externalTrafficPolicy");
    }
}

pub(super) fn validate(sub: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    gather(|errors| match sub {
        "" => main(new.at("spec"), old.at("spec"), errors),
        "status" => {
            let list = Path::new("status.loadBalancer.ingress");
            let ingress = new.at("status").items("loadBalancer.ingress");
            if new.at("spec").text("type") == "LoadBalancer" || ingress.is_empty() {
                balancer_status(new.at("status"), &list, errors);
            } else {
                errors.forbidden(&list, "may only be used when `spec.type` is LoadBalancer");
            }
        }
        _ => {}
    })
}

const FIXED: &str = "may not change once set";

fn main(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    if has_addresses(new) && has_addresses(old) {
        if !(is_headless(new) && is_headless(old)) {
            list_change(new, old, "clusterIPs", "clusterIP", &path, errors);
        }
        if !is_headless(new) && !is_headless(old) {
            list_change(new, old, "ipFamilies", "ipFamily", &path, errors);
        }
    }
    let balanced = |s: &Value| s.text("type") == "LoadBalancer";
    if balanced(new) && balanced(old) && new.at("loadBalancerClass") != old.at("loadBalancerClass") {
        errors.invalid(
            &path.of("loadBalancerClass"),
            new.at("loadBalancerClass").clone(),
            FIXED,
        );
    }
    let check = |s: &Value| s.int("healthCheckNodePort").unwrap_or(0);
    if is_health_checked(new) && is_health_checked(old) && check(old) != 0 && check(new) != check(old) {
        errors.forbidden(&path.of("healthCheckNodePort"), crate::check::IMMUTABLE);
    }
}

/// The first address and family are fixed; the second may come and go.
fn list_change(new: &Value, old: &Value, key: &str, what: &str, path: &Path, errors: &mut Errors) {
    let (is, was) = (new.items(key), old.items(key));
    let list = path.of(key);
    let shown = new.at(key);
    let first_changed = !was.is_empty() && !is.is_empty() && is[0] != was[0];
    if is.len() == was.len() {
        for (i, _) in is.iter().zip(was).enumerate().filter(|(_, (a, b))| a != b) {
            let at = if key == "clusterIPs" { i } else { 0 };
            errors.invalid(&list.at(at), shown.clone(), FIXED);
        }
        return;
    }
    if is.len() < was.len() && new.items("clusterIPs").is_empty() {
        let text = format!("primary {what} can not be unset");
        errors.invalid(&list.at(0), shown.clone(), &text);
    }
    if first_changed {
        errors.invalid(&list.at(0), new.at("clusterIPs").clone(), FIXED);
    }
    if is.len() < was.len() && is.len() == 1 && new.text("ipFamilyPolicy") != "SingleStack" {
        let text = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        errors.invalid(&path.of("ipFamilyPolicy"), new.at("ipFamilyPolicy").clone(), &text);
    }
}
