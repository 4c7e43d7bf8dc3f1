//! The deepest expressions that compile, on the stack of an ordinary thread: none may
//! overflow it, whatever is done with them.

use crate::{Bindings, Env, Limits};

fn survives(source: String) {
    let run = move || {
        let env = Env::new().dynamic("a");
        let Ok(program) = env.compile(&source) else {
            return false;
        };
        let data = serde_json::json!([1, 2]);
        let mut bindings = Bindings::new();
        bindings.json("a", &data);
        let _ = program.evaluate(&bindings, Limits::default());
        true
    };
    let thread = std::thread::Builder::new().stack_size(1536 * 1024).spawn(run);
    assert!(thread.expect("a thread").join().expect("no panic"));
}

#[test]
fn deep_expressions_fit_the_stack() {
    survives(format!("{}1{}", "(".repeat(98), ")".repeat(98)));
    survives(format!("{}1{}", "[".repeat(98), "]".repeat(98)));
    survives(format!("{}1{}", "{'a': ".repeat(98), "}".repeat(98)));
    survives(format!("{}1{}", "size(string(".repeat(45), "))".repeat(45)));
    survives(vec!["1"; 250].join("+"));
    survives(format!("a{}", ".b".repeat(248)));
    survives(format!("a{}", ".map(x, x)".repeat(240)));
    survives(format!(
        "{}a{}",
        "a.all(x, ".repeat(90),
        ".size() > 0".to_string() + &")".repeat(90)
    ));
    survives(format!("{}1{}", "a.map(x, [".repeat(48), "])".repeat(48)));
    survives(format!("{}1{}", "cel.bind(x, 1, ".repeat(95), ")".repeat(95)));
    survives(format!("{}2", "true ? 1 : ".repeat(95)));
}

#[test]
fn variables_of_variables_fit_the_stack() {
    let run = || {
        let names: Vec<String> = (0..200).map(|i| format!("v{i}")).collect();
        let mut env = Env::new();
        let mut programs = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let source = match i {
                0 => "1".to_string(),
                i => format!("variables.v{} + 1", i - 1),
            };
            let program = env.compile(&source).expect("compiles");
            env = env.composed(name, &program);
            programs.push(program);
        }
        let mut bindings = Bindings::new();
        for (name, program) in names.iter().zip(&programs) {
            bindings.variable_of(name, program);
        }
        let last = env.compile("variables.v199").expect("compiles");
        let failed = last.evaluate(&bindings, Limits::default()).value.expect_err("too deep");
        let near = env.compile("variables.v40 + variables.v40").expect("compiles");
        let value = near.evaluate(&bindings, Limits::default()).value;
        // What failed once for want of stack stays failed; what was not reached is fine.
        (failed.to_string(), value.and_then(|value| value.to_json()))
    };
    let thread = std::thread::Builder::new().stack_size(1536 * 1024).spawn(run);
    let (failed, value) = thread.expect("a thread").join().expect("no panic");
    assert!(
        failed.ends_with("variables use one another more than 64 deep"),
        "{failed}"
    );
    assert_eq!(value, Ok(serde_json::json!(82)));
}
