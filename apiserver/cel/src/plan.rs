//! From the checked tree to nodes that evaluate fast: names become slots, functions
//! become pointers, constants are made once, and loops that build lists say so.

use crate::ast::{Expr, Fold, Kind, Literal};
use crate::bindings::Bindings;
use crate::check::{Checked, Ref};
use crate::containers::{List, Map, OwnedMap};
use crate::error::Issue;
use crate::eval::Ctx;
use crate::functions::{self, regex::compile};
use crate::macros::{ACCU, TARGET};
use crate::meter::{Limits, Meter, price};
use crate::node::{
    CallNode, Constants, EntryNode, FieldNode, FoldNode, GatherNode, Gathered, IndexNode, Node, Slots, is_chain,
};
use crate::types::Type;
use crate::value::Value;
use std::sync::Arc;

/// Functions that are nodes of their own.
#[cfg(test)]
pub fn is_special(function: &str) -> bool {
    matches!(
        function,
        "_&&_" | "_||_" | "_?_:_" | "@not_strictly_false" | "or" | "orValue" | "_[_]" | "_[?_]"
    )
}

/// The nodes and how many slots they need.
pub fn plan(expr: &Expr, checked: &Checked) -> Result<(Node, usize), Vec<Issue>> {
    let mut planner = Planner {
        checked,
        scopes: Vec::new(),
        slots: 0,
        issues: Vec::new(),
    };
    let node = planner.node(expr);
    if planner.issues.is_empty() {
        Ok((node, planner.slots))
    } else {
        Err(planner.issues)
    }
}

struct Planner<'c> {
    checked: &'c Checked,
    scopes: Vec<String>,
    slots: usize,
    issues: Vec<Issue>,
}

pub fn literal(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::string(text.as_str()),
        Literal::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
    }
}

