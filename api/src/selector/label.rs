//! Label selectors, from query strings (`app=web,tier in (a,b),!old`) and from
//! LabelSelector objects.

use super::SelectorError;
use crate::names;
use crate::{FieldError, Value};
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted.
    pub values: Vec<String>,
    /// Printed as `=`/`!=` rather than `in`/`notin`.
    single: bool,
}

/// All requirements must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelSelector {
    /// Selects no object: what a missing LabelSelector means.
    Nothing,
    /// Sorted by key; none selects everything.
    All(Vec<Requirement>),
}

impl Default for LabelSelector {
    fn default() -> Self {
        Self::everything()
    }
}

impl Requirement {
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let value = label(&self.key);
        let among = |v: &str| self.values.iter().any(|w| w == v);
        match self.operator {
            Operator::In => value.is_some_and(among),
            Operator::NotIn => !value.is_some_and(among),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt | Operator::Lt => {
                let number = |text: &str| text.parse::<i64>().ok();
                match (value.and_then(number), self.values.first().and_then(|v| number(v))) {
                    (Some(have), Some(bound)) => {
                        if self.operator == Operator::Gt {
                            have > bound
                        } else {
                            have < bound
                        }
                    }
                    _ => false,
                }
            }
        }
    }

    fn new(key: &str, operator: Operator, values: Vec<String>, single: bool) -> Result<Self, SelectorError> {
        let mut faults: Vec<FieldError> = Vec::new();
        faults.extend(key_fault("key", key));
        let shown = || Value::from(values.clone());
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                faults.push(FieldError::invalid(
                    "values",
                    &shown(),
                    "for 'in', 'notin' operators, values set can't be empty",
                ));
            }
            Operator::Gt | Operator::Lt if values.len() != 1 => {
                faults.push(FieldError::invalid(
                    "values",
                    &shown(),
                    "for 'Gt', 'Lt' operators, exactly one value is required",
                ));
            }
            Operator::Gt | Operator::Lt if values.iter().any(|v| v.parse::<i64>().is_err()) => {
                faults.push(FieldError::invalid(
                    "values[0]",
                    &values[0].as_str().into(),
                    "for 'Gt', 'Lt' operators, the value must be an integer",
                ));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                faults.push(FieldError::invalid(
                    "values",
                    &shown(),
                    "values set must be empty for exists and does not exist",
                ));
            }
            _ => {}
        }
        for (i, value) in values.iter().enumerate() {
            let whys = names::label_value(value);
            if !whys.is_empty() {
                let path = format!("values[{i}][{key}]");
                faults.push(FieldError::invalid(path, &value.as_str().into(), &whys.join("; ")));
            }
        }
        match faults.len() {
            0 => {
                let mut values = values;
                values.sort();
                values.dedup();
                Ok(Self {
                    key: key.to_string(),
                    operator,
                    values,
                    single,
                })
            }
            1 => Err(SelectorError(faults[0].to_string())),
            _ => Err(SelectorError(format!(
                "[{}]",
                faults.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ))),
        }
    }
}

impl LabelSelector {
    pub fn everything() -> Self {
        Self::All(Vec::new())
    }

    pub fn is_everything(&self) -> bool {
        matches!(self, Self::All(requirements) if requirements.is_empty())
    }

    pub fn requirements(&self) -> &[Requirement] {
        match self {
            Self::Nothing => &[],
            Self::All(requirements) => requirements,
        }
    }

