//! Conversion of objects by a webhook: what it is asked, and what may be made of its
//! answer. Source:
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#webhook-request-and-response>.

use crate::check::json::Json;
use serde_json::{Value, json};

/// The version of the review that both sides understand, first come first served.
pub fn review_version(webhook: &Value) -> Option<&'static str> {
    let known = webhook.items("conversionReviewVersions").iter();
    known.filter_map(Value::as_str).find_map(|version| match version {
        "v1" => Some("v1"),
        "v1beta1" => Some("v1beta1"),
        _ => None,
    })
}

/// Asks for objects in another version.
pub fn review(version: &str, uid: &str, to: &str, objects: &[Value]) -> Value {
    json!({
        "kind": "ConversionReview",
        "apiVersion": format!("apiextensions.k8s.io/{version}"),
        "request": {"uid": uid, "desiredAPIVersion": to, "objects": objects},
    })
}

/// The converted objects in order; `asked` are the ones that were sent. Metadata stays
/// as it was but for labels and annotations.
pub fn answered(version: &str, uid: &str, to: &str, asked: &[Value], answer: Value) -> Result<Vec<Value>, String> {
    let failed = |why: String| match asked.first() {
        Some(first) => format!("conversion webhook for {} failed: {why}", shown(first)),
        None => why,
    };
    let converted = objects_of(version, uid, answer).map_err(failed)?;
    let about = asked.first().map(shown).unwrap_or_default();
    if converted.len() != asked.len() {
        return Err(format!(
            "conversion webhook for {about} returned {} objects, expected {}",
            converted.len(),
            asked.len()
        ));
    }
    let mut made = Vec::with_capacity(converted.len());
    for (i, (object, before)) in converted.into_iter().zip(asked).enumerate() {
        let object = accept(object, before, to).map_err(|why| {
            format!("conversion webhook for {about} returned invalid converted object at index {i}: {why}")
        })?;
        made.push(object);
    }
    Ok(made)
}

/// `stable.example.com/v1, Kind=CronTab`
fn shown(object: &Value) -> String {
    format!("{}, Kind={}", object.text("apiVersion"), object.text("kind"))
}

fn objects_of(version: &str, uid: &str, mut answer: Value) -> Result<Vec<Value>, String> {
    let expected = format!("apiextensions.k8s.io/{version}, Kind=ConversionReview");
    if shown(&answer) != expected {
        return Err(format!(
            "expected webhook response of {expected}, got {}",
            shown(&answer)
        ));
    }
    let response = &mut answer["response"];
    if !response.is_object() {
        return Err("no response provided".into());
    }
    let given = response.text("uid");
    // The older review need not repeat it.
    if given != uid && !(version == "v1beta1" && given.is_empty()) {
        return Err(format!("expected response.uid={uid:?}, got {given:?}"));
    }
    let result = &response["result"];
    if result.text("status") != "Success" {
        return Err(match result.text("message") {
            "" => format!("response.result.status was '{}', not 'Success'", result.text("status")),
            message => message.to_string(),
        });
    }
    match response["convertedObjects"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

fn accept(mut object: Value, before: &Value, to: &str) -> Result<Value, String> {
    if object.text("apiVersion") != to {
        return Err(format!(
            "invalid groupVersion (expected {to}, received {})",
            object.text("apiVersion")
        ));
    }
    if object.text("kind") != before.text("kind") {
        return Err(format!(
            "invalid kind (expected {}, received {})",
            before.text("kind"),
            object.text("kind")
        ));
    }
    for key in ["name", "namespace", "uid"] {
        let (old, new) = (before["metadata"].text(key), object["metadata"].text(key));
        if old != new {
            let field = if key == "uid" { "UID" } else { key };
            return Err(format!("must have the same {field}: {old} != {new}"));
        }
    }
    let mut metadata = before["metadata"].clone();
    for key in ["labels", "annotations"] {
        let given = object["metadata"].get(key).filter(|v| v.is_object()).cloned();
        if given
            .iter()
            .flat_map(|v| v.as_object())
            .flatten()
            .any(|(_, v)| !v.is_string())
        {
            return Err(format!("metadata.{key}: Invalid value: must be a map of strings"));
        }
        if let Some(map) = metadata.as_object_mut() {
            match given.filter(|v| v.as_object().is_some_and(|m| !m.is_empty())) {
                Some(given) => drop(map.insert(key.to_string(), given)),
                None => drop(map.remove(key)),
            }
        }
    }
    object["metadata"] = metadata;
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, spec: Value) -> Value {
        json!({"apiVersion": format!("g.example.com/{version}"), "kind": "K", "spec": spec,
            "metadata": {"name": "n", "uid": "u", "generation": 3, "labels": {"a": "1"}}})
    }

    #[test]
    fn takes_what_is_sound_and_keeps_metadata() {
        let asked = [object("v1", json!({"host": "a:1"}))];
        let mut converted = object("v2", json!({"host": "a", "port": 1}));
        converted["metadata"]["labels"] = json!({"b": "2"});
        converted["metadata"]["generation"] = 9.into();
        let answer = |object: Value| {
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
                "response": {"uid": "1", "result": {"status": "Success"}, "convertedObjects": [object]}})
        };
        let made = answered("v1", "1", "g.example.com/v2", &asked, answer(converted.clone())).expect("sound");
        assert_eq!(
            made[0]["metadata"],
            json!({"name": "n", "uid": "u", "generation": 3, "labels": {"b": "2"}})
        );
        assert_eq!(made[0]["spec"]["port"], 1);
        let refused = |answer: Value| answered("v1", "1", "g.example.com/v2", &asked, answer).unwrap_err();
        assert_eq!(
            refused(answer(object("v1", json!({})))),
            "conversion webhook for g.example.com/v1, Kind=K returned invalid converted object at index 0: invalid groupVersion (expected g.example.com/v2, received g.example.com/v1)"
        );
        let mut other = converted.clone();
        other["metadata"]["uid"] = "x".into();
        assert!(refused(answer(other)).ends_with("must have the same UID: u != x"));
        let mut failed = answer(converted.clone());
        failed["response"]["result"] = json!({"status": "Failed", "message": "no way"});
        assert_eq!(
            refused(failed),
            "conversion webhook for g.example.com/v1, Kind=K failed: no way"
        );
        let mut none = answer(converted.clone());
        none["response"]["convertedObjects"] = json!([]);
        assert!(refused(none).ends_with("returned 0 objects, expected 1"));
        let mut stranger = answer(converted);
        stranger["response"]["uid"] = "2".into();
        assert!(refused(stranger).contains("expected response.uid=\"1\", got \"2\""));
        assert!(refused(json!({})).contains("expected webhook response of"));
    }

    #[test]
    fn speaks_the_first_version_that_it_knows() {
        let hook = json!({"conversionReviewVersions": ["v3", "v1beta1", "v1"]});
        assert_eq!(review_version(&hook), Some("v1beta1"));
        assert_eq!(review_version(&json!({})), None);
        assert_eq!(review("v1", "1", "g/v2", &[])["request"]["desiredAPIVersion"], "g/v2");
    }
}
