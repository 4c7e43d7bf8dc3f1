//! Kubernetes' JSONPath, as printer columns use it: members, indices, slices,
//! wildcards, recursive descent, unions and filters. Source:
//! <https://kubernetes.io/docs/reference/kubectl/jsonpath/>.
//!
//! What is not there is no error: it has no results.

use serde_json::Value;

/// Values that one path is followed to at most; a recursive path over a large object
/// ends there.
const RESULTS_MAX: usize = 1000;

#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(Box<str>),
    Wildcard,
    Recursive,
    /// `[from:to:step]`; one index is a slice of one.
    Slice(Option<i64>, Option<i64>, i64),
    Index(i64),
    Filter(Side, Compare, Side),
    Union(Vec<JsonPath>),
}

#[derive(Debug, Clone, PartialEq)]
enum Side {
    Path(JsonPath),
    Literal(Value),
    None,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Compare {
    Exists,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl JsonPath {
    /// Reads a path without its braces (`.spec.replicas`).
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { rest: text };
        let path = reader.path()?;
        match reader.rest.trim() {
            "" => Ok(path),
            rest => Err(format!("unrecognized character in action: {rest:?}")),
        }
    }

    /// What the path leads to.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in found {
                step.follow(value, &mut next);
                if next.len() > RESULTS_MAX {
                    next.truncate(RESULTS_MAX);
                    break;
                }
            }
            found = next;
            if found.is_empty() {
                break;
            }
        }
        found
    }
}

impl Step {
    fn follow<'a>(&self, value: &'a Value, out: &mut Vec<&'a Value>) {
        match self {
            Self::Field(name) => out.extend(value.get(name.as_ref())),
            Self::Wildcard => out.extend(children(value)),
            Self::Recursive => descend(value, out, 0),
            Self::Index(index) => {
                let Value::Array(items) = value else { return };
                let at = if *index < 0 { index + items.len() as i64 } else { *index };
                out.extend(usize::try_from(at).ok().and_then(|at| items.get(at)));
            }
            Self::Slice(from, to, step) => {
                let Value::Array(items) = value else { return };
                let size = items.len() as i64;
                let bound = |at: i64| if at < 0 { at + size } else { at }.clamp(0, size);
                let (from, to) = (bound(from.unwrap_or(0)), bound(to.unwrap_or(size)));
                if *step > 0 && from < to {
                    let range = items[from as usize..to as usize].iter();
                    out.extend(range.step_by(usize::try_from(*step).unwrap_or(1)));
                }
            }
            Self::Filter(left, compare, right) => {
                let Value::Array(items) = value else { return };
                out.extend(items.iter().filter(|item| holds(left, *compare, right, item)));
            }
            Self::Union(paths) => {
                for path in paths {
                    out.extend(path.find(value));
                }
            }
        }
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Object(map) => Box::new(map.values()),
        Value::Array(items) => Box::new(items.iter()),
        _ => Box::new(std::iter::empty()),
    }
}

fn descend<'a>(value: &'a Value, out: &mut Vec<&'a Value>, depth: usize) {
    const DEPTH_MAX: usize = 130;
    if out.len() >= RESULTS_MAX || depth > DEPTH_MAX {
        return;
    }
    out.push(value);
    for child in children(value) {
        descend(child, out, depth + 1);
    }
}

fn holds(left: &Side, compare: Compare, right: &Side, item: &Value) -> bool {
    let side = |side_of: &Side| match side_of {
        Side::Path(path) => path.find(item).first().map(|v| (*v).clone()),
        Side::Literal(value) => Some(value.clone()),
        Side::None => None,
    };
    let Some(left) = side(left) else { return false };
    if compare == Compare::Exists {
        return true;
    }
    let Some(right) = side(right) else { return false };
    let order = match (&left, &right) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    };
    let Some(order) = order else { return false };
    match compare {
        Compare::Exists => true,
        Compare::Equal => order.is_eq(),
        Compare::NotEqual => order.is_ne(),
        Compare::Less => order.is_lt(),
        Compare::LessEqual => order.is_le(),
        Compare::Greater => order.is_gt(),
        Compare::GreaterEqual => order.is_ge(),
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }

    fn path(&mut self) -> Result<JsonPath, String> {
        let mut steps = Vec::new();
        loop {
            if self.rest.starts_with(['$', '@']) && steps.is_empty() {
                self.take(1);
            } else if self.rest.starts_with("..") {
                self.take(2);
                steps.push(Step::Recursive);
                if !self.rest.starts_with(['[', '.']) && !self.rest.is_empty() {
                    steps.push(self.field()?);
                }
            } else if self.rest.starts_with('.') {
                self.take(1);
                if !self.rest.starts_with('[') && !self.rest.is_empty() {
                    steps.push(self.field()?);
                }
            } else if self.rest.starts_with('[') {
                steps.push(self.bracket()?);
            } else {
                return Ok(JsonPath(steps));
            }
        }
    }

    fn field(&mut self) -> Result<Step, String> {
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let end = loop {
            match chars.next() {
                None => break self.rest.len(),
                Some((_, '\\')) => name.extend(chars.next().map(|(_, c)| c)),
                Some((at, c)) if "[].,$@{}()=!<>".contains(c) || c.is_whitespace() => break at,
                Some((_, c)) => name.push(c),
            }
        };
        self.take(end);
        match name.as_str() {
            "" => Err("a name is missing".into()),
            "*" => Ok(Step::Wildcard),
            _ => Ok(Step::Field(name.into())),
        }
    }

    fn bracket(&mut self) -> Result<Step, String> {
        let end = closing(self.rest).ok_or("unterminated array")?;
        let inner = self.take(end + 1)[1..end].trim();
        if let Some(filter) = inner.strip_prefix("?(").and_then(|f| f.strip_suffix(')')) {
            return filter_step(filter);
        }
        let parts = split(inner);
        if parts.len() > 1 {
            let paths = parts.iter().map(|part| Ok(JsonPath(vec![subscript(part)?])));
            return Ok(Step::Union(paths.collect::<Result<_, String>>()?));
        }
        subscript(inner)
    }
}