    /// `label` looks up an object's label.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::Nothing => false,
            Self::All(requirements) => requirements.iter().all(|r| r.matches(&label)),
        }
    }

    /// Against `metadata.labels` of an object.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(|key| crate::meta::label(object, key))
    }

    /// The `labelSelector` query parameter.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser {
            tokens: tokens(text),
            at: 0,
        };
        let mut requirements = parser.requirements()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self::All(requirements))
    }

    /// A LabelSelector object; null or absent selects nothing, `{}` everything.
    pub fn from_object(selector: Option<&Value>) -> Result<Self, SelectorError> {
        let Some(selector) = selector.filter(|s| !s.is_null()) else {
            return Ok(Self::Nothing);
        };
        let mut requirements = Vec::new();
        if let Some(labels) = selector.get("matchLabels").and_then(Value::as_object) {
            for (key, value) in labels {
                let value = value.as_str().unwrap_or_default().to_string();
                requirements.push(Requirement::new(key, Operator::In, vec![value], true)?);
            }
        }
        for expression in selector
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
            let operator = match text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            };
            let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
            let values = values.filter_map(|v| v.as_str().map(str::to_string)).collect();
            requirements.push(Requirement::new(text("key"), operator, values, false)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self::All(requirements))
    }

    /// A plain map of labels, as ReplicationControllers and Services select by.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let requirement = |(key, value): (&str, &str)| Requirement {
            key: key.to_string(),
            operator: Operator::In,
            values: vec![value.to_string()],
            single: true,
        };
        let mut requirements: Vec<Requirement> = labels.into_iter().map(requirement).collect();
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self::All(requirements)
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements().iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let (key, values) = (&r.key, r.values.join(","));
            match r.operator {
                Operator::In if r.single => write!(f, "{key}={values}")?,
                Operator::NotIn if r.single => write!(f, "{key}!={values}")?,
                Operator::In => write!(f, "{key} in ({values})")?,
                Operator::NotIn => write!(f, "{key} notin ({values})")?,
                Operator::Exists => f.write_str(key)?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
                Operator::Gt => write!(f, "{key}>{values}")?,
                Operator::Lt => write!(f, "{key}<{values}")?,
            }
        }
        Ok(())
    }
}

/// Words and signs; `None` in their place is the end of the text.
fn tokens(text: &str) -> Vec<&str> {
    const SIGNS: &str = "=!(),><";
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if SIGNS.contains(first) {
            if rest.starts_with("==") || rest.starts_with("!=") {
                2
            } else {
                1
            }
        } else {
            rest.find(|c: char| c.is_whitespace() || SIGNS.contains(c))
                .unwrap_or(rest.len())
        };
        let (token, after) = rest.split_at(length);
        found.push(token);
        rest = after.trim_start();
    }
    found
}

fn key_fault(path: &str, key: &str) -> Option<FieldError> {
    let whys = names::qualified_name(key);
    (!whys.is_empty()).then(|| FieldError::invalid(path, &key.into(), &whys.join("; ")))
}

struct Parser<'a> {
    tokens: Vec<&'a str>,
    at: usize,
}

fn is_word(token: &str) -> bool {
    !token.is_empty() && !"=!(),><".contains(&token[..token.chars().next().map_or(0, char::len_utf8)])
}

