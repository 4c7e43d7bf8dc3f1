//! What evaluations cost, and what they are estimated to cost. The figures are part of
//! the API: they decide what passes a limit.

use serde_json::{Value as Json, json};
use skiff_cel::{Bindings, DeclType, Env, EvalError, Limits};

fn schema() -> Json {
    let text = json!({"type": "string"});
    let item = json!({"type": "object", "properties": {"k": text, "v": text, "v2": text}});
    json!({
        "type": "object",
        "properties": {
            "n": {"type": "integer"},
            "d": {"type": "number"},
            "s": text,
            "b": {"type": "string", "format": "byte"},
            "at": {"type": "string", "format": "date-time"},
            "ios": {"x-kubernetes-int-or-string": true},
            "array": {"type": "array", "items": {"type": "integer"}},
            "set": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
            "keyed": {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]},
            "map": {"type": "object", "additionalProperties": {"type": "integer"}},
            "a": {"type": "object", "properties": {"b": {"type": "integer"}, "c": {"type": "integer"}}},
            "l": {"type": "array", "items": text},
        },
    })
}

fn object() -> Json {
    json!({
        "n": 5, "d": 10.0, "s": "Rook takes 👑", "b": "QUI=", "at": "2011-08-18T19:03:37.01+01:00", "ios": "25%",
        "array": [1, 1, 2, 2, 3, 3, 4, 5],
        "set": ["a", "b", "c"],
        "keyed": [{"k": "a1", "v": "b1"}, {"k": "a2", "v": "b2"}, {"k": "a3", "v": "b3", "v2": "z"}],
        "map": {"b": 1, "d": 2},
        "a": {"b": 1},
        "l": ["a"],
    })
}

fn spent(source: &str) -> (Result<bool, EvalError>, u64) {
    let decl = DeclType::from_openapi(&schema(), "self", false).expect("a type");
    let env = Env::new().variable("self", decl.clone());
    let program = env.compile(source).unwrap_or_else(|error| panic!("{source}: {error}"));
    let object = object();
    let mut bindings = Bindings::new();
    bindings.typed("self", &object, &decl);
    let outcome = program.evaluate(&bindings, Limits::default());
    let value = outcome.value.map(|value| value.as_bool().unwrap_or(false));
    (value, outcome.cost)
}

