//! What is evaluated: the planned form of an expression.

use crate::containers::List;
use crate::decl::ObjectType;
use crate::functions::Function;
use crate::meter::Price;
use crate::value::Value;
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
    /// A fold that adds to a list or map: `map`, `filter`, `transformMap`, ...
    Gather(Box<GatherNode>),
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
    pub fn of(list: &List<'static>) -> Option<Self> {
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
pub struct GatherNode {
    pub range: Node,
    pub slots: Slots,
    pub filter: Option<Node>,
    pub what: Gathered,
}

/// What each iteration adds.
#[derive(Debug)]
pub enum Gathered {
    Item(Node),
    Entry {
        key: Node,
        value: Node,
    },
    /// A map of one entry.
    Map(Node),
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
