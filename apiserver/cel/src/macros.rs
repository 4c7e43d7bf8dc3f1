//! Macros: calls that stand for a comprehension. Expanded while parsing, so that the
//! checker, the cost estimate and the evaluator know folds only.

use crate::ast::{Expr, Fold, Item, Kind, Literal};
use crate::error::Issue;
use crate::parser::Make;

/// What the running result is called; no user can write the name.
pub const ACCU: &str = "@result";
const UNUSED: &str = "#unused";
/// What the target of `optMap` is called.
pub const TARGET: &str = "@target";
const SORT_INPUT: &str = "@__sortBy_input__";

/// The call itself, or what the macro of that name makes of it.
pub fn expand(
    make: &mut Make,
    offset: u32,
    function: String,
    target: Option<Expr>,
    mut args: Vec<Expr>,
) -> Result<Kind, Issue> {
    let m = &mut At { make, offset };
    let Some(target) = target else {
        if function == "has" && args.len() == 1 {
            return has(args.remove(0));
        }
        return Ok(Kind::Call {
            function,
            target: None,
            args,
        });
    };
    if let (Kind::Ident(name), "bind", 3) = (&target.kind, function.as_str(), args.len())
        && name == "cel"
    {
        let body = args.remove(2);
        let value = args.remove(1);
        let var = simple_name(&args[0], "cel.bind() variable names must be simple identifiers")?;
        return Ok(bind(m, var, value, body));
    }
    match (function.as_str(), args.len()) {
        ("all" | "exists" | "exists_one" | "existsOne" | "filter" | "map", 2)
        | ("map", 3)
        | ("all" | "exists" | "exists_one" | "existsOne" | "transformList" | "transformMap" | "transformMapEntry", 3)
        | ("transformList" | "transformMap" | "transformMapEntry", 4) => comprehension(m, &function, target, args),
        ("optMap" | "optFlatMap", 2) => optional_map(m, &function, target, args),
        ("sortBy", 2) => sort_by(m, target, args),
        _ => Ok(Kind::Call {
            function,
            target: Some(Box::new(target)),
            args,
        }),
    }
}

fn has(arg: Expr) -> Result<Kind, Issue> {
    match arg.kind {
        Kind::Select {
            operand,
            field,
            test: false,
        } => Ok(Kind::Select {
            operand,
            field,
            test: true,
        }),
        _ => Err(Issue {
            offset: arg.offset,
            message: "invalid argument to has() macro".to_string(),
        }),
    }
}

fn simple_name(expr: &Expr, message: &str) -> Result<String, Issue> {
    match &expr.kind {
        Kind::Ident(name) => Ok(name.clone()),
        _ => Err(Issue {
            offset: expr.offset,
            message: message.to_string(),
        }),
    }
}

/// Makes nodes at the place of the macro.
struct At<'m> {
    make: &'m mut Make,
    offset: u32,
}

impl At<'_> {
    fn expr(&mut self, kind: Kind) -> Expr {
        self.make.expr(self.offset, kind)
    }

    fn ident(&mut self, name: &str) -> Expr {
        self.expr(Kind::Ident(name.to_string()))
    }

    fn bool(&mut self, value: bool) -> Expr {
        self.expr(Kind::Literal(Literal::Bool(value)))
    }

    fn int(&mut self, value: i64) -> Expr {
        self.expr(Kind::Literal(Literal::Int(value)))
    }

    fn accu(&mut self) -> Expr {
        self.ident(ACCU)
    }

    fn list(&mut self, items: Vec<Expr>) -> Expr {
        let items = items.into_iter().map(|value| Item { value, optional: false }).collect();
        self.expr(Kind::List(items))
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.expr(Kind::Call {
            function: function.to_string(),
            target: None,
            args,
        })
    }

    fn member(&mut self, function: &str, target: Expr, args: Vec<Expr>) -> Expr {
        self.expr(Kind::Call {
            function: function.to_string(),
            target: Some(Box::new(target)),
            args,
        })
    }
}

/// The parts in which the comprehension macros differ.
struct Parts {
    init: Expr,
    condition: Expr,
    step: Expr,
    result: Expr,
}

fn comprehension(m: &mut At<'_>, function: &str, range: Expr, mut args: Vec<Expr>) -> Result<Kind, Issue> {
    let two = args.len() == 4 || args.len() == 3 && function != "map";
    let name = |expr: &Expr| -> Result<String, Issue> {
        let name = simple_name(expr, "argument must be a simple name")?;
        if name == ACCU || name == "__result__" {
            return Err(Issue {
                offset: expr.offset,
                message: "iteration variable overwrites accumulator variable".to_string(),
            });
        }
        Ok(name)
    };
    let var = name(&args.remove(0))?;
    let var2 = if two {
        let second = args.remove(0);
        let var2 = name(&second)?;
        if var2 == var {
            return Err(Issue {
                offset: second.offset,
                message: format!("duplicate variable name: {var2}"),
            });
        }
        Some(var2)
    } else {
        None
    };
    let body = args.pop();
    let filter = args.pop();
    let Some(body) = body else {
        return Err(Issue {
            offset: m.offset,
            message: format!("missing argument of {function}()"),
        });
    };
    let parts = match function {
        "all" => every(m, body),
        "exists" => any(m, body),
        "exists_one" | "existsOne" => exactly_one(m, body),
        "filter" => {
            let item = m.ident(&var);
            append(m, Some(body), item)
        }
        "map" | "transformList" => append(m, filter, body),
        _ => insert(m, function, &var, filter, body),
    };
    Ok(Kind::Fold(Box::new(Fold {
        range,
        var,
        var2,
        accu: ACCU.to_string(),
        init: parts.init,
        condition: parts.condition,
        step: parts.step,
        result: parts.result,
        bind: false,
    })))
}

