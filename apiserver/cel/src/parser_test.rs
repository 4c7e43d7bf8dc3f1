use super::*;

fn fault(source: &str) -> String {
    match parse(source) {
        Ok((expr, _)) => panic!("{source} parsed as {expr:?}"),
        Err(issues) => issues[0].message.clone(),
    }
}

#[test]
fn reads_the_whole_grammar() {
    for source in [
        "a.b.c[1].d(2, 'x')",
        "!!a && --b == -9223372036854775808",
        "a ? b : c ? d : e",
        "a.?b.?c[?0].orValue('')",
        "[1, ?a, 3,]",
        "{?'k': v, 'x': 1,}",
        "Object{spec: Object.spec{replicas: 1, ?paused: x}}",
        "a.`b-c/d`",
        "r'\\d' + \"\"\"x\ny\"\"\"",
        "x in [1] && 1 in {1: 2}",
        "self.items.all(i, has(i.name) && i.name != '')",
        "m.transformMap(k, v, k != 'a', v + 1)",
        "cel.bind(x, 1, x + x)",
        "a // comment\n + b",
        ".a.b",
    ] {
        assert!(parse(source).is_ok(), "{source}: {:?}", parse(source));
    }
}

#[test]
fn says_what_is_wrong() {
    for (source, want) in [
        ("", "Syntax error: mismatched input '<EOF>' expecting {'['"),
        ("a +", "Syntax error: mismatched input '<EOF>' expecting {'['"),
        ("a b", "Syntax error: extraneous input 'b' expecting <EOF>"),
        ("(a", "Syntax error: missing ')' at '<EOF>'"),
        ("a # b", "Syntax error: token recognition error at: '#'"),
        ("namespace == 'x'", "reserved identifier: namespace"),
        ("has(a)", "invalid argument to has() macro"),
        ("a.all(b.c, true)", "argument must be a simple name"),
        ("9223372036854775808", "invalid int literal"),
        (
            "a.",
            "Syntax error: mismatched input '<EOF>' expecting {'?', IDENTIFIER",
        ),
    ] {
        let got = fault(source);
        assert!(got.starts_with(want), "{source}: {got}");
    }
}

#[test]
fn bounds_length_and_depth() {
    let long = format!("'{}'", "x".repeat(EXPRESSION_CHARS_MAX));
    assert!(fault(&long).starts_with("expression code point size exceeds limit"));
    for deep in [
        "(".repeat(5000),
        "[".repeat(5000),
        format!("{}1", "a ? b : ".repeat(5000)),
        vec!["1"; 5000].join("+"),
        vec!["a"; 5000].join("."),
        format!("a{}", ".map(x, x)".repeat(5000)),
        format!("a{}", ".optMap(x, x)".repeat(5000)),
        format!("{}x{}", "a.map(x, ".repeat(2000), ")".repeat(2000)),
    ] {
        assert!(fault(&deep).contains("recursion limit"), "{}", &deep[..20]);
    }
    // Long logic is balanced, and signs cancel out.
    assert!(parse(&vec!["a"; 5000].join(" && ")).is_ok());
    assert!(parse(&format!("{}a", "!".repeat(5000))).is_ok());
}

#[test]
fn tells_several_faults() {
    let issues = parse("a = 1").expect_err("no assignment");
    let told: Vec<_> = issues
        .iter()
        .map(|issue| (issue.offset, issue.message.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (2, "Syntax error: token recognition error at: '= '"),
            (4, "Syntax error: extraneous input '1' expecting <EOF>"),
        ]
    );
    let issues = parse("1 + $").expect_err("no operand");
    assert_eq!(issues.len(), 2);
    assert!(
        issues[1]
            .message
            .starts_with("Syntax error: mismatched input '<EOF>' expecting {'['")
    );
}
