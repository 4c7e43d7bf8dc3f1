//! The columns of a kind's table: `additionalPrinterColumns`, or the age where a
//! version has none.

use crate::format;
use crate::jsonpath::JsonPath;
use jiff::Timestamp;
use serde_json::Value;
use skiff_api::duration;

/// A column after `Name`.
#[derive(Debug)]
pub struct Column {
    pub name: Box<str>,
    /// `string`, `integer`, `number`, `boolean`, `date`
    pub kind: Box<str>,
    pub format: Box<str>,
    pub description: Box<str>,
    pub priority: u32,
    /// `None`: the path cannot be read, its cells stay empty.
    path: Option<JsonPath>,
}

/// The columns of a version (`spec.versions[i]` of a definition).
pub fn columns(version: &Value) -> Vec<Column> {
    let listed = version.get("additionalPrinterColumns").and_then(Value::as_array);
    match listed.filter(|list| !list.is_empty()) {
        Some(list) => list.iter().map(column).collect(),
        None => vec![age()],
    }
}

fn column(json: &Value) -> Column {
    let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default();
    let path = text("jsonPath");
    let description = match text("description") {
        "" => format!("Custom resource definition column (in JSONPath format): {path}").into(),
        given => given.into(),
    };
    Column {
        name: text("name").into(),
        kind: text("type").into(),
        format: text("format").into(),
        description,
        priority: json
            .get("priority")
            .and_then(Value::as_i64)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(0),
        path: JsonPath::parse(path).ok(),
    }
}

fn age() -> Column {
    Column {
        name: "Age".into(),
        kind: "date".into(),
        format: "".into(),
        description: CREATION_TIMESTAMP.into(),
        priority: 0,
        path: JsonPath::parse(".metadata.creationTimestamp").ok(),
    }
}

const CREATION_TIMESTAMP: &str =
    "CreationTimestamp is a timestamp representing the server time when this object was created.";

impl Column {
    /// The cell of an object in the version of the column.
    pub fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let Some(value) = self.path.as_ref().and_then(|path| path.find(object).first().copied()) else {
            return Value::Null;
        };
        match (self.kind.as_ref(), value) {
            ("string", value) => text(value).into(),
            ("integer", Value::Number(n)) => match n.as_i64() {
                Some(whole) => whole.into(),
                None => n.as_f64().map_or(Value::Null, |x| (x as i64).into()),
            },
            ("number", Value::Number(n)) => n.as_f64().map_or(Value::Null, Into::into),
            ("boolean", Value::Bool(b)) => (*b).into(),
            ("date", Value::String(text)) => match format::timestamp(text) {
                Some(at) => duration::human(now.as_second() - at.as_second()).into(),
                None => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}

/// Scalars as they are, the rest as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells() {
        let version = json!({"additionalPrinterColumns": [
            {"name": "Spec", "type": "string", "jsonPath": ".spec.cron", "description": "d", "priority": 1},
            {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
            {"name": "Wrong", "type": "integer", "jsonPath": ".spec.cron"},
            {"name": "Ratio", "type": "number", "jsonPath": ".spec.replicas"},
            {"name": "On", "type": "boolean", "jsonPath": ".spec.on"},
            {"name": "Map", "type": "string", "jsonPath": ".spec.map"},
            {"name": "When", "type": "date", "jsonPath": ".spec.when"},
            {"name": "Bad", "type": "date", "jsonPath": ".spec.cron"},
            {"name": "Missing", "type": "string", "jsonPath": ".spec.none"},
        ]});
        let object = json!({"spec": {"cron": "* *", "replicas": 3, "on": true, "map": {"a": 1}, "when": "2026-01-01T00:00:00Z"}});
        let now: Timestamp = "2026-01-01T00:01:30Z".parse().expect("a time");
        let columns = columns(&version);
        let cells: Vec<Value> = columns.iter().map(|c| c.cell(&object, now)).collect();
        assert_eq!(
            json!(cells),
            json!(["* *", 3, null, 3.0, true, "{\"a\":1}", "90s", "<invalid>", null])
        );
        assert_eq!((columns[0].priority, columns[0].description.as_ref()), (1, "d"));
        assert_eq!(
            columns[1].description.as_ref(),
            "Custom resource definition column (in JSONPath format): .spec.replicas"
        );
        let default = super::columns(&json!({}));
        let object = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(
            (default[0].name.as_ref(), default[0].cell(&object, now)),
            ("Age", "90s".into())
        );
    }
}
