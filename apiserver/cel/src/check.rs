//! The type checker: resolves names, functions and types, and reports what does not
//! fit in the words API users know.

use crate::ast::{Entry, Expr, Field, Fold, Item, Kind, Literal};
use crate::decl::ObjectType;
use crate::env::Env;
use crate::error::Issue;
use crate::signatures::{self, Overload};
use crate::types::Type;
use crate::unify::{Unify, most_general};
use std::collections::BTreeSet;

/// What the checker found out, by expression id.
#[derive(Debug)]
pub struct Checked {
    pub types: Vec<Type>,
    pub refs: Vec<Ref>,
    /// Variables the expression mentions.
    pub variables: BTreeSet<String>,
    pub output: Type,
}

/// What a node means.
#[derive(Debug, Clone, Default)]
pub enum Ref {
    #[default]
    None,
    /// A variable of the environment, of this (possibly qualified) name.
    Variable(String),
    Local,
    /// A type's name used as a value.
    Type(Type),
    /// A call: the function's full name and the overloads that fit; with
    /// `namespaced`, what stands before the dot is part of the name and no receiver.
    Call {
        function: String,
        namespaced: bool,
        overloads: Vec<&'static str>,
    },
}

/// As many issues as are collected; the rest would say the same again.
const ISSUES_MAX: usize = 50;

pub fn check(env: &Env, expr: &Expr, ids: u32) -> Result<Checked, Vec<Issue>> {
    let mut checker = Checker {
        env,
        unify: Unify::default(),
        scopes: Vec::new(),
        types: vec![Type::Dyn; ids as usize],
        refs: vec![Ref::None; ids as usize],
        variables: BTreeSet::new(),
        issues: Vec::new(),
    };
    let output = checker.expr(expr);
    if !checker.issues.is_empty() {
        return Err(checker.issues);
    }
    let unify = checker.unify;
    Ok(Checked {
        types: checker.types.iter().map(|ty| unify.resolve(ty, true)).collect(),
        refs: checker.refs,
        variables: checker.variables,
        output: unify.resolve(&output, true),
    })
}

