//! The static estimate: the least and the most an expression may cost, from its form
//! and from the sizes its variables are declared with. What it says decides which
//! rules a custom resource definition may have, so it must say what upstream says.

mod calls;
mod range;

pub use range::Range;

use crate::ast::{Expr, Fold, Kind, Literal};
use crate::check::{Checked, Ref};
use crate::decl::{DeclType, Shape};
use crate::env::Env;
use crate::macros::TARGET;
use crate::meter::{LIST_COST, MAP_COST, STRUCT_COST};
use crate::types::Type;
use std::collections::HashMap;

pub fn estimate(env: &Env, expr: &Expr, checked: &Checked) -> Range {
    let mut coster = Coster {
        env,
        checked,
        locals: Vec::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        origins: HashMap::new(),
    };
    coster.cost(expr)
}

/// The sizes of a container's keys (or positions) and values.
#[derive(Debug, Clone, Copy)]
struct Entries {
    is_list: bool,
    key: Range,
    value: Range,
}

impl Entries {
    fn union(self, other: Self) -> Self {
        Self {
            is_list: self.is_list,
            key: self.key.union(other.key),
            value: self.value.union(other.value),
        }
    }
}

struct Local {
    name: String,
    origin: Option<DeclType>,
    size: Option<Range>,
    entries: Option<Entries>,
}

struct Coster<'e> {
    env: &'e Env,
    checked: &'e Checked,
    locals: Vec<Local>,
    /// By expression id: what is known of results.
    sizes: HashMap<u32, Range>,
    entries: HashMap<u32, Entries>,
    /// The declaration of data that an expression leads to.
    origins: HashMap<u32, DeclType>,
}

/// Naming a variable, selecting a field.
const STEP: Range = Range::exactly(1);

