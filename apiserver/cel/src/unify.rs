//! What the checker knows about the types still to be found: assignability, and the
//! substitution it leads to.

use crate::types::Type;
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct Unify {
    known: Vec<Option<Type>>,
    /// What was known before each change, so that a failed attempt can be taken back.
    undo: Vec<(u32, Option<Type>)>,
}

impl Unify {
    pub fn fresh(&mut self) -> Type {
        self.known.push(None);
        Type::Var(self.known.len() as u32 - 1)
    }

    fn get(&self, var: u32) -> Option<&Type> {
        self.known.get(var as usize)?.as_ref()
    }

    pub fn set(&mut self, var: u32, ty: Type) {
        if let Some(slot) = self.known.get_mut(var as usize) {
            self.undo.push((var, slot.replace(ty)));
        }
    }

    /// Whether each of `from` fits into each of `to`. What was learnt is kept only then.
    pub fn assignable_all(&mut self, from: &[Type], to: &[Type]) -> bool {
        if from.len() != to.len() {
            return false;
        }
        self.undo.clear();
        let fits = from.iter().zip(to).all(|(from, to)| self.fits(from, to));
        if !fits {
            while let Some((var, before)) = self.undo.pop() {
                self.known[var as usize] = before;
            }
        }
        fits
    }

    pub fn assignable(&mut self, from: &Type, to: &Type) -> bool {
        self.assignable_all(std::slice::from_ref(from), std::slice::from_ref(to))
    }

    fn fits(&mut self, from: &Type, to: &Type) -> bool {
        if let Type::Var(var) = to {
            match self.learn(from, *var) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Var(var) = from {
            return self.learn(to, *var).0;
        }
        match (from, to) {
            (a, b) if a.is_dyn() || b.is_dyn() => true,
            (Type::Null, other) | (other, Type::Null) => nullable(other),
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.fits(a, b),
            (Type::Map(a), Type::Map(b)) => self.fits(&a.0, &b.0) && self.fits(&a.1, &b.1),
            (Type::Type(_), Type::Type(_)) => true,
            (a, b) => a == b,
        }
    }

    /// Whether `ty` can stand for the variable, and whether that already stood for something.
    fn learn(&mut self, ty: &Type, var: u32) -> (bool, bool) {
        if *ty == Type::Var(var) {
            return (true, true);
        }
        if let Some(known) = self.get(var).cloned() {
            if !self.fits(ty, &known) {
                return (false, true);
            }
            let general = most_general(ty, &known);
            if !self.mentions(var, &general) {
                self.set(var, general);
            }
            return (true, true);
        }
        if self.mentions(var, ty) {
            return (false, false);
        }
        self.set(var, ty.clone());
        (true, false)
    }

    fn mentions(&self, var: u32, ty: &Type) -> bool {
        match ty {
            Type::Var(other) => *other == var || self.get(*other).is_some_and(|known| self.mentions(var, known)),
            Type::List(inner) | Type::Optional(inner) | Type::Type(inner) => self.mentions(var, inner),
            Type::Map(pair) => self.mentions(var, &pair.0) || self.mentions(var, &pair.1),
            _ => false,
        }
    }

    /// With everything known filled in; what stays unknown is `dyn` when `to_dyn`.
    pub fn resolve(&self, ty: &Type, to_dyn: bool) -> Type {
        match ty {
            Type::Var(var) => match self.get(*var) {
                Some(known) => self.resolve(known, to_dyn),
                None if to_dyn => Type::Dyn,
                None => ty.clone(),
            },
            Type::List(inner) => Type::list(self.resolve(inner, to_dyn)),
            Type::Optional(inner) => Type::optional(self.resolve(inner, to_dyn)),
            Type::Type(inner) => Type::Type(Arc::new(self.resolve(inner, to_dyn))),
            Type::Map(pair) => Type::map(self.resolve(&pair.0, to_dyn), self.resolve(&pair.1, to_dyn)),
            _ => ty.clone(),
        }
    }

    /// A declared type with its parameters replaced by fresh variables, the same for the same letter.
    pub fn instantiate(&mut self, ty: &Type, params: &mut Vec<(char, Type)>) -> Type {
        match ty {
            Type::Param(name) => {
                if let Some((_, var)) = params.iter().find(|(known, _)| known == name) {
                    return var.clone();
                }
                let var = self.fresh();
                params.push((*name, var.clone()));
                var
            }
            Type::List(inner) => Type::list(self.instantiate(inner, params)),
            Type::Optional(inner) => Type::optional(self.instantiate(inner, params)),
            Type::Type(inner) => Type::Type(Arc::new(self.instantiate(inner, params))),
            Type::Map(pair) => Type::map(self.instantiate(&pair.0, params), self.instantiate(&pair.1, params)),
            _ => ty.clone(),
        }
    }
}

fn nullable(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Null | Type::Timestamp | Type::Duration | Type::Object(_) | Type::Opaque(_) | Type::Optional(_)
    )
}

/// Of two types of which one fits the other, the wider.
pub fn most_general(a: &Type, b: &Type) -> Type {
    if no_narrower(a, b) { a.clone() } else { b.clone() }
}

fn no_narrower(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn | Type::Error | Type::Var(_), _) => true,
        (_, Type::Dyn | Type::Error | Type::Var(_)) => false,
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => no_narrower(a, b),
        (Type::Map(a), Type::Map(b)) => no_narrower(&a.0, &b.0) && no_narrower(&a.1, &b.1),
        (Type::Type(_), Type::Type(_)) => true,
        (a, b) => a == b,
    }
}