impl<'a> Parser<'a> {
    /// The next token; empty at the end.
    fn peek(&self) -> &'a str {
        self.tokens.get(self.at).copied().unwrap_or("")
    }

    fn take(&mut self) -> &'a str {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut found = Vec::new();
        loop {
            match self.peek() {
                "" => return Ok(found),
                token if token == "!" || is_word(token) => {
                    let requirement = self.requirement();
                    found.push(requirement.map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?);
                    match self.take() {
                        "" => return Ok(found),
                        "," => {
                            let next = self.peek();
                            if next != "!" && !is_word(next) {
                                return Err(SelectorError(format!("found '{next}', expected: identifier after ','")));
                            }
                        }
                        other => {
                            return Err(SelectorError(format!(
                                "found '{other}', expected: ',' or 'end of string'"
                            )));
                        }
                    }
                }
                other => {
                    return Err(SelectorError(format!(
                        "found '{other}', expected: !, identifier, or 'end of string'"
                    )));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let negated = self.peek() == "!";
        if negated {
            self.take();
        }
        let key = self.take();
        if !is_word(key) {
            return Err(SelectorError(format!("found '{key}', expected: identifier")));
        }
        // Upstream knows no path here, and says so.
        if let Some(fault) = key_fault("<nil>", key) {
            return Err(SelectorError(fault.to_string()));
        }
        if matches!(self.peek(), "" | ",") {
            let operator = if negated {
                Operator::DoesNotExist
            } else {
                Operator::Exists
            };
            return Requirement::new(key, operator, Vec::new(), false);
        }
        if negated {
            return Requirement::new(key, Operator::DoesNotExist, Vec::new(), false);
        }
        let (operator, list) = match self.take() {
            "in" => (Operator::In, true),
            "notin" => (Operator::NotIn, true),
            "=" | "==" => (Operator::In, false),
            "!=" => (Operator::NotIn, false),
            ">" => (Operator::Gt, false),
            "<" => (Operator::Lt, false),
            other => {
                return Err(SelectorError(format!(
                    "found '{other}', expected: in, notin, =, ==, !=, gt, lt"
                )));
            }
        };
        let values = if list {
            self.value_list()?
        } else {
            vec![self.exact_value()?]
        };
        Requirement::new(key, operator, values, !list)
    }

    fn exact_value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            "" | "," => Ok(String::new()),
            word if is_word(word) => Ok(self.take().to_string()),
            other => Err(SelectorError(format!("found '{other}', expected: identifier"))),
        }
    }

    /// `(a,b)`; nothing between two commas is the empty value.
    fn value_list(&mut self) -> Result<Vec<String>, SelectorError> {
        let open = self.take();
        if open != "(" {
            return Err(SelectorError(format!("found '{open}' expected: '('")));
        }
        let mut values = Vec::new();
        if self.peek() == ")" {
            self.take();
            return Ok(values);
        }
        loop {
            match self.peek() {
                "," | ")" => values.push(String::new()),
                word if is_word(word) => values.push(self.take().to_string()),
                other => {
                    return Err(SelectorError(format!(
                        "found '{other}', expected: ',', ')' or identifier"
                    )));
                }
            }
            match self.take() {
                "," => {}
                ")" => return Ok(values),
                other => return Err(SelectorError(format!("found '{other}', expected: ',' or ')'"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selects_as_upstream() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "front", "n": "5"}}});
        for (text, selects, shown) in [
            ("", true, ""),
            ("app=web", true, "app=web"),
            ("app==web,tier!=back", true, "app=web,tier!=back"),
            ("tier in (front, back)", true, "tier in (back,front)"),
            ("tier notin (front)", false, "tier notin (front)"),
            ("old notin (x)", true, "old notin (x)"),
            ("!old , app", true, "app,!old"),
            ("!app", false, "!app"),
            ("n>4,n<6", true, "n>4,n<6"),
            ("n>5", false, "n>5"),
            ("in in (in)", false, "in in (in)"),
            ("old=", false, "old="),
            ("old!=", true, "old!="),
            ("a.b/c=d", false, "a.b/c=d"),
        ] {
            let selector = LabelSelector::parse(text).expect(text);
            assert_eq!(selector.matches_object(&object), selects, "{text}");
            assert_eq!(selector.to_string(), shown);
        }
    }

    #[test]
    fn refuses_in_upstreams_words() {
        for (text, why) in [
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            (
                "a in ()",
                "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
            ),
            (
                "-a",
                "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ] {
            assert_eq!(LabelSelector::parse(text), Err(SelectorError(why.into())), "{text}");
        }
        let error = LabelSelector::parse("a=-b").expect_err("bad value").0;
        assert!(
            error
                .starts_with("unable to parse requirement: values[0][a]: Invalid value: \"-b\": a valid label must be"),
            "{error}"
        );
        for junk in ["é=ü", "(((", "!", "a!b", ",,", "a=(", "\u{2003}a"] {
            let _ = LabelSelector::parse(junk);
        }
    }

    #[test]
    fn objects() {
        let labels = json!({"metadata": {"labels": {"a": "1"}}});
        for (selector, selects) in [
            (json!({}), true),
            (json!({"matchLabels": {"a": "1"}}), true),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}], "matchLabels": {"a": "1"}}),
                true,
            ),
        ] {
            assert_eq!(
                LabelSelector::from_object(Some(&selector))
                    .expect("valid")
                    .matches_object(&labels),
                selects,
                "{selector}"
            );
        }
        assert_eq!(LabelSelector::from_object(None), Ok(LabelSelector::Nothing));
        let bad = json!({"matchExpressions": [{"key": "b", "operator": "Likes"}]});
        assert_eq!(
            LabelSelector::from_object(Some(&bad)),
            Err(SelectorError("\"Likes\" is not a valid label selector operator".into()))
        );
    }
}
