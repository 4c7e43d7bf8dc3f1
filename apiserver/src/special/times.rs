//! Times that the server sets where a client leaves them out. Pure.

use serde_json::Value;
use skiff_kinds::Kind;

/// Conditions of a signing request say when they changed, those whose status is the
/// same keep the time of their last transition; volumes say when their phase changed.
pub(crate) fn fill(kind: &Kind, sub: &str, new: &mut Value, old: &Value, now: &str) {
    match (kind.plural, sub) {
        ("certificatesigningrequests", "approval" | "status") => conditions(new, old, now),
        ("persistentvolumes", "status") => phase(new, old, now),
        _ => {}
    }
}

/// A volume says since when it is in its phase, unless the writer does.
fn phase(new: &mut Value, old: &Value, now: &str) {
    const SINCE: &str = "lastPhaseTransitionTime";
    let (Some(status), was) = (new.get_mut("status").filter(|s| s.is_object()), &old["status"]) else {
        return;
    };
    if status["phase"] != was["phase"] && (status[SINCE].is_null() || status[SINCE] == was[SINCE]) {
        status[SINCE] = now.into();
    }
}

fn conditions(new: &mut Value, old: &Value, now: &str) {
    let before = old["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let conditions = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        if !condition.is_object() {
            continue;
        }
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = now.into();
        }
        if condition["lastTransitionTime"].is_null() {
            let same = before
                .iter()
                .find(|o| o["type"] == condition["type"] && o["status"] == condition["status"]);
            let time = same.map(|o| o["lastTransitionTime"].clone()).filter(|t| !t.is_null());
            condition["lastTransitionTime"] = time.unwrap_or_else(|| now.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn phases_of_volumes_get_their_times() {
        let kind = skiff_kinds::find("", "persistentvolumes").unwrap();
        let with = |phase: &str, since: &str| json!({"status": {"phase": phase, "lastPhaseTransitionTime": since}});
        let old = with("Available", "then");
        for (sub, new, expected) in [
            ("status", with("Bound", "then"), with("Bound", "now")),
            ("status", json!({"status": {"phase": "Bound"}}), with("Bound", "now")),
            ("status", with("Bound", "said"), with("Bound", "said")),
            ("status", with("Available", "then"), with("Available", "then")),
            ("", with("Bound", "then"), with("Bound", "then")),
        ] {
            let mut filled = new.clone();
            fill(kind, sub, &mut filled, &old, "now");
            assert_eq!(filled, expected, "{sub} {new}");
        }
    }

    #[test]
    fn conditions_get_their_times() {
        let kind = skiff_kinds::find("certificates.k8s.io", "certificatesigningrequests").unwrap();
        let with = |conditions: Value| json!({"status": {"conditions": conditions}});
        let old = with(json!([{"type": "Approved", "status": "True", "lastTransitionTime": "t"}]));
        let mut new = with(json!([
            {"type": "Approved", "status": "True", "lastTransitionTime": null, "lastUpdateTime": "x"},
            {"type": "Failed", "status": "True"},
        ]));
        fill(kind, "", &mut new, &old, "now");
        assert_eq!(
            new["status"]["conditions"][1],
            json!({"type": "Failed", "status": "True"})
        );
        fill(kind, "approval", &mut new, &old, "now");
        assert_eq!(
            new,
            with(json!([
                {"type": "Approved", "status": "True", "lastTransitionTime": "t", "lastUpdateTime": "x"},
                {"type": "Failed", "status": "True", "lastTransitionTime": "now", "lastUpdateTime": "now"},
            ]))
        );
    }
}
