//! From the checked tree to nodes that evaluate fast: names become slots, functions
//! become pointers, constants are made once, and loops that build lists say so.

use crate::ast::{Expr, Fold, Kind, Literal};
use crate::bindings::Bindings;
use crate::check::{Checked, Ref};
use crate::decl::ObjectType;
use crate::error::Issue;
use crate::eval::Ctx;
use crate::functions::{self, Function, regex::compile};
use crate::macros::{ACCU, TARGET};
use crate::meter::{Limits, Meter, Price, price};
use crate::types::Type;
use crate::value::{List, Map, OwnedMap, Value};
use std::collections::HashSet;
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
    /// `has(operand.field)`.
    Test {
        operand: Box<Node>,
        field: Box<str>,
    },
    /// `operand.?field`.
    OptionalSelect {
        operand: Box<Node>,
        field: Box<str>,
    },
    /// `operand[index]`, or `operand[?index]`.
    Index(Box<IndexNode>),
    /// What stands around it starts from a value that is no chain of names: one step more.
    Rooted(Box<Node>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Conditional(Box<[Node; 3]>),
    /// `optional.or(other)`, `optional.orValue(other)`: the other only where it is needed.
    OrElse {
        sides: Box<[Node; 2]>,
        unwrap: bool,
    },
    /// `item in [constants]`: free of charge.
    InSet {
        item: Box<Node>,
        set: Box<Constants>,
    },
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
        /// The bound value is written twice in the macro's expansion, and paid twice where it is there.
        twice: bool,
    },
    /// A bound value that the macro made a name for: naming it is free.
    FreeLocal(usize),
}

#[derive(Debug)]
pub struct IndexNode {
    pub operand: Node,
    pub index: Node,
    pub optional: bool,
    /// The index is a chain of names, which costs nothing itself.
    pub free: bool,
}

/// Constants to look for.
#[derive(Debug, Default)]
pub struct Constants {
    texts: HashSet<Box<str>>,
    numbers: HashSet<i128>,
    booleans: [bool; 2],
}

impl Constants {
    /// `None` where there are others than text, booleans and whole numbers.
    fn of(list: &List<'static>) -> Option<Self> {
        let mut set = Self::default();
        for item in list.iter() {
            match item {
                Value::String(text) => drop(set.texts.insert(text.as_str().into())),
                Value::Int(value) => drop(set.numbers.insert(value.into())),
                Value::Uint(value) => drop(set.numbers.insert(value.into())),
                Value::Bool(value) => set.booleans[usize::from(value)] = true,
                _ => return None,
            }
        }
        Some(set)
    }

    pub fn contains(&self, value: &Value<'_>) -> bool {
        match value {
            Value::String(text) => self.texts.contains(text.as_str()),
            Value::Int(value) => self.numbers.contains(&(*value).into()),
            Value::Uint(value) => self.numbers.contains(&(*value).into()),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 1e20 => {
                self.numbers.contains(&(*value as i128))
            }
            Value::Bool(value) => self.booleans[usize::from(*value)],
            _ => false,
        }
    }
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

/// Names, fields and positions, one after the other.
pub fn is_chain(node: &Node) -> bool {
    match node {
        Node::Variable(_) | Node::Local(_) => true,
        Node::Select { operand, .. } | Node::OptionalSelect { operand, .. } => is_chain(operand),
        Node::Index(index) => is_chain(&index.operand),
        _ => false,
    }
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