fn every(m: &mut At<'_>, body: Expr) -> Parts {
    let accu = m.accu();
    let condition = m.call("@not_strictly_false", vec![accu]);
    let accu = m.accu();
    Parts {
        init: m.bool(true),
        condition,
        step: m.call("_&&_", vec![accu, body]),
        result: m.accu(),
    }
}

fn any(m: &mut At<'_>, body: Expr) -> Parts {
    let accu = m.accu();
    let not = m.call("!_", vec![accu]);
    let condition = m.call("@not_strictly_false", vec![not]);
    let accu = m.accu();
    Parts {
        init: m.bool(false),
        condition,
        step: m.call("_||_", vec![accu, body]),
        result: m.accu(),
    }
}

fn exactly_one(m: &mut At<'_>, body: Expr) -> Parts {
    let (accu, one) = (m.accu(), m.int(1));
    let more = m.call("_+_", vec![accu, one]);
    let same = m.accu();
    let step = m.call("_?_:_", vec![body, more, same]);
    let (accu, one) = (m.accu(), m.int(1));
    Parts {
        init: m.int(0),
        condition: m.bool(true),
        step,
        result: m.call("_==_", vec![accu, one]),
    }
}

fn filtered(m: &mut At<'_>, filter: Option<Expr>, step: Expr) -> Expr {
    let Some(filter) = filter else { return step };
    let same = m.accu();
    m.call("_?_:_", vec![filter, step, same])
}

fn append(m: &mut At<'_>, filter: Option<Expr>, item: Expr) -> Parts {
    let accu = m.accu();
    let one = m.list(vec![item]);
    let longer = m.call("_+_", vec![accu, one]);
    Parts {
        init: m.list(Vec::new()),
        condition: m.bool(true),
        step: filtered(m, filter, longer),
        result: m.accu(),
    }
}

fn insert(m: &mut At<'_>, function: &str, key: &str, filter: Option<Expr>, body: Expr) -> Parts {
    let mut args = vec![m.accu()];
    if function == "transformMap" {
        args.push(m.ident(key));
    }
    args.push(body);
    let bigger = m.call("cel.@mapInsert", args);
    Parts {
        init: m.expr(Kind::Map(Vec::new())),
        condition: m.bool(true),
        step: filtered(m, filter, bigger),
        result: m.accu(),
    }
}

fn bind(m: &mut At<'_>, var: String, value: Expr, body: Expr) -> Kind {
    Kind::Fold(Box::new(Fold {
        range: m.list(Vec::new()),
        var: UNUSED.to_string(),
        var2: None,
        condition: m.bool(false),
        step: m.ident(&var),
        accu: var,
        init: value,
        result: body,
        bind: true,
    }))
}

/// `target.optMap(v, e)`: e of the value where there is one. The target is bound once:
/// a copy of it in both places would double with every link of a chain.
fn optional_map(m: &mut At<'_>, function: &str, target: Expr, mut args: Vec<Expr>) -> Result<Kind, Issue> {
    let body = args.remove(1);
    let var = simple_name(
        &args[0],
        &format!("{function}() variable name must be a simple identifier"),
    )?;
    let (name, bound) = match &target.kind {
        Kind::Ident(name) => (name.clone(), None),
        _ => (TARGET.to_string(), Some(target)),
    };
    let source = m.ident(&name);
    let present = m.member("hasValue", source, Vec::new());
    let source = m.ident(&name);
    let value = m.member("value", source, Vec::new());
    let inner = bind(m, var, value, body);
    let inner = m.expr(inner);
    let scope = m.ident("optional");
    let yes = if function == "optMap" {
        m.member("of", scope, vec![inner])
    } else {
        inner
    };
    let scope = m.ident("optional");
    let none = m.member("none", scope, Vec::new());
    let choice = m.call("_?_:_", vec![present, yes, none]);
    Ok(match bound {
        Some(target) => bind(m, name, target, choice),
        None => choice.kind,
    })
}

fn sort_by(m: &mut At<'_>, target: Expr, args: Vec<Expr>) -> Result<Kind, Issue> {
    if matches!(target.kind, Kind::Literal(_) | Kind::Map(_) | Kind::Struct { .. }) {
        return Err(Issue {
            offset: target.offset,
            message: "sortBy can only be applied to a list, identifier, comprehension, call or select expression"
                .to_string(),
        });
    }
    let source = m.ident(SORT_INPUT);
    let keys = comprehension(m, "map", source, args)?;
    let keys = m.expr(keys);
    let source = m.ident(SORT_INPUT);
    let sorted = m.member("@sortByAssociatedKeys", source, vec![keys]);
    Ok(bind(m, SORT_INPUT.to_string(), target, sorted))
}