impl Coster<'_> {
    fn ty(&self, expr: &Expr) -> &Type {
        &self.checked.types[expr.id as usize]
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| local.name == name)
    }

    fn cost(&mut self, expr: &Expr) -> Range {
        if let Ref::Variable(name) = &self.checked.refs[expr.id as usize] {
            if let Some(decl) = self.env.variable_decl(name) {
                self.origins.insert(expr.id, decl.clone());
            }
            return STEP;
        }
        match &expr.kind {
            Kind::Literal(_) => Range::ZERO,
            Kind::Ident(name) if name == TARGET => Range::ZERO,
            Kind::Ident(name) => {
                if let Some(origin) = self.local(name).and_then(|local| local.origin.clone()) {
                    self.origins.insert(expr.id, origin);
                }
                STEP
            }
            Kind::Select { operand, field, test } => self.select(expr, operand, field, *test),
            Kind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            Kind::List(items) => {
                let mut sum = Range::exactly(LIST_COST);
                let mut sizes = Vec::new();
                for item in items {
                    sum = sum.add(self.cost(&item.value));
                    sizes.push(self.size_or_unknown(&item.value));
                }
                let entries = Entries {
                    is_list: true,
                    key: Range::exactly(1),
                    value: all(&sizes),
                };
                self.entries.insert(expr.id, entries);
                sum
            }
            Kind::Map(entries) => {
                let mut sum = Range::exactly(MAP_COST);
                let (mut keys, mut values) = (Vec::new(), Vec::new());
                for entry in entries {
                    sum = sum.add(self.cost(&entry.key)).add(self.cost(&entry.value));
                    keys.push(self.size_or_unknown(&entry.key));
                    values.push(self.size_or_unknown(&entry.value));
                }
                let entries = Entries {
                    is_list: false,
                    key: all(&keys),
                    value: all(&values),
                };
                self.entries.insert(expr.id, entries);
                sum
            }
            Kind::Struct { fields, .. } => fields.iter().fold(Range::exactly(STRUCT_COST), |sum, field| {
                sum.add(self.cost(&field.value))
            }),
            Kind::Fold(fold) if fold.bind => self.bind(expr, fold),
            Kind::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, test: bool) -> Range {
        let cost = self.cost(operand);
        // `has()` itself costs nothing.
        if test {
            return cost;
        }
        let own = match self.ty(operand) {
            Type::Map(_) | Type::Object(_) => STEP,
            _ => Range::ZERO,
        };
        if let Some(origin) = self.origins.get(&operand.id).and_then(|decl| field_of(decl, field)) {
            self.origins.insert(expr.id, origin);
        }
        cost.add(own)
    }

    fn call(&mut self, expr: &Expr, function: &str, target: Option<&Expr>, args: &[Expr]) -> Range {
        let (name, namespaced, overloads) = match &self.checked.refs[expr.id as usize] {
            Ref::Call {
                function,
                namespaced,
                overloads,
            } => (function.clone(), *namespaced, overloads.clone()),
            _ => (function.to_string(), false, Vec::new()),
        };
        if let ("dyn", [arg]) = (name.as_str(), args) {
            let cost = self.cost(arg).add(Range::exactly(1));
            self.copy_sizes(expr, arg);
            return cost;
        }
        let costs: Vec<Range> = args.iter().map(|arg| self.cost(arg)).collect();
        let target = target.filter(|_| !namespaced);
        let mut sum = target.map_or(Range::ZERO, |target| self.cost(target));
        let mut own = Range { min: u64::MAX, max: 0 };
        let mut result = None;
        for overload in &overloads {
            let (cost, size) = self.call_cost(expr, &name, overload, target, args, &costs);
            own = own.union(cost);
            result = match (result, size) {
                (Some(known), Some(size)) => Some(Range::union(known, size)),
                (known, size) => known.or(size),
            };
            if matches!(*overload, "index_list" | "index_map") {
                result = self.entries_of(&args[0]).map(|entries| entries.value);
                if let Some(items) = self.origin(&args[0]).and_then(|decl| decl.items().cloned()) {
                    self.origins.insert(expr.id, items);
                }
            }
            if result.is_none() {
                result = self.size(expr);
            }
        }
        if let Some(size) = result {
            self.sizes.insert(expr.id, size);
        }
        if overloads.is_empty() {
            return Range::ZERO;
        }
        sum = sum.add(own);
        sum
    }

    fn push(&mut self, name: &str, origin: Option<DeclType>, size: Option<Range>, entries: Option<Entries>) {
        self.locals.push(Local {
            name: name.to_string(),
            origin,
            size,
            entries,
        });
    }

    fn push_bound(&mut self, name: &str, expr: &Expr) {
        let (origin, size, entries) = (self.origin(expr), self.size(expr), self.entries_of(expr));
        self.push(name, origin, size, entries);
    }

    fn bind(&mut self, expr: &Expr, fold: &Fold) -> Range {
        let init = self.cost(&fold.init);
        // An optional's target stands twice in what its macro is a short form of.
        let mut sum = if fold.accu == TARGET {
            init.add(init)
        } else {
            self.cost(&fold.range).add(init)
        };
        self.push_bound(&fold.accu, &fold.init);
        sum = sum.add(self.cost(&fold.result));
        // Sizes of the result may hang on the variable: taken while it is known.
        self.copy_sizes(expr, &fold.result);
        self.locals.pop();
        sum
    }

    fn fold(&mut self, expr: &Expr, fold: &Fold) -> Range {
        let mut sum = self.cost(&fold.range).add(self.cost(&fold.init));
        let depth = self.locals.len();
        self.push_bound(&fold.accu, &fold.init);
        self.push_items(fold);
        let each = self.cost(&fold.condition).add(self.cost(&fold.step));
        let step_entries = self.entries_of(&fold.step);
        self.locals.truncate(depth + 1);
        sum = sum.add(self.cost(&fold.result));
        let init_size = self.size(&fold.init);
        self.locals.truncate(depth);
        let count = self.size_or_unknown(&fold.range);
        match &fold.init.kind {
            Kind::Literal(_) => {
                if let Some(size) = init_size {
                    self.sizes.insert(expr.id, size);
                }
            }
            Kind::List(_) | Kind::Map(_) => {
                self.sizes.insert(expr.id, count);
                if let Some(entries) = step_entries {
                    self.entries.insert(expr.id, entries);
                }
            }
            _ => {}
        }
        sum.add(count.multiply(each))
    }

    fn push_items(&mut self, fold: &Fold) {
        let entries = self.entries_of(&fold.range);
        let origin = self.origin(&fold.range);
        let is_list = entries.map_or_else(
            || matches!(self.ty(&fold.range), Type::List(_)),
            |entries| entries.is_list,
        );
        let items = origin.as_ref().and_then(DeclType::items).cloned();
        let keys = match origin.map(|origin| origin.shape) {
            Some(Shape::Map { .. }) => Some(key_decl()),
            _ => None,
        };
        let (key, value) = (entries.map(|entries| entries.key), entries.map(|entries| entries.value));
        match &fold.var2 {
            Some(var2) => {
                self.push(&fold.var, keys, key, None);
                self.push(var2, items, value, None);
            }
            None if is_list => self.push(&fold.var, items, value, None),
            None => self.push(&fold.var, keys, key, None),
        }
    }

    fn origin(&self, expr: &Expr) -> Option<DeclType> {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.origin.clone();
        }
        self.origins.get(&expr.id).cloned()
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        if let Some(size) = self.size(from) {
            self.sizes.insert(to.id, size);
        }
        if let Some(entries) = self.entries_of(from) {
            self.entries.insert(to.id, entries);
        }
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Range {
        self.size(expr).unwrap_or(Range::UNKNOWN)
    }

    /// The size of the expression's value, where something tells.
    fn size(&mut self, expr: &Expr) -> Option<Range> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        match &expr.kind {
            Kind::Literal(literal) => return Some(Range::exactly(literal_size(literal))),
            Kind::List(items) => return Some(Range::exactly(items.len() as u64)),
            Kind::Map(entries) => return Some(Range::exactly(entries.len() as u64)),
            _ => {}
        }
        if let Some(decl) = self.origin(expr) {
            let size = Range {
                min: 0,
                max: decl.max_elements,
            };
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if self.ty(expr).is_scalar() {
            return Some(Range::exactly(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    fn entries_of(&self, expr: &Expr) -> Option<Entries> {
        if let Some(entries) = self.entries.get(&expr.id) {
            return Some(*entries);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.entries),
            _ => None,
        }
    }
}

fn all(sizes: &[Range]) -> Range {
    sizes.iter().copied().reduce(Range::union).unwrap_or(Range::ZERO)
}

fn literal_size(literal: &Literal) -> u64 {
    match literal {
        Literal::String(text) => text.chars().count() as u64,
        Literal::Bytes(bytes) => bytes.len() as u64,
        _ => 1,
    }
}

/// No schema bounds a map's keys, and the estimate takes them for empty.
fn key_decl() -> DeclType {
    DeclType {
        max_elements: 0,
        ..DeclType::string(None)
    }
}

fn field_of(decl: &DeclType, field: &str) -> Option<DeclType> {
    match &decl.shape {
        Shape::Object(object) => object.field(field).map(|field| field.decl.clone()),
        _ => None,
    }
}

#[cfg(test)]
#[path = "cost_test.rs"]
mod tests;
