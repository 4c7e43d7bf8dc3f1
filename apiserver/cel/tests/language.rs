//! Expressions and what they give: the language, then each library.

use serde_json::{Value as Json, json};
use skiff_cel::{Bindings, Env, Limits};

fn data() -> Json {
    json!({
        "n": 3, "d": 1.5, "s": "héllo", "t": true, "nil": null, "list": [1, 2, 3], "words": ["b", "a"],
        "map": {"a": 1, "b-c": 2}, "objects": [{"name": "x", "v": 1}, {"name": "y"}], "empty": {},
    })
}

/// The value as JSON text, or `error: ` and why there is none.
fn run(source: &str) -> String {
    let env = Env::new().dynamic("x");
    let program = match env.compile(source) {
        Ok(program) => program,
        Err(error) => return format!("compile: {}", error.issues[0].message),
    };
    let data = data();
    let mut bindings = Bindings::new();
    bindings.json("x", &data);
    let limits = Limits {
        cost: 100_000_000,
        interrupt: None,
    };
    match program
        .evaluate(&bindings, limits)
        .value
        .and_then(|value| value.to_json())
    {
        Ok(json) => json.to_string(),
        Err(error) => format!("error: {error}"),
    }
}

fn table(rows: &[(&str, &str)]) {
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|(source, want)| {
            let got = run(source);
            (got != *want).then(|| format!("{source}\n   want {want}\n   got  {got}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn arithmetic() {
    table(&[
        ("1 + 2 * 3 - 4 / 2 % 3", "5"),
        ("7 / -2", "-3"),
        ("-7 % 3", "-1"),
        ("9223372036854775807 + 1", "error: integer overflow"),
        ("-9223372036854775808 - 1", "error: integer overflow"),
        ("-(-9223372036854775808)", "error: integer overflow"),
        ("-9223372036854775808 / -1", "error: integer overflow"),
        ("0u - 1u", "error: unsigned integer overflow"),
        ("1 / 0", "error: division by zero"),
        ("1u % 0u", "error: modulus by zero"),
        ("1.0 / 0.0 > 1.0", "true"),
        ("5u + 7u", "12"),
        (
            "1 + 1.0",
            "compile: found no matching overload for '_+_' applied to '(int, double)'",
        ),
        ("x.n + 1", "4"),
        ("x.n + x.d", "error: no such overload"),
        ("'a' + 'b'", "\"ab\""),
        ("b'a' + b'b' == b'ab'", "true"),
        ("[1] + [2]", "[1,2]"),
        ("!true", "false"),
        ("!!true", "true"),
        ("--1", "1"),
    ]);
}

#[test]
fn logic_absorbs_errors() {
    table(&[
        ("1 / 0 == 1 || true", "true"),
        ("true || 1 / 0 == 1", "true"),
        ("false && 1 / 0 == 1", "false"),
        ("1 / 0 == 1 && false", "false"),
        ("1 / 0 == 1 && true", "error: division by zero"),
        ("1 / 0 == 1 || false", "error: division by zero"),
        ("dyn(1) || true", "true"),
        ("dyn(1) || false", "error: no such overload"),
        ("true ? 1 : 1 / 0", "1"),
        ("x.list.all(i, i > 0)", "true"),
        ("[0, 1].exists(i, 1 / i == 1)", "true"),
        ("[0, 1].all(i, 1 / i == 2)", "false"),
        ("[0].all(i, 1 / i == 1)", "error: division by zero"),
        ("[0, 1].exists_one(i, 1 / i == 1)", "error: division by zero"),
    ]);
}

#[test]
fn equality_and_order() {
    table(&[
        ("1 == 1", "true"),
        ("dyn(1) == 1.0", "true"),
        ("dyn(1u) == 1", "true"),
        ("dyn(1) == '1'", "false"),
        ("1 < 1.5 && 2u > 1 && 1u <= 1.0", "true"),
        ("dyn(9007199254740993) == 9007199254740992.0", "false"),
        ("double('NaN') == double('NaN')", "false"),
        ("double('NaN') < 1.0", "false"),
        ("'a' < 'b' && b'a' < b'b' && false < true", "true"),
        ("[1, 2] == [1, 2] && {'a': 1} == {'a': 1}", "true"),
        ("dyn([1]) == dyn([1.0])", "true"),
        ("x.list == [1, 2, 3] && x.map != {'a': 1}", "true"),
        ("null == x.nil", "true"),
        (
            "1 == 'a'",
            "compile: found no matching overload for '_==_' applied to '(int, string)'",
        ),
        ("dyn('a') < 1", "error: no such overload"),
        ("type(1) == int && type(x.s) == string && type(type(1)) == type", "true"),
        (
            "type(x.map) == map && type(x.list) == list && type(null) == null_type",
            "true",
        ),
        ("type(timestamp(0)) == google.protobuf.Timestamp", "true"),
    ]);
}

#[test]
fn access() {
    table(&[
        ("x.map.a", "1"),
        ("x.map['b-c']", "2"),
        ("x.`map`.`b-c`", "2"),
        ("x.gone", "error: no such key: gone"),
        ("x['gone']", "error: no such key: gone"),
        ("x.list[1]", "2"),
        ("x.list[1.0]", "2"),
        ("x.list[5]", "error: index out of bounds: 5"),
        ("x.list[-1]", "error: index out of bounds: -1"),
        ("has(x.n) && !has(x.gone) && has(x.map.a)", "true"),
        ("has(x.gone.a)", "error: no such key: gone"),
        (
            "'a' in x.map && !('z' in x.map) && 2 in x.list && 2.0 in x.list",
            "true",
        ),
        ("{1: 'a', 2: 'b'}[2]", "\"b\""),
        (
            "{1: 'a'}[1u]",
            "compile: found no matching overload for '_[_]' applied to '(map(int, string), uint)'",
        ),
        ("{1: 'a'}[dyn(1u)]", "\"a\""),
        ("{'a': 1, 'a': 2}", "error: Failed with repeated key: a"),
        ("{[1]: 2}", "compile: unsupported map key type 'list(int)'"),
        ("x.n.foo", "error: no such overload"),
        ("y", "compile: undeclared reference to 'y' (in container '')"),
        ("y()", "compile: undeclared reference to 'y' (in container '')"),
        ("(1).foo", "compile: type 'int' does not support field selection"),
        ("size(x.s) + size([1]) + x.map.size()", "8"),
        (
            "size(1)",
            "compile: found no matching overload for 'size' applied to '(int)'",
        ),
        (
            "'a'.size(1)",
            "compile: found no matching overload for 'size' applied to 'string.(int)'",
        ),
        ("[1, 'a']", "compile: expected type 'int' but found 'string'"),
        (
            "true ? 1 : 'a'",
            "compile: found no matching overload for '_?_:_' applied to '(bool, int, string)'",
        ),
        (
            "[1].all(i, i)",
            "compile: found no matching overload for '_&&_' applied to '(bool, int)'",
        ),
        (
            "1.all(i, true)",
            "compile: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
    ]);
}

#[test]
fn macros() {
    table(&[
        ("x.objects.map(o, o.name)", r#"["x","y"]"#),
        ("x.objects.filter(o, has(o.v)).size()", "1"),
        ("x.list.map(i, i > 1, i * 2)", "[4,6]"),
        ("x.list.exists(i, i == 2) && !x.list.exists(i, i == 9)", "true"),
        ("x.list.exists_one(i, i > 2)", "true"),
        ("x.map.all(k, x.map[k] > 0)", "true"),
        ("x.map.map(k, k)", r#"["a","b-c"]"#),
        ("x.list.all(i, v, i + 1 == v)", "true"),
        ("x.map.exists(k, v, k == 'a' && v == 1)", "true"),
        ("x.list.existsOne(i, v, v == 2)", "true"),
        ("x.list.transformList(i, v, i * v)", "[0,2,6]"),
        ("x.list.transformList(i, v, i > 0, i * v)", "[2,6]"),
        ("x.map.transformMap(k, v, v + 1)", r#"{"a":2,"b-c":3}"#),
        ("x.map.transformMap(k, v, k == 'a', v + 1)", r#"{"a":2}"#),
        ("x.words.transformMapEntry(i, v, {v: i})", r#"{"a":1,"b":0}"#),
        (
            "['a', 'a'].transformMapEntry(i, v, {v: i})",
            "error: insert failed: key a already exists",
        ),
        ("cel.bind(y, x.n + 1, y * y)", "16"),
        ("[[1, 2], [3]].map(l, l.map(i, i + 1))", "[[2,3],[4]]"),
        ("[1, 2].map(x, x + 1)", "[2,3]"),
        ("x.objects.all(o, o.name in ['x', 'y'])", "true"),
    ]);
}

#[test]
fn optionals() {
    table(&[
        ("x.?n.orValue(0) + x.?gone.orValue(5)", "8"),
        ("x.?map.?a.hasValue()", "true"),
        ("x.?gone.?a.hasValue()", "false"),
        ("x.?map.a.value()", "1"),
        ("x.map[?'a'].value() + x.list[?9].orValue(7)", "8"),
        ("optional.none().value()", "error: optional.none() dereference"),
        ("optional.of(1).or(optional.of(2)).value()", "1"),
        ("optional.none().or(optional.of(2)).value()", "2"),
        ("optional.ofNonZeroValue('').hasValue()", "false"),
        ("[?x.?n, ?x.?gone, 1]", "[3,1]"),
        ("{?'a': x.?n, ?'b': x.?gone}", r#"{"a":3}"#),
        ("x.?n.optMap(v, v + 1).value()", "4"),
        ("x.?gone.optMap(v, v + 1).hasValue()", "false"),
        ("x.?map.optFlatMap(m, m.?a).value()", "1"),
        ("[1, 2].first().value() + [1, 2].last().value()", "3"),
        ("[].first().hasValue()", "false"),
        ("optional.unwrap([optional.of(1), optional.none()])", "[1]"),
        ("[optional.of(1), optional.none()].unwrapOpt()", "[1]"),
        ("optional.of(1) == optional.of(1)", "true"),
        ("has(x.?map.a)", "true"),
        ("[?1]", "compile: expected type 'optional_type(int)' but found 'int'"),
    ]);
}

#[test]
fn conversions() {
    table(&[
        ("int('42') + int(4.9) + int(3u)", "49"),
        ("int('4x')", "error: type conversion error from 'string' to 'int'"),
        ("int(1e19)", "error: integer overflow"),
        ("uint(-1)", "error: unsigned integer overflow"),
        ("uint('7')", "7"),
        ("double('1.5') + double(1)", "2.5"),
        ("string(1) + string(1.5) + string(true) + string(2u)", "\"11.5true2\""),
        (
            "string(1e6) + ' ' + string(123456.0) + ' ' + string(1e-7)",
            "\"1e+06 123456 1e-07\"",
        ),
        (
            "string(b'abc') + string(timestamp('2024-01-02T03:04:05.5Z'))",
            "\"abc2024-01-02T03:04:05.5Z\"",
        ),
        (
            "string(b'\\xff')",
            "error: invalid UTF-8 in bytes, cannot convert to string",
        ),
        ("string(duration('90m'))", "\"5400s\""),
        ("bool('true') && !bool('0')", "true"),
        ("bytes('ü').size()", "2"),
        ("timestamp('tomorrow')", "compile: invalid timestamp argument"),
        ("duration('1y')", "compile: invalid duration argument"),
        ("'a'.matches('(')", "compile: invalid matches argument"),
        (
            "duration(x.s)",
            "error: type conversion error from 'string' to 'google.protobuf.Duration'",
        ),
        ("int(timestamp('1970-01-01T00:01:00Z'))", "60"),
        ("type(dyn('a')) == string", "true"),
    ]);
}

#[test]
fn times() {
    table(&[
        ("timestamp('2024-01-02T03:04:05Z').getFullYear()", "2024"),
        ("timestamp('2024-01-02T03:04:05Z').getMonth()", "0"),
        ("timestamp('2024-01-02T03:04:05Z').getDate()", "2"),
        ("timestamp('2024-01-02T03:04:05Z').getDayOfMonth()", "1"),
        ("timestamp('2024-01-07T03:04:05Z').getDayOfWeek()", "0"),
        ("timestamp('2024-12-31T03:04:05Z').getDayOfYear()", "365"),
        ("timestamp('2024-01-02T03:04:05.678Z').getMilliseconds()", "678"),
        ("timestamp('2024-01-02T23:04:05Z').getHours('+02:00')", "1"),
        ("timestamp('2024-01-02T23:04:05Z').getHours('-08:30')", "14"),
        (
            "timestamp('2024-07-02T12:00:00Z').getHours('Nowhere/City')",
            "error: unknown time zone Nowhere/City",
        ),
        ("duration('1h30m').getMinutes() + duration('90s').getSeconds()", "180"),
        (
            "timestamp('2024-01-01T00:00:00Z') + duration('24h') == timestamp('2024-01-02T00:00:00Z')",
            "true",
        ),
        (
            "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
            "true",
        ),
        (
            "timestamp('2024-01-01T00:00:00Z') < timestamp('2024-01-01T00:00:01Z')",
            "true",
        ),
        (
            "timestamp('9999-12-31T23:59:59Z') + duration('1s')",
            "error: timestamp overflow",
        ),
        (
            "duration('2562047h') + duration('2562047h')",
            "error: duration overflow",
        ),
    ]);
}

#[test]
fn strings() {
    table(&[
        ("x.s.charAt(1) + x.s.charAt(5)", "\"é\""),
        ("x.s.charAt(6)", "error: index out of range: 6"),
        ("'tacocat'.indexOf('ac') + 'tacocat'.indexOf('a', 2)", "6"),
        ("'tacocat'.lastIndexOf('at') + 'tacocat'.lastIndexOf('c', 3)", "7"),
        ("'tacocat'.indexOf('none') + 'tacocat'.lastIndexOf('')", "6"),
        ("'tacocat'.indexOf('a', 99)", "error: index out of range: 99"),
        ("['a', 'b'].join() + ['a', 'b'].join('-')", "\"aba-b\""),
        ("'TacoÜ'.lowerAscii() + 'tacoü'.upperAscii()", "\"tacoÜTACOü\""),
        (
            "'hello hello'.replace('he', 'we') + 'aaa'.replace('a', 'b', 2)",
            "\"wello wellobba\"",
        ),
        ("'ab'.replace('', '_')", "\"_a_b_\""),
        ("'a,b,c'.split(',')", r#"["a","b","c"]"#),
        ("'a,b,c'.split(',', 2)", r#"["a","b,c"]"#),
        ("'a,b'.split(',', 0)", "[]"),
        ("'abc'.split('')", r#"["a","b","c"]"#),
        ("x.s.substring(1) + x.s.substring(0, 2)", "\"éllohé\""),
        (
            "'abc'.substring(2, 1)",
            "error: invalid substring range. start: 2, end: 1",
        ),
        ("'abc'.substring(-1)", "error: index out of range: -1"),
        ("' \\t a b \\n'.trim()", "\"a b\""),
        ("strings.quote('a\"b\\n')", r#""\"a\\\"b\\n\"""#),
        (
            "'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c')",
            "true",
        ),
        ("'abc'.matches('^a.c$') && matches('abc', 'b')", "true"),
        ("'abc 123 4'.find('[0-9]+') + 'abc'.find('[0-9]+')", "\"123\""),
        ("'1, 2, 3'.findAll('[0-9]+').map(i, int(i)).sum()", "6"),
        ("'1, 2, 3'.findAll('[0-9]+', 2)", r#"["1","2"]"#),
        (
            "'a'.matches(x.s + '(')",
            "error: error parsing regexp: unclosed group: `héllo(`",
        ),
        ("jsonpatch.escapeKey('a/b~c')", "\"a~1b~0c\""),
        (
            "'%s is %d, %.2f, %x, %e %b %o %%'.format([dyn('n'), 3, 1.5, 255, 1234.5, 5, 8])",
            "\"n is 3, 1.50, ff, 1.234500e+03 101 10 %\"",
        ),
        (
            "'%s %s %s'.format([[1, 'a'].map(i, i), {'k': true}, null])",
            "compile: expected type 'int' but found 'string'",
        ),
        (
            "'%s %s'.format([[1, 2], null])",
            "compile: expected type 'list(int)' but found 'null'",
        ),
        ("'%s %s'.format([dyn([1, 2]), dyn({'k': 1})])", "\"[1, 2] {k: 1}\""),
        (
            "'%d'.format(['a'])",
            "error: decimal clause can only be used on integers, was given string",
        ),
        ("'%s %s'.format(['a'])", "error: index 1 out of range"),
        (
            "'abc'.reverse()",
            "compile: found no matching overload for 'reverse' applied to 'string.()'",
        ),
    ]);
}

#[test]
fn lists() {
    table(&[
        ("[1, 2, 2].isSorted() && !['b', 'a'].isSorted()", "true"),
        ("[1, 2].sum() + [].sum()", "3"),
        ("[1.5, 2.0].sum()", "3.5"),
        ("[3, 1, 2].min() + [3, 1, 2].max()", "4"),
        ("[].min()", "error: min called on empty list"),
        ("[1, 2, 1].indexOf(1) + [1, 2, 1].lastIndexOf(1)", "2"),
        ("[1].indexOf(9)", "-1"),
        ("[1, 2, 3, 4].slice(1, 3)", "[2,3]"),
        ("[1].slice(0, 2)", "error: cannot slice(0, 2), list is length 1"),
        (
            "[1].slice(1, 0)",
            "error: cannot slice(1, 0), start index must be less than or equal to end index",
        ),
        ("[[1], [2, 3]].flatten()", "[1,2,3]"),
        ("[[[1]], [[2]]].flatten(2)", "[1,2]"),
        ("[3, 1, 2].sort() + [1].reverse()", "[1,2,3,1]"),
        ("[1, 2, 1].distinct()", "[1,2]"),
        ("x.objects.sortBy(o, o.name == 'x')[0].name", "\"y\""),
        ("lists.range(3)", "[0,1,2]"),
        (
            "lists.range(-1)",
            "error: lists.range: size must be non-negative, got -1",
        ),
        (
            "sets.contains([1, 2], [2]) && sets.intersects([1], [1, 2]) && !sets.intersects([], [1])",
            "true",
        ),
        ("sets.equivalent([1, 1, 2], [2, 1])", "true"),
        (
            "sets.contains([1], ['a'])",
            "compile: found no matching overload for 'sets.contains' applied to '(list(int), list(string))'",
        ),
    ]);
}

#[test]
fn kubernetes_types() {
    table(&[
        (
            "url('https://me@Example.com:8080/a b/c?x=1&x=2&y=%41#f').getHost()",
            "\"Example.com:8080\"",
        ),
        ("url('https://example.com:8080/a b?x=1').getEscapedPath()", "\"/a%20b\""),
        (
            "url('https://[::1]:80/').getHostname() + url('https://[::1]:80/').getPort()",
            "\"::180\"",
        ),
        (
            "url('https://h/?x=1&x=2&y=%41').getQuery()",
            r#"{"x":["1","2"],"y":["A"]}"#,
        ),
        ("url('/path').getScheme()", "\"\""),
        (
            "isURL('https://x') && isURL('/a') && !isURL('a b') && !isURL('../up')",
            "true",
        ),
        ("ip('10.0.0.1').family() + ip('::1').family()", "10"),
        (
            "ip('127.0.0.1').isLoopback() && ip('169.254.1.1').isLinkLocalUnicast() && ip('8.8.8.8').isGlobalUnicast()",
            "true",
        ),
        (
            "ip('224.0.0.1').isLinkLocalMulticast() && ip('0.0.0.0').isUnspecified()",
            "true",
        ),
        (
            "isIP('1.2.3.4') && !isIP('1.2.3') && !isIP('::ffff:1.2.3.4') && !isIP('fe80::1%eth0')",
            "true",
        ),
        ("ip.isCanonical('::1') && !ip.isCanonical('0:0::1')", "true"),
        ("string(ip('2001:DB8::1'))", "\"2001:db8::1\""),
        (
            "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.1'))",
            "true",
        ),
        (
            "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))",
            "true",
        ),
        (
            "string(cidr('10.1.2.3/8').masked()) + string(cidr('10.1.2.3/8').ip())",
            "\"10.0.0.0/810.1.2.3\"",
        ),
        ("cidr('::/0').prefixLength() + cidr('1.2.3.4/0').prefixLength()", "0"),
        (
            "isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.0/33') && !isCIDR('10.0.0.0')",
            "true",
        ),
        (
            "ip('10.0.0.1') == ip('10.0.0.1') && cidr('10.0.0.0/8') != cidr('10.0.0.0/9')",
            "true",
        ),
        (
            "quantity('1Ki').isGreaterThan(quantity('1k')) && quantity('500m').isLessThan(quantity('1'))",
            "true",
        ),
        (
            "quantity('1500m').asApproximateFloat() + double(quantity('2k').asInteger())",
            "2001.5",
        ),
        (
            "quantity('1500m').asInteger()",
            "error: cannot convert value to integer",
        ),
        ("quantity('1').add(quantity('500m')).sub(1) == quantity('0.5')", "true"),
        ("quantity('-1').sign() + quantity('1').compareTo(quantity('2'))", "-2"),
        ("isQuantity('1Gi') && !isQuantity('1Gx')", "true"),
        (
            "semver('1.2.3').isLessThan(semver('1.10.0-rc.1')) && semver('1.2.3').major() == 1",
            "true",
        ),
        (
            "semver('v1.2', true) == semver('1.2.0') && !isSemver('v1.2') && isSemver('01.2', true)",
            "true",
        ),
        ("format.dns1123Label().validate('ok').hasValue()", "false"),
        ("format.dns1123Label().validate('No').value().size()", "1"),
        (
            "format.named('uuid').value().validate('123e4567-e89b-12d3-a456-426614174000').hasValue()",
            "false",
        ),
        ("format.named('nothing').hasValue()", "false"),
        (
            "format.date().validate('2024-02-30').hasValue() && !format.datetime().validate('2024-02-03T00:00:00Z').hasValue()",
            "true",
        ),
        (
            "type(quantity('1')) == kubernetes.Quantity && type(ip('::1')) == net.IP",
            "true",
        ),
    ]);
}

#[test]
fn nothing_grows_without_bound() {
    table(&[
        (
            "lists.range(100000000).size()",
            "error: operation cancelled: actual cost limit exceeded",
        ),
        ("lists.range(5000000).size()", "error: the list is too long"),
        (
            "cel.bind(a, lists.range(900000), a + a + a).size()",
            "error: the list is too long",
        ),
    ]);
    let doubled = (0..60).fold("'xxxxxxxx'".to_string(), |inner, _| {
        format!("cel.bind(a, {inner}, a + a)")
    });
    assert!(run(&doubled).starts_with("error: "), "{}", run(&doubled));
    let doubled = (0..60).fold("[1]".to_string(), |inner, _| format!("cel.bind(a, {inner}, a + a)"));
    assert_eq!(run(&doubled), "error: the list is too long");
    let replaced = (0..20).fold("'aaaaaaaa'".to_string(), |inner, _| {
        format!("cel.bind(a, {inner}, a.replace('a', a))")
    });
    assert!(run(&replaced).starts_with("error: "), "{}", run(&replaced));
}