#[test]
fn evaluations() {
    for (source, want) in [
        ("self.n == 5", 3),
        ("type(self.n) == int", 4),
        ("double(self.n) < self.d", 6),
        ("double(5) < 10.0", 1),
        ("self.n + 1 == 5 + 1 || true", 5),
        ("self.s.startsWith('Rook')", 4),
        ("!self.s.startsWith('knight')", 5),
        ("self.s.matches('^[^0-9]*$')", 8),
        ("size(self.s) == 12", 4),
        ("self.s.charAt(3) == 'k'", 4),
        ("self.s.indexOf('o') == 1", 4),
        ("self.s.replace(' ', 'x') == 'Rookxtakesx👑'", 7),
        ("self.s.split(' ') == ['Rook', 'takes', '👑']", 6),
        ("self.s.substring(4, 10).trim() == 'takes'", 6),
        ("self.s.upperAscii() == 'ROOK TAKES 👑'", 6),
        ("self.b == b'AB'", 3),
        ("size(self.b) == 2", 4),
        (
            "self.at == timestamp('2011-08-18T00:00:00.000+01:00') + duration('19h3m37s10ms')",
            4,
        ),
        ("self.at.getDate('01:00') == 18", 4),
        ("self.s in ['Pending', 'Available'] || true", 2),
        ("2 in self.array", 10),
        ("self.array.all(e, e > 0)", 43),
        ("self.array.exists(e, e > 2)", 36),
        ("self.array.exists_one(e, e > 4)", 22),
        ("!self.array.all(e, e < 2)", 21),
        ("!self.array.exists(e, e < 0)", 52),
        ("size(self.array.filter(e, e % 2 == 0)) == 3", 68),
        ("self.array.map(e, e * 20).filter(e, e > 50).exists(e, e == 60)", 194),
        ("self.set == ['c', 'b', 'a']", 3),
        ("self.set + ['c', 'd'] == ['a', 'b', 'c', 'd']", 4),
        ("self.set[0] in self.set", 8),
        ("has(self.a.b)", 2),
        ("!has(self.a.c)", 3),
        ("'b' in self.map", 3),
        ("self.map.all(k, self.map[k] > 0)", 17),
        ("self.map.exists_one(k, self.map[k] == 2)", 14),
        ("size(self.map.filter(k, self.map[k] > 1)) == 1", 26),
        ("self.keyed.all(m, m.k.startsWith('a'))", 21),
        ("self.keyed.all(m, !has(m.v2) || m.v2 == 'z')", 21),
        ("self.keyed.exists_one(m, m.k == 'a3')", 15),
        ("self.keyed.map(m, m.v).exists(v, v == 'b1')", 55),
        ("self.keyed.exists(m, m.v2 == 'z')", 24),
        ("!self.keyed.all(m, m.v2 != 'z')", 22),
        ("self.keyed.map(m, has(m.v2) && m.v2 == 'z', m.v2).size() == 1", 25),
        (
            "self.keyed.filter(m, has(m.v2) && m.v2 == 'z').map(m, m.v2).size() == 1",
            39,
        ),
        ("type(self.ios) == string && self.ios.matches(r'(\\d+(\\.\\d+)?%)')", 10),
        ("type(self) == type(self)", 5),
        ("optional.of('a').hasValue()", 2),
        ("optional.of('a').or(optional.of('a')).hasValue()", 2),
        ("optional.none().or(optional.of('a')).hasValue()", 3),
        ("!optional.of('a').optMap(v, v == 'value').hasValue() || true", 9),
        ("self.a.?b == optional.of(1)", 5),
        ("self.a.?c == optional.none()", 4),
        ("self.a.?b.orValue(7) == 1", 4),
        ("self.map[?'b'] == optional.of(1)", 5),
        ("self.l[?0] == optional.of('a')", 5),
        ("quantity('50k').add(20).sub(quantity('100k')).asInteger() < 0", 6),
        (
            "!format.named('dns1123Subdomain').value().validate('my-name').hasValue()",
            19,
        ),
        ("ip('2001:db8:3333:4444:5555:6666:7777:8888').family() == 6", 6),
        ("!cidr('192.168.0.0/16').containsIP(ip('192.169.0.1'))", 6),
        ("cidr('192.168.0.0/16').containsCIDR('192.168.0.0/16')", 7),
        ("url('https:://kubernetes.io/') == url('https:://kubernetes.io/')", 7),
    ] {
        assert_eq!(spent(source), (Ok(true), want), "{source}");
    }
}

#[test]
fn estimates_of_the_libraries() {
    for (source, min, max) in [
        ("[1, 2, 3, 4, 5].sum() == 15", 16, 16),
        ("ip('2001:db8:3333:4444:5555:6666:7777:8888').isLoopback()", 5, 5),
        ("ip.isCanonical('192.168.0.1')", 3, 3),
        ("cidr('192.168.0.0/16').containsCIDR('192.0.0.0/30')", 7, 11),
        ("cidr('192.168.0.0/16').containsIP('192.0.0.1')", 4, 7),
        (
            "quantity('200M') == quantity('0.2G') && quantity('0.2G') == quantity('200M')",
            3,
            6,
        ),
        (
            "format.named('dns1123Label').value().validate('my-name').hasValue()",
            35,
            35,
        ),
        (
            "format.named('dns1123Label').value() == format.named('dns1123Label').value()",
            5,
            11,
        ),
        ("sets.contains([1], [1, 1])", 23, 23),
        ("!sets.equivalent([1, 2], [2, 2, 2])", 34, 34),
        ("semver('1234.56789012345.67890123456789').major() == 1", 6, 6),
        ("isSemver('1.0.0')", 1, 1),
    ] {
        let program = Env::new().compile(source).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((program.cost().min, program.cost().max), (min, max), "{source}");
    }
}