/// `0`, `-1`, `1:3`, `*`, `'name'`
fn subscript(text: &str) -> Result<Step, String> {
    let text = text.trim();
    if text == "*" {
        return Ok(Step::Wildcard);
    }
    if let Some(name) = unquote(text) {
        return Ok(Step::Field(name.into()));
    }
    let number = |s: &str| {
        s.trim()
            .parse::<i64>()
            .map_err(|_| format!("invalid array index {text}"))
    };
    let optional = |s: Option<&&str>| match s.map(|s| s.trim()) {
        None | Some("") => Ok(None),
        Some(s) => number(s).map(Some),
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [one] => Ok(Step::Index(number(one)?)),
        [_, _] | [_, _, _] => Ok(Step::Slice(
            optional(parts.first())?,
            optional(parts.get(1))?,
            optional(parts.get(2))?.unwrap_or(1),
        )),
        _ => Err(format!("invalid array index {text}")),
    }
}

fn filter_step(text: &str) -> Result<Step, String> {
    const OPERATORS: [(&str, Compare); 6] = [
        ("==", Compare::Equal),
        ("!=", Compare::NotEqual),
        ("<=", Compare::LessEqual),
        (">=", Compare::GreaterEqual),
        ("<", Compare::Less),
        (">", Compare::Greater),
    ];
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            (None, _) => {
                if let Some((sign, compare)) = OPERATORS.iter().find(|(sign, _)| text[at..].starts_with(sign)) {
                    let left = side_of(&text[..at])?;
                    return Ok(Step::Filter(left, *compare, side_of(&text[at + sign.len()..])?));
                }
            }
            _ => {}
        }
    }
    Ok(Step::Filter(side_of(text)?, Compare::Exists, Side::None))
}

fn side_of(text: &str) -> Result<Side, String> {
    let text = text.trim();
    if let Some(literal) = unquote(text) {
        return Ok(Side::Literal(literal.into()));
    }
    if text.starts_with(['@', '$', '.']) {
        return JsonPath::parse(text).map(Side::Path);
    }
    serde_json::from_str(text)
        .map(Side::Literal)
        .map_err(|_| format!("unrecognized operand {text:?}"))
}

fn unquote(text: &str) -> Option<String> {
    let inner = text
        .strip_prefix('\'')
        .and_then(|t| t.strip_suffix('\''))
        .or_else(|| text.strip_prefix('"').and_then(|t| t.strip_suffix('"')))?;
    Some(inner.replace("\\'", "'").replace("\\\"", "\""))
}

/// The place of the bracket that closes the first one.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// At commas outside of quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut quote) = (Vec::new(), 0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            (None, ',') => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finds() {
        let object = json!({
            "metadata": {"labels": {"a.b/c": "x", "plain": "y"}},
            "spec": {"replicas": 3, "list": ["a", "b", "c"], "empty": []},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "n": 1},
                {"type": "Synced", "status": "False", "n": 5},
            ]},
        });
        let table = [
            (".spec.replicas", json!([3])),
            ("{}", json!(null)),
            (".spec.missing.deeper", json!([])),
            (".spec.list[0]", json!(["a"])),
            (".spec.list[-1]", json!(["c"])),
            (".spec.list[5]", json!([])),
            (".spec.list[1:]", json!(["b", "c"])),
            (".spec.list[0:3:2]", json!(["a", "c"])),
            (".spec.list[*]", json!(["a", "b", "c"])),
            (".spec.list[0,2]", json!(["a", "c"])),
            (".spec['replicas']", json!([3])),
            (".metadata.labels.a\\.b/c", json!(["x"])),
            (".metadata.labels['a.b/c','plain']", json!(["x", "y"])),
            (".metadata.labels.*", json!(["x", "y"])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='Nope')].status", json!([])),
            (".status.conditions[?(@.n > 1)].type", json!(["Synced"])),
            (".status.conditions[?(@.n)].type", json!(["Ready", "Synced"])),
            (".status..type", json!(["Ready", "Synced"])),
            ("$.spec.replicas", json!([3])),
        ];
        for (path, found) in table {
            let parsed = JsonPath::parse(path);
            if found.is_null() {
                assert!(parsed.is_err(), "{path}");
                continue;
            }
            let parsed = parsed.unwrap_or_else(|e| panic!("{path}: {e}"));
            assert_eq!(json!(parsed.find(&object)), found, "{path}");
        }
        for path in [".a[", ".a[x]", ".a b", ".a[?(@.x == y)]"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }
}