impl Planner<'_> {
    fn boxed(&mut self, expr: &Expr) -> Box<Node> {
        Box::new(self.node(expr))
    }

    fn push(&mut self, name: &str) -> usize {
        self.scopes.push(name.to_string());
        self.slots = self.slots.max(self.scopes.len());
        self.scopes.len() - 1
    }

    /// An operand that is selected from.
    fn chained(&mut self, expr: &Expr) -> Node {
        let node = self.node(expr);
        if is_chain(&node) || matches!(node, Node::Conditional(_)) {
            node
        } else {
            Node::Rooted(Box::new(node))
        }
    }

    fn meaning(&self, expr: &Expr) -> &Ref {
        &self.checked.refs[expr.id as usize]
    }

    fn node(&mut self, expr: &Expr) -> Node {
        match self.meaning(expr) {
            Ref::Variable(name) => return Node::Variable(name.as_str().into()),
            Ref::Type(ty) if !matches!(expr.kind, Kind::Struct { .. }) => {
                return Node::Const(Value::Type(Arc::new(ty.clone())));
            }
            _ => {}
        }
        match &expr.kind {
            Kind::Literal(value) => Node::Const(literal(value)),
            Kind::Ident(name) => match self.scopes.iter().rposition(|known| known == name) {
                Some(slot) if name == TARGET => Node::FreeLocal(slot),
                Some(slot) => Node::Local(slot),
                None => Node::Variable(name.as_str().into()),
            },
            Kind::Select { operand, field, test } => {
                let operand = Box::new(self.chained(operand));
                let field = field.as_str().into();
                if *test {
                    Node::Test { operand, field }
                } else {
                    Node::Select { operand, field }
                }
            }
            Kind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            Kind::List(items) => {
                let optional: Vec<bool> = items.iter().map(|item| item.optional).collect();
                let nodes: Vec<Node> = items.iter().map(|item| self.node(&item.value)).collect();
                list(nodes, optional)
            }
            Kind::Map(entries) => {
                let entries = entries.iter().map(|entry| EntryNode {
                    key: self.node(&entry.key),
                    value: self.node(&entry.value),
                    optional: entry.optional,
                });
                map(entries.collect())
            }
            Kind::Struct { fields, .. } => self.structure(expr, fields),
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    fn structure(&mut self, expr: &Expr, fields: &[crate::ast::Field]) -> Node {
        let Ref::Type(Type::Object(object)) = self.meaning(expr) else {
            // The checker refers every object it lets pass.
            return Node::Const(Value::Null);
        };
        let object = object.clone();
        let fields = fields
            .iter()
            .map(|field| FieldNode {
                name: object
                    .field(&field.name)
                    .map_or_else(|| field.name.as_str().into(), |known| known.name.as_str().into()),
                value: self.node(&field.value),
                optional: field.optional,
            })
            .collect();
        Node::Struct { object, fields }
    }

    fn call(&mut self, expr: &Expr, function: &str, target: Option<&Expr>, args: &[Expr]) -> Node {
        let (function, namespaced) = match self.meaning(expr) {
            Ref::Call {
                function, namespaced, ..
            } => (function.clone(), *namespaced),
            _ => (function.to_string(), false),
        };
        let receiver = target.filter(|_| !namespaced);
        if let Some(node) = self.access(&function, args) {
            return node;
        }
        let mut nodes: Vec<Node> = receiver.into_iter().map(|target| self.node(target)).collect();
        nodes.extend(args.iter().map(|arg| self.node(arg)));
        self.check_literals(&function, args);
        let count = nodes.len();
        match (function.as_str(), count) {
            ("_&&_", 2) => return pair(nodes, Node::And),
            ("_||_", 2) => return pair(nodes, Node::Or),
            ("@not_strictly_false", 1) => return nodes.pop().map_or(NULL, |node| Node::NotFalse(Box::new(node))),
            ("_?_:_", 3) => {
                return <[Node; 3]>::try_from(nodes).map_or(NULL, |nodes| Node::Conditional(Box::new(nodes)));
            }
            ("or" | "orValue", 2) => {
                return <[Node; 2]>::try_from(nodes).map_or(NULL, |sides| Node::OrElse {
                    sides: Box::new(sides),
                    unwrap: function == "orValue",
                });
            }
            ("@in", 2) => {
                if let Node::Const(Value::List(list)) = &nodes[1]
                    && let Some(set) = Constants::of(list)
                {
                    let item = Box::new(nodes.swap_remove(0));
                    return Node::InSet {
                        item,
                        set: Box::new(set),
                    };
                }
            }
            (_, 1) if is_conversion(&function) => {
                if let Some(value) = converted(&function, &nodes[0]) {
                    return Node::Const(value);
                }
            }
            ("matches", 2) => {
                if let Node::Const(pattern) = &nodes[1]
                    && let Some(Ok(regex)) = pattern.as_str().map(compile)
                {
                    let (regex, pattern) = (Box::new(regex), pattern.clone());
                    let text = Box::new(nodes.swap_remove(0));
                    return Node::Matches { text, regex, pattern };
                }
            }
            _ => {}
        }
        let Some(found) = functions::function(&function) else {
            self.issues.push(Issue {
                offset: expr.offset,
                message: format!("undeclared reference to '{function}' (in container '')"),
            });
            return NULL;
        };
        Node::Call(Box::new(CallNode {
            function: found,
            price: price(&function),
            args: nodes.into(),
        }))
    }

    /// `a.?b`, `a[b]` and `a[?b]`.
    fn access(&mut self, function: &str, args: &[Expr]) -> Option<Node> {
        let (operand, key) = match (function, args) {
            ("_?._" | "_[_]" | "_[?_]", [operand, key]) => (self.chained(operand), key),
            _ => return None,
        };
        if function == "_?._" {
            let field = match &key.kind {
                Kind::Literal(Literal::String(name)) => name.as_str().into(),
                _ => "".into(),
            };
            let operand = Box::new(operand);
            return Some(Node::OptionalSelect { operand, field });
        }
        let index = self.node(key);
        Some(Node::Index(Box::new(IndexNode {
            free: is_chain(&index),
            operand,
            index,
            optional: function == "_[?_]",
        })))
    }

    /// Literals that can never be read are refused now, not at every evaluation.
    fn check_literals(&mut self, function: &str, args: &[Expr]) {
        let Some((offset, text)) = args.last().and_then(|arg| match &arg.kind {
            Kind::Literal(Literal::String(text)) => Some((arg.offset, text)),
            _ => None,
        }) else {
            return;
        };
        let message = match function {
            "matches" => compile(text).err().map(|_| "invalid matches argument".to_string()),
            "duration" => functions::convert::parse_duration(text)
                .is_none()
                .then(|| "invalid duration argument".to_string()),
            "timestamp" => functions::convert::parse_timestamp(text)
                .is_none()
                .then(|| "invalid timestamp argument".to_string()),
            _ => None,
        };
        if let Some(message) = message {
            self.issues.push(Issue { offset, message });
        }
    }

    fn fold(&mut self, fold: &Fold) -> Node {
        if fold.bind {
            let init = self.boxed(&fold.init);
            let slot = self.push(&fold.accu);
            let body = self.boxed(&fold.result);
            self.scopes.pop();
            let twice = fold.accu == TARGET;
            return Node::Bind {
                slot,
                init,
                body,
                twice,
            };
        }
        let range = self.node(&fold.range);
        let init = self.node(&fold.init);
        let depth = self.scopes.len();
        let accu = self.push(&fold.accu);
        let var = self.push(&fold.var);
        let var2 = fold.var2.as_ref().map(|name| self.push(name));
        let slots = Slots { var, var2 };
        let node = if let Some((filter, what)) = gathered(fold) {
            let filter = filter.map(|filter| self.node(filter));
            let what = match what.as_slice() {
                [item] => Gathered::Item(self.node(item)),
                [_, map] => Gathered::Map(self.node(map)),
                [_, key, value] => Gathered::Entry {
                    key: self.node(key),
                    value: self.node(value),
                },
                _ => Gathered::Item(NULL),
            };
            Node::Gather(Box::new(GatherNode {
                range,
                slots,
                filter,
                what,
            }))
        } else {
            let condition = match fold.condition.kind {
                Kind::Literal(Literal::Bool(true)) => None,
                _ => Some(self.node(&fold.condition)),
            };
            let step = self.node(&fold.step);
            self.scopes.truncate(depth + 1);
            Node::Fold(Box::new(FoldNode {
                range,
                slots,
                accu,
                init,
                condition,
                step,
                result: self.node(&fold.result),
            }))
        };
        self.scopes.truncate(depth);
        node
    }
}

const NULL: Node = Node::Const(Value::Null);

fn pair(nodes: Vec<Node>, make: fn(Box<[Node; 2]>) -> Node) -> Node {
    <[Node; 2]>::try_from(nodes).map_or(NULL, |nodes| make(Box::new(nodes)))
}

fn is_conversion(function: &str) -> bool {
    matches!(
        function,
        "int" | "uint" | "double" | "string" | "bytes" | "timestamp" | "duration"
    )
}

/// A conversion of a constant is one, unless it fails: that shows when it is evaluated.
fn converted(function: &str, arg: &Node) -> Option<Value<'static>> {
    let Node::Const(arg) = arg else { return None };
    let bindings = Bindings::new();
    let meter = Meter::new(Limits::default());
    let convert = functions::function(function)?;
    convert(&mut Ctx::new(&bindings, &meter, 0), std::slice::from_ref(arg)).ok()
}