/// The most a rule on a value of `schema` is estimated to cost.
fn most(schema: Json, source: &str) -> u64 {
    let decl = DeclType::from_openapi(&schema, "self", false).expect("a type");
    let program = Env::new().variable("self", decl).compile(source);
    program.unwrap_or_else(|error| panic!("{source}: {error}")).cost().max
}

#[test]
fn estimates_of_data_without_bounds() {
    let array = |items: Json| json!({"type": "array", "items": items});
    let map = |values: Json| json!({"type": "object", "additionalProperties": values});
    let of = |ty: &str| json!({"type": ty});
    let text = |format: &str| json!({"type": "string", "format": format});
    let either = json!({"x-kubernetes-int-or-string": true});
    for (schema, source, want) in [
        (array(of("number")), "self.all(x, true)", 4_718_591),
        (array(of("string")), "self.all(x, true)", 3_145_727),
        (array(of("boolean")), "self.all(x, true)", 1_887_437),
        (array(array(of("number"))), "self.all(x, true)", 3_145_727),
        (array(text("duration")), "self.all(x, true)", 2_359_295),
        (array(text("date")), "self.all(x, true)", 725_936),
        (array(text("date-time")), "self.all(x, true)", 428_963),
        (array(either.clone()), "self.all(x, true)", 4_718_591),
        (map(of("number")), "self.all(x, true)", 1_348_169),
        (map(of("string")), "self.all(x, true)", 1_179_647),
        (map(of("boolean")), "self.all(x, true)", 943_718),
        (map(text("duration")), "self.all(x, true)", 1_048_577),
        (map(text("date")), "self.all(x, true)", 524_288),
        (map(of("string")), "self.all(x, x.contains(self[x]))", 2_752_507),
        (map(of("number")), "self['x'] == 0.0", 2),
        (array(of("number")), "self[1] == 0.0", 2),
        (array(of("number")), "self.all(x, x == 0.0)", 6_291_454),
        (array(of("string")), "self[1] == self[1]", 314_577),
        (array(either), "self[0] == 5", 3),
        (array(text("date")), "self[2].getDayOfMonth() == 13", 4),
        (array(map(of("number"))), "self.all(x, x.y == 25.2)", 6_291_452),
        (of("string"), "self.contains('test')", 314_574),
        (of("string"), "self.startsWith('test')", 2),
        (of("string"), "size(self + 'hello') > size('hello')", 314_578),
        (of("string"), "self.matches('x')", 314_574),
        (of("string"), "''.matches('(((((((((())))))))))[0-9]')", 7),
        (of("string"), "self.find('[0-9]+') == ''", 629_147),
        (array(of("string")), "self.join(' ') == 'aa bb'", 329_853_068_905),
        (array(of("string")), "self.isSorted() == true", 329_854_432_052),
    ] {
        assert_eq!(most(schema, source), want, "{source}");
    }
    let bounded = json!({"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 10}});
    assert_eq!(most(bounded.clone(), "self.join(' ') == 'aa bb'"), 43);
    assert_eq!(most(bounded, "self.all(x, self.all(y, self.all(z, true)))"), 3552);
}

#[test]
fn budgets_end_evaluations() {
    let env = Env::new();
    let program = env
        .compile("lists.range(1000).all(i, lists.range(1000).all(j, i + j >= 0))")
        .expect("compiles");
    let outcome = program.evaluate(&Bindings::new(), Limits::default());
    assert_eq!(outcome.value.expect_err("stops"), EvalError::CostExceeded);
    // Neither `||` nor `all` makes up for a spent budget.
    let program = env
        .compile("lists.range(900000).all(i, i >= 0) || true")
        .expect("compiles");
    let outcome = program.evaluate(&Bindings::new(), Limits::default());
    assert_eq!(outcome.value.expect_err("stops"), EvalError::CostExceeded);
    let asked = std::cell::Cell::new(0);
    let interrupt = || {
        asked.set(asked.get() + 1);
        asked.get() > 3
    };
    let limits = Limits {
        cost: u64::MAX,
        interrupt: Some(&interrupt),
    };
    let outcome = program.evaluate(&Bindings::new(), limits);
    assert_eq!(outcome.value.expect_err("stops"), EvalError::Interrupted);
}
