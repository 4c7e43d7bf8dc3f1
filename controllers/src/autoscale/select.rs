//! Label selectors as a scale subresource writes them. Pure.

use crate::selector::Labels;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// What a text like `app=web,tier in (a, b),!old` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

impl Selector {
    /// The error says what cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        parts(text)
            .into_iter()
            .map(requirement)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub fn matches(&self, labels: Option<&Labels>) -> bool {
        let value = |key: &String| labels.and_then(|labels| labels.get(key));
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => value(key).is_some_and(|v| values.contains(v)),
            Requirement::NotIn(key, values) => value(key).is_none_or(|v| !values.contains(v)),
            Requirement::Exists(key) => value(key).is_some(),
            Requirement::Absent(key) => value(key).is_none(),
        })
    }
}

/// At the commas outside of parentheses.
fn parts(text: &str) -> Vec<&str> {
    let (mut found, mut begin, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth <= 0 => {
                found.push(text[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    found.push(text[begin..].trim());
    found.retain(|part| !part.is_empty());
    found
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let wrong = || format!("unable to parse requirement: {text:?}");
    let key = |text: &str| match text.trim() {
        "" => Err(wrong()),
        key if key.contains(|c: char| c.is_whitespace() || "()=!,".contains(c)) => Err(wrong()),
        key => Ok(key.to_owned()),
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some(rest) = text.strip_prefix('!') {
        return Ok(Requirement::Absent(key(rest)?));
    }
    if let Some(list) = text.strip_suffix(')') {
        let (head, values) = list.split_once('(').ok_or_else(wrong)?;
        let values = values.split(',').map(|v| v.trim().to_owned()).collect();
        let head = head.trim();
        if let Some(name) = head.strip_suffix(" notin") {
            return Ok(Requirement::NotIn(key(name)?, values));
        }
        let name = head.strip_suffix(" in").ok_or_else(wrong)?;
        return Ok(Requirement::In(key(name)?, values));
    }
    if let Some((name, value)) = text.split_once("!=") {
        return Ok(Requirement::NotIn(key(name)?, one(value)));
    }
    if let Some((name, value)) = text.split_once('=') {
        return Ok(Requirement::In(
            key(name)?,
            one(value.strip_prefix('=').unwrap_or(value)),
        ));
    }
    Ok(Requirement::Exists(key(text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects() {
        let labels = Labels::from([("app".into(), "web".into()), ("tier".into(), "front".into())]);
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app=db", false),
            ("app!=db", true),
            ("app in (db, web),tier", true),
            ("app notin (db,web)", false),
            ("other notin (x)", true),
            ("!other", true),
            ("!app", false),
            ("other", false),
        ] {
            let selector = Selector::parse(text).expect(text);
            assert_eq!(selector.matches(Some(&labels)), expected, "{text}");
        }
        assert!(Selector::parse("app").is_ok_and(|s| !s.matches(None)));
    }

    #[test]
    fn mistakes_are_told() {
        for text in ["app in web)", "=web", "a b", "in (x)", "!"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }
}
