//! From the checked tree to nodes that evaluate fast: names become slots, functions
//! become pointers, constants are made once, and loops that build lists say so.

use crate::ast::{Expr, Fold, Kind, Literal};
use crate::check::{Checked, Ref};
use crate::decl::ObjectType;
use crate::error::Issue;
use crate::functions::{self, Function, regex::compile};
use crate::macros::ACCU;
use crate::meter::{Price, price};
use crate::types::Type;
use crate::value::{List, Value};
use std::sync::Arc;

#[derive(Debug)]
pub enum Node {
    Const(Value<'static>),
    Variable(Box<str>),
    Local(usize),
    Select {
        operand: Box<Node>,
        field: Box<str>,
    },
    /// `has(operand.field)`; free of charge where the operand is a chain of names.
    Test {
        operand: Box<Node>,
        field: Box<str>,
        free: bool,
    },
    /// `operand.?field`.
    OptionalSelect {
        operand: Box<Node>,
        field: Box<str>,
    },
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Conditional(Box<[Node; 3]>),
    /// Also true of an error: a loop's condition while its result is not settled.
    NotFalse(Box<Node>),
    Call(Box<CallNode>),
    /// A match with a pattern known now.
    Matches {
        text: Box<Node>,
        regex: Box<regex::Regex>,
        pattern: Value<'static>,
    },
    List {
        items: Box<[Node]>,
        /// Which items are optional; empty when none is.
        optional: Box<[bool]>,
    },
    Map(Box<[EntryNode]>),
    Struct {
        object: Arc<ObjectType>,
        fields: Box<[FieldNode]>,
    },
    Fold(Box<FoldNode>),
    /// A fold that appends: `map` and `filter`.
    Append(Box<AppendNode>),
    Bind {
        slot: usize,
        init: Box<Node>,
        body: Box<Node>,
    },
}

#[derive(Debug)]
pub struct CallNode {
    pub function: Function,
    pub price: Price,
    pub args: Box<[Node]>,
}

#[derive(Debug)]
pub struct EntryNode {
    pub key: Node,
    pub value: Node,
    pub optional: bool,
}

#[derive(Debug)]
pub struct FieldNode {
    /// The JSON name.
    pub name: Box<str>,
    pub value: Node,
    pub optional: bool,
}

#[derive(Debug)]
pub struct Slots {
    pub var: usize,
    pub var2: Option<usize>,
}

#[derive(Debug)]
pub struct FoldNode {
    pub range: Node,
    pub slots: Slots,
    pub accu: usize,
    pub init: Node,
    /// `None`: always.
    pub condition: Option<Node>,
    pub step: Node,
    pub result: Node,
}

#[derive(Debug)]
pub struct AppendNode {
    pub range: Node,
    pub slots: Slots,
    pub filter: Option<Node>,
    pub item: Node,
}

/// Functions that are nodes of their own.
#[cfg(test)]
pub fn is_special(function: &str) -> bool {
    matches!(function, "_&&_" | "_||_" | "_?_:_" | "@not_strictly_false")
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
                Some(slot) => Node::Local(slot),
                None => Node::Variable(name.as_str().into()),
            },
            Kind::Select { operand, field, test } => {
                let free = operand.root_name().is_some();
                let operand = self.boxed(operand);
                let field = field.as_str().into();
                if *test {
                    Node::Test { operand, field, free }
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
            Kind::Map(entries) => Node::Map(
                entries
                    .iter()
                    .map(|entry| EntryNode {
                        key: self.node(&entry.key),
                        value: self.node(&entry.value),
                        optional: entry.optional,
                    })
                    .collect(),
            ),
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
        let mut nodes: Vec<Node> = receiver.into_iter().map(|target| self.node(target)).collect();
        if function == "_?._" {
            let field = match args.get(1).map(|arg| &arg.kind) {
                Some(Kind::Literal(Literal::String(name))) => name.as_str().into(),
                _ => "".into(),
            };
            return Node::OptionalSelect {
                operand: self.boxed(&args[0]),
                field,
            };
        }
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
            return Node::Bind { slot, init, body };
        }
        let range = self.node(&fold.range);
        let init = self.node(&fold.init);
        let depth = self.scopes.len();
        let accu = self.push(&fold.accu);
        let var = self.push(&fold.var);
        let var2 = fold.var2.as_ref().map(|name| self.push(name));
        let slots = Slots { var, var2 };
        let appended = appended(fold);
        let node = if let Some((filter, item)) = appended {
            let filter = filter.map(|filter| self.node(filter));
            let item = self.node(item);
            Node::Append(Box::new(AppendNode {
                range,
                slots,
                filter,
                item,
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

/// The filter and the item, where the fold does nothing but append.
fn appended(fold: &Fold) -> Option<(Option<&Expr>, &Expr)> {
    fn is_accu(expr: &Expr) -> bool {
        matches!(&expr.kind, Kind::Ident(name) if name == ACCU)
    }
    fn call<'e>(expr: &'e Expr, wanted: &str) -> Option<&'e [Expr]> {
        match &expr.kind {
            Kind::Call {
                function,
                target: None,
                args,
            } if function == wanted => Some(args),
            _ => None,
        }
    }
    if fold.accu != ACCU || !matches!(&fold.init.kind, Kind::List(items) if items.is_empty()) {
        return None;
    }
    let (filter, step) = match call(&fold.step, "_?_:_") {
        Some([filter, step, same]) if is_accu(same) => (Some(filter), step),
        _ => (None, &fold.step),
    };
    match call(step, "_+_")? {
        [accu, one] if is_accu(accu) => match &one.kind {
            Kind::List(items) if items.len() == 1 => Some((filter, &items[0].value)),
            _ => None,
        },
        _ => None,
    }
}
