//! What is to be done about the flow schemas and priority levels that exist from the
//! start: the mandatory ones always are what they are; the suggested ones are kept up
//! to date while their annotation says so. Pure.

use crate::registry::text_at;
use serde_json::Value;
pub use skiff_kinds::flow::{AUTO_UPDATE, Wanted, wanted};
use std::sync::Arc;

/// The objects to be written, from those that are there: what is missing, and what the
/// server keeps and is not as it should be. Suggested ones that somebody deleted come
/// back only at a start.
pub fn plan(existing: &[Arc<Value>], starting: bool) -> Vec<Value> {
    let mut steps = Vec::new();
    for Wanted { object, mandatory } in wanted() {
        let name = text_at(&object, &["metadata", "name"]);
        let found = existing
            .iter()
            .find(|o| o["kind"] == object["kind"] && text_at(o, &["metadata", "name"]) == name);
        let Some(found) = found else {
            if mandatory || starting {
                steps.push(object);
            }
            continue;
        };
        let annotation = found["metadata"]["annotations"][AUTO_UPDATE].as_str();
        let first_generation = found["metadata"]["generation"].as_i64() == Some(1);
        // Without the annotation, one that nobody has changed is still the server's.
        let kept = mandatory || annotation.map_or(first_generation, |text| text == "true");
        let mut spec = object["spec"].clone();
        if name == "exempt" && object["kind"] == "PriorityLevelConfiguration" && annotation != Some("true") {
            // What it lends is the administrator's.
            spec["exempt"] = found["spec"]["exempt"].clone();
        }
        let annotated = annotation.is_some() || !kept;
        if kept && (found["spec"] != spec || !annotated) {
            let mut updated = (**found).clone();
            updated["spec"] = spec;
            if annotation.is_none() {
                updated["metadata"]["annotations"][AUTO_UPDATE] = "true".into();
            }
            steps.push(updated);
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Arc<Value>> {
        plan(&[], true).into_iter().map(Arc::new).collect()
    }

    #[test]
    fn what_is_right_stays() {
        assert_eq!(all().len(), 21);
        assert_eq!(plan(&all(), true), Vec::<Value>::new());
    }

    #[test]
    fn all_of_them_pass_their_own_checks() {
        for object in all() {
            let kind = skiff_kinds::find_kind("flowcontrol.apiserver.k8s.io", text_at(&object, &["kind"])).unwrap();
            let mut defaulted = (*object).clone();
            kind.strategy().default(&mut defaulted);
            assert_eq!(defaulted, *object, "defaults change nothing");
            assert_eq!(kind.strategy().validate(&object), vec![], "{object}");
        }
    }

    #[test]
    fn mandatory_ones_are_set_right_and_suggested_ones_may_be_ones_own() {
        let position = |name: &str| {
            all()
                .iter()
                .position(|o| o["kind"] == "FlowSchema" && o["metadata"]["name"] == name)
                .unwrap()
        };
        let changed = |name: &str, annotation: &str| {
            let mut objects = all();
            let object = Arc::make_mut(&mut objects[position(name)]);
            object["spec"]["matchingPrecedence"] = 77.into();
            object["metadata"]["annotations"][AUTO_UPDATE] = annotation.into();
            plan(&objects, false)
        };
        assert_eq!(changed("exempt", "false").len(), 1);
        assert_eq!(changed("probes", "true")[0]["spec"]["matchingPrecedence"], 2);
        assert!(changed("probes", "false").is_empty());
        let mut without = all();
        without.remove(position("probes"));
        assert!(plan(&without, false).is_empty());
        assert_eq!(plan(&without, true).len(), 1);
        let mut without = all();
        without.remove(position("catch-all"));
        assert_eq!(plan(&without, false).len(), 1);
    }
}
