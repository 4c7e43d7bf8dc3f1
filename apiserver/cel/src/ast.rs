//! The syntax tree. Macros are already expanded in it: a comprehension is a fold.

/// A node: `id` indexes the tables of the checker, `offset` is a byte position.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    pub id: u32,
    pub offset: u32,
    /// Height of the tree below, at least 1. Bounded, so that walks may recurse.
    pub height: u16,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Literal(Literal),
    Ident(String),
    Select {
        operand: Box<Expr>,
        field: String,
        /// `has(operand.field)`.
        test: bool,
    },
    Call {
        function: String,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    List(Vec<Item>),
    Map(Vec<Entry>),
    Struct {
        name: String,
        fields: Vec<Field>,
    },
    Fold(Box<Fold>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub value: Expr,
    pub optional: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub offset: u32,
    pub key: Expr,
    pub value: Expr,
    pub optional: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub offset: u32,
    pub name: String,
    pub value: Expr,
    pub optional: bool,
}

/// For every item of `range` while `condition` holds: `accu = step`; the value is `result`.
#[derive(Debug, Clone, PartialEq)]
pub struct Fold {
    pub range: Expr,
    pub var: String,
    pub var2: Option<String>,
    pub accu: String,
    pub init: Expr,
    pub condition: Expr,
    pub step: Expr,
    pub result: Expr,
    /// A `cel.bind`: no loop, `accu` is the bound name.
    pub bind: bool,
}

impl Expr {
    /// `a.b.c` as one name, where the expression is nothing but names.
    pub fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.clone()),
            Kind::Select {
                operand,
                field,
                test: false,
            } => {
                let mut name = operand.qualified_name()?;
                name.push('.');
                name.push_str(field);
                Some(name)
            }
            _ => None,
        }
    }

    /// The name the chain of selections starts at.
    pub fn root_name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Ident(name) => Some(name),
            Kind::Select {
                operand, test: false, ..
            } => operand.root_name(),
            _ => None,
        }
    }
}
