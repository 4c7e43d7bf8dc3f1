//! The Common Expression Language as the Kubernetes API uses it (v1.36): validation
//! rules of custom resources, admission policies, match conditions, device selectors.
//!
//! An [`Env`] declares variables; [`Env::compile`] parses and type-checks an
//! expression and gives a [`Program`]; a program is evaluated over [`Bindings`], which
//! look into JSON in place, within [`Limits`]. Nothing here reads clocks, files or the
//! network; checks of an authorizer go to the caller's [`Authorizer`].
//!
//! ```
//! use serde_json::json;
//! use skiff_cel::{Bindings, DeclType, Env, Limits, Type};
//!
//! let schema = json!({
//!     "type": "object",
//!     "properties": {"replicas": {"type": "integer"}, "names": {"type": "array", "items": {"type": "string"}}},
//! });
//! let decl = DeclType::from_openapi(&schema, "self", false).unwrap();
//! let env = Env::new().variable("self", decl.clone());
//!
//! let error = env.compile("self.foo").unwrap_err();
//! assert_eq!(error.to_string(), "ERROR: <input>:1:5: undefined field 'foo'\n | self.foo\n | ....^");
//!
//! let program = env.compile("self.replicas <= 10 && self.names.all(n, n != '')").unwrap();
//! assert_eq!(*program.output(), Type::Bool);
//! let object = json!({"replicas": 3, "names": ["a"]});
//! let mut bindings = Bindings::new();
//! bindings.typed("self", &object, &decl);
//! let outcome = program.evaluate(&bindings, Limits::default());
//! assert_eq!(outcome.value.unwrap().as_bool(), Some(true));
//! ```

mod ast;
mod authorizer;
mod bindings;
mod builtin;
mod check;
mod compare;
mod containers;
mod cost;
mod decl;
mod device;
mod env;
mod error;
mod eval;
mod functions;
mod instant;
mod lexer;
mod macros;
mod meter;
mod node;
mod openapi;
mod parser;
mod plan;
mod signatures;
mod types;
mod unify;
mod value;

#[cfg(test)]
mod depth_test;

pub use authorizer::{Authorizer, Check, Decision, Resource, Target};
pub use bindings::Bindings;
pub use containers::{List, Map};
pub use cost::Range as CostRange;
pub use decl::{DeclType, Field, ListSemantics, ObjectType, REQUEST_BYTES_MAX, Shape, escape};
pub use device::{DEVICE_SELECTOR_BYTES_MAX, DEVICE_SELECTOR_COST_MAX, device_value};
pub use env::{Env, Outcome, Program};
pub use error::{CompileError, EvalError, Issue};
pub use instant::Instant;
pub use meter::{Limits, MATCH_CONDITIONS_BUDGET, PER_CALL_LIMIT, RUNTIME_BUDGET};
pub use types::Type;
pub use value::{Text, Value};