struct Checker<'e> {
    env: &'e Env,
    unify: Unify,
    /// Comprehension variables, innermost last.
    scopes: Vec<(String, Type)>,
    types: Vec<Type>,
    refs: Vec<Ref>,
    variables: BTreeSet<String>,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn issue(&mut self, offset: u32, message: String) -> Type {
        if self.issues.len() < ISSUES_MAX {
            self.issues.push(Issue { offset, message });
        }
        Type::Error
    }

    fn shown(&self, ty: &Type) -> Type {
        self.unify.resolve(ty, true)
    }

    fn refer(&mut self, expr: &Expr, meaning: Ref) {
        self.refs[expr.id as usize] = meaning;
    }

    fn expr(&mut self, expr: &Expr) -> Type {
        let ty = match &expr.kind {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(name) => self.ident(expr, name),
            Kind::Select { operand, field, test } => self.select(expr, operand, field, *test),
            Kind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.structure(expr, name, fields),
            Kind::Fold(fold) => self.fold(fold),
        };
        self.types[expr.id as usize] = ty.clone();
        ty
    }

    fn local(&self, name: &str) -> Option<&Type> {
        self.scopes
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, ty)| ty)
    }

    fn ident(&mut self, expr: &Expr, name: &str) -> Type {
        if let Some(ty) = self.local(name).cloned() {
            self.refer(expr, Ref::Local);
            return ty;
        }
        match self.global(expr, name) {
            Some(ty) => ty,
            None => self.issue(
                expr.offset,
                format!("undeclared reference to '{name}' (in container '')"),
            ),
        }
    }

    /// A variable of the environment or a type, by its full name.
    fn global(&mut self, expr: &Expr, name: &str) -> Option<Type> {
        if let Some(ty) = self.env.variable_type(name) {
            self.variables.insert(name.to_string());
            self.refer(expr, Ref::Variable(name.to_string()));
            return Some(ty);
        }
        let ty = match self.env.object_type(name) {
            Some(object) => Type::Object(object),
            None => Type::named(name)?,
        };
        self.refer(expr, Ref::Type(ty.clone()));
        Some(Type::Type(ty.into()))
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, test: bool) -> Type {
        // `a.b.c` may be one name; a comprehension's variable hides such names.
        if !test
            && expr.root_name().is_some_and(|root| self.local(root).is_none())
            && let Some(name) = expr.qualified_name()
            && let Some(ty) = self.global(expr, &name)
        {
            return ty;
        }
        let operand_type = self.expr(operand);
        let ty = self.field(expr.offset, &operand_type, field);
        if test { Type::Bool } else { ty }
    }

    /// The type of a field; that of an optional is optional again.
    fn field(&mut self, offset: u32, operand: &Type, field: &str) -> Type {
        let operand = self.unify.resolve(operand, false);
        match &operand {
            Type::Map(pair) => pair.1.clone(),
            Type::Dyn | Type::Error => Type::Dyn,
            Type::Var(var) => {
                self.unify.set(*var, Type::Dyn);
                Type::Dyn
            }
            Type::Object(object) => match object.field(field) {
                Some(found) => found.decl.cel_type(),
                None => self.issue(offset, format!("undefined field '{field}'")),
            },
            Type::Optional(inner) => match self.field(offset, inner, field) {
                Type::Error => Type::Error,
                // Optionals do not nest by selection.
                Type::Optional(inner) => Type::Optional(inner),
                ty => Type::optional(ty),
            },
            other => {
                let shown = self.shown(other);
                self.issue(offset, format!("type '{shown}' does not support field selection"))
            }
        }
    }

    fn call(&mut self, expr: &Expr, function: &str, target: Option<&Expr>, args: &[Expr]) -> Type {
        if let ("_?._", [operand, field]) = (function, args) {
            return self.optional_select(expr, operand, field);
        }
        let Some(target) = target else {
            let types: Vec<Type> = args.iter().map(|arg| self.expr(arg)).collect();
            return self.resolve(expr, function, false, false, &types);
        };
        // `math.max(1)`: the name before the dot is part of the function's.
        if target.root_name().is_some_and(|root| self.local(root).is_none())
            && let Some(scope) = target.qualified_name()
        {
            let full = format!("{scope}.{function}");
            if !signatures::overloads(&full).is_empty() {
                let types: Vec<Type> = args.iter().map(|arg| self.expr(arg)).collect();
                return self.resolve(expr, &full, false, true, &types);
            }
        }
        let mut types = vec![self.expr(target)];
        types.extend(args.iter().map(|arg| self.expr(arg)));
        self.resolve(expr, function, true, false, &types)
    }

    fn optional_select(&mut self, expr: &Expr, operand: &Expr, field: &Expr) -> Type {
        let operand_type = self.expr(operand);
        self.expr(field);
        let Kind::Literal(Literal::String(name)) = &field.kind else {
            return self.issue(expr.offset, "unsupported optional field selection".to_string());
        };
        self.refer(
            expr,
            Ref::Call {
                function: "_?._".to_string(),
                namespaced: false,
                overloads: vec!["select_optional_field"],
            },
        );
        match self.field(expr.offset, &operand_type, name) {
            Type::Error => Type::Error,
            Type::Optional(inner) => Type::Optional(inner),
            ty => Type::optional(ty),
        }
    }

    fn resolve(&mut self, expr: &Expr, function: &str, member: bool, namespaced: bool, args: &[Type]) -> Type {
        let candidates = signatures::overloads(function);
        if candidates.is_empty() {
            return self.issue(
                expr.offset,
                format!("undeclared reference to '{function}' (in container '')"),
            );
        }
        if args.iter().any(|arg| matches!(arg, Type::Error)) {
            // Its fault is reported already, and any overload might have been meant.
            return Type::Error;
        }
        let mut found: Vec<&'static str> = Vec::new();
        let mut result: Option<Type> = None;
        for overload in candidates.iter().filter(|overload| overload.member == member) {
            let Some(ty) = self.fit(overload, args) else { continue };
            found.push(&overload.id);
            result = Some(match result {
                None => ty,
                Some(before) if before.is_dyn() || before == ty => before,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let shown: Vec<String> = args.iter().map(|arg| self.shown(arg).to_string()).collect();
            let applied = match shown.split_first() {
                Some((receiver, rest)) if member => format!("{receiver}.({})", rest.join(", ")),
                _ => format!("({})", shown.join(", ")),
            };
            return self.issue(
                expr.offset,
                format!("found no matching overload for '{function}' applied to '{applied}'"),
            );
        };
        self.refer(
            expr,
            Ref::Call {
                function: function.to_string(),
                namespaced,
                overloads: found,
            },
        );
        result
    }

    fn fit(&mut self, overload: &'static Overload, args: &[Type]) -> Option<Type> {
        if overload.args.len() != args.len() {
            return None;
        }
        let mut params = Vec::new();
        let wanted: Vec<Type> = overload
            .args
            .iter()
            .map(|arg| self.unify.instantiate(arg, &mut params))
            .collect();
        let result = self.unify.instantiate(&overload.result, &mut params);
        self.unify
            .assignable_all(args, &wanted)
            .then(|| self.unify.resolve(&result, false))
    }

    /// The type of an aggregate's items, one more of them seen. Mixed items are a fault.
    fn join(&mut self, offset: u32, before: Option<Type>, next: Type) -> Option<Type> {
        let Some(before) = before else { return Some(next) };
        if self.unify.assignable(&before, &next) {
            return Some(most_general(&before, &next));
        }
        let (want, got) = (self.shown(&before), self.shown(&next));
        self.issue(offset, format!("expected type '{want}' but found '{got}'"));
        Some(before)
    }

    /// The value inside `?value`.
    fn unwrapped(&mut self, offset: u32, ty: Type, optional: bool) -> Type {
        if !optional {
            return ty;
        }
        match self.unify.resolve(&ty, false) {
            Type::Optional(inner) => (*inner).clone(),
            ty if ty.is_dyn() => Type::Dyn,
            ty => {
                let got = self.shown(&ty);
                self.issue(
                    offset,
                    format!("expected type 'optional_type({got})' but found '{got}'"),
                )
            }
        }
    }

    fn list(&mut self, items: &[Item]) -> Type {
        let mut joined = None;
        for item in items {
            let ty = self.expr(&item.value);
            let ty = self.unwrapped(item.value.offset, ty, item.optional);
            joined = self.join(item.value.offset, joined, ty);
        }
        Type::list(joined.unwrap_or_else(|| self.unify.fresh()))
    }

    fn map(&mut self, entries: &[Entry]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            let key = self.expr(&entry.key);
            let key = self.key(entry.key.offset, key);
            keys = self.join(entry.key.offset, keys, key);
            let value = self.expr(&entry.value);
            let value = self.unwrapped(entry.value.offset, value, entry.optional);
            values = self.join(entry.value.offset, values, value);
        }
        let key = keys.unwrap_or_else(|| self.unify.fresh());
        let value = values.unwrap_or_else(|| self.unify.fresh());
        Type::map(key, value)
    }

    /// Keys are scalars. Others would fail while evaluating anyhow, and types that hold
    /// types twice could grow without bound.
    fn key(&mut self, offset: u32, ty: Type) -> Type {
        match self.unify.resolve(&ty, false) {
            Type::List(_) | Type::Map(_) | Type::Object(_) | Type::Optional(_) | Type::Opaque(_) => {
                let shown = self.shown(&ty);
                self.issue(offset, format!("unsupported map key type '{shown}'"))
            }
            ty => ty,
        }
    }

    fn structure(&mut self, expr: &Expr, name: &str, fields: &[Field]) -> Type {
        let found = self.env.object_type(name);
        let Some(object) = found else {
            let known = Type::named(name).is_some();
            for field in fields {
                self.expr(&field.value);
            }
            return self.issue(
                expr.offset,
                if known {
                    format!("'{name}' is not a message type")
                } else {
                    format!("undeclared reference to '{name}' (in container '')")
                },
            );
        };
        for field in fields {
            self.structure_field(&object, field);
        }
        self.refer(expr, Ref::Type(Type::Object(object.clone())));
        Type::Object(object)
    }

    fn structure_field(&mut self, object: &ObjectType, field: &Field) {
        let value = self.expr(&field.value);
        let value = self.unwrapped(field.value.offset, value, field.optional);
        let Some(declared) = object.field(&field.name) else {
            self.issue(field.offset, format!("undefined field '{}'", field.name));
            return;
        };
        let want = declared.decl.cel_type();
        if !self.unify.assignable(&value, &want) {
            let got = self.shown(&value);
            self.issue(
                field.offset,
                format!(
                    "expected type of field '{}' is '{want}' but provided type is '{got}'",
                    field.name
                ),
            );
        }
    }

    fn fold(&mut self, fold: &Fold) -> Type {
        let range = self.expr(&fold.range);
        let init = self.expr(&fold.init);
        let (first, second) = self.range_types(fold, &range);
        let depth = self.scopes.len();
        self.scopes.push((fold.accu.clone(), init.clone()));
        self.scopes.push((fold.var.clone(), first));
        if let Some(var2) = &fold.var2 {
            self.scopes.push((var2.clone(), second));
        }
        let condition = self.expr(&fold.condition);
        self.expect(&fold.condition, &condition, &Type::Bool);
        let step = self.expr(&fold.step);
        self.expect(&fold.step, &step, &init);
        self.scopes.truncate(depth + 1);
        let result = self.expr(&fold.result);
        self.scopes.truncate(depth);
        self.unify.resolve(&result, false)
    }

    fn range_types(&mut self, fold: &Fold, range: &Type) -> (Type, Type) {
        let two = fold.var2.is_some();
        match self.unify.resolve(range, false) {
            Type::List(items) if two => (Type::Int, (*items).clone()),
            Type::List(items) => ((*items).clone(), Type::Error),
            Type::Map(pair) => pair.as_ref().clone(),
            Type::Dyn | Type::Error => (Type::Dyn, Type::Dyn),
            Type::Var(var) => {
                self.unify.set(var, Type::Dyn);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                self.issue(
                    fold.range.offset,
                    format!(
                        "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                    ),
                );
                (Type::Error, Type::Error)
            }
        }
    }

    fn expect(&mut self, expr: &Expr, got: &Type, want: &Type) {
        if !self.unify.assignable(got, want) {
            let (want, got) = (self.shown(want), self.shown(got));
            self.issue(expr.offset, format!("expected type '{want}' but found '{got}'"));
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
