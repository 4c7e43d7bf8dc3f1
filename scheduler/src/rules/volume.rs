//! Pods wait for their claims. Pure. Which volumes fit which node comes with the
//! volumes themselves.

use crate::filter::Candidate;
use crate::plugin::Plugin;
use crate::snapshot::State;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claims {
    Ready,
    /// No node will do, in upstream's words.
    Waiting(Plugin, String),
    /// A claim is to be bound to a volume that a node reaches; there is none yet.
    ToBind,
}

pub fn claims(state: &State, candidate: &Candidate) -> Claims {
    let Some(known) = &state.claims else {
        return Claims::Ready;
    };
    let (mut unbound, mut to_bind) = (false, false);
    for claim in &candidate.claims {
        let name = &claim.name;
        let waiting = |plugin, text| Claims::Waiting(plugin, text);
        let Some(found) = known.get(&(candidate.info.namespace.clone(), name.clone())) else {
            if claim.ephemeral {
                let text =
                    format!("waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\"");
                return waiting(Plugin::VolumeBinding, text);
            }
            return waiting(
                Plugin::VolumeRestrictions,
                format!("persistentvolumeclaim \"{name}\" not found"),
            );
        };
        if found.lost {
            let volume = &found.volume;
            let text = format!("persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\"");
            return waiting(Plugin::VolumeBinding, text);
        }
        if found.deleting {
            let text = format!("persistentvolumeclaim \"{name}\" is being deleted");
            return waiting(Plugin::VolumeBinding, text);
        }
        if found.volume.is_empty() {
            *(if found.waits_for_pod {
                &mut to_bind
            } else {
                &mut unbound
            }) = true;
        }
    }
    if unbound {
        let text = "pod has unbound immediate PersistentVolumeClaims";
        return Claims::Waiting(Plugin::VolumeBinding, text.into());
    }
    if to_bind { Claims::ToBind } else { Claims::Ready }
}
