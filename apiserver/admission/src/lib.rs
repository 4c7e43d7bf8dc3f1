//! Admission that a cluster configures: which webhooks and policies a request
//! meets, what they are asked, and what their answers mean. Decides; calls nobody.
//!
//! ```text
//! configurations ─> Hook, Policy ─ matches(request) ─> a form of the object to be asked about
//!                                      review ─> AdmissionReview ─(the server calls)─> Verdict
//! ```

mod check;
mod conditions;
mod expressions;
mod hook;
mod matching;
mod mutate;
mod params;
mod policy;
mod request;
mod review;
mod typing;
mod validate;

pub use check::expression_errors;
pub use conditions::Conditions;
pub use hook::{FailurePolicy, Hook, hooks};
pub use matching::{Constraints, Rule};
pub use mutate::{Invocation, Merge, Mutations, PolicyFailure, invocations, mutating_policies, mutation_refusal};
pub use params::{ParamKind, ParamSource};
pub use policy::{Policy, Validations, validating_policies};
pub use request::{Form, Gvk, Gvr, Objects, Request, operation_name};
pub use review::{ReviewVersion, Verdict, denied, dry_run_unsupported, read_answer, review};
pub use typing::{Checked, type_warnings, types_to_check};
pub use validate::{Findings, Shown, World, forms_met, validate};
