//! Interim label selector.
use std::collections::BTreeSet;
pub struct LabelSelector(Vec<(String, Op)>);
enum Op {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
}
impl LabelSelector {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        let mut depth = 0;
        let mut start = 0;
        let mut pieces = Vec::new();
        for (i, c) in text.char_indices() {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                ',' if depth == 0 => {
                    pieces.push(&text[start..i]);
                    start = i + 1;
                }
                _ => {}
            }
        }
        pieces.push(&text[start..]);
        for p in pieces.into_iter().map(str::trim).filter(|p| !p.is_empty()) {
            let set = |s: &str| {
                s.trim()
                    .trim_start_matches('(')
                    .trim_end_matches(')')
                    .split(',')
                    .map(|v| v.trim().to_string())
                    .collect::<BTreeSet<_>>()
            };
            let t = if let Some((k, v)) = p.split_once(" notin ") {
                (k.trim().to_string(), Op::NotIn(set(v)))
            } else if let Some((k, v)) = p.split_once(" in ") {
                (k.trim().to_string(), Op::In(set(v)))
            } else if let Some((k, v)) = p.split_once("!=") {
                (k.trim().to_string(), Op::NotIn(set(v)))
            } else if let Some((k, v)) = p.split_once("==").or(p.split_once('=')) {
                (k.trim().to_string(), Op::In(set(v)))
            } else if let Some(k) = p.strip_prefix('!') {
                (k.trim().to_string(), Op::Absent)
            } else {
                (p.to_string(), Op::Exists)
            };
            terms.push(t);
        }
        Ok(Self(terms))
    }
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|(k, op)| match (op, get(k)) {
            (Op::In(s), Some(v)) => s.contains(v),
            (Op::NotIn(s), v) => v.is_none_or(|v| !s.contains(v)),
            (Op::Exists, v) => v.is_some(),
            (Op::Absent, v) => v.is_none(),
            (Op::In(_), None) => false,
        })
    }
}
