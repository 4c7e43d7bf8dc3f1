//! What the variables of an expression stand for in one evaluation (or in several of
//! the same request).

use crate::authorizer::{Authorizer, Authz, Base, Resource};
use crate::decl::DeclType;
use crate::env::Program;
use crate::error::EvalError;
use crate::eval::{Ctx, Evaluated};
use crate::meter::Meter;
use crate::value::{Opaque, Value};
use serde_json::Value as Json;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// Values by variable name. Not shared between threads; made for a request.
#[derive(Debug, Default)]
pub struct Bindings<'a> {
    values: Vec<(&'a str, Value<'a>)>,
    variables: Vec<Lazy<'a>>,
    /// Variables that are being evaluated for one another.
    nesting: Cell<u32>,
}

/// Variables that use variables that use variables: each takes stack.
const NESTING_MAX: u32 = 64;

/// A variable of a policy: evaluated when it is first asked for, and once.
#[derive(Debug)]
struct Lazy<'a> {
    name: &'a str,
    program: &'a Program,
    state: RefCell<State<'a>>,
}

#[derive(Debug, Clone)]
enum State<'a> {
    Untouched,
    Running,
    Done(Evaluated<'a>),
}

impl<'a> Bindings<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Any value; a later one of the same name takes its place.
    pub fn set(&mut self, name: &'a str, value: Value<'a>) -> &mut Self {
        match self.values.iter_mut().find(|(known, _)| *known == name) {
            Some(slot) => slot.1 = value,
            None => self.values.push((name, value)),
        }
        self
    }

    /// JSON without a declared type.
    pub fn json(&mut self, name: &'a str, json: &'a Json) -> &mut Self {
        self.set(name, Value::of_json(json, None))
    }

    /// JSON of the type the variable was declared with.
    pub fn typed(&mut self, name: &'a str, json: &'a Json, decl: &'a DeclType) -> &mut Self {
        self.set(name, Value::of_json(json, Some(decl)))
    }

    /// An optional: `oldSelf` with `optionalOldSelf`.
    pub fn optional(&mut self, name: &'a str, json: Option<&'a Json>, decl: Option<&'a DeclType>) -> &mut Self {
        let value = match json {
            Some(json) => Value::some(Value::of_json(json, decl)),
            None => Value::none(),
        };
        self.set(name, value)
    }

    pub fn authorizer(&mut self, name: &'a str, authorizer: &'a (dyn Authorizer + 'a)) -> &mut Self {
        self.set(name, Value::Opaque(Opaque::Authz(Authz::new(authorizer))))
    }

    /// A check of one resource, of which only the verb is left to say.
    pub fn resource_check(
        &mut self,
        name: &'a str,
        authorizer: &'a (dyn Authorizer + 'a),
        resource: Resource,
    ) -> &mut Self {
        let base = Base {
            authorizer,
            service_account: None,
        };
        self.set(
            name,
            Value::Opaque(Opaque::Authz(Arc::new(Authz::Resource(base, resource)))),
        )
    }

    /// `variables.name`: the value of a program over these bindings, evaluated when it is
    /// first used and kept. It may use the variables added before it.
    pub fn variable_of(&mut self, name: &'a str, program: &'a Program) -> &mut Self {
        if self.variables.is_empty() {
            self.set("variables", Value::Variables);
        }
        self.variables.push(Lazy {
            name,
            program,
            state: RefCell::new(State::Untouched),
        });
        self
    }

    pub(crate) fn get(&self, name: &str) -> Evaluated<'a> {
        match self.values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => Ok(value.clone()),
            None => Err(EvalError::failed(format!("no such attribute(s): {name}"))),
        }
    }

    pub(crate) fn has_variable(&self, name: &str) -> bool {
        self.variables.iter().any(|lazy| lazy.name == name)
    }

    pub(crate) fn variable(&self, name: &str, meter: &Meter<'_>) -> Evaluated<'a> {
        let Some(lazy) = self.variables.iter().find(|lazy| lazy.name == name) else {
            return Err(EvalError::failed(format!("no such key: {name}")));
        };
        let state = lazy.state.borrow().clone();
        match state {
            State::Done(value) => value,
            State::Running => Err(EvalError::failed(format!("variable '{name}' refers to itself"))),
            State::Untouched => {
                if self.nesting.get() >= NESTING_MAX {
                    return Err(EvalError::failed(format!(
                        "variables use one another more than {NESTING_MAX} deep"
                    )));
                }
                lazy.state.replace(State::Running);
                self.nesting.set(self.nesting.get() + 1);
                let value = lazy.program.run(&mut Ctx::new(self, meter, lazy.program.slots()));
                self.nesting.set(self.nesting.get() - 1);
                // What ran out of budget here may be tried again with another.
                let again = value.as_ref().is_err_and(EvalError::is_final);
                lazy.state.replace(if again {
                    State::Untouched
                } else {
                    State::Done(value.clone())
                });
                value.map_err(|error| match error {
                    EvalError::Failed(text) => {
                        EvalError::failed(format!("composited variable \"{name}\" fails to evaluate: {text}"))
                    }
                    other => other,
                })
            }
        }
    }
}