/// A map of constants is one constant, unless its keys are wrong.
fn map(entries: Vec<EntryNode>) -> Node {
    let mut made = OwnedMap::default();
    for entry in &entries {
        let (Node::Const(key), Node::Const(value), false) = (&entry.key, &entry.value, entry.optional) else {
            return Node::Map(entries.into());
        };
        if made.insert(key.clone(), value.clone()).is_err() {
            return Node::Map(entries.into());
        }
    }
    Node::Const(Value::Map(Map::Owned(Arc::new(made))))
}

/// A list of constants is one constant.
fn list(nodes: Vec<Node>, optional: Vec<bool>) -> Node {
    let any_optional = optional.contains(&true);
    if !any_optional && nodes.iter().all(|node| matches!(node, Node::Const(_))) {
        let items = nodes
            .into_iter()
            .filter_map(|node| match node {
                Node::Const(value) => Some(value),
                _ => None,
            })
            .collect();
        return Node::Const(Value::List(List::Owned(Arc::new(items), None)));
    }
    Node::List {
        items: nodes.into(),
        optional: if any_optional { optional.into() } else { Box::new([]) },
    }
}

/// The filter and what is added, where a fold does nothing but add: the item of a list,
/// or the arguments of a map's insertion.
fn gathered(fold: &Fold) -> Option<(Option<&Expr>, Vec<&Expr>)> {
    fn is_accu(expr: &Expr) -> bool {
        matches!(&expr.kind, Kind::Ident(name) if name == ACCU)
    }
    fn call(expr: &Expr) -> Option<(&str, &[Expr])> {
        match &expr.kind {
            Kind::Call {
                function,
                target: None,
                args,
            } => Some((function, args)),
            _ => None,
        }
    }
    if fold.accu != ACCU {
        return None;
    }
    let (filter, step) = match call(&fold.step) {
        Some(("_?_:_", [filter, step, same])) if is_accu(same) => (Some(filter), step),
        _ => (None, &fold.step),
    };
    let what = match (&fold.init.kind, call(step)?) {
        (Kind::List(empty), ("_+_", [accu, one])) if empty.is_empty() && is_accu(accu) => match &one.kind {
            Kind::List(items) if items.len() == 1 => vec![&items[0].value],
            _ => return None,
        },
        (Kind::Map(empty), ("cel.@mapInsert", args)) if empty.is_empty() && args.first().is_some_and(is_accu) => {
            args.iter().collect()
        }
        _ => return None,
    };
    Some((filter, what))
}
