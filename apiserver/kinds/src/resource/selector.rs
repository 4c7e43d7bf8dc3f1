//! Expressions that choose devices: each is compiled when it is written, so that
//! one that cannot work is refused at once.
//! Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/>.

use crate::check::{Errors, Path};
use skiff_cel::{DeclType, Env, Field, ObjectType, Type};
use std::sync::LazyLock;

const EXPRESSION_BYTES_MAX: usize = 10 * 1024;
/// What one evaluation may cost at most, as upstream.
const COST_MAX: u64 = 1_000_000;
/// Attributes and capacities of a device, each under its domain.
const MEMBERS_MAX: u64 = 32;

static DEVICES: LazyLock<Env> = LazyLock::new(|| {
    let by_domain = || DeclType::map(DeclType::map(DeclType::dynamic(), Some(MEMBERS_MAX)), Some(MEMBERS_MAX));
    let fields = [
        ("driver", DeclType::string(Some(63))),
        ("attributes", by_domain()),
        ("capacity", by_domain()),
        ("allowMultipleAllocations", DeclType::scalar(Type::Bool)),
    ];
    let fields = fields.map(|(name, decl)| Field {
        name: name.into(),
        decl,
        required: true,
    });
    let device = ObjectType::new("kubernetes.DRADevice", fields);
    Env::new().variable("device", DeclType::object(device))
});

/// Checks an expression that says whether a device fits.
pub(super) fn check(expression: &str, path: &Path, errors: &mut Errors) {
    if expression.len() > EXPRESSION_BYTES_MAX {
        return errors.too_long(path, EXPRESSION_BYTES_MAX);
    }
    match DEVICES.compile(expression) {
        Err(error) => errors.invalid(path, expression, &format!("compilation failed: {error}")),
        Ok(program) if !matches!(program.output(), Type::Bool | Type::Dyn) => {
            let text = format!("must evaluate to bool or the unknown type, not {}", program.output());
            errors.invalid(path, expression, &text);
        }
        Ok(program) if program.cost().max > COST_MAX => {
            errors.forbidden(path, "too complex, exceeds cost limit");
        }
        Ok(_) => {}
    }
}
