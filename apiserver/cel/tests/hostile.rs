//! Expressions made to hurt: none panics, hangs or takes memory without bound.

use proptest::prelude::*;
use serde_json::json;
use skiff_cel::{Bindings, Env, EvalError, Limits};

fn run(source: &str) -> Option<Result<String, EvalError>> {
    let env = Env::new().dynamic("x");
    let program = env.compile(source).ok()?;
    let data = json!({"n": 1, "s": "text", "l": [1, 2], "m": {"a": [true, null]}});
    let mut bindings = Bindings::new();
    bindings.json("x", &data);
    let outcome = program.evaluate(&bindings, Limits::default());
    Some(outcome.value.map(|value| format!("{:?}", value.to_json())))
}

#[test]
fn big_values_repeated_end_soon() {
    for source in [
        // Copies at the price of one step.
        "lists.range(50000).all(i, (lists.range(100) + lists.range(100)).size() == 200)",
        "cel.bind(b, lists.range(60000), b.all(i, (b + b).size() > 0))",
        // A list of one big list many times over, compared, searched, traversed, printed.
        "cel.bind(b, lists.range(50000), cel.bind(c, b.map(x, b), c == c))",
        "cel.bind(b, lists.range(50000), cel.bind(c, b.map(x, b), [c, c].indexOf(c)))",
        "cel.bind(b, lists.range(50000), cel.bind(c, b.map(x, b), c.flatten().size()))",
        "cel.bind(b, lists.range(50000), cel.bind(c, b.map(x, b), '%s'.format([c])))",
        "cel.bind(b, lists.range(50000), b.map(x, b))",
        "lists.range(60000).transformMap(k, v, v).size()",
        "'a'.matches('(((a{30}){30}){30}){30}')",
        "lists.range(50000).exists(i, 'a'.matches('(a{50}){50}' + string(i)))",
        "lists.range(40000).map(i, string(i)).join(',').split('').distinct().size()",
    ] {
        // Whether a value, an error or neither: it came back.
        let _ = run(source);
    }
}

/// Sums, comparisons and conditions over small numbers, with what they come to.
fn arithmetic() -> impl Strategy<Value = (String, Option<i64>)> {
    let leaf = (-4i64..5).prop_map(|n| (format!("({n})"), Some(n)));
    leaf.prop_recursive(5, 40, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone(), 0..5usize).prop_map(|((a, x), (b, y), op)| {
                let both = x.zip(y);
                let value = match op {
                    0 => both.and_then(|(x, y)| x.checked_add(y)),
                    1 => both.and_then(|(x, y)| x.checked_sub(y)),
                    2 => both.and_then(|(x, y)| x.checked_mul(y)),
                    3 => both.and_then(|(x, y)| x.checked_div(y)),
                    _ => both.and_then(|(x, y)| x.checked_rem(y)),
                };
                (format!("({a} {} {b})", ["+", "-", "*", "/", "%"][op]), value)
            }),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|((a, x), (b, y), (c, z))| {
                (
                    format!("({a} > 0 ? {b} : {c})"),
                    x.and_then(|x| if x > 0 { y } else { z }),
                )
            }),
            (inner.clone(), inner.clone()).prop_map(|((a, x), (b, y))| {
                let value = x.zip(y).and_then(|(x, y)| x.checked_mul(2)?.checked_add(y));
                (format!("[{a}, {a}, {b}].sum()"), value)
            }),
            (inner.clone(), inner).prop_map(|((a, x), (b, y))| {
                let value = x.zip(y).and_then(|(x, y)| x.checked_add(y));
                (format!("cel.bind(v, {a}, [v].map(w, w + {b})[0])"), value)
            }),
        ]
    })
}

/// Logic in which some terms fail, with what it comes to: `None` is an error.
fn logic() -> impl Strategy<Value = (String, Option<bool>)> {
    let leaf = prop_oneof![
        Just(("true".to_string(), Some(true))),
        Just(("false".to_string(), Some(false))),
        Just(("1 / 0 == 1".to_string(), None)),
        Just(("x.gone".to_string(), None)),
    ];
    leaf.prop_recursive(5, 40, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|((a, x), (b, y))| {
                let value = match (x, y) {
                    (Some(false), _) | (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                };
                (format!("({a} && {b})"), value)
            }),
            (inner.clone(), inner.clone()).prop_map(|((a, x), (b, y))| {
                let value = match (x, y) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                };
                (format!("({a} || {b})"), value)
            }),
            inner.clone().prop_map(|(a, x)| (format!("!({a})"), x.map(|x| !x))),
            (inner.clone(), inner).prop_map(|((a, x), (b, y))| {
                let value = match (x, y) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                };
                (format!("[0, 1].exists(i, i == 0 ? dyn({a}) : dyn({b}))"), value)
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_an_answer(source in ".{0,60}") {
        let _ = run(&source);
    }

    #[test]
    fn any_tokens_are_an_answer(tokens in prop::collection::vec(prop::sample::select(vec![
        "x", ".", "s", "l", "m", "(", ")", "[", "]", "{", "}", ",", ":", "?", "+", "-", "!", "&&", "||", "==", "in",
        "1", "2u", "1.5", "'a'", "b'a'", "r'\\d'", "true", "null", "has", "all", "map", "matches", "size", "type",
        "int", "string", "optional", "of", ".?", "[?", "`a`", "cel", "bind", "timestamp", "format", "sortBy", " ",
    ]), 0..24)) {
        let _ = run(&tokens.concat());
    }

    #[test]
    fn arithmetic_is_right((source, want) in arithmetic()) {
        let got = run(&source).expect("compiles");
        match want {
            Some(value) => prop_assert_eq!(got, Ok(format!("Ok(Number({value}))")), "{}", source),
            None => prop_assert!(got.is_err(), "{} gave {:?}", source, got),
        }
    }

    #[test]
    fn logic_is_right((source, want) in logic()) {
        let got = run(&source).expect("compiles");
        match want {
            Some(value) => prop_assert_eq!(got, Ok(format!("Ok(Bool({value}))")), "{}", source),
            None => prop_assert!(got.is_err(), "{} gave {:?}", source, got),
        }
    }

    #[test]
    fn regular_expressions_are_an_answer(pattern in "[a-z\\[\\](){}|*+?^$.\\\\0-9,:&-]{0,20}", text in "[a-z]{0,10}") {
        let quoted = format!("r'''{pattern}'''");
        let _ = run(&format!("'{text}'.matches({quoted})"));
        let _ = run(&format!("'{text}'.find(dyn({quoted}))"));
    }
}
