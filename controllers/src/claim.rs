//! Which objects belong to a controller: it keeps what it owns and still selects, releases what it no
//! longer selects, and adopts matching objects that nobody owns.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::context::{Doing, Error, gone_is_fine};
use crate::key::{controller_of, name, namespace, uid};

#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    Keep,
    Adopt,
    Release,
    /// Somebody else's, or not selected, or on its way out.
    Ignore,
}

/// `deleting`: the owner itself is being deleted; then it neither adopts nor releases.
pub fn decide(object: &ObjectMeta, owner_uid: &str, matches: bool, deleting: bool) -> Claim {
    match controller_of(object) {
        Some(controller) if controller.uid != owner_uid => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if deleting => Claim::Ignore,
        Some(_) => Claim::Release,
        None if matches && !deleting && object.deletion_timestamp.is_none() => Claim::Adopt,
        None => Claim::Ignore,
    }
}

/// Who claims: put into the owner references, and what it holds its objects by.
pub struct Claimant<'a> {
    pub reference: &'a OwnerReference,
    pub finalizer: Option<&'a str>,
    /// See [`decide`].
    pub deleting: bool,
}

/// Decides on each candidate and carries it out; returns what the owner has afterwards.
pub async fn claim<K>(
    client: &Client,
    candidates: Vec<Arc<K>>,
    claimant: Claimant<'_>,
    matches: impl Fn(&K) -> bool,
    still_there: impl AsyncFnOnce() -> Result<bool, Error>,
) -> Result<Vec<Arc<K>>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let (owner, deleting) = (claimant.reference, claimant.deleting);
    let mut mine = Vec::new();
    let mut adopt = Vec::new();
    for object in candidates {
        match decide(object.meta(), &owner.uid, matches(&object), deleting) {
            Claim::Keep => mine.push(object),
            Claim::Adopt => adopt.push(object),
            Claim::Release => {
                let api: Api<K> = Api::namespaced(client.clone(), namespace(object.meta()));
                let mut patch = json!({"metadata": {
                    "uid": uid(object.meta()),
                    "ownerReferences": [{"$patch": "delete", "uid": owner.uid}],
                }});
                if let Some(finalizer) = claimant.finalizer {
                    patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = json!([finalizer]);
                }
                let released = api
                    .patch(name(object.meta()), &PatchParams::default(), &Patch::Strategic(patch))
                    .await
                    .doing(|| format!("release {}", name(object.meta())));
                gone_is_fine(released)?;
            }
            Claim::Ignore => {}
        }
    }
    if adopt.is_empty() {
        return Ok(mine);
    }
    // The cache may lag behind a deletion of the owner; adopting for a ghost would have the garbage
    // collector delete the object.
    if !still_there().await? {
        return Ok(mine);
    }
    for object in adopt {
        let api: Api<K> = Api::namespaced(client.clone(), namespace(object.meta()));
        let mut patch = json!({"metadata": {"uid": uid(object.meta()), "ownerReferences": [owner]}});
        if let Some(finalizer) = claimant.finalizer {
            patch["metadata"]["finalizers"] = json!([finalizer]);
        }
        let adopted = api
            .patch(name(object.meta()), &PatchParams::default(), &Patch::Strategic(patch))
            .await
            .doing(|| format!("adopt {}", name(object.meta())));
        match adopted {
            Ok(_) => mine.push(object),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(mine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::controller_reference;

    #[test]
    fn claims() {
        let me = ObjectMeta {
            uid: Some("me".to_string()),
            ..Default::default()
        };
        let mine = ObjectMeta {
            owner_references: Some(vec![controller_reference("apps/v1", "ReplicaSet", &me)]),
            ..Default::default()
        };
        let orphan = ObjectMeta::default();
        assert_eq!(decide(&mine, "me", true, false), Claim::Keep);
        assert_eq!(decide(&mine, "me", false, false), Claim::Release);
        assert_eq!(decide(&mine, "me", false, true), Claim::Ignore);
        assert_eq!(decide(&mine, "you", true, false), Claim::Ignore);
        assert_eq!(decide(&orphan, "me", true, false), Claim::Adopt);
        assert_eq!(decide(&orphan, "me", true, true), Claim::Ignore);
        assert_eq!(decide(&orphan, "me", false, false), Claim::Ignore);
    }
}
