use super::*;
use serde_json::json;

fn max(source: &str) -> u64 {
    range(source).max
}

fn range(source: &str) -> Range {
    let schema = json!({
        "type": "object",
        "properties": {
            "n": {"type": "integer"},
            "short": {"type": "string", "maxLength": 10},
            "long": {"type": "string"},
            "enumerated": {"type": "string", "enum": ["a", "abcd"]},
            "list": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 5}},
            "free": {"type": "array", "items": {"type": "integer"}},
            "deep": {"type": "array", "maxItems": 10, "items": {"type": "array", "maxItems": 10, "items": {"type": "integer"}}},
            "map": {"type": "object", "maxProperties": 7, "additionalProperties": {"type": "string", "maxLength": 3}},
            "at": {"type": "string", "format": "date-time"},
        },
    });
    let decl = DeclType::from_openapi(&schema, "self", false).expect("a type");
    let env = Env::new().variable("self", decl);
    *env.compile(source).unwrap_or_else(|error| panic!("{error}")).cost()
}

#[test]
fn known_costs() {
    for (source, want) in [
        ("true", 0),
        ("self.n == 1", 2),
        ("self.n > 1 && self.n < 5", 6),
        ("has(self.n)", 1),
        ("self.short == 'abc'", 2 + 1),
        ("self.short.startsWith('abc')", 2 + 1),
        // 40 bytes of text, a pattern of 8.
        ("self.short.matches('^[a-z]*$')", 2 + 5 * 2),
        ("self.short.contains('abc')", 2 + 4),
        ("self.list.size() > 2", 2 + 1 + 1),
        // Each: condition 2, step (naming the result, and the item compared).
        ("self.list.all(x, x == 'a')", 2 + 1 + 5 * (2 + 1 + 1 + 1)),
        ("'a' in self.list", 2 + 5),
        ("self.map.all(k, k != '')", 2 + 1 + 7 * (2 + 1 + 1)),
        ("self.list[0] == 'abc'", 2 + 1 + 1),
        (
            "self.list.map(x, x).size() > 0",
            2 + 10 + 5 * (1 + 10 + 1 + 1) + 1 + 1 + 1,
        ),
        (
            "self.deep.all(l, l.all(i, i > 0))",
            2 + 1 + 10 * (2 + 1 + 1 + 1 + 10 * (2 + 1 + 2)),
        ),
        ("cel.bind(x, self.n, x + x) > 0", 10 + 2 + 3 + 1),
        ("[1, 2].size() == 2", 10 + 1 + 1),
        ("self.long.size() > 0", 4),
        ("self.enumerated.startsWith(self.enumerated)", 2 + 2 + 1),
        ("self.list.isSorted()", 2 + 5 * 3),
    ] {
        assert_eq!(max(source), want, "{source}");
    }
}

#[test]
fn unbounded_data_is_as_big_as_a_request() {
    // An integer is a digit and a comma.
    let items = (crate::REQUEST_BYTES_MAX - 2) / 2;
    assert_eq!(max("self.free.all(x, x > 0)"), 2 + 1 + items * (2 + 1 + 2));
    assert!(max("self.free.all(x, self.free.all(y, x != y))") > 10_000_000_000);
    assert_eq!(
        max("self.long.matches('a')"),
        2 + (crate::REQUEST_BYTES_MAX - 1).div_ceil(10)
    );
}

#[test]
fn branches_make_ranges() {
    assert_eq!(range("self.n > 1 || self.n < 2"), Range { min: 3, max: 6 });
    assert_eq!(range("self.n > 1 ? self.n : 5"), Range { min: 3, max: 5 });
}
