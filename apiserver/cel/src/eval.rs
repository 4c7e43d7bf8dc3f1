//! The evaluator: walks the planned nodes, pays for each step, and looks into the
//! caller's data in place.

use crate::bindings::Bindings;
use crate::compare::Equality;
use crate::containers::{Map, OwnedMap};
use crate::error::EvalError;
use crate::functions::operators::{index, optional_index};
use crate::functions::regex::Patterns;
use crate::meter::{LIST_COST, MAP_COST, Meter, Price, STRUCT_COST, price_of_call, price_of_result, scaled};
use crate::meter::{REGEX_FACTOR, TEXT_FACTOR};
use crate::node::{CallNode, EntryNode, FieldNode, FoldNode, GatherNode, Gathered, IndexNode, Node, Slots, is_chain};
use crate::value::{Struct, Value, shown};
use std::collections::BTreeMap;
use std::sync::Arc;

pub type Evaluated<'a> = Result<Value<'a>, EvalError>;

/// No expression may make a longer list or map, or longer text: sizes add up and
/// multiply faster than costs.
pub const ITEMS_MAX: usize = 1_000_000;
pub const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One evaluation.
pub struct Ctx<'a, 'b> {
    pub bindings: &'b Bindings<'a>,
    pub meter: &'b Meter<'b>,
    pub patterns: Patterns,
    /// Comprehension variables. A result may be an error that a later step absorbs.
    locals: Vec<Evaluated<'a>>,
}

impl<'a, 'b> Ctx<'a, 'b> {
    pub fn new(bindings: &'b Bindings<'a>, meter: &'b Meter<'b>, slots: usize) -> Self {
        Self {
            bindings,
            meter,
            patterns: Patterns::default(),
            locals: vec![Ok(Value::Null); slots],
        }
    }

    /// Compares for equality, within the work that is left.
    pub fn equality<T>(&self, compare: impl FnOnce(&mut Equality) -> T) -> Result<T, EvalError> {
        let mut equality = Equality::within(self.meter.work_left());
        let found = compare(&mut equality);
        self.meter.work(equality.steps())?;
        Ok(found)
    }

    pub fn eval(&mut self, node: &'a Node) -> Evaluated<'a> {
        match node {
            Node::Const(value) => Ok(value.clone()),
            Node::Variable(name) => {
                self.meter.charge(1)?;
                self.bindings.get(name)
            }
            Node::Local(slot) => {
                self.meter.charge(1)?;
                self.locals[*slot].clone()
            }
            Node::Select { operand, field } => {
                let operand = self.eval(operand)?;
                self.meter.charge(1)?;
                self.select(&operand, field)
            }
            Node::Index(index) => self.index(index),
            Node::Call(call) => self.call(call),
            Node::And(sides) => self.logic(sides, false),
            Node::Or(sides) => self.logic(sides, true),
            Node::Conditional(parts) => self.conditional(parts),
            other => self.eval_rare(other),
        }
    }

    /// Apart from [`Self::eval`], whose stack frame is to stay small: it recurses.
    #[inline(never)]
    fn eval_rare(&mut self, node: &'a Node) -> Evaluated<'a> {
        match node {
            Node::FreeLocal(slot) => self.locals[*slot].clone(),
            Node::Rooted(inner) => {
                let value = self.eval(inner)?;
                self.meter.charge(1)?;
                Ok(value)
            }
            Node::OrElse { sides, unwrap } => self.or_else(sides, *unwrap),
            Node::InSet { item, set } => Ok(Value::Bool(set.contains(&self.eval(item)?))),
            Node::Test { operand, field } => self.test(operand, field),
            Node::OptionalSelect { operand, field } => self.optional_select(operand, field),
            Node::NotFalse(inner) => self.not_false(inner),
            Node::Matches { text, regex, pattern } => self.matches(text, regex, pattern),
            Node::List { items, optional } => self.list(items, optional),
            Node::Map(entries) => self.map(entries),
            Node::Struct { object, fields } => self.structure(object, fields),
            Node::Fold(fold) => self.fold(fold),
            Node::Gather(gather) => self.gather(gather),
            Node::Bind {
                slot,
                init,
                body,
                twice,
            } => {
                let before = self.meter.spent();
                let value = settled(self.eval(init))?;
                if *twice && matches!(value, Ok(Value::Optional(Some(_)))) {
                    self.meter.charge(self.meter.spent().saturating_sub(before))?;
                }
                self.locals[*slot] = value;
                self.eval(body)
            }
            // All others are eval's.
            _ => Err(EvalError::failed("internal error: node out of place")),
        }
    }

    fn select(&mut self, operand: &Value<'a>, field: &'a str) -> Evaluated<'a> {
        let found = match operand {
            Value::Map(map) => map.field(field),
            Value::Variables => return self.bindings.variable(field, self.meter),
            Value::Struct(made) => struct_field(made, field),
            Value::Optional(None) => return Ok(Value::none()),
            Value::Optional(Some(inner)) => return self.optional_field(&inner.clone(), field),
            _ => return Err(EvalError::no_such_overload()),
        };
        found.ok_or_else(|| EvalError::failed(format!("no such key: {field}")))
    }

    /// `.?field`: none where it is missing.
    fn optional_field(&mut self, operand: &Value<'a>, field: &'a str) -> Evaluated<'a> {
        let found = match operand {
            Value::Map(map) => map.field(field),
            Value::Struct(made) => struct_field(made, field),
            Value::Variables if self.bindings.has_variable(field) => Some(self.bindings.variable(field, self.meter)?),
            Value::Optional(None) | Value::Variables | Value::Null => None,
            Value::Optional(Some(inner)) => return self.optional_field(&inner.clone(), field),
            _ => return Err(EvalError::no_such_overload()),
        };
        Ok(match found {
            Some(optional @ Value::Optional(_)) => optional,
            Some(value) => Value::some(value),
            None => Value::none(),
        })
    }

