//! Authorization checks: building one, asking the caller, reading the decision.

use super::{Function, no_overload};
use crate::authorizer::{Authz, Base, Check, Resource, Target};
use crate::error::EvalError;
use crate::value::{Opaque, Value};
use std::sync::Arc;

type Made<'a> = Result<Value<'a>, EvalError>;

pub fn function(name: &str) -> Option<Function> {
    Some(match name {
        "path" => |_, args| build(args, |authz, path| Some(Authz::Path(base(authz)?, path))),
        "group" => |_, args| build(args, |authz, group| Some(Authz::Group(base(authz)?, group))),
        "serviceAccount" => |_, args| match args {
            [
                Value::Opaque(Opaque::Authz(authz)),
                Value::String(namespace),
                Value::String(name),
            ] => match &**authz {
                Authz::Authorizer(authorizer, _) => {
                    let account = (namespace.as_str().to_string(), name.as_str().to_string());
                    made(Authz::Authorizer(*authorizer, Some(account)))
                }
                _ => no_overload(),
            },
            _ => no_overload(),
        },
        "resource" => |_, args| {
            build(args, |authz, resource| match authz {
                Authz::Group(base, group) => Some(Authz::Resource(
                    base.clone(),
                    Resource {
                        group: group.clone(),
                        resource,
                        ..Resource::default()
                    },
                )),
                _ => None,
            })
        },
        "subresource" => |_, args| narrow(args, |resource, value| resource.subresource = value),
        "namespace" => |_, args| narrow(args, |resource, value| resource.namespace = value),
        "name" => |_, args| narrow(args, |resource, value| resource.name = value),
        "fieldSelector" => |_, args| narrow(args, |resource, value| resource.field_selector = Some(value)),
        "labelSelector" => |_, args| narrow(args, |resource, value| resource.label_selector = Some(value)),
        "check" => |_, args| build(args, |authz, verb| check(authz, verb)),
        "allowed" => |_, args| decided(args, |decision| Value::Bool(decision.allowed)),
        "reason" => |_, args| decided(args, |decision| Value::string(decision.reason.as_str())),
        "errored" => |_, args| decided(args, |decision| Value::Bool(decision.error.is_some())),
        "error" => |_, args| {
            decided(args, |decision| {
                Value::string(decision.error.as_deref().unwrap_or_default())
            })
        },
        _ => return None,
    })
}

fn made<'a>(authz: Authz<'a>) -> Made<'a> {
    Ok(Value::Opaque(Opaque::Authz(Arc::new(authz))))
}

fn base<'a>(authz: &Authz<'a>) -> Option<Base<'a>> {
    match authz {
        Authz::Authorizer(authorizer, service_account) => Some(Base {
            authorizer: *authorizer,
            service_account: service_account.clone(),
        }),
        _ => None,
    }
}

fn build<'a>(args: &[Value<'a>], build: impl Fn(&Authz<'a>, String) -> Option<Authz<'a>>) -> Made<'a> {
    match args {
        [Value::Opaque(Opaque::Authz(authz)), Value::String(text)] => {
            build(authz, text.as_str().to_string()).map_or_else(no_overload, made)
        }
        _ => no_overload(),
    }
}

fn narrow<'a>(args: &[Value<'a>], narrow: fn(&mut Resource, String)) -> Made<'a> {
    build(args, |authz, value| match authz {
        Authz::Resource(base, resource) => {
            let mut resource = resource.clone();
            narrow(&mut resource, value);
            Some(Authz::Resource(base.clone(), resource))
        }
        _ => None,
    })
}

fn check<'a>(authz: &Authz<'a>, verb: String) -> Option<Authz<'a>> {
    let (base, target) = match authz {
        Authz::Path(base, path) => (base, Target::Path(path.clone())),
        Authz::Resource(base, resource) => (base, Target::Resource(resource.clone())),
        _ => return None,
    };
    let check = Check {
        service_account: base.service_account.clone(),
        verb,
        target,
    };
    Some(Authz::Decision(base.authorizer.authorize(&check)))
}

fn decided<'a>(args: &[Value<'a>], part: fn(&crate::authorizer::Decision) -> Value<'static>) -> Made<'a> {
    match args {
        [Value::Opaque(Opaque::Authz(authz))] => match &**authz {
            Authz::Decision(decision) => Ok(part(decision)),
            _ => no_overload(),
        },
        _ => no_overload(),
    }
}
