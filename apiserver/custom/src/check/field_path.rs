//! Paths to fields of a schema, as rules (`fieldPath`) and selectable fields give them:
//! `.spec.a`, `['name.with.dots']`.

use super::json::Json;
use serde_json::Value;

/// A path that leads somewhere.
#[derive(Debug)]
pub struct FieldPath<'a> {
    /// As it stands in errors (`spec.map[key]`).
    pub text: String,
    /// The names on the way.
    pub names: Vec<String>,
    /// The schema it leads to; `None` where only the shape of the map is known.
    pub schema: Option<&'a Value>,
}

/// Follows the path from the schema down.
pub fn follow<'a>(path: &str, schema: &'a Value, brackets: bool) -> Result<FieldPath<'a>, String> {
    let mut found = FieldPath {
        text: String::new(),
        names: Vec::new(),
        schema: Some(schema),
    };
    let mut tokens = tokens(path).into_iter();
    const END: &str = "unexpected end of JSON path";
    while let Some(token) = tokens.next() {
        match token {
            "[" if !brackets => return Err("array notation is not allowed".into()),
            "[" => {
                let quoted = tokens.next().ok_or(END)?;
                let inner = quoted
                    .strip_prefix('\'')
                    .and_then(|q| q.strip_suffix('\''))
                    .ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                let name = unescape(inner).map_err(|e| format!("invalid string literal: {e}"))?;
                step(&mut found, name)?;
                match tokens.next().ok_or(END)? {
                    "]" => {}
                    other => return Err(format!("expected ] but got {other}")),
                }
            }
            "." => {
                let name = tokens.next().ok_or(END)?;
                step(&mut found, name.to_string())?;
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(found)
}

fn step(found: &mut FieldPath<'_>, name: String) -> Result<(), String> {
    const NOWHERE: &str = "does not refer to a valid field";
    let schema = found.schema.ok_or(NOWHERE)?;
    if schema.node("properties").is_some() {
        found.schema = Some(schema["properties"].get(&name).ok_or(NOWHERE)?);
        if !found.text.is_empty() {
            found.text.push('.');
        }
        found.text.push_str(&name);
    } else if schema.has("additionalProperties") {
        found.schema = schema.node("additionalProperties");
        found.text.push_str(&format!("[{name}]"));
    } else {
        return Err(NOWHERE.into());
    }
    found.names.push(name);
    Ok(())
}

/// The delimiters `.`, `[`, `]`, quoted texts, and what is between.
fn tokens(path: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let bytes = rest.as_bytes();
        let end = if bytes[0] == b'\'' {
            (1..bytes.len())
                .find(|i| bytes[*i] == b'\'' && bytes[*i - 1] != b'\\')
                .map_or(bytes.len(), |i| i + 1)
        } else {
            match rest.find(['.', '[', ']']) {
                Some(0) => 1,
                Some(at) => at,
                None => rest.len(),
            }
        };
        let (token, after) = rest.split_at(end);
        tokens.push(token);
        rest = after;
    }
    tokens
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some(escaped) = chars.next() else {
            out.push(c);
            break;
        };
        out.push(match escaped {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '\'' => '\'',
            '\\' => '\\',
            other => return Err(format!("invalid escape char \\{other}")),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn follows_paths() {
        let schema = json!({"properties": {
            "spec": {"properties": {"a": {"type": "string"}, "x.y": {"type": "integer"}}},
            "map": {"additionalProperties": {"properties": {"b": {"type": "boolean"}}}},
        }});
        let table = [
            (".spec.a", Ok("spec.a")),
            (".spec['x.y']", Ok("spec.x.y")),
            (".map.k.b", Ok("map[k].b")),
            (".map['k']", Ok("map[k]")),
            ("spec", Err("expected [ or . but got: spec")),
            (".spec.none", Err("does not refer to a valid field")),
            (".spec.a.b", Err("does not refer to a valid field")),
            (".spec.", Err("unexpected end of JSON path")),
            (".spec[0]", Err("expected single quoted string but got 0")),
            (".spec['a'", Err("unexpected end of JSON path")),
            (".spec['\\q']", Err("invalid string literal: invalid escape char \\q")),
        ];
        for (path, expected) in table {
            let found = follow(path, &schema, true);
            assert_eq!(
                found.as_ref().map(|f| f.text.as_str()).map_err(String::as_str),
                expected,
                "{path}"
            );
        }
        assert_eq!(
            follow(".spec['a']", &schema, false).unwrap_err(),
            "array notation is not allowed"
        );
    }
}