    #[inline(never)]
    fn optional_select(&mut self, operand: &'a Node, field: &'a str) -> Evaluated<'a> {
        let operand = self.eval(operand)?;
        let found = self.optional_field(&operand, field)?;
        // What is not there is not selected.
        if matches!(found, Value::Optional(Some(_))) {
            self.meter.charge(1)?;
        }
        Ok(found)
    }

    fn index(&mut self, node: &'a IndexNode) -> Evaluated<'a> {
        let operand = self.eval(&node.operand)?;
        let before = self.meter.spent();
        let key = self.eval(&node.index)?;
        if node.free {
            self.meter.refund_to(before);
        }
        let args = [operand, key];
        if !node.optional {
            self.meter.charge(1)?;
            return index(&args);
        }
        let found = optional_index(&args)?;
        if matches!(found, Value::Optional(Some(_))) {
            self.meter.charge(1)?;
        }
        Ok(found)
    }

    #[inline(never)]
    fn or_else(&mut self, sides: &'a [Node; 2], unwrap: bool) -> Evaluated<'a> {
        let left = self.eval(&sides[0])?;
        match &left {
            Value::Optional(Some(inner)) if unwrap => Ok((**inner).clone()),
            Value::Optional(Some(_)) => Ok(left),
            Value::Optional(None) => self.eval(&sides[1]),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    #[inline(never)]
    fn test(&mut self, operand: &'a Node, field: &str) -> Evaluated<'a> {
        let operand = self.eval(operand)?;
        let present = |value: &Value<'a>| match value {
            Value::Map(map) => Ok(map.field(field).is_some()),
            Value::Struct(made) => Ok(struct_field(made, field).is_some()),
            Value::Variables => Ok(self.bindings.has_variable(field)),
            Value::Optional(None) => Ok(false),
            _ => Err(EvalError::no_such_overload()),
        };
        match &operand {
            Value::Optional(Some(inner)) => present(inner),
            value => present(value),
        }
        .map(Value::Bool)
    }

    /// `&&` (settled by false) and `||` (settled by true): the side that settles wins
    /// over an error of the other.
    fn logic(&mut self, sides: &'a [Node; 2], settles: bool) -> Evaluated<'a> {
        let left = self.eval(&sides[0]);
        match &left {
            Ok(Value::Bool(value)) if *value == settles => return left,
            Err(error) if error.is_final() => return left,
            _ => {}
        }
        let right = self.eval(&sides[1]);
        match (&left, &right) {
            (_, Ok(Value::Bool(value))) if *value == settles => right,
            (_, Err(error)) if error.is_final() => right,
            (Ok(Value::Bool(_)), Ok(Value::Bool(_))) => right,
            (Err(_), _) => left,
            (_, Err(_)) => right,
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn conditional(&mut self, parts: &'a [Node; 3]) -> Evaluated<'a> {
        let branch = match self.eval(&parts[0])? {
            Value::Bool(true) => &parts[1],
            Value::Bool(false) => &parts[2],
            _ => return Err(EvalError::no_such_overload()),
        };
        let value = self.eval(branch)?;
        // The name a branch starts with is free.
        if is_chain(branch) {
            self.meter.refund(1);
        }
        Ok(value)
    }

    #[inline(never)]
    fn not_false(&mut self, inner: &'a Node) -> Evaluated<'a> {
        let value = settled(self.eval(inner))?;
        self.meter.charge(1)?;
        Ok(Value::Bool(!matches!(value, Ok(Value::Bool(false)))))
    }

    fn call(&mut self, call: &'a CallNode) -> Evaluated<'a> {
        // The usual counts stay on the stack. Both sides are evaluated, and the call is
        // paid, even where one fails.
        match &*call.args {
            [a] => match settled(self.eval(a))? {
                Ok(a) => self.apply(call, &[a]),
                Err(error) => self.refused(call, error),
            },
            [a, b] => {
                let a = settled(self.eval(a))?;
                let b = settled(self.eval(b))?;
                match (a, b) {
                    (Ok(a), Ok(b)) => self.apply(call, &[a, b]),
                    (Err(error), _) | (_, Err(error)) => self.refused(call, error),
                }
            }
            nodes => {
                let args = nodes
                    .iter()
                    .map(|node| self.eval(node))
                    .collect::<Result<Vec<_>, _>>()?;
                self.apply(call, &args)
            }
        }
    }

    #[inline(never)]
    fn refused(&mut self, call: &CallNode, error: EvalError) -> Evaluated<'a> {
        self.meter.charge(match call.price {
            Price::Fixed(cost) => cost,
            _ => 1,
        })?;
        Err(error)
    }

    fn apply(&mut self, call: &'a CallNode, args: &[Value<'a>]) -> Evaluated<'a> {
        // Paid before it is done: what cannot be paid may be too big to do.
        self.meter.charge(price_of_call(call.price, args))?;
        let result = (call.function)(self, args)?;
        self.meter.charge(price_of_result(call.price, &result))?;
        Ok(result)
    }

    #[inline(never)]
    fn matches(&mut self, text: &'a Node, regex: &regex::Regex, pattern: &Value<'_>) -> Evaluated<'a> {
        let text = self.eval(text)?;
        let cost = scaled(text.size().saturating_add(1), TEXT_FACTOR);
        self.meter
            .charge(cost.saturating_mul(scaled(pattern.size(), REGEX_FACTOR)))?;
        match text.as_str() {
            Some(text) => Ok(Value::Bool(regex.is_match(text))),
            None => Err(EvalError::no_such_overload()),
        }
    }

    #[inline(never)]
    fn list(&mut self, nodes: &'a [Node], optional: &[bool]) -> Evaluated<'a> {
        let mut items = Vec::with_capacity(nodes.len());
        for (at, node) in nodes.iter().enumerate() {
            let value = self.eval(node)?;
            if !optional.get(at).copied().unwrap_or(false) {
                items.push(value);
                continue;
            }
            items.extend(inside(value)?);
        }
        self.meter.charge(LIST_COST)?;
        Ok(Value::list(items))
    }

    #[inline(never)]
    fn map(&mut self, entries: &'a [EntryNode]) -> Evaluated<'a> {
        let mut made = OwnedMap::default();
        for entry in entries {
            let key = self.eval(&entry.key)?;
            let value = self.eval(&entry.value)?;
            let value = if entry.optional { inside(value)? } else { Some(value) };
            if let Some(value) = value {
                let name = shown(&key);
                made.insert(key, value).map_err(|error| match error {
                    EvalError::Failed(text) if text.contains("already exists") => {
                        EvalError::failed(format!("Failed with repeated key: {name}"))
                    }
                    other => other,
                })?;
            }
        }
        self.meter.charge(MAP_COST)?;
        Ok(Value::Map(Map::Owned(Arc::new(made))))
    }

    #[inline(never)]
    fn structure(&mut self, object: &Arc<crate::decl::ObjectType>, nodes: &'a [FieldNode]) -> Evaluated<'a> {
        let mut fields = BTreeMap::new();
        for node in nodes {
            let value = self.eval(&node.value)?;
            let value = if node.optional { inside(value)? } else { Some(value) };
            if let Some(value) = value {
                fields.insert(node.name.to_string(), value);
            }
        }
        self.meter.charge(STRUCT_COST)?;
        Ok(Value::Struct(Arc::new(Struct {
            object: object.clone(),
            fields,
        })))
    }

    /// Runs `each` for every item of `range`, its variables set, until it says stop.
    fn iterate(
        &mut self,
        range: &Value<'a>,
        slots: &Slots,
        mut each: impl FnMut(&mut Self) -> Result<bool, EvalError>,
    ) -> Result<(), EvalError> {
        let mut visit = |ctx: &mut Self, first: Value<'a>, second: Value<'a>| {
            ctx.meter.tick()?;
            ctx.locals[slots.var] = Ok(first);
            if let Some(var2) = slots.var2 {
                ctx.locals[var2] = Ok(second);
            }
            each(ctx)
        };
        match range {
            Value::List(list) => {
                for (at, item) in list.iter().enumerate() {
                    let (first, second) = match slots.var2 {
                        Some(_) => (Value::Int(at as i64), item),
                        None => (item, Value::Null),
                    };
                    if !visit(self, first, second)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (key, value) in map.iter() {
                    if !visit(self, key, value)? {
                        break;
                    }
                }
            }
            _ => return Err(EvalError::no_such_overload()),
        }
        Ok(())
    }

    #[inline(never)]
    fn fold(&mut self, fold: &'a FoldNode) -> Evaluated<'a> {
        let range = self.eval(&fold.range)?;
        self.locals[fold.accu] = settled(self.eval(&fold.init))?;
        self.iterate(&range, &fold.slots, |ctx| {
            if let Some(condition) = &fold.condition
                && let Value::Bool(false) = ctx.eval(condition)?
            {
                return Ok(false);
            }
            ctx.locals[fold.accu] = settled(ctx.eval(&fold.step))?;
            Ok(true)
        })?;
        self.eval(&fold.result)
    }

    #[inline(never)]
    fn gather(&mut self, gather: &'a GatherNode) -> Evaluated<'a> {
        let range = self.eval(&gather.range)?;
        let (mut items, mut entries) = (Vec::new(), OwnedMap::default());
        self.iterate(&range, &gather.slots, |ctx| {
            if let Some(filter) = &gather.filter {
                match ctx.eval(filter)? {
                    Value::Bool(true) => {}
                    Value::Bool(false) => return Ok(true),
                    _ => return Err(EvalError::no_such_overload()),
                }
            }
            // To add is to name what there is so far, and to call a function.
            const ADDED: u64 = 2;
            match &gather.what {
                Gathered::Item(item) => {
                    items.push(ctx.eval(item)?);
                    ctx.meter.charge(ADDED + LIST_COST)?;
                }
                Gathered::Entry { key, value } => {
                    let key = ctx.eval(key)?;
                    let value = ctx.eval(value)?;
                    ctx.meter.charge(ADDED)?;
                    entries.insert(key, value)?;
                }
                Gathered::Map(map) => {
                    let Value::Map(map) = ctx.eval(map)? else {
                        return Err(EvalError::no_such_overload());
                    };
                    ctx.meter.charge(ADDED)?;
                    if map.len() != 1 {
                        return Err(EvalError::failed("map entry literal must contain exactly one entry"));
                    }
                    for (key, value) in map.iter() {
                        entries.insert(key, value)?;
                    }
                }
            }
            Ok(true)
        })?;
        self.meter.charge(1)?;
        Ok(match gather.what {
            Gathered::Item(_) => Value::list(items),
            _ => Value::Map(Map::Owned(Arc::new(entries))),
        })
    }
}

/// An ordinary error as a value; a final one ends the evaluation.
fn settled(value: Evaluated<'_>) -> Result<Evaluated<'_>, EvalError> {
    match value {
        Err(error) if error.is_final() => Err(error),
        other => Ok(other),
    }
}

/// What an optional item or field holds.
fn inside(value: Value<'_>) -> Result<Option<Value<'_>>, EvalError> {
    match value {
        Value::Optional(inner) => Ok(inner.map(|inner| (*inner).clone())),
        _ => Err(EvalError::failed(
            "cannot initialize optional entry from non-optional value",
        )),
    }
}

fn struct_field<'a>(made: &Struct<'a>, field: &str) -> Option<Value<'a>> {
    made.object
        .field(field)
        .and_then(|known| made.fields.get(&known.name).cloned())
}
