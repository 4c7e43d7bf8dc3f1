//! Field selectors: `metadata.name=web,status.phase!=Running`.

use super::SelectorError;
use std::borrow::Cow;
use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: String,
    /// `=` and `==`, against `!=`.
    pub equals: bool,
    pub value: String,
}

/// All requirements must hold; none selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    pub requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// `\` escapes a comma, an equals sign or itself in a value.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for term in split_terms(text).into_iter().filter(|t| !t.is_empty()) {
            let bad = || SelectorError(format!("invalid selector: '{text}'; can't understand '{term}'"));
            let (field, equals, value) = split_term(term).ok_or_else(bad)?;
            requirements.push(FieldRequirement {
                field: field.to_string(),
                equals,
                value: unescape(value)?,
            });
        }
        Ok(Self { requirements })
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// `field_value` gives the object's value of a field; unknown fields are empty.
    pub fn matches<'a>(&self, field_value: impl Fn(&str) -> Cow<'a, str>) -> bool {
        self.requirements
            .iter()
            .all(|r| (field_value(&r.field) == r.value) == r.equals)
    }

    /// The value that a field is required to have, which lets a list become a get.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|r| r.equals && r.field == field)
            .map(|r| r.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let sign = if r.equals { "=" } else { "!=" };
            let value = r.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{sign}{value}", r.field)?;
        }
        Ok(())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.find(['=', '!'])?;
    let rest = &term[at..];
    let (equals, sign) = match rest {
        r if r.starts_with("!=") => (false, 2),
        r if r.starts_with("==") => (true, 2),
        r if r.starts_with('=') => (true, 1),
        _ => return None,
    };
    Some((&term[..at], equals, &rest[sign..]))
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let sequence: String = std::iter::once('\\').chain(other).collect();
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    )));
                }
            },
            ',' | '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {c}"
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_matches_and_prints() {
        let selector =
            FieldSelector::parse(r"metadata.name=a\,b,status.phase!=Running,spec.nodeName==").expect("parses");
        let value = |phase: &'static str| {
            move |field: &str| {
                Cow::Borrowed(match field {
                    "metadata.name" => "a,b",
                    "status.phase" => phase,
                    _ => "",
                })
            }
        };
        assert!(selector.matches(value("Pending")));
        assert!(!selector.matches(value("Running")));
        assert_eq!(selector.required_value("metadata.name"), Some("a,b"));
        assert_eq!(
            selector.to_string(),
            r"metadata.name=a\,b,status.phase!=Running,spec.nodeName="
        );
        assert!(FieldSelector::parse("").expect("empty").is_empty());
        for (bad, why) in [
            ("name", "invalid selector: 'name'; can't understand 'name'"),
            (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
            ("a=b=c", "invalid field selector: unescaped character in value: ="),
        ] {
            assert_eq!(FieldSelector::parse(bad), Err(SelectorError(why.into())), "{bad}");
        }
    }
}
